"""Running FreeSurfer's run_samseg on one case and reading what it wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError, LaunchError
from mriad.filehash import file_sha256
from mriad.images import write_like
from mriad.inference.prediction import CasePrediction
from mriad.inference.predictor import ordered
from mriad.preparation import prepare_volumes
from mriad.vocabulary import LabelSet, Volume
from mriad_data.registration import Transform
from mriad_data.registration.resampling import pulled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_synthseg.samseg import Samseg

OUTPUT = "seg.mgz"
_LINES = 12  # of the program's output that an error shows


def find_program(command: str) -> Path:
    """The full path of the program.

    Raises:
        LaunchError: it is not there.
    """
    found = shutil.which(command)
    if found is None:
        raise LaunchError(
            f"'{command}' is not installed, or not on PATH",
            where={"PATH": os.environ.get("PATH", "")},
            remedy="install FreeSurfer 7.3 or later and source its SetUpFreeSurfer.sh; or use the stage "
            "synthseg.fit_atlas, which needs nothing",
        )
    return Path(found).resolve()


def version_of(command: str) -> str:
    """FreeSurfer's build stamp, else a hash of the program; "absent" where it is not installed."""
    found = shutil.which(command)
    if found is None:
        return "absent"
    stamp = Path(os.environ.get("FREESURFER_HOME", "/nowhere")) / "build-stamp.txt"
    return stamp.read_text("utf-8").strip() if stamp.is_file() else file_sha256(Path(found).resolve())[:12]


class SamsegPredictor:
    """A `CasePredictor`; see `mriad_synthseg.samseg.Samseg`."""

    exclusive = True

    def __init__(self, config: Samseg, program: Path) -> None:
        self.config, self.program = config, program
        self.channels = tuple(config.channels)
        self.label_set = LabelSet.of(config.structures)

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment one case; the result lies on the grid of the first channel."""
        given = ordered(channels, self.channels)
        grid = prepare_volumes(given, (), ()).grid  # the same checks as for every predictor
        with tempfile.TemporaryDirectory(prefix="mriad-samseg-") as name:
            folder = Path(name)
            files = []
            for place, (channel, volume) in enumerate(given.items()):
                file = folder / f"input{place}_{''.join(c for c in channel if c.isalnum())}.nii.gz"
                files.append(write_like(file, volume.data.astype(np.float32), volume.grid, "float32"))
            out = folder / "out"
            arguments = [
                "--input",
                *map(str, files),
                "--output",
                str(out),
                "--threads",
                str(self.config.threads),
            ]
            end = run_program(
                [str(self.program), *arguments], folder, self.config.timeout_s, self.config.threads
            )
            labels = _read(out / OUTPUT, end)
        on_grid = pulled(labels, Transform.identity(), grid, "hard").data
        return CasePrediction(self._maps(on_grid), grid, self.label_set, True)

    def _maps(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Values of FreeSurfer (X, Y, Z) → 0 or 1 for each structure (S, X, Y, Z)."""
        own = {s.value: place for place, s in enumerate(self.label_set.structures)}
        out = np.zeros((len(own), *labels.shape), np.float32)
        unknown = []
        for found in np.unique(labels):
            value = self.config.mapping.get(int(found), int(found))
            if value in own:
                out[own[value]] += labels == found
            elif value != 0:
                unknown.append(value)
        if unknown:
            raise DataError(
                "run_samseg found labels that are neither in the label set nor mapped",
                where={"values": ", ".join(map(str, unknown)), "label set": ", ".join(map(str, own))},
                remedy="map them: " + ", ".join(f"{value}: 0" for value in unknown[:4]) + " for background",
            )
        return out


def run_program(command: Sequence[str], folder: Path, timeout_s: float, threads: int) -> str:
    """Run a program in a process group of its own, which ends when this call does, however it ends.

    Returns the end of its output.

    Raises:
        LaunchError: it cannot be started, fails, or takes longer than `timeout_s`.
    """
    log = folder / "log.txt"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
    }
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LaunchError(
                "an external program cannot be started",
                where={"program": command[0], "reason": error.strerror or error},
            ) from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LaunchError(
                f"an external program took longer than {timeout_s:g} s and was ended",
                where={"program": command[0], "its last lines": _tail(log)},
                remedy="raise timeout_s, or give it more threads",
            ) from error
        finally:
            _end_group(process)
    if code:
        raise LaunchError(
            f"an external program failed with exit status {code}",
            where={"program": command[0], "its last lines": _tail(log)},
        )
    return _tail(log)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the program and all that it started; what is gone already is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LINES:]) or "none"


def _read(path: Path, end: str) -> Volume:
    """The segmentation that the program wrote.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    import nibabel as nib
    from mriad.geometry import Grid as GridOf

    if not path.is_file():
        raise DataError(
            "run_samseg ended well but wrote no segmentation",
            where={"expected": path.name, "its last lines": end},
        )
    try:
        image: Any = nib.load(path)
        data = np.asarray(image.dataobj)
        grid: Grid = GridOf.of(data.shape, image.affine)
    except Exception as error:  # nibabel raises many kinds
        raise DataError(
            "the segmentation of run_samseg cannot be read", where={"file": path.name, "reason": error}
        ) from error
    return Volume(np.rint(data).astype(np.int32), grid)
