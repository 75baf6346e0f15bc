"""Figures: right proportions and sides, the numbers of the table, whole files, clear refusals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mriad.batch import Batch
from mriad.case_table import Row, summarise
from mriad.errors import DataError, ShapeError, StorageError
from mriad.geometry import Grid
from mriad_eval.figures.anatomy import View, cut, slices_through
from mriad_eval.figures.comparison import draw_comparison
from mriad_eval.figures.curves import draw_curves, read_metrics
from mriad_eval.figures.overlay import draw_overlay
from mriad_eval.figures.samples import tiles_of
from mriad_eval.preview import write_preview
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODES = ["RAS", "LPI", "RPI", "PSR", "ILA"]


def grid_with(codes: str, shape: tuple[int, int, int] = (6, 8, 5), spacing: Any = (1, 2, 3)) -> Grid:
    """A grid whose axes point to `codes`."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, letter in enumerate(codes):
        world = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter]
        affine[world, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
    return Grid.of(shape, affine)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Every figure that was saved."""
    saved: list[Figure] = []
    original = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(mpl.text.Text))


# ---- anatomy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_is_shown_alike(codes: str) -> None:
    """A voxel marked at the person's left, front and top appears right, top and top."""
    grid = grid_with(codes)
    world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    turned = [View.of(grid).turn(world[..., axis]) for axis in range(3)]
    right, front, top = turned
    axial_x, axial_y = cut(right, "axial", 2), cut(front, "axial", 2)
    assert (np.diff(axial_x, axis=1) < 0).all()  # columns go from the person's right to the left
    assert (np.diff(axial_y, axis=0) < 0).all()  # rows from front to back
    assert (np.diff(cut(front, "sagittal", 2), axis=1) < 0).all()
    assert (np.diff(cut(top, "sagittal", 2), axis=0) < 0).all()
    assert (np.diff(cut(top, "coronal", 2), axis=0) < 0).all()
    view = View.of(grid)
    assert view.shape == turned[0].shape
    step = [abs(np.diff(t, axis=i)).max() for i, t in enumerate(turned)]
    np.testing.assert_allclose(step, view.spacing)


@pytest.mark.parametrize("codes", CODES)
def test_slice_numbers_are_those_of_the_file(codes: str) -> None:
    grid = grid_with(codes)
    view = View.of(grid)
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"))
    for plane in ("axial", "coronal", "sagittal"):
        letter, number = view.file_index(plane, 1)  # type: ignore[arg-type]
        found = cut(view.turn(indices["ijk".index(letter)]), plane, 1)  # type: ignore[arg-type]
        assert (found == number).all()


def test_slices_go_through_the_structure() -> None:
    mask = np.zeros((5, 5, 40), dtype=bool)
    mask[2, 2, 10:31] = True
    assert slices_through(mask, "axial", 3) == [13, 20, 27]
    assert slices_through(mask, "axial", 1) == [20]
    assert slices_through(mask & False, "axial", 3) == [20]


# ---- overlay --------------------------------------------------------------------------------------------------


def case(codes: str = "RAS") -> tuple[np.ndarray, Grid, np.ndarray, np.ndarray]:
    grid = grid_with(codes, (24, 20, 12), (1, 1, 4))
    rng = np.random.default_rng(0)
    image = rng.random(grid.shape).astype(np.float32)
    reference, prediction = np.zeros((2, 2, *grid.shape), dtype=np.float32)
    reference[0, 8:14, 8:14, 2:10] = 1
    reference[1, 14:16, 8:14, 2:10] = 1
    prediction[:, 1:] = 0.8 * reference[:, :-1]
    return image, grid, reference, prediction


def test_overlay(tmp_path: Path, figures: list[Figure]) -> None:
    image, grid, reference, prediction = case()
    path = draw_overlay(
        tmp_path / "new" / "overlay.png",
        image,
        grid,
        reference=reference,
        prediction=prediction,
        structures=("cord", "csf"),
        title="sub-1: Dice 0.91",
        soft=True,
    )
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
    written = texts(figures[0])
    for expected in ("sub-1: Dice 0.91", "axial, k = ", "cord", "csf", "reference", "prediction", "mm"):
        assert expected in written
    assert {"L", "R", "A", "P", "S", "I"} <= set(written.splitlines())
    locator = figures[0].axes[0]
    (x0, x1), (y0, y1) = locator.get_xlim(), locator.get_ylim()
    assert (x1 - x0, y0 - y1) == (pytest.approx(20), pytest.approx(48))  # mm: 20 × 1 and 12 × 4
    assert locator.get_aspect() == 1
    assert [p.name for p in path.parent.iterdir()] == ["overlay.png"]


def test_overlay_of_nothing(tmp_path: Path) -> None:
    image, grid, reference, _ = case("PSR")
    nothing = np.zeros_like(reference)
    for number, plane in enumerate(("axial", "coronal", "sagittal")):
        path = tmp_path / f"{number}.png"
        assert draw_overlay(
            path,
            np.zeros_like(image),
            grid,
            reference=nothing,
            structures=("a", "b"),
            plane=plane,  # type: ignore[arg-type]
        ).exists()
    draw_overlay(tmp_path / "bare.png", image, grid)


def test_overlay_on_another_grid(tmp_path: Path) -> None:
    image, grid, reference, prediction = case()
    with pytest.raises(ShapeError, match=r"(?s)reference of an overlay.*expected.*cord"):
        draw_overlay(tmp_path / "x.png", image, grid, reference=reference, structures=["cord"])
    with pytest.raises(ShapeError, match="image of an overlay"):
        draw_overlay(tmp_path / "x.png", image[1:], grid)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        draw_overlay(tmp_path / "file" / "x.png", image, grid, prediction=prediction, structures="ab")


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    image, grid, reference, _ = case()
    files = [
        draw_overlay(tmp_path / f"{i}.png", image, grid, reference=reference, structures="ab").read_bytes()
        for i in range(2)
    ]
    assert files[0] == files[1]


# ---- curves ---------------------------------------------------------------------------------------------------


def metrics_file(path: Path, structures: tuple[str, ...] = ("cord",), scale: float = 1.0) -> Path:
    with path.open("w") as file:
        for step in range(1, 41):
            values: dict[str, float | None] = {"train/loss": scale * math.exp(-step / 10)}
            if step % 10 == 0:
                values |= {f"val/dice/{s}": 1 - 1 / step for s in structures} | {"val/dice/mean": 0.5}
            file.write(json.dumps({"time": 0.0, "step": step, "values": values}) + "\n")
    return path


def test_curves_show_what_was_logged(tmp_path: Path, figures: list[Figure]) -> None:
    runs = {"soft": metrics_file(tmp_path / "a.jsonl"), "hard": metrics_file(tmp_path / "b.jsonl", scale=2)}
    draw_curves(tmp_path / "curves.png", runs, unit="1", cases=4, title="quickstart")
    loss, validation = figures[0].axes
    assert "quickstart (2 runs)" in texts(figures[0])
    assert "n = 4 cases" in validation.get_title()
    assert (loss.get_ylabel(), validation.get_ylabel()) == ("training loss (1)", "dice of cord (1)")
    line = validation.get_lines()[0]
    np.testing.assert_allclose(line.get_xydata(), [[s, 1 - 1 / s] for s in (10, 20, 30, 40)])
    signs = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in validation.get_lines()}
    assert len({s[1] for s in signs}) == len({s[2] for s in signs}) == 2  # told apart without colour
    raw = loss.get_lines()[0].get_ydata()
    np.testing.assert_allclose(raw, [math.exp(-s / 10) for s in range(1, 41)])


