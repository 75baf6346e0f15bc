"""A case with the contours of reference and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mriad.errors import ShapeError

from mriad_eval.figures.anatomy import Plane, View, across, cut, edges, slices_through
from mriad_eval.figures.style import ON_IMAGES, halo, new_figure, pick, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from mriad.geometry import Grid
    from numpy.typing import NDArray

_LEVEL = 0.5
_REFERENCE, _PREDICTION = "-", (0, (2.2, 1.4))  # solid and dashed: told apart in grey print too
_SINGLE = {"reference": "#56B4E9", "prediction": "#E69F00"}
_NAMED = 8  # structures named in the legend


@dataclass(frozen=True)
class _Scene:
    """Everything in LPI order. Maps are (S, X, Y, Z) or None."""

    view: View
    image: NDArray[Any]
    maps: dict[str, NDArray[Any]]
    structures: tuple[str, ...]
    window: tuple[float, float]

    @property
    def anywhere(self) -> NDArray[np.bool_]:
        mask = np.zeros(self.image.shape, dtype=bool)
        for found in self.maps.values():
            mask |= (found > _LEVEL).any(axis=0)
        return mask

    def colour(self, which: str, s: int) -> str:
        """One structure: a colour for each of reference and prediction. Several: a colour a structure."""
        if len(self.structures) == 1:
            return _SINGLE[which]
        return pick(ON_IMAGES, s)


def draw_overlay(
    path: Path,
    image: NDArray[Any],
    grid: Grid,
    *,
    reference: NDArray[Any] | None = None,
    prediction: NDArray[Any] | None = None,
    structures: Sequence[str] = (),
    title: str = "",
    plane: Plane = "axial",
    slices: int = 3,
    soft: bool = False,
    margin_mm: float = 12.0,
) -> Path:
    """Draw slices through the structures, radiological, in true proportions, and write a PNG.

    The first panel shows where the slices lie; the others are cut to the structures. Contours are at .5.

    Args:
        path: the PNG.
        image: (X, Y, Z) intensities on `grid`.
        grid: of all arrays.
        reference: (S, X, Y, Z) in [0, 1] or None; solid contours.
        prediction: (S, X, Y, Z) in [0, 1] or None; dashed contours.
        structures: S names in channel order.
        title: such as the case and its scores.
        plane: of the cut-outs.
        slices: how many, spread evenly through the structures.
        soft: add a row with the prediction's uncut values (largest over structures).
        margin_mm: shown around the structures.

    Raises:
        ShapeError: an array does not lie on the grid, or channels and names differ in number.
        StorageError: the place is full or cannot be written.
    """
    given = {"reference": reference, "prediction": prediction}
    _require(image, grid, {k: v for k, v in given.items() if v is not None}, structures)
    view = View.of(grid)
    shown = view.turn(np.asarray(image, dtype=np.float32))
    scene = _Scene(
        view=view,
        image=shown,
        maps={k: view.turn(np.asarray(v, dtype=np.float32)) for k, v in given.items() if v is not None},
        structures=tuple(structures),
        window=_window(shown),
    )
    anywhere = scene.anywhere
    indices = slices_through(anywhere, plane, slices)
    locator: Plane = "sagittal" if plane != "sagittal" else "coronal"
    where = slices_through(anywhere, locator, 1)[0]
    area = _area(anywhere, view, plane, margin_mm)
    soft = soft and prediction is not None
    rows = 2 if soft else 1
    aspect = _size(scene, locator, None)
    tile = _size(scene, plane, area)
    height = 2.6
    widths = [height * rows * aspect[0] / aspect[1], *[height * tile[0] / tile[1]] * len(indices)]
    widths = [min(max(w, 1.2), 4.5) for w in widths]
    width = max(sum(widths) + 0.5 + 0.7 * soft, 5.5)
    with new_figure(width, height * rows + 1.0) as figure:
        frame = figure.add_gridspec(rows, len(widths), width_ratios=widths)
        overview = figure.add_subplot(frame[:, 0])
        _panel(overview, scene, locator, where, None)
        for number, index in enumerate(indices, start=1):
            _mark(overview, scene, plane, locator, index, number)
            axes = figure.add_subplot(frame[0, number])
            _panel(axes, scene, plane, index, area)
            axes.set_title(f"{number}   " + axes.get_title())
            _scale_bar(axes)
        if soft:
            panels = [figure.add_subplot(frame[1, n]) for n in range(1, len(indices) + 1)]
            for axes, index in zip(panels, indices, strict=True):
                drawn = _soft_panel(axes, scene, plane, index, area)
            bar = figure.colorbar(drawn, ax=panels, shrink=0.85, aspect=14, pad=0.02)
            bar.set_label("predicted value (0–1)")
        figure.suptitle(title or "reference and prediction", fontsize=10, parse_math=False)
        _legend(figure, scene)
        return save(figure, path)


def _require(
    image: NDArray[Any], grid: Grid, maps: dict[str, NDArray[Any]], structures: Sequence[str]
) -> None:
    expected = {"image": grid.shape, **{name: (len(structures), *grid.shape) for name in maps}}
    for name, array in {"image": image, **maps}.items():
        if array.shape != expected[name]:
            raise ShapeError(
                f"the {name} of an overlay does not lie on the grid, one channel a structure",
                where={name: array.shape, "expected": expected[name], "structures": ", ".join(structures)},
            )


def _window(image: NDArray[Any]) -> tuple[float, float]:
    """Grey levels from the voxels that are not exactly background."""
    values = image[image != image.min()]
    if not values.size:
        return float(image.min()), float(image.min()) + 1.0
    low, high = np.percentile(values, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _area(mask: NDArray[np.bool_], view: View, plane: Plane, margin_mm: float) -> tuple[slice, slice] | None:
    """Rows and columns around everything that is drawn, or None for the whole slice."""
    flat: NDArray[Any] = np.any(mask, axis=across(plane)).T
    if not flat.any():
        return None
    out = []
    for axis, size in zip((0, 1), view.pixel(plane)[::-1], strict=True):
        found = np.flatnonzero(np.any(flat, axis=1 - axis))
        more = round(margin_mm / size)
        out.append(slice(max(int(found[0]) - more, 0), min(int(found[-1]) + more + 1, flat.shape[axis])))
    return out[0], out[1]


def _size(scene: _Scene, plane: Plane, area: tuple[slice, slice] | None) -> tuple[float, float]:
    """Width and height of a panel in mm."""
    width, height = scene.view.pixel(plane)
    columns, rows = (n for axis, n in enumerate(scene.view.shape) if axis != across(plane))
    if area is not None:
        rows, columns = area[0].stop - area[0].start, area[1].stop - area[1].start
    return columns * width, rows * height


def _panel(axes: Axes, scene: _Scene, plane: Plane, index: int, area: tuple[slice, slice] | None) -> None:
    _picture(axes, scene, plane, index, area)
    for which, values in scene.maps.items():
        for s in range(len(scene.structures)):
            _contour(axes, scene, plane, cut(values[s], plane, index), which, s)


def _picture(axes: Axes, scene: _Scene, plane: Plane, index: int, area: tuple[slice, slice] | None) -> None:
    """The slice in mm: x to the right, y down; (0, 0) is the centre of the first pixel."""
    width, height = scene.view.pixel(plane)
    picture = cut(scene.image, plane, index)
    extent = _extent(picture.shape, width, height)
    low, high = scene.window
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest")
    rows, columns = area or (slice(0, picture.shape[0]), slice(0, picture.shape[1]))
    axes.set_xlim((columns.start - 0.5) * width, (columns.stop - 0.5) * width)
    axes.set_ylim((rows.stop - 0.5) * height, (rows.start - 0.5) * height)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    letter, number = scene.view.file_index(plane, index)
    axes.set_title(f"{plane}, {letter} = {number}")
    for name, (x, y) in zip(edges(plane), ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        axes.text(
            x,
            y,
            name,
            transform=axes.transAxes,
            color="white",
            fontsize=8,
            ha={0.03: "left", 0.97: "right"}.get(x, "center"),
            va={0.03: "bottom", 0.97: "top"}.get(y, "center"),
            path_effects=halo(1.8),
        )


def _extent(shape: tuple[int, ...], width: float, height: float) -> tuple[float, float, float, float]:
    rows, columns = shape
    return -0.5 * width, (columns - 0.5) * width, (rows - 0.5) * height, -0.5 * height


def _contour(axes: Axes, scene: _Scene, plane: Plane, values: NDArray[Any], which: str, s: int) -> None:
    if not (values > _LEVEL).any():
        return
    width, height = scene.view.pixel(plane)
    padded = np.pad(values, 1)  # so that contours close where a structure touches the border
    x = (np.arange(padded.shape[1]) - 1) * width
    y = (np.arange(padded.shape[0]) - 1) * height
    drawn = axes.contour(
        x,
        y,
        padded,
        levels=[_LEVEL],
        colors=scene.colour(which, s),
        linewidths=1.2,
        linestyles=[_REFERENCE if which == "reference" else _PREDICTION],
    )
    if which == "reference":
        drawn.set_path_effects(halo(2.0))


def _soft_panel(axes: Axes, scene: _Scene, plane: Plane, index: int, area: tuple[slice, slice] | None) -> Any:
    _picture(axes, scene, plane, index, area)
    axes.set_title("")
    values = cut(scene.maps["prediction"].max(axis=0), plane, index)
    extent = _extent(values.shape, *scene.view.pixel(plane))
    shown = np.ma.masked_less(values, 0.02)
    drawn = axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    if "reference" in scene.maps:
        for s in range(len(scene.structures)):
            _contour(axes, scene, plane, cut(scene.maps["reference"][s], plane, index), "reference", s)
    return drawn


def _mark(axes: Axes, scene: _Scene, plane: Plane, locator: Plane, index: int, number: int) -> None:
    """A line in the overview where a slice lies, with its number."""
    spacing = scene.view.spacing[across(plane)]
    at = index * spacing
    # The overview's rows run down for an axial slice; other planes stand upright in it.
    upright = not (plane == "axial" and locator in ("sagittal", "coronal"))
    line = axes.axvline if upright else axes.axhline
    line(at, color="white", linewidth=0.7, linestyle=":", path_effects=halo(1.6))
    x, y = (at, -0.01) if upright else (1.01, at)
    axes.text(
        x,
        y,
        str(number),
        transform=axes.get_xaxis_transform() if upright else axes.get_yaxis_transform(),
        fontsize=8,
        ha="center" if upright else "left",
        va="top" if upright else "center",
    )


def _scale_bar(axes: Axes) -> None:
    """A bar of a round number of mm, about a quarter of the panel."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    wish = (right - left) / 4
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= wish), default=1)
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    axes.plot([x, x + length], [y, y], color="white", linewidth=2, path_effects=halo(3), clip_on=False)
    axes.annotate(
        f"{length} mm",
        (x, y),
        xytext=(0, 3),
        textcoords="offset points",
        color="white",
        fontsize=7,
        path_effects=halo(1.8),
    )


def _legend(figure: Any, scene: _Scene) -> None:
    handles: list[Line2D | Rectangle] = []
    many = len(scene.structures) > 1
    styles: dict[str, Any] = {"reference": _REFERENCE, "prediction": _PREDICTION}
    for which in scene.maps:
        name = f"{which}" if many else f"{which}: {', '.join(scene.structures)}"
        colour = "#777777" if many else scene.colour(which, 0)
        handles.append(Line2D([], [], color=colour, linestyle=styles[which], linewidth=1.6, label=name))
    if many:
        for s, name in enumerate(scene.structures[:_NAMED]):
            handles.append(
                Rectangle((0, 0), 1, 1, facecolor=scene.colour("", s), edgecolor="black", label=name)
            )
        if len(scene.structures) > _NAMED:
            rest = f"and {len(scene.structures) - _NAMED} more"
            handles.append(Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="none", label=rest))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(max(len(handles), 1), 5),
        title="Contours at 0.5. Radiological view: the person's left is on the right.",
        title_fontsize=8,
    )
