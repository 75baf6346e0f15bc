"""`data.patch`, `data.slice` and `data.every_slice`: boxes and slices drawn from a prepared sample.

Arrays of a sample are memory maps and a box is a view: only the box's own pages are read from the image. What lies
where in the target (one byte a voxel) is searched once a case and process.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from mriad.errors import ExperimentError
from mriad.interfaces import Sampler
from mriad.label_budget import axis_across
from pydantic import Field, field_validator

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mriad.vocabulary import Sample, Task
    from numpy.typing import NDArray

Extent = int | Literal["full"]
Weight = Annotated[float, Field(ge=0)]
_WEIGHTS = "Structure → relative chance of being the one that is drawn; 1 where not named, 0: never."
_MOST = 4096  # foreground voxels kept a structure: enough to draw from, little to keep
_KEPT = 1024  # cases whose foreground is remembered


def _sized(value: list[Extent]) -> list[Extent]:
    if any(isinstance(n, int) and n < 1 for n in value):
        raise ValueError(f"{value} must hold positive numbers of voxels, or `full`")
    return value


class Patch(Sampler):
    """A box of `size` voxels, anywhere or around a voxel of a structure.

    With probability `foreground` a structure is drawn among those present, then one of its annotated
    voxels, and the box is centred there; otherwise every place is equally likely. A box lies inside the
    volume where it fits; where the volume is smaller it is centred and padded (`field` and `validity` 0).
    The margin asked for is added on every side, from the volume where there is one.
    """

    type: Literal["data.patch"] = "data.patch"
    size: list[Extent] = Field(min_length=3, max_length=3, description="Voxels along i, j, k; `full`: all.")
    foreground: float = Field(0.5, ge=0, le=1, description="Probability of a box around a structure's voxel.")
    structures: dict[str, Weight] = Field(default_factory=dict, description=_WEIGHTS)

    _size = field_validator("size")(_sized)

    def build(self, task: Task) -> PatchDraw:
        """Return the function that draws.

        Raises:
            ExperimentError: `structures` names one that no domain has.
        """
        return PatchDraw(tuple(self.size), self.foreground, weights=weights_of(task, self.structures))


class Slice(Sampler):
    """A slice across an anatomical axis, as 2D arrays: image (C, A, B), target (1 or S, A, B).

    In-plane axes keep their order; the grid of the sample is (A, B, 1), where the slice lies in the
    volume. Slices are drawn as boxes of `data.patch` are: around a structure's voxel, or anywhere.
    """

    type: Literal["data.slice"] = "data.slice"
    axis: Literal["axial", "coronal", "sagittal"] = Field("axial", description="The plane of the slice.")
    size: list[Extent] = Field(
        ["full", "full"], min_length=2, max_length=2, description="Pixels in the plane; `full`: all."
    )
    foreground: float = Field(0.5, ge=0, le=1, description="Probability of a slice through a structure.")
    structures: dict[str, Weight] = Field(default_factory=dict, description=_WEIGHTS)

    _size = field_validator("size")(_sized)

    def build(self, task: Task) -> SliceDraw:
        """Return the function that draws.

        Raises:
            ExperimentError: `structures` names one that no domain has.
        """
        weights = weights_of(task, self.structures)
        return SliceDraw(self.axis, tuple(self.size), _Foreground(), self.foreground, weights)


class EverySlice(Sampler):
    """Each slice of each case once an epoch, as 2D arrays; an epoch's order is drawn by the stream.

    Where slices are annotated sparsely, an epoch goes through the annotated ones. In the plane, a place for
    `size` is drawn anew in each epoch.
    """

    type: Literal["data.every_slice"] = "data.every_slice"
    axis: Literal["axial", "coronal", "sagittal"] = Field("axial", description="The plane of the slices.")
    size: list[Extent] = Field(
        ["full", "full"], min_length=2, max_length=2, description="Pixels in the plane; `full`: all."
    )
    slices: Literal["all", "annotated", "foreground"] = Field(
        "annotated", description="All; those with an annotated voxel; those with a voxel of a structure."
    )

    _size = field_validator("size")(_sized)

    def build(self, task: Task) -> EverySliceDraw:
        """Return the function that draws; it also says how many slices a sample has."""
        return EverySliceDraw(self.axis, tuple(self.size), self.slices)


def weights_of(task: Task, structures: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """Relative chances by domain and structure in channel order; empty: all alike.

    Raises:
        ExperimentError: a structure is unknown.
    """
    if not structures:
        return {}
    sets = task.label_sets if task.stored_label_set is None else {"": task.stored_label_set}
    known = {name for label_set in sets.values() for name in label_set.names}
    unknown = sorted(set(structures) - known)
    if unknown:
        raise ExperimentError(
            "a sampler weighs structures that are not segmented",
            where={"structures": ", ".join(unknown), "known": ", ".join(sorted(known))},
        )
    return {domain: tuple(structures.get(n, 1.0) for n in found.names) for domain, found in sets.items()}


Places = list[tuple[int, "NDArray[np.int64]"]]


@dataclass
class _Foreground:
    """Voxels of structures by case, found once: to search a volume at every draw would starve the
    training.
    """

    known: OrderedDict[Any, Places] = field(default_factory=OrderedDict)

    def of(self, sample: Sample) -> Places:
        """For each structure that is present, its channel and (n, 3) voxels where it is annotated."""
        return _remembered(self.known, sample, lambda: list(self._search(sample.target, sample.validity)))

    def _search(self, target: NDArray[Any] | None, validity: NDArray[Any] | None) -> Any:
        if target is None:
            return
        if np.issubdtype(target.dtype, np.integer):
            masks = ((int(value) - 1, target[0] == value) for value in np.unique(target) if value > 0)
        else:
            masks = ((s, channel > 0.5) for s, channel in enumerate(target))
        for structure, mask in masks:
            flat = np.flatnonzero(mask if validity is None else mask & (validity[0] != 0))
            if len(flat) > _MOST:  # always the same ones: a draw depends on the sample's key alone
                flat = np.sort(
                    np.random.Generator(np.random.Philox(len(flat))).choice(flat, _MOST, replace=False)
                )
            if len(flat):
                yield structure, np.stack(np.unravel_index(flat, target.shape[1:]), axis=1)


def _remembered(known: OrderedDict[Any, Any], sample: Sample, find: Callable[[], Any]) -> Any:
    target = sample.target
    key = (sample.case, sample.grid, None if target is None else target.dtype.str)
    if key not in known:
        known[key] = find()
        while len(known) > _KEPT:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


@dataclass
class PatchDraw:
    """What `data.patch` builds. Remembers where structures lie in the cases that it has seen."""

    size: tuple[Extent, ...]
    foreground: float
    places: _Foreground = field(default_factory=_Foreground)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __call__(self, sample: Sample, generator: np.random.Generator, margin: Sequence[int]) -> Sample:
        """Return a box of `size` + 2 `margin` voxels."""
        whole = sample.grid.shape
        size = [n if s == "full" else int(s) for n, s in zip(whole, self.size, strict=True)]
        # Drawn in any case, so that the numbers that follow do not depend on what the sample holds.
        around = generator.random() < self.foreground
        which, place, free = generator.random(), generator.random(), generator.random(3)
        voxels = self._chosen(sample, which) if around else None
        if voxels is not None:
            wanted = voxels[int(place * len(voxels))] - np.array(size) // 2
        else:
            wanted = np.floor(free * (np.array(whole) - size + 1)).astype(int)
        start = [
            min(max(int(w), 0), n - s) if s <= n else (n - s) // 2
            for w, n, s in zip(wanted, whole, size, strict=True)
        ]
        corner = [a - m for a, m in zip(start, margin, strict=True)]
        return cut_box(sample, corner, [s + 2 * m for s, m in zip(size, margin, strict=True)])

    def _chosen(self, sample: Sample, which: float) -> NDArray[np.int64] | None:
        """Voxels of the structure that `which` in [0, 1) means; None where there is none to draw."""
        found = self.places.of(sample)
        weights = self.weights.get(sample.domain, self.weights.get("", ()))
        chances = np.cumsum([weights[s] if weights else 1.0 for s, _ in found])
        if not len(found) or chances[-1] == 0:
            return None
        return found[int(np.searchsorted(chances, which * chances[-1], side="right"))][1]


@dataclass
class SliceDraw:
    """What `data.slice` builds."""

    plane: str
    size: tuple[Extent, ...]
    places: _Foreground
    foreground: float
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __call__(self, sample: Sample, generator: np.random.Generator, margin: Sequence[int]) -> Sample:
        """Return one slice of `size` + 2 `margin` pixels; the margin across the slice is not used."""
        across = axis_across(sample.grid, self.plane)
        size: list[Extent] = list(self.size)
        size.insert(across, 1)
        margins = list(margin)
        margins[across] = 0
        box = PatchDraw(tuple(size), self.foreground, self.places, self.weights)(sample, generator, margins)
        return _flat(box, across)


@dataclass
class EverySliceDraw:
    """What `data.every_slice` builds. Remembers which slices count in the cases that it has seen."""

    plane: str
    size: tuple[Extent, ...]
    slices: str
    known: OrderedDict[Any, NDArray[np.int64]] = field(default_factory=OrderedDict)

    def items(self, sample: Sample) -> int:
        """How many slices of the sample an epoch goes through."""
        return len(self._numbers(sample))

    def __call__(
        self, sample: Sample, generator: np.random.Generator, margin: Sequence[int], item: int
    ) -> Sample:
        """Return slice `item` of those that count, with `size` + 2 `margin` pixels."""
        across = axis_across(sample.grid, self.plane)
        free = generator.random(2).tolist()
        start, shape = [0, 0, 0], [0, 0, 0]
        for place, axis in enumerate(a for a in range(3) if a != across):
            n, wanted = sample.grid.shape[axis], self.size[place]
            size = n if wanted == "full" else int(wanted)
            inside = int(free[place] * (n - size + 1)) if size <= n else (n - size) // 2
            start[axis], shape[axis] = inside - margin[axis], size + 2 * margin[axis]
        start[across], shape[across] = int(self._numbers(sample)[item]), 1
        return _flat(cut_box(sample, start, shape), across)

    def _numbers(self, sample: Sample) -> NDArray[np.int64]:
        found: NDArray[np.int64] = _remembered(self.known, sample, lambda: self._search(sample))
        return found

    def _search(self, sample: Sample) -> NDArray[np.int64]:
        across = axis_across(sample.grid, self.plane)
        others = tuple(a for a in range(3) if a != across)
        every = np.arange(sample.grid.shape[across])
        known = sample.validity if self.slices != "all" else None
        mask = None if known is None else known[0] != 0
        if self.slices == "foreground" and sample.target is not None:
            hard = np.issubdtype(sample.target.dtype, np.integer)
            inside = (sample.target > (0 if hard else 0.5)).any(axis=0)
            mask = inside if mask is None else mask & inside
        return every if mask is None else every[mask.any(axis=others)]


def _flat(box: Sample, across: int) -> Sample:
    """A box one voxel thick → 2D arrays; its grid has the thin axis last."""
    order = [axis for axis in range(3) if axis != across] + [across]
    matrix = box.grid.matrix
    matrix[:, :3] = matrix[:, order]
    arrays: dict[str, Any] = {
        name: array if array is None else array.take(0, axis=across + 1)
        for name, array in ((n, getattr(box, n)) for n in ("image", "target", "validity", "field"))
    }
    return replace(box, grid=type(box.grid).of([box.grid.shape[a] for a in order], matrix), **arrays)
