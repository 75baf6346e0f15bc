"""Mosaics: the right slices, centred, in the right colours; nothing falls over what a case may lack."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mriad.errors import ShapeError
from mriad.geometry import Grid
from mriad_eval.figures import mosaic
from mriad_eval.figures.anatomy import View
from mriad_eval.figures.mosaic import agreement, draw_mosaic, plane_of, window
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRID = Grid.of((40, 30, 24), np.diag([-1.0, -1.0, 2.0, 1.0]))  # LPS: the view turns one axis
BLUE, ORANGE, GREEN = (86, 180, 233), (230, 159, 0), (0, 158, 115)


def cube(start: tuple[int, int, int], size: tuple[int, int, int] = (8, 8, 14)) -> np.ndarray:
    out = np.zeros((1, *GRID.shape), np.float32)
    out[0, *(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
    return out


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    saved: list[Figure] = []
    original = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int], within: int = 60) -> int:
    return int((np.abs(picture - np.array(colour)).max(axis=-1) < within).sum())


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(mpl.text.Text)]


def test_rows_and_slices(tmp_path: Path, figures: list[Figure]) -> None:
    scan = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    path = draw_mosaic(
        tmp_path / "a.png", scan, GRID, reference=cube((10, 8, 4)), prediction=0.8 * cube((12, 8, 4))
    )
    said = texts(figures[0])
    assert {"scan", "contours", "agreement", "soft", "R", "L", "A", "P"} <= set(said)
    # z grows upwards in this grid, so the mosaic goes down from the top of the structure, both ends included.
    assert [s for s in said if s.startswith("k = ")] == [f"k = {k}" for k in (17, 15, 13, 11, 10, 8, 6, 4)]
    assert pixels(path).shape[:2] == (4 * 151 + 29, 22 + 8 * 151 + 3)
    lines = figures[0].findobj(LineCollection)
    styles = {tuple(np.round(line.get_colors()[0][:3] * 255).astype(int)) for line in lines}
    assert styles == {BLUE, ORANGE}


def test_a_hard_prediction_has_no_ramp(tmp_path: Path, figures: list[Figure]) -> None:
    draw_mosaic(tmp_path / "a.png", None, GRID, reference=cube((10, 8, 4)), prediction=cube((10, 8, 4)))
    assert {"contours", "agreement"} <= set(texts(figures[0]))
    assert not {"scan", "soft"} & set(texts(figures[0]))


def test_every_slice_is_centred_on_the_structure(tmp_path: Path) -> None:
    """A rod that wanders: in each tile of the agreement row the shaded voxels lie around the middle."""
    rod = np.zeros((1, *GRID.shape), np.float32)
    for k in range(24):
        rod[0, 4 + k : 9 + k, 10:16, k] = 1
    path = draw_mosaic(tmp_path / "a.png", None, GRID, reference=rod, prediction=rod)
    picture = pixels(path)
    for column in range(8):
        x, y = 22 + column * 151, 3 + 151
        tile = picture[y : y + 148, x : x + 148]
        green = np.argwhere(np.abs(tile - np.array(GREEN) // 2).max(axis=-1) < 40)
        np.testing.assert_allclose(green.mean(axis=0), 73.5, atol=4)


def test_colours_say_who_marked_what(tmp_path: Path) -> None:
    both = pixels(
        draw_mosaic(tmp_path / "a.png", None, GRID, reference=cube((10, 8, 4)), prediction=cube((14, 8, 4)))
    )
    row = both[3 + 151 : 3 + 151 + 148, 22 : 22 + 148]
    # LPS: i grows to the left, and the left is on the right. Reference i 10-17, prediction 14-21.
    blue = np.argwhere(np.abs(row - 0.85 * np.array(BLUE)).max(axis=-1) < 30)[:, 1]
    orange = np.argwhere(np.abs(row - 0.85 * np.array(ORANGE)).max(axis=-1) < 30)[:, 1]
    assert len(blue) > 500
    assert len(orange) > 500
    assert blue.max() < orange.min()
    np.testing.assert_allclose(len(blue), len(orange), rtol=0.05)


def test_agreement_by_hand() -> None:
    reference = np.array([[1, 1, 0, 0, 0.5], [0, 0, 1, 0, 0]], np.float32).reshape(2, 1, 1, 5)
    prediction = np.array([[1, 0, 0.9, 0, 0], [0, 0, 0.2, 1, 0]], np.float32).reshape(2, 1, 1, 5)
    found = agreement(reference, prediction)[0, 0]
    # both; only the reference; structure 1 against 2; only the prediction; .5 is background
    assert found.tolist() == [mosaic.BOTH, mosaic.ONLY_REFERENCE, mosaic.OTHER, mosaic.ONLY_PREDICTION, 0]


def test_agreement_of_overlapping_structures() -> None:
    """A lesion inside the cord: both where both agree, only the reference where the lesion alone is missed."""
    reference = np.ones((2, 1, 1, 2), np.float32)
    prediction = np.array([[1, 1], [1, 0]], np.float32).reshape(2, 1, 1, 2)
    assert agreement(reference, prediction)[0, 0].tolist() == [mosaic.BOTH, mosaic.ONLY_REFERENCE]


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((1, 1, 1), "axial"), ((3.3, 0.7, 0.7), "sagittal"), ((1, 4, 1), "coronal"), ((1, 1, 1.5), "axial")],
)
def test_plane_is_the_acquired_one(spacing: tuple[float, float, float], plane: str) -> None:
    assert plane_of(spacing) == plane


def test_proportions_are_true_to_millimetres(tmp_path: Path) -> None:
    """A cube of 8 × 16 × 16 voxels of 4 × 1 × 2 mm in a sagittal mosaic is twice as high as wide."""
    grid = Grid.of((16, 40, 40), np.diag([4.0, 1.0, 2.0, 1.0]))
    mask = np.zeros((1, *grid.shape), np.float32)
    mask[0, 4:12, 8:24, 8:24] = 1
    path = draw_mosaic(tmp_path / "a.png", None, grid, reference=mask, prediction=mask)
    tile = pixels(path)[3 + 151 : 3 + 151 + 148, 22 : 22 + 148]
    green = np.argwhere(np.abs(tile - np.array(GREEN) // 2).max(axis=-1) < 40)
    high, wide = np.ptp(green, axis=0) + 1
    assert high / wide == pytest.approx(2, rel=0.04)
    assert plane_of(View.of(grid).spacing) == "sagittal"


@pytest.mark.parametrize("given", ["nothing", "scan", "reference", "prediction", "empty"])
def test_what_a_case_may_lack(given: str, tmp_path: Path) -> None:
    scan = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    maps = {given: cube((1, 1, 1))} if given in ("reference", "prediction") else {}
    if given == "empty":
        maps = {"reference": 0 * cube((1, 1, 1)), "prediction": 0 * cube((1, 1, 1))}
    path = draw_mosaic(tmp_path / "a.png", scan if given == "scan" else None, GRID, **maps)
    assert pixels(path).shape[1] == 22 + 8 * 151 + 3


def test_single_slices_constants_and_borders(tmp_path: Path, figures: list[Figure]) -> None:
    grid = Grid.of((5, 5, 1), np.eye(4))
    mask = np.ones((1, *grid.shape), np.float32)
    draw_mosaic(tmp_path / "a.png", np.full(grid.shape, 7.0), grid, reference=mask, prediction=mask)
    assert [s for s in texts(figures[0]) if s.startswith("k")] == ["k = 0"]
    assert window(np.full((2, 2, 2), 3.0)) == (3.0, 4.0)


def test_arrays_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"(?s)do not lie on its grid.*reference"):
        draw_mosaic(tmp_path / "a.png", None, GRID, reference=np.zeros((1, 2, 3, 4)))
    with pytest.raises(ShapeError, match=r"(?s)image"):
        draw_mosaic(tmp_path / "a.png", np.zeros((2, 3, 4)), GRID)
    two = np.zeros((2, *GRID.shape))
    with pytest.raises(ShapeError, match="one channel a structure"):
        draw_mosaic(tmp_path / "a.png", None, GRID, reference=two, prediction=two[:1])


def test_equal_cases_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        draw_mosaic(tmp_path / f"{name}.png", None, GRID, reference=cube((10, 8, 4)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_no_pyplot() -> None:
    code = "import sys, mriad_eval.figures.mosaic; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
