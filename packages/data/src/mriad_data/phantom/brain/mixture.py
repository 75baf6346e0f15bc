"""What each voxel is made of: the share of every region, from the solids of one person.

Blocks of voxels are tested at their centres. Where a boundary may pass, the voxel is divided into cells, and each
cell takes the share that a plane through it leaves: distance at its centre, slopes from its neighbours in the voxel.
Solids lie over each other in a fixed order, front to back, so the shares of a voxel sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.brain.cerebrum import BOXES, cerebellar_depth, hulls, pial_depth
from mriad_data.phantom.brain.head import head_layers
from mriad_data.phantom.brain.regions import INDEX, REGIONS
from mriad_data.phantom.brain.warp import to_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.phantom.brain.anatomy import Brain
    from mriad_data.phantom.brain.shapes import Points

    ShareOf = Callable[[Any], Any]

F = np.float32
BLOCK_MM = 24.0
BLOCK_VOXELS = 12
"""Edge of a block of voxels: the larger of the two."""
CELL_MM = 0.75
"""Edge of a cell at most; a voxel has two to six along each axis."""
MARGIN = 1.6
"""Width of the band around a boundary, in voxel edges, in which voxels are divided."""
LEAF_POINTS = 60_000
GAUSS = F(0.5 / np.sqrt(3))


@dataclass(frozen=True, eq=False)
class Mixture:
    """The make-up of a grid's voxels.

    whole: uint8 (X, Y, Z), the index in REGIONS of each voxel's largest share (the first of equals).
    mixed: int32 (m,), flat index of each voxel that holds several regions, ascending.
    row, region, share: (s,), the shares of the mixed voxels: row of `mixed`, index in REGIONS, share in (0, 1].
    """

    whole: NDArray[np.uint8]
    mixed: NDArray[np.int32]
    row: NDArray[np.int32]
    region: NDArray[np.uint8]
    share: NDArray[np.float32]

    def mean(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of a value per region over each voxel's shares, float32 (X, Y, Z)."""
        out = value[self.whole]
        mixed = np.bincount(self.row, self.share * value[self.region], len(self.mixed))
        out.reshape(-1)[self.mixed] = mixed
        return out

    def fraction(self, region: int) -> NDArray[np.float32]:
        """Share of each voxel in one region, float32 (X, Y, Z)."""
        value = np.zeros(len(REGIONS), F)
        value[region] = 1
        return self.mean(value)

    @cached_property
    def volumes_voxels(self) -> NDArray[np.float64]:
        """Sum of the shares of each region, in voxels (regions,)."""
        whole = np.bincount(self.whole.ravel(), minlength=len(REGIONS)).astype(float)
        whole -= np.bincount(self.whole.reshape(-1)[self.mixed], minlength=len(REGIONS))
        return whole + np.bincount(self.region, self.share, len(REGIONS))