def test_curves_of_several_structures_or_none(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curves(
        tmp_path / "a.png", {"run": metrics_file(tmp_path / "a.jsonl", ("cord", "csf"))}, metric="dice"
    )
    assert [t.get_text() for t in figures[0].legends[0].get_texts()] == ["run, cord", "run, csf"]
    draw_curves(tmp_path / "b.png", {"run": metrics_file(tmp_path / "b.jsonl", ())}, metric="asd")
    assert len(figures[1].axes) == 1


def test_metrics_of_a_killed_or_resumed_run(tmp_path: Path) -> None:
    path = metrics_file(tmp_path / "a.jsonl")
    lines = path.read_text()
    path.write_text(lines + '{"step": 30, "values": {"train/loss": null}}\n{"step": 41, "val')
    steps, values = read_metrics(path)["train/loss"]
    assert len(steps) == 40
    assert math.isnan(values[29])
    path.write_text("{}\n" + lines)
    with pytest.raises(DataError, match=r"(?s)a line of metrics.*a\.jsonl:1"):
        read_metrics(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_metrics(tmp_path / "absent.jsonl")
    path.write_text("")
    with pytest.raises(DataError, match=r"(?s)nothing|no training loss.*a\.jsonl"):
        draw_curves(tmp_path / "x.png", {"run": path})
    with pytest.raises(DataError, match="no training loss"):
        draw_curves(tmp_path / "x.png", {})


# ---- comparison -----------------------------------------------------------------------------------------------


def rows_of(shift: float, metric: str = "dice", reference: str = "truth") -> list[Row]:
    out = []
    for i, contrast in enumerate(["T1w", "T2w", "DWI"]):
        for person in ("a", "b"):
            missed = metric == "asd" and (contrast, person) == ("DWI", "a")
            value = math.nan if missed else 0.8 + 0.02 * i + shift
            direction = "higher" if metric == "dice" else "lower"
            out.append(
                Row(
                    f"{person}_{contrast}",
                    person,
                    contrast,
                    "",
                    "cord",
                    metric,
                    value,
                    "1",
                    direction,
                    200.0,
                    "miss" if missed else "",
                    reference,
                )
            )
    return out


def test_comparison_prints_the_table(tmp_path: Path, figures: list[Figure]) -> None:
    variants = {"soft": rows_of(0.05), "hard": rows_of(0)}
    draw_comparison(tmp_path / "c.png", variants, metric="dice", title="soft against hard")
    (axes,) = figures[0].axes
    labels = [t.get_text() for t in axes.get_xticklabels()]
    for label, (name, rows) in zip(labels, variants.items(), strict=True):
        (summary,) = summarise(rows)
        assert label.startswith(f"{name}\nvs truth\n")
        assert summary.text() == "{} ({})".format(*label.split("\n")[2:])
    written = texts(figures[0])
    assert "n = 6 cases of 2 persons" in written
    assert "dice (1), higher is better" in written
    points = [line for line in axes.get_lines() if len(line.get_xdata()) == 1 and line.get_marker() in "os^"]
    drawn = sorted(float(line.get_ydata()[0]) for line in points)
    assert drawn == sorted(row.value for rows in variants.values() for row in rows)
    assert sum(len(line.get_xdata()) == 2 and line.get_marker() == "None" for line in axes.get_lines()) >= 6


def test_comparison_shows_failures(tmp_path: Path, figures: list[Figure]) -> None:
    draw_comparison(tmp_path / "c.png", {"a": rows_of(0, "asd"), "b": rows_of(0.1, "asd")}, metric="asd")
    written = texts(figures[0])
    assert written.count("1 failed") == 2
    assert "n 5/6, 1 miss" in written
    assert "lower is better" in written


def test_comparison_of_what_is_not_comparable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="variant 'a' has no value of 'asd'"):
        draw_comparison(tmp_path / "c.png", {"a": rows_of(0)}, metric="asd")
    with pytest.raises(DataError, match=r"(?s)several references.*soft, truth"):
        draw_comparison(tmp_path / "c.png", {"a": rows_of(0) + rows_of(0, reference="soft")}, metric="dice")
    with pytest.raises(DataError, match="no variant"):
        draw_comparison(tmp_path / "c.png", {}, metric="dice")


# ---- preview --------------------------------------------------------------------------------------------------


def batch_of(size: int = 2, soft: bool = False, **changes: Any) -> Batch:
    image = torch.rand(size, 1, 12, 10, 8, generator=torch.Generator().manual_seed(0))
    index = torch.zeros(size, 1, 12, 10, 8, dtype=torch.int64)
    index[:, :, 3:9, 3:7, 4:7] = 1
    index[:, :, 9:11, 3:7, 6:7] = 2
    target = torch.cat([(index == 1), (index == 2)], dim=1).float() if soft else index
    values: dict[str, Any] = {
        "target": target,
        "contrasts": ("T1w",) * size,
        "spacing": ((1.0, 1.0, 1.0),) * size,
        **changes,
    }
    return Batch(image, tuple(range(size)), tuple(f"case{i}" for i in range(size)), **values)


def test_tiles_cut_through_the_label() -> None:
    hard, soft = tiles_of("labelled", batch_of()), tiles_of("labelled", batch_of(soft=True))
    assert [t.title for t in hard] == [t.title for t in soft]
    assert hard[0].title == "case0 · T1w\nlabelled, slice 5 of 8, axis 3"
    for a, b in zip(hard, soft, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.image, batch_of().image[hard.index(a), 0, :, :, 5].numpy().T)
    assert hard[0].labels.shape == (2, 10, 12)


def test_tiles_cut_across_the_coarse_axis() -> None:
    (tile,) = tiles_of("", batch_of(1, spacing=((1.0, 4.0, 1.0),)))
    assert tile.title.endswith("axis 2")
    assert tile.image.shape == (8, 12)
    assert tile.pixel == (1.0, 1.0)


def test_tiles_without_label_with_holes_and_in_2d() -> None:
    validity = torch.ones(2, 1, 12, 10, 8)
    validity[1, :, :4] = 0
    plain, holed = tiles_of("unlabelled.weak", batch_of(target=None, validity=validity))
    assert plain.title == "case0 · T1w\nunlabelled.weak, slice 4 of 8, axis 3, no label"
    assert not plain.hidden.any()
    assert holed.hidden[:, :4].all()
    assert not holed.hidden[:, 4:].any()
    flat = Batch(torch.rand(1, 3, 9, 7), (1,), ("slice",), target=torch.ones(1, 1, 9, 7, dtype=torch.int64))
    (tile,) = tiles_of("s", flat)
    assert (tile.image.shape, tile.title) == ((7, 9), "slice\ns")


def test_preview_takes_turns(tmp_path: Path, figures: list[Figure]) -> None:
    batches = [("labelled", batch_of(4)), ("unlabelled", batch_of(4, target=None))]
    shown = write_preview(tmp_path / "p.png", batches, 6, title="mine", structures=("cord", "csf"))
    written = texts(figures[0])
    assert shown == 6
    assert written.count("unlabelled, slice") == 3
    assert "mine (n = 6)" in written
    assert "cord" in written
    assert write_preview(tmp_path / "q.png", batches, 100) == 8
    assert "structure 2" in texts(figures[1])
    with pytest.raises(DataError, match="no sample to show"):
        write_preview(tmp_path / "p.png", [], 16)


def test_drawing_leaves_no_state() -> None:
    code = (
        "import matplotlib as mpl; before = dict(mpl.rcParams);"
        "import sys, tempfile, pathlib, numpy as np;"
        "from mriad.geometry import Grid; from mriad_eval.figures.overlay import draw_overlay;"
        "draw_overlay(pathlib.Path(tempfile.mkdtemp()) / 'x.png', np.zeros((4, 4, 4)), Grid.of((4,) * 3, np.eye(4)));"
        "assert dict(mpl.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
