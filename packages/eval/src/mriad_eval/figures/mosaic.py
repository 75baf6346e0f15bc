"""A case as a mosaic of slices: every column a slice that is centred on the structure, every row another look.

Rows: the scan alone; contours of reference (solid) and prediction (dashed) in two colours; where they agree and
differ; the uncut values of a soft prediction as a ramp. A mosaic is one PNG of a fixed width, so that a page of
hundreds of cases can be turned over quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from contourpy import contour_generator
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from mriad.errors import ShapeError
from scipy import ndimage

from mriad_eval.figures.anatomy import Plane, View, across, cut, edges
from mriad_eval.figures.style import DPI, halo, new_figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from mriad.geometry import Grid
    from numpy.typing import NDArray

REFERENCE, PREDICTION = "#56B4E9", "#E69F00"
"""Sky blue and orange of Okabe and Ito: told apart with every common colour vision, and on grey."""
AGREE, CONFUSED = "#009E73", "#CC79A7"
LEVEL = 0.5  # a mask is > .5, as in the metrics
COLUMNS = 8
TILE = 148  # pixels
_GAP, _LEFT, _FOOT = 3, 22, 26
_PAPER = "#0B0E13"
BOTH, ONLY_PREDICTION, ONLY_REFERENCE, OTHER = 1, 2, 3, 4
"""Codes of `agreement`."""
_SHADES = {BOTH: (AGREE, 0.5), ONLY_PREDICTION: (PREDICTION, 0.85)}
_SHADES |= {ONLY_REFERENCE: (REFERENCE, 0.85), OTHER: (CONFUSED, 0.85)}
# By bits: 1 a structure is in both, 2 one only in the prediction, 4 one only in the reference.
_CODES = np.array([0, BOTH, *[ONLY_PREDICTION] * 2, *[ONLY_REFERENCE] * 2, *[OTHER] * 2], np.uint8)
_THICK = 1.6  # a stack of slices this much thicker than its pixels is shown in the plane it was acquired in
_ACROSS_PLANE: dict[int, Plane] = {0: "sagittal", 1: "coronal", 2: "axial"}


@dataclass(frozen=True)
class _Column:
    """One slice: its index across the plane, and the centre of its tile in mm along columns and rows."""

    index: int
    centre: tuple[float, float]


def draw_mosaic(
    path: Path,
    image: NDArray[Any] | None,
    grid: Grid,
    *,
    reference: NDArray[Any] | None = None,
    prediction: NDArray[Any] | None = None,
    plane: Plane | None = None,
    columns: int = COLUMNS,
    margin_mm: float = 9.0,
) -> Path:
    """Draw the mosaic of one case, radiological, in true proportions, and write a PNG.

    Several structures share the two colours: contours are those of each, and a voxel is shaded by what is wrong
    with any of them. The PNG names nobody.

    Args:
        path: the PNG.
        image: (X, Y, Z) intensities on `grid`; None: the maps on black.
        grid: of all arrays.
        reference: (S, X, Y, Z) in [0, 1], or None.
        prediction: (S, X, Y, Z) in [0, 1], or None; values between 0 and 1 add the row of the ramp.
        plane: of the slices; None chooses the plane of the thick slices, else axial.
        columns: how many slices, spread evenly through the structures.
        margin_mm: shown around the largest slice of the structures.

    Raises:
        ShapeError: an array does not lie on the grid, or the two maps differ in structures.
        StorageError: the place is full or cannot be written.
    """
    given = {"reference": reference, "prediction": prediction}
    maps = {name: np.asarray(m, np.float32) for name, m in given.items() if m is not None}
    _require(image, grid, maps)
    view = View.of(grid)
    plane = plane or plane_of(view.spacing)
    turned = {name: view.turn(m) for name, m in maps.items()}
    scan = None if image is None else view.turn(np.asarray(image, np.float32))
    anywhere = np.zeros(view.shape, dtype=bool)
    for values in turned.values():
        anywhere |= (values > LEVEL).any(axis=0)
    chosen, side = _columns(anywhere, view, plane, columns, margin_mm)
    rows = ["scan"] if scan is not None else []
    rows += ["contours"] if turned else []
    rows += ["agreement"] if len(turned) == 2 else []
    rows += ["soft"] if "prediction" in turned and is_soft(turned["prediction"]) else []
    rows = rows or ["scan"]
    codes = agreement(**turned) if len(turned) == 2 else None
    sheet = _Sheet(view, plane, scan, turned, chosen, side, rows, codes)
    width, height = sheet.size
    with new_figure(width / DPI, height / DPI) as figure:
        figure.set_layout_engine("none")
        figure.set_facecolor(_PAPER)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(sheet.pixels(), extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
        sheet.contours(axes)
        sheet.words(axes)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        return save(figure, path)


def plane_of(spacing: tuple[float, float, float]) -> Plane:
    """The plane across the thickest axis of LPI `spacing` (mm), axial where no axis is much thicker."""
    thick = int(np.argmax(spacing))
    others = [size for axis, size in enumerate(spacing) if axis != thick]
    return _ACROSS_PLANE[thick] if spacing[thick] > _THICK * max(others) else "axial"


def agreement(reference: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what two maps (S, X, Y, Z) say of each voxel, as one of the codes below; uint8 (X, Y, Z).

    `BOTH`: the same structures. `ONLY_PREDICTION`, `ONLY_REFERENCE`: one of them marks a structure there that the
    other does not. `OTHER`: each marks one that the other does not. 0: neither marks anything.
    """
    codes = np.zeros(reference.shape[1:], np.uint8)
    for r, p in zip(reference > LEVEL, prediction > LEVEL, strict=True):
        codes |= np.where(p & ~r, np.uint8(2), np.where(r & ~p, np.uint8(4), (r & p).astype(np.uint8)))
    return _CODES[codes]


