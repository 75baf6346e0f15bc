"""Augmented samples with label contours: what the network will see, looked at before it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from mriad_eval.figures.style import ON_IMAGES, halo, new_figure, pick, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from mriad.batch import Batch
    from numpy.typing import NDArray

_COARSE = 1.5  # an axis this much coarser than the others is cut across, so that pixels stay small
_NAMED = 8


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice of one sample: rows run down along the second shown axis, columns along the first."""

    title: str
    image: NDArray[np.float32]
    labels: NDArray[np.float32]
    """(S, rows, columns) in [0, 1]; S is 0 without a label."""
    hidden: NDArray[np.bool_]
    """Where nothing is annotated or nothing was acquired."""
    pixel: tuple[float, float]
    """Width and height in mm."""


def tiles_of(stream: str, batch: Batch) -> list[Tile]:
    """Return one tile a sample of a batch (B, C, *D); volumes are cut through the middle of their label."""
    image = batch.image.detach().float().cpu().numpy()
    target = None if batch.target is None else batch.target.detach().cpu().numpy()
    structures = 0
    if target is not None:
        soft = np.issubdtype(target.dtype, np.floating)
        structures = target.shape[1] if soft else int(target.max(initial=0))
    tiles = []
    for b in range(len(batch)):
        labels = _labels(None if target is None else target[b], structures, image.shape[2:])
        hidden = np.zeros(image.shape[2:], dtype=bool)
        for mask in (batch.validity, batch.field):
            if mask is not None:
                hidden |= mask[b, 0].detach().cpu().numpy() == 0
        spacing = batch.spacing[b] if batch.spacing else (1.0,) * (image.ndim - 2)
        contrast = batch.contrasts[b] if batch.contrasts else ""
        name = " · ".join(part for part in (_shortened(batch.cases[b]), contrast) if part)
        tiles.append(_tile(name, stream, image[b, 0], labels, hidden, spacing, target is not None))
    return tiles


def draw_samples(
    path: Path, tiles: Sequence[Tile], *, title: str = "", structures: Sequence[str] = ()
) -> Path:
    """Draw tiles in a grid, each in true proportions with contours at .5, and write a PNG.

    Args:
        path: the PNG.
        tiles: from `tiles_of`.
        title: of the figure.
        structures: names in channel order; without them structures are numbered.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    rows = max(1, math.ceil(len(tiles) / columns))
    with new_figure(2.6 * columns + 0.2, 2.85 * rows + 0.8) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(tiles) :]:
            axes.set_axis_off()
        for axes, tile in zip(panels, tiles, strict=False):
            _draw(axes, tile)
        figure.suptitle(f"{title or 'augmented samples'} (n = {len(tiles)})", fontsize=10)
        count = max((len(tile.labels) for tile in tiles), default=0)
        handles = [
            Rectangle((0, 0), 1, 1, facecolor=pick(ON_IMAGES, s), edgecolor="black", label=name)
            for s, name in enumerate(_names(structures, count)[:_NAMED])
        ]
        if count > _NAMED:
            handles.append(
                Rectangle(
                    (0, 0), 1, 1, facecolor="none", edgecolor="none", label=f"and {count - _NAMED} more"
                )
            )
        if any(tile.hidden.any() for tile in tiles):
            handles.append(
                Rectangle(
                    (0, 0), 1, 1, facecolor="none", edgecolor="#888888", hatch="////", label="not valid"
                )
            )
        if handles:
            figure.legend(
                handles=handles,
                loc="outside lower center",
                ncols=min(len(handles), 2 * columns),
                title="Label contours at 0.5. Axes are those of the prepared array.",
                title_fontsize=8,
            )
        return save(figure, path)


def _shortened(name: str, limit: int = 32) -> str:
    """A long case name without its middle, so that it fits above a tile."""
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-limit // 2 + 1 :]}"


def _names(structures: Sequence[str], count: int) -> list[str]:
    if len(structures) >= count:
        return list(structures[:count])
    return [f"structure {s + 1}" for s in range(count)]


def _labels(target: NDArray[Any] | None, structures: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if target is None or not structures:
        return np.zeros((0, *shape), dtype=np.float32)
    if np.issubdtype(target.dtype, np.floating):
        return target.astype(np.float32)
    return np.stack([target[0] == s + 1 for s in range(structures)]).astype(np.float32)


def _tile(
    name: str,
    stream: str,
    image: NDArray[np.float32],
    labels: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    spacing: tuple[float, ...],
    labelled: bool,
) -> Tile:
    where = ""
    if image.ndim == 3:
        axis = _cut_across(spacing)
        depth = image.shape[axis]
        index = _middle(labels, axis, depth)
        image, hidden = np.take(image, [index], axis), np.take(hidden, [index], axis)
        image, hidden = image.squeeze(axis), hidden.squeeze(axis)
        labels = np.take(labels, [index], axis + 1).squeeze(axis + 1)
        where = f"slice {index} of {depth}, axis {axis + 1}"
        spacing = tuple(s for i, s in enumerate(spacing) if i != axis)
    notes = [stream, where, "" if labelled else "no label"]
    return Tile(
        title=f"{name}\n{', '.join(note for note in notes if note)}",
        image=image.T,
        labels=labels.transpose(0, 2, 1),
        hidden=hidden.T,
        pixel=(spacing[0], spacing[1]),
    )


def _cut_across(spacing: tuple[float, ...]) -> int:
    """The coarsest axis if one is clearly coarser; else the last."""
    axis = int(np.argmax(spacing))
    return axis if spacing[axis] > _COARSE * min(spacing) else len(spacing) - 1


def _middle(labels: NDArray[np.float32], axis: int, size: int) -> int:
    """The slice that halves the label's voxels; the middle one without a label."""
    mask = (labels > 0.5).any(axis=0) if len(labels) else np.zeros(0, dtype=bool)
    if not mask.any():
        return size // 2
    voxels = mask.sum(axis=tuple(i for i in range(mask.ndim) if i != axis))
    return int(np.searchsorted(np.cumsum(voxels), voxels.sum() / 2))


def _draw(axes: Axes, tile: Tile) -> None:
    width, height = tile.pixel
    rows, columns = tile.image.shape
    extent = (-0.5 * width, (columns - 0.5) * width, (rows - 0.5) * height, -0.5 * height)
    seen = tile.image[~tile.hidden] if not tile.hidden.all() else tile.image
    low, high = np.percentile(seen, (1, 99.5))
    axes.imshow(
        tile.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="nearest"
    )
    x, y = np.arange(-1, columns + 1) * width, np.arange(-1, rows + 1) * height
    if tile.hidden.any():
        shown = np.pad(tile.hidden.astype(float), 1)
        axes.contourf(x, y, shown, levels=[0.5, 1.5], colors="none", hatches=["////"])
    for s, label in enumerate(tile.labels):
        if (label > 0.5).any():
            drawn = axes.contour(
                x, y, np.pad(label, 1), levels=[0.5], colors=pick(ON_IMAGES, s), linewidths=1.2
            )
            drawn.set_path_effects(halo(2.0))
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(tile.title, fontsize=7)
