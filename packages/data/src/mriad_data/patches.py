"""`data.patch` and `data.slice`: boxes and slices drawn from a prepared sample."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.interfaces import Sampler
from pydantic import Field, field_validator

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Sample, Task
    from numpy.typing import NDArray

Extent = int | Literal["full"]
_MOST = 4096  # foreground voxels kept a structure: enough to draw from, little to keep
_KEPT = 1024  # cases whose foreground is remembered
_ACROSS = {"axial": "SI", "coronal": "AP", "sagittal": "RL"}


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

    _size = field_validator("size")(_sized)

    def build(self, task: Task) -> PatchDraw:
        """Return the function that draws."""
        return PatchDraw(tuple(self.size), self.foreground)


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

    _size = field_validator("size")(_sized)

    def build(self, task: Task) -> SliceDraw:
        """Return the function that draws."""
        return SliceDraw(self.axis, tuple(self.size), _Foreground(), self.foreground)


@dataclass
class _Foreground:
    """Voxels of structures by case, found once: to search a volume at every draw would starve the
    training.
    """

    known: OrderedDict[Any, list[NDArray[np.int64]]] = field(default_factory=OrderedDict)

    def of(self, sample: Sample) -> list[NDArray[np.int64]]:
        """For each structure that is present, (n, 3) voxels where it is annotated."""
        target = sample.target
        key = (sample.case, sample.grid, None if target is None else target.dtype.str)
        if key not in self.known:
            self.known[key] = [] if target is None else list(self._search(target, sample.validity))
            while len(self.known) > _KEPT:
                self.known.popitem(last=False)
        self.known.move_to_end(key)
        return self.known[key]

    def _search(self, target: NDArray[Any], validity: NDArray[Any] | None) -> Any:
        if np.issubdtype(target.dtype, np.integer):
            masks = (target[0] == value for value in np.unique(target) if value > 0)
        else:
            masks = (channel > 0.5 for channel in target)
        for mask in masks:
            flat = np.flatnonzero(mask if validity is None else mask & (validity[0] != 0))
            if len(flat) > _MOST:  # always the same ones: a draw depends on the sample's key alone
                flat = np.sort(
                    np.random.Generator(np.random.Philox(len(flat))).choice(flat, _MOST, replace=False)
                )
            if len(flat):
                yield np.stack(np.unravel_index(flat, target.shape[1:]), axis=1)


@dataclass
class PatchDraw:
    """What `data.patch` builds. Remembers where structures lie in the cases that it has seen."""

    size: tuple[Extent, ...]
    foreground: float
    places: _Foreground = field(default_factory=_Foreground)

    def __call__(self, sample: Sample, generator: np.random.Generator, margin: Sequence[int]) -> Sample:
        """Return a box of `size` + 2 `margin` voxels."""
        whole = sample.grid.shape
        size = [n if s == "full" else int(s) for n, s in zip(whole, self.size, strict=True)]
        # Drawn in any case, so that the numbers that follow do not depend on what the sample holds.
        around = generator.random() < self.foreground
        which, place, free = generator.random(), generator.random(), generator.random(3)
        found = self.places.of(sample) if around else []
        if found:
            voxels = found[int(which * len(found))]
            wanted = voxels[int(place * len(voxels))] - np.array(size) // 2
        else:
            wanted = np.floor(free * (np.array(whole) - size + 1)).astype(int)
        start = [
            min(max(int(w), 0), n - s) if s <= n else (n - s) // 2
            for w, n, s in zip(wanted, whole, size, strict=True)
        ]
        corner = [a - m for a, m in zip(start, margin, strict=True)]
        return cut_box(sample, corner, [s + 2 * m for s, m in zip(size, margin, strict=True)])


@dataclass
class SliceDraw:
    """What `data.slice` builds."""

    plane: str
    size: tuple[Extent, ...]
    places: _Foreground
    foreground: float

    def __call__(self, sample: Sample, generator: np.random.Generator, margin: Sequence[int]) -> Sample:
        """Return one slice of `size` + 2 `margin` pixels; the margin across the slice is not used."""
        across = next(i for i, code in enumerate(sample.grid.orientation) if code in _ACROSS[self.plane])
        size: list[Extent] = list(self.size)
        size.insert(across, 1)
        margins = list(margin)
        margins[across] = 0
        box = PatchDraw(tuple(size), self.foreground, self.places)(sample, generator, margins)
        return _flat(box, across)


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
