"""`data.skull_strip`: everything but the brain set to 0, by an installed program (HD-BET or SynthStrip)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.gridcheck import require_same_grid
from mriad.images import read_volume, write_like
from mriad.interfaces import PreprocessingStep
from pydantic import Field

from mriad_data.counted import counted_voxels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

Program = Literal["hd_bet", "synthstrip"]
COMMANDS: dict[str, str] = {"hd_bet": "hd-bet", "synthstrip": "mri_synthstrip"}
INSTALL: dict[str, str] = {
    "hd_bet": "`pip install hd-bet` in an environment of its own, and put its hd-bet on PATH",
    "synthstrip": "install FreeSurfer 7.3 or later, or the synthstrip container as mri_synthstrip on PATH",
}
_LAST = 600  # characters of the program's output in a message
_GRACE_S = 5.0


class SkullStrip(PreprocessingStep):
    """Sets voxels outside the brain mask of an external program to 0, in all channels; labels stay.

    The mask is made from one channel: registered channels share it. Later steps leave the zeros out with
    `over: nonzero`. The program's version is no part of the prepared samples' identity: raise `edition`
    when the program or its weights change.

    Sources: F. Isensee et al., Human Brain Mapping 40 (2019) 4952 (HD-BET); A. Hoopes et al., NeuroImage 260
    (2022) 119474 (SynthStrip).

    Raises:
        DataError: the program is not installed, fails, runs into `timeout_s` (it and its children are
            ended), or leaves no mask, an empty one or one on another grid.
    """

    type: Literal["data.skull_strip"] = "data.skull_strip"
    program: Program = Field(description="hd_bet (command hd-bet) or synthstrip (command mri_synthstrip).")
    channel: int = Field(0, ge=0, description="Number of the channel that the program sees, from 0.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the program computes.")
    timeout_s: float = Field(1800.0, gt=0, description="Longest time for one case in seconds.")
    edition: int = Field(1, ge=1, description="Raise it when the installed program changes its masks.")

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with voxels outside the brain set to 0; labels, validity and geometry stay."""
        if self.channel >= len(sample.image):
            raise DataError(
                "data.skull_strip names a channel that an image does not have",
                where={"channel": self.channel, "channels": len(sample.image)},
            )
        counted_voxels(sample, "field")  # NaN is an error here, not the program's crash
        brain = self.mask(sample)
        return replace(sample, image=np.where(brain, sample.image, np.float32(0)))

    def mask(self, sample: Sample) -> NDArray[np.bool_]:
        """The brain mask (X, Y, Z) that the program makes."""
        command = shutil.which(COMMANDS[self.program])
        if command is None:
            raise DataError(
                f"the program {COMMANDS[self.program]} is not installed",
                where={"step": "data.skull_strip", "looked on": "PATH", "program": self.program},
                remedy=INSTALL[self.program] + "; or strip the images beforehand and leave the step out",
            )
        with tempfile.TemporaryDirectory(prefix="mriad-skull-strip-") as name:
            folder = Path(name)
            image = write_like(folder / "image.nii.gz", sample.image[self.channel], sample.grid)
            words, expected = self._words(command, image, folder)
            log = folder / "output.txt"
            self._run(words, log)
            if not expected.is_file():
                where = {"command": _shown(words), "expected": expected.name, "last output": _tail(log)}
                raise DataError("the skull-stripping program left no mask", where=where)
            found = read_volume(expected)
        require_same_grid("mask", found.grid, sample.grid, COMMANDS[self.program])
        brain: NDArray[np.bool_] = found.data > 0.5
        if not brain.any():
            raise DataError(
                "the skull-stripping program found no brain",
                where={"program": self.program, "channel": self.channel, "image": sample.grid.describe()},
                remedy="look at the image; programs expect a whole head with a usable header",
            )
        return brain

    def _words(self, command: str, image: Path, folder: Path) -> tuple[list[str], Path]:
        """The command line, and the mask that it will write."""
        if self.program == "synthstrip":
            mask = folder / "mask.nii.gz"
            words = [command, "-i", str(image), "-o", str(folder / "brain.nii.gz"), "-m", str(mask)]
            return words + (["-g"] if self.device == "cuda" else []), mask
        # HD-BET 2: the mask has the name of the output with _bet before the ending.
        out = folder / "brain.nii.gz"
        words = [command, "-i", str(image), "-o", str(out), "-device", self.device]
        words += ["--save_bet_mask", "--no_bet_image"]
        # Test-time augmentation takes eight passes; its authors advise against it without a GPU.
        return words + (["--disable_tta"] if self.device == "cpu" else []), folder / "brain_bet.nii.gz"

    def _run(self, words: Sequence[str], log: Path) -> None:
        """Run the program in a process group of its own, its output into `log`; the group ends with it."""
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=log.parent,
                    start_new_session=True,
                )
            except OSError as error:
                raise DataError(
                    "the skull-stripping program cannot be started",
                    where={"command": _shown(words), "reason": error.strerror or error},
                ) from error
            try:
                code = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired:
                raise DataError(
                    f"the skull-stripping program did not end within {self.timeout_s:g} s, so it was stopped",
                    where={"command": _shown(words), "last output": _tail(log)},
                    remedy="raise timeout_s, or use a GPU (device: cuda)",
                ) from None
            finally:
                _end_group(process)
        if code != 0:
            cause = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            raise DataError(
                f"the skull-stripping program failed: {cause}",
                where={"command": _shown(words), "last output": _tail(log)},
                remedy="run the command by hand on the image to see more",
            )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the program's process group: first asked, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)


def _shown(words: Sequence[str]) -> str:
    """The command line with file names only: the folder is gone when a person reads it."""
    return " ".join([Path(words[0]).name, *(Path(w).name if w.startswith("/") else w for w in words[1:])])


def _tail(log: Path) -> str:
    text = " ".join(log.read_bytes().decode(errors="replace").split())
    return text[-_LAST:] or "none"