def is_soft(values: NDArray[Any]) -> bool:
    """Whether a map holds anything between 0 and 1, rounding of 8-bit files aside."""
    return bool(((values > 0.01) & (values < 0.99)).any())


def _require(image: NDArray[Any] | None, grid: Grid, maps: dict[str, NDArray[Any]]) -> None:
    structures = {len(m) for m in maps.values() if m.ndim == 4}
    wrong = {name: m.shape for name, m in maps.items() if m.ndim != 4 or m.shape[1:] != grid.shape}
    if image is not None and image.shape != grid.shape:
        wrong["image"] = image.shape
    if wrong or len(structures) > 1:
        raise ShapeError(
            "the arrays of a mosaic do not lie on its grid, one channel a structure",
            where={**(wrong or {name: m.shape for name, m in maps.items()}), "grid": grid.shape},
        )


def _columns(
    mask: NDArray[np.bool_], view: View, plane: Plane, count: int, margin_mm: float
) -> tuple[list[_Column], float]:
    """Slices through the mask, each centred on it, and the side of a tile in mm."""
    axis = across(plane)
    sizes = view.pixel(plane)
    found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
    if not found.size:
        shape = cut(mask, plane, 0).shape
        middle = ((shape[1] - 1) / 2 * sizes[0], (shape[0] - 1) / 2 * sizes[1])
        whole = max(shape[1] * sizes[0], shape[0] * sizes[1])
        last = mask.shape[axis] - 1
        picks = {round(last * f) for f in (np.arange(count) + 1) / (count + 1)}
        return [_Column(int(i), middle) for i in sorted(picks)], float(whole)
    picks = sorted({int(found[round(float(p))]) for p in np.linspace(0, found.size - 1, count)})
    columns, reach = [], 0.0
    for index in picks:
        rows, cols = np.nonzero(cut(mask, plane, index))
        x, y = cols * sizes[0], rows * sizes[1]
        centre = ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
        reach = max(reach, x.max() - x.min() + sizes[0], y.max() - y.min() + sizes[1])
        columns.append(_Column(index, (float(centre[0]), float(centre[1]))))
    return columns, float(reach + 2 * margin_mm)


