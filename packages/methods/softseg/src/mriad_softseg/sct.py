"""The slice-wise motion as the Spinal Cord Toolbox's own program finds it; an option, where it is installed.

`sct_register_multimodal` of version 6 is called as in the public script, on masks alone; its warping field is read
as one translation a slice, which is all that its centre-of-mass algorithm gives. Everything else stays ours.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError, ExperimentError
from mriad.geometry import Grid

from mriad_softseg.coverage import padded
from mriad_softseg.slicewise import SliceMotion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad_softseg.masks import Mask

PROGRAM = "sct_register_multimodal"
MOVED = 1e-6
"""A slice whose translation is shorter than this, mm, was not moved."""


def require_sct() -> str:
    """The path of the program.

    Raises:
        ExperimentError: it is not on the PATH.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise ExperimentError(
            "the Spinal Cord Toolbox is not installed, or not on the PATH",
            where={"program": PROGRAM, "asked for by": "softseg.soft_ground_truth, program: sct"},
            remedy="install it and start mriad from a shell that finds its programs, or use program: mriad, which "
            "needs none",
        )
    return found


def motion_by_sct(mask: Mask, fixed: Mask) -> SliceMotion:
    """The motion from the reference's slices to a contrast's, found by SCT.

    Raises:
        ExperimentError: SCT is not installed.
        DataError: the program failed, or left no warping field; its last words are in the message.
    """
    program = require_sct()
    with tempfile.TemporaryDirectory(prefix="mriad-sct-") as name:
        folder = Path(name)
        moving, destination = folder / "moving.nii.gz", folder / "fixed.nii.gz"
        _write(moving, *padded(mask.inside, mask.grid))
        lattice, upwards = _write(destination, *padded(fixed.inside, fixed.grid))
        field = folder / "warp.nii.gz"
        words = [program, "-i", moving, "-iseg", moving, "-d", destination, "-dseg", destination]
        words += [
            "-param",
            "step=1,type=seg,algo=centermass",
            "-x",
            "linear",
            "-owarp",
            field,
            "-ofolder",
            folder,
        ]
        done = subprocess.run(
            [str(w) for w in words], capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode or not field.is_file():
            last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            raise DataError(
                f"{PROGRAM} failed",
                where={"exit code": done.returncode, "it said": last or "nothing"},
                remedy="run it by hand on the two masks, or use program: mriad",
            )
        vectors = _vectors(field, lattice)
    if not upwards:
        vectors = vectors[::-1]
    spacing = fixed.grid.spacing
    # world mm → in-plane mm along the reference's own axes
    steps = np.linalg.inv(fixed.grid.matrix[:3, :3])
    shift = (vectors[1:-1] @ steps.T)[:, :2] * spacing[:2]
    moved = np.linalg.norm(shift, axis=1) > MOVED
    none = np.zeros_like(shift)
    return SliceMotion(none, shift, np.zeros(len(shift)), (spacing[0], spacing[1]), moved)


def _write(path: Path, inside: NDArray[Any], grid: Grid) -> tuple[Grid, bool]:
    """A mask in SCT's orientation RPI (axes towards left, anterior, superior); its grid; are slices in order?"""
    from mriad.images import write_like

    orientations = importlib.import_module("nibabel.orientations")
    change = orientations.ornt_transform(
        orientations.io_orientation(grid.matrix), orientations.axcodes2ornt(("L", "A", "S"))
    )
    data = np.ascontiguousarray(orientations.apply_orientation(inside.astype(np.uint8), change))
    matrix = grid.matrix @ orientations.inv_ornt_aff(change, grid.shape)
    turned = Grid.of(data.shape, matrix)
    write_like(path, data, turned, "labels")
    return turned, bool(change[2, 1] > 0)


def _vectors(path: Path, lattice: Grid) -> NDArray[np.float64]:
    """The translation (Z, 3) of each slice in world mm (RAS+), of a field of ITK's kind (LPS mm)."""
    nib = importlib.import_module("nibabel")
    image = nib.load(path)
    data = np.asarray(image.dataobj, np.float64)
    if data.shape[:3] != lattice.shape or data.shape[-1] != 3:
        raise DataError(
            f"{PROGRAM} left a warping field on another grid",
            where={"shape": data.shape, "expected": (*lattice.shape, 1, 3)},
            remedy="this program was written for version 6 of SCT; use program: mriad",
        )
    flat: NDArray[np.float64] = np.median(data.reshape(-1, *data.shape[2:3], 3), axis=0)
    return flat * [-1.0, -1.0, 1.0]