def mix(grid: Grid, brain: Brain, head: bool, cell_mm: float = CELL_MM) -> Mixture:
    """The mixture of every voxel of a grid given in the person's frame (any orientation and spacing)."""
    whole = np.zeros(grid.shape, np.uint8)
    spacing = np.array(grid.spacing)
    coarse = np.clip(np.ceil(spacing / cell_mm - 1e-6).astype(int), 2, 6)
    steps = grid.matrix[:3, :3]
    band = F(MARGIN * np.sqrt((spacing**2).mean()))
    parts: list[tuple[Any, Any, Any]] = []
    for block in _blocks(grid.shape, spacing):
        index = np.stack(np.meshgrid(*(np.r_[s] for s in block), indexing="ij")).reshape(3, -1)
        place = (steps @ index + grid.matrix[:3, 3:]).astype(F)
        points, slopes = to_template(brain, place)
        scene = Scene.of(brain, points, float(band), head)
        if scene is None:
            continue
        shares = list(scene.shares(points, ramp_share(band), band))
        best = np.zeros(points.shape[1], np.uint8)
        largest = np.zeros(points.shape[1], F)
        for region, share in shares:
            better = share > largest
            best[better] = region
            largest[better] = share[better]
        shape = tuple(s.stop - s.start for s in block)
        whole[block] = best.reshape(shape)
        chosen = np.flatnonzero(largest < 1)
        # The leaves of the cerebellum are thinner than anything else.
        cells = coarse + scene.fine
        cell = F(np.sqrt(((spacing / cells) ** 2).mean()))
        offsets = _offsets(cells)
        flat = np.ravel_multi_index(tuple(index), grid.shape).astype(np.int32)
        many = max(1, LEAF_POINTS // len(offsets))
        for start in range(0, len(chosen), many):
            part = chosen[start : start + many]
            # The warp is straight within a voxel.
            inside = np.einsum("ijn,jk->ikn", slopes(part), (steps @ offsets.T).astype(F))
            inside += points[:, None, part]
            n = len(part)
            tiny: dict[int, Any] = {}
            leaf = scene.near(inside.reshape(3, -1), float(band))
            for region, share in leaf.shares(inside.reshape(3, -1), plane_share(cells, n), cell):
                mean = share.reshape(len(offsets), n).mean(0)
                tiny[region] = tiny[region] + mean if region in tiny else mean
            for region, mean in tiny.items():
                some = np.flatnonzero(mean > 1e-4)
                parts.append((flat[part[some]], np.full(len(some), region, np.uint8), mean[some]))
    return _gather(whole, parts)


def _offsets(cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centres of a voxel's cells from its own, in voxels, (cells, 3)."""
    along = ((np.arange(n) + 0.5) / n - 0.5 for n in cells)
    return np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 3)


def _gather(whole: NDArray[np.uint8], parts: list[tuple[Any, Any, Any]]) -> Mixture:
    """Sort the shares by voxel, make them sum to 1, and set the whole label of mixed voxels to the largest."""
    if not parts:
        none = np.zeros(0, np.int32)
        return Mixture(whole, none, none, none.astype(np.uint8), none.astype(F))
    flat, region, share = (np.concatenate(p) for p in zip(*parts, strict=True))
    order = np.lexsort((region, -share, flat))
    flat, region, share = flat[order], region[order], share[order].astype(F)
    first = np.r_[True, flat[1:] != flat[:-1]]
    row = (np.cumsum(first) - 1).astype(np.int32)
    share /= np.bincount(row, share).astype(F)[row]
    whole.reshape(-1)[flat[first]] = region[first]
    return Mixture(whole, flat[first], row, region, share)


def _blocks(shape: tuple[int, ...], spacing: Any) -> Iterator[tuple[slice, ...]]:
    edge = np.maximum(np.round(BLOCK_MM / spacing).astype(int), BLOCK_VOXELS)
    for corner in np.ndindex(*(-(-n // e) for n, e in zip(shape, edge, strict=True))):
        yield tuple(
            slice(c * e, min((c + 1) * e, n)) for c, e, n in zip(corner, edge.tolist(), shape, strict=True)
        )


def ramp_share(width: Any) -> ShareOf:
    """½ − d/w within [0, 1]: strictly between them in a band of width w mm."""
    return lambda distance: np.clip(F(0.5) - distance * F(1 / width), 0, 1)


def plane_share(cells: NDArray[np.int64], voxels: int) -> ShareOf:
    """Share of each cell behind a plane, for points ordered cells (X, Y, Z) × voxels.

    A plane at distance d, whose distance changes by a ≥ b ≥ c along the cell's edges, leaves on average the
    ramp ½ − d/a, taken at the two Gauss points of b and of c: exact where a ≥ b + c and no end of the ramp is near.
    """
    shape = (*cells.tolist(), voxels)

    def share_of(distance: Any) -> Any:
        out = (distance < 0).astype(F)
        field = distance.reshape(shape)
        reach = np.abs(field).min((0, 1, 2))
        spread = sum(np.abs(np.diff(field, axis=axis)).max((0, 1, 2)) for axis in range(3))
        near = np.flatnonzero(reach < F(0.5) * spread)
        if not len(near):
            return out
        field = field[..., near]
        a, b, c = (np.abs(np.gradient(field, axis=axis)) for axis in range(3))
        low, c = np.minimum(b, c), np.maximum(b, c)
        a, b = np.maximum(a, c), np.minimum(a, c)
        b, c = np.maximum(b, low), np.minimum(b, low)
        per = 1 / np.maximum(a, F(1e-6))
        middle = F(0.5) - field * per
        b *= per * GAUSS
        c *= per * GAUSS
        total = np.zeros_like(field)
        for side in (b + c, b - c, c - b, -b - c):
            side += middle
            total += np.clip(side, 0, 1, out=side)
        out.reshape(shape)[..., near] = total * F(0.25)
        return out

    return share_of


@dataclass(eq=False)
class Scene:
    """The solids that a set of points may touch."""

    brain: Brain
    solids: tuple[str, ...]
    head: bool
    fine: bool = False
    """Whether the cerebellum is among them."""

    @classmethod
    def of(cls, brain: Brain, points: Points, margin: float, head: bool) -> Scene | None:
        """None where there is nothing but air."""
        low, high = points.min(1), points.max(1)
        reach = 120  # no dura lies further from here
        centre = np.array([0, -18, 8])
        if not head and np.linalg.norm(np.clip(centre, low, high) - centre) > reach + margin:
            return None
        return cls(brain, tuple(brain.solids), head).near(points, margin)

    def near(self, points: Points, margin: float) -> Scene:
        """The same with the solids whose boxes these points reach."""
        low, high = points.min(1) - margin, points.max(1) + margin
        kept = []
        for name in self.solids:
            (x0, y0, z0), (x1, y1, z1) = self.brain.solids[name].box
            if (low < (x1, y1, z1)).all() and (high > (x0, y0, z0)).all():
                kept.append(name)
        start, stop = BOXES["cerebellum"]
        fine = bool((low < stop).all() and (high > start).all())
        return Scene(self.brain, tuple(kept), self.head, fine)

    def shares(self, points: Points, share_of: ShareOf, width: Any) -> Iterator[tuple[int, Any]]:
        """Region and share (n,) of points that stand for cells of a width in mm, front to back.

        `share_of` turns distances into a solid's shares.

        A region may come several times. Shares sum to 1 with the background's.
        """
        brain = self.brain
        rest = np.ones(points.shape[1], F)
        x = points[0]

        def take(distance: Any) -> Any:
            share = share_of(distance) * rest
            np.subtract(rest, share, out=rest)
            return share

        outline = hulls(brain, points)
        for name, distance in self.deep(points):
            yield INDEX[name], take(distance)
        right = share_of(-x)
        if outline.cerebellum.min() < width:
            depth = cerebellar_depth(brain, points, outline.cerebellum)
            yield from _sides("cerebellum_white_matter", take(F(brain.folia_grey_mm) - depth), right)
            yield from _sides("cerebellum_cortex", take(-depth), right)
        if outline.cerebrum.min() < width:
            depth = pial_depth(brain, points, outline.cerebrum)
            yield from _sides("cerebral_white_matter", take(F(brain.cortex_mm) - depth), right)
            yield from _sides("cerebral_cortex", take(-depth), right)
        if rest.any():
            for name, distance in head_layers(brain, points, outline, self.head):
                yield INDEX[name], take(distance)
            yield 0, rest

    def deep(self, points: Points) -> Iterator[tuple[str, Any]]:
        """The deep solids that the points may touch and the distances to them, front to back."""
        for name in (n for group in ORDER for n in group if n in self.solids):
            yield name, self.brain.solids[name].distance(points)


def _sides(name: str, share: Any, right: Any) -> Iterator[tuple[int, Any]]:
    on_right = share * right
    yield INDEX[f"right_{name}"], on_right
    yield INDEX[f"left_{name}"], share - on_right


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


ORDER = (
    ("3rd_ventricle", "4th_ventricle"),
    _both("lateral_ventricle", "inferior_lateral_ventricle"),
    _both("accumbens_area", "caudate", "pallidum", "putamen", "thalamus", "amygdala", "hippocampus"),
    ("brain-stem",),
    _both("ventral_DC"),
    ("CSF",),
)
"""Deep solids front to back: an earlier one covers a later one."""
