"""Small images built in code: a ramp with an oblique affine, and files of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from mriad.geometry import Grid
from mriad.vocabulary import Sample

if TYPE_CHECKING:
    from pathlib import Path


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by Euler angles in degrees."""
    a, b, c = np.radians([x, y, z])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def oblique_grid(
    shape=(9, 11, 7), spacing=(0.8, 1.1, 2.5), angles=(12, -20, 33), origin=(-30, 12, 45)
) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(*angles) * np.array(spacing)
    matrix[:3, 3] = origin
    return Grid.of(shape, matrix)


@pytest.fixture
def grid() -> Grid:
    return oblique_grid()


@pytest.fixture
def write():
    """write(path, data, affine, **header fields) → path of a NIfTI."""

    def write(path: Path, data: np.ndarray, affine=None, **fields) -> Path:
        image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
        image.set_qform(image.affine, code=1)
        image.set_sform(image.affine, code=2)
        for name, value in fields.items():
            image.header[name] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        image.to_filename(path)
        return path

    return write


@pytest.fixture
def make_sample():
    """make_sample(grid, target="hard" | "soft" | None, **fields) → a sample with random voxels."""

    def make(grid: Grid, target: str | None = "hard", seed: int = 0, **fields) -> Sample:
        draw = np.random.default_rng(seed)
        image = draw.normal(size=(2, *grid.shape)).astype(np.float32)
        made = None
        if target == "hard":
            made = draw.integers(0, 3, size=(1, *grid.shape)).astype(np.uint8)
        elif target == "soft":
            made = draw.dirichlet((1, 1, 1), size=grid.shape).transpose(3, 0, 1, 2)[:2].astype(np.float32)
        return Sample(fields.pop("case", "case-1"), image, grid, made, **fields)

    return make