@dataclass(frozen=True)
class _Sheet:
    """The drawing: arrays in LPI order, tiles in pixels from the top left."""

    view: View
    plane: Plane
    scan: NDArray[Any] | None
    maps: dict[str, NDArray[Any]]
    columns: list[_Column]
    side: float
    rows: Sequence[str]
    codes: NDArray[np.uint8] | None

    @property
    def size(self) -> tuple[int, int]:
        """Width (that of a full set of columns) and height."""
        return (
            _LEFT + COLUMNS * (TILE + _GAP) + _GAP if len(self.columns) <= COLUMNS else self._right,
            _GAP + len(self.rows) * (TILE + _GAP) + _FOOT,
        )

    @property
    def _right(self) -> int:
        return _LEFT + len(self.columns) * (TILE + _GAP) + _GAP

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """x and y of a tile's top left pixel."""
        return _LEFT + column * (TILE + _GAP), _GAP + row * (TILE + _GAP)

    def pixels(self) -> NDArray[np.float32]:
        """The RGB picture (height, width, 3) under contours and words."""
        width, height = self.size
        sheet = np.empty((height, width, 3), np.float32)
        sheet[:] = to_rgb(_PAPER)
        low, high = window(self.scan) if self.scan is not None else (0.0, 1.0)
        for c, column in enumerate(self.columns):
            grey = np.zeros((TILE, TILE), np.float32)
            if self.scan is not None:
                grey = self._sample(self.scan, column, order=1)
                grey = np.clip((grey - low) / (high - low), 0, 1)
            for r, name in enumerate(self.rows):
                tile = np.repeat(grey[..., None], 3, axis=2)
                if name == "agreement":
                    tile = self._agreement(tile, column)
                elif name == "soft":
                    tile = self._ramp(tile, column)
                x, y = self.corner(r, c)
                sheet[y : y + TILE, x : x + TILE] = tile
        return sheet

    def _sample(self, volume: NDArray[Any], column: _Column, order: int) -> NDArray[np.float32]:
        """The slice at the pixels of a tile (TILE, TILE); outside the volume 0."""
        picture = np.asarray(cut(volume, self.plane, column.index), np.float32)
        width, height = self.view.pixel(self.plane)
        offsets = ((np.arange(TILE) + 0.5) / TILE - 0.5) * self.side
        rows = (column.centre[1] + offsets) / height
        cols = (column.centre[0] + offsets) / width
        places = np.meshgrid(rows, cols, indexing="ij")
        found = ndimage.map_coordinates(picture, places, order=order, mode="nearest")
        edge = 0.5
        inside = (
            (rows[:, None] >= -edge)
            & (rows[:, None] <= picture.shape[0] - 1 + edge)
            & (cols[None] >= -edge)
            & (cols[None] <= picture.shape[1] - 1 + edge)
        )
        return np.where(inside, found, np.float32(0)).astype(np.float32)

    def _agreement(self, tile: NDArray[np.float32], column: _Column) -> NDArray[np.float32]:
        """Green where both, orange where only the prediction, blue where only the reference marks the voxel."""
        codes = (
            self._sample(self.codes, column, order=0) if self.codes is not None else np.zeros(tile.shape[:2])
        )
        for code, (colour, cover) in _SHADES.items():
            where = codes == code
            tile[where] = (1 - cover) * tile[where] + cover * np.array(to_rgb(colour), np.float32)
        return tile

    def _ramp(self, tile: NDArray[np.float32], column: _Column) -> NDArray[np.float32]:
        """The largest predicted value over structures; what is near 0 stays the scan."""
        values = self._sample(self.maps["prediction"].max(axis=0), column, order=0)
        cover = np.clip(values / 0.25, 0, 1)[..., None] * 0.85
        coloured = colormaps["viridis"](values)[..., :3].astype(np.float32)
        return (1 - cover) * tile + cover * coloured

    def contours(self, axes: Axes) -> None:
        """Outlines at .5 in the row of contours (both), and of the reference in the row of the ramp."""
        width, height = self.view.pixel(self.plane)
        scale = TILE / self.side
        for r, row in enumerate(self.rows):
            shown = {"contours": ("reference", "prediction"), "soft": ("reference",)}.get(row, ())
            for which in (name for name in shown if name in self.maps):
                lines = []
                for c, column in enumerate(self.columns):
                    x0, y0 = self.corner(r, c)
                    for values in self.maps[which]:
                        for line in _outlines(cut(values, self.plane, column.index)):
                            x = x0 + TILE / 2 + (line[:, 0] * width - column.centre[0]) * scale
                            y = y0 + TILE / 2 + (line[:, 1] * height - column.centre[1]) * scale
                            inside = (x >= x0) & (x <= x0 + TILE) & (y >= y0) & (y <= y0 + TILE)
                            kept = np.where(inside[:, None], np.column_stack([x, y]), np.nan)
                            lines.append(kept)
                solid = which == "reference"
                axes.add_collection(
                    LineCollection(
                        lines,
                        colors=REFERENCE if solid else PREDICTION,
                        linewidths=1.0,
                        linestyles="-" if solid else (0, (3.0, 1.6)),
                        path_effects=halo(1.8) if solid else None,
                    )
                )

    def words(self, axes: Axes) -> None:
        """Names of rows, numbers of slices, sides, a scale bar and the legend."""
        small: dict[str, Any] = {"color": "#E8ECF2", "fontsize": 5.5}
        for r, row in enumerate(self.rows):
            x, y = self.corner(r, 0)
            axes.text(_LEFT / 2 - 1, y + TILE / 2, row, rotation=90, ha="center", va="center", **small)
        for c, column in enumerate(self.columns):
            x, y = self.corner(0, c)
            letter, number = self.view.file_index(self.plane, column.index)
            text = f"{letter} = {number}"
            axes.text(x + 5, y + 5, text, ha="left", va="top", path_effects=halo(1.4), **small)
        x, y = self.corner(0, 0)
        left, right, top, bottom = edges(self.plane)
        for name, (fx, fy) in {
            left: (0.05, 0.5),
            right: (0.95, 0.5),
            top: (0.5, 0.06),
            bottom: (0.5, 0.94),
        }.items():
            axes.text(
                x + fx * TILE,
                y + fy * TILE,
                name,
                ha="center",
                va="center",
                path_effects=halo(1.4),
                **small,
            )
        self._foot(axes, small)

    def _foot(self, axes: Axes, small: dict[str, Any]) -> None:
        height = self.size[1]
        middle = height - _FOOT / 2
        bar = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= self.side / 2), default=1)
        length = bar * TILE / self.side
        axes.plot([_LEFT, _LEFT + length], [middle, middle], color="#E8ECF2", linewidth=1.4)
        text = f"{bar} mm   {self.plane}, the person's left is on the right"
        if self.plane == "sagittal":
            text = f"{bar} mm   sagittal, the person's front is on the left"
        axes.text(_LEFT + length + 8, middle, text, va="center", **small)
        items: list[tuple[str, str]] = []
        if "reference" in self.maps:
            items.append((REFERENCE, "reference, or only there"))
        if "prediction" in self.maps:
            items.append((PREDICTION, "prediction, or only there"))
        if "agreement" in self.rows:
            items.append((AGREE, "both"))
            if len(self.maps["reference"]) > 1:
                items.append((CONFUSED, "another structure"))
        x = self.size[0] - 8.0
        if "soft" in self.rows:
            x -= 104
            ramp = colormaps["viridis"](np.linspace(0, 1, 64))[None]
            axes.imshow(ramp, extent=(x + 8, x + 68, middle + 5, middle - 5), aspect="auto")
            axes.text(x, middle, "0", va="center", **small)
            axes.text(x + 73, middle, "1 soft", va="center", **small)
        for colour, name in reversed(items):
            x -= 5.6 * len(name) + 26
            axes.add_patch(Rectangle((x, middle - 5), 10, 10, facecolor=colour, edgecolor="none"))
            axes.text(x + 15, middle, name, va="center", **small)


def window(image: NDArray[Any]) -> tuple[float, float]:
    """Grey levels of black and white: 1st and 99.5th percentile of what is not exactly background."""
    values = image[image != image.min()]
    if not values.size:
        return float(image.min()), float(image.min()) + 1.0
    low, high = np.percentile(values[:: max(1, values.size // 1_000_000)], (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _outlines(values: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Closed lines (n, 2) of column and row at .5, in pixels of the slice."""
    if not (values > LEVEL).any():
        return []
    padded = np.pad(np.asarray(values, np.float64), 1)  # so that lines close at the border
    return [np.asarray(line) - 1 for line in contour_generator(z=padded).lines(LEVEL)]
