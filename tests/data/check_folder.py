"""A folder of small images and labels with faults on purpose, and `mriad data check` run on it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from mriad.cli.app import main
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_data.checking.run import check_data

SHAPE = (8, 9, 10)


def moved(x: float = 0.0, spacing: float = 1.0) -> np.ndarray:
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[0, 3] = x
    return matrix


class Folder:
    """Images `NAME.nii.gz` with noise, labels `NAME_seg.nii.gz` with a block."""

    def __init__(self, path):
        self.path = path
        self.draw = np.random.default_rng(5)

    def image(self, name, data=None, affine=None):
        data = self.draw.normal(100, 20, SHAPE) if data is None else data
        grid = Grid.of(data.shape, moved() if affine is None else affine)
        return write_like(self.path / f"{name}.nii.gz", data, grid)

    def label(self, name, value=1, affine=None, shape=SHAPE, empty=False):
        data = np.zeros(shape, np.uint8)
        if not empty:
            corner = self.draw.integers(0, 3, 3)
            data[corner[0] : 6, corner[1] : 6, corner[2] : 6] = value
            data[tuple(self.draw.integers(0, 6, 3))] = value
        grid = Grid.of(data.shape, moved() if affine is None else affine)
        return write_like(self.path / f"{name}_seg.nii.gz", data, grid, "labels")

    def pair(self, name, **label):
        self.image(name)
        self.label(name, **label)

    def table(self, *rows, labels="structures: {cord: 1, csf: 2}\n"):
        (self.path / "manifest.csv").write_text("\n".join(rows) + "\n")
        (self.path / "labels.yaml").write_text(labels)
        return self.path / "manifest.csv"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    return Folder(tmp_path / "set")


def found(target, check=None, level=None, **options):
    """(level, what, case, detail) of findings."""
    report = check_data(str(target), **options).report
    return [
        (f.level, f.what, f.case, f.detail)
        for f in report.findings
        if check in (None, f.check) and level in (None, f.level)
    ]


def run(*arguments) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SystemExit) as done:
            main(["data", "check", *map(str, arguments)])
    return int(done.value.code or 0)
