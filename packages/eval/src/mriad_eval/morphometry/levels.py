"""Vertebral levels of slices: names and numbers, disc labels, level maps, and the conventions of two programs.

Numbers follow the Spinal Cord Toolbox (SCT): vertebra C1 is 1 … C7 7, T1 8 … T12 19, L1 20 … L5 24, S1 25. A
disc has the number of the vertebra below it: 3 is C2-C3, 8 is C7-T1, so level L lies between disc L (above)
and disc L + 1 (below); 1 is the top of C1 and 2 the joint of C1 and C2. Disc labels are single voxels (or
small blobs) at the posterior tips.

TotalSpineSeg's maps hold vertebrae, discs, cord and canal together, numbered as in its list of classes
(`DISCS_TSS`). It has no disc above C2-C3, so level C2 cannot be had from a map; its `step1_levels` files are
points in SCT's numbering and have it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError

from mriad_eval.morphometry.area import PRESENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_eval.morphometry.area import Tube
    from mriad_eval.morphometry.centre_line import CentreLine

    Floats = NDArray[np.float64]

Convention = Literal["sct", "totalspineseg"]

NAMES: tuple[str, ...] = tuple(
    [f"C{i}" for i in range(1, 8)] + [f"T{i}" for i in range(1, 13)] + [f"L{i}" for i in range(1, 6)] + ["S1"]
)
"""Level n is `NAMES[n - 1]`."""
LANDMARKS_SCT = (49, 50, 60)
"""Points in SCT's disc files that are no discs: pontomedullary groove and junction, conus medullaris."""
DISCS_TSS: Mapping[int, int] = {
    **{63 + i: 3 + i for i in range(5)},  # C2-C3 … C6-C7
    **{71 + i: 8 + i for i in range(12)},  # C7-T1 … T11-T12
    **{91 + i: 20 + i for i in range(5)},  # T12-L1 … L4-L5
    100: 25,  # L5-S
}
"""Label of a disc in TotalSpineSeg's maps → SCT's number of the disc."""
CLASSES_TSS = frozenset([1, 2, 50, *DISCS_TSS, *range(11, 18), *range(21, 33), *range(41, 47)])
"""All labels that TotalSpineSeg's maps may hold."""
_FAR_MM = 50.0  # a disc's tip lies within 2 cm of the cord; further means another space
_MAX_POINT_VOXELS = 200  # more voxels of one value are a map, not a point


def level_name(number: int) -> str:
    """`3` → "C3"; a number beyond the sacrum stays a number."""
    return NAMES[number - 1] if 1 <= number <= len(NAMES) else str(number)


@dataclass(frozen=True)
class LevelSet:
    """Levels that are averaged together, such as C2 and C3."""

    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> LevelSet:
        """Read "C3", "C2-C3", "C2,C3", "2:3" or "3".

        Raises:
            DataError: no such level.
        """
        found: list[int] = []
        for part in text.replace(" ", "").split(","):
            ends = re.split(r"[-:]", part)
            numbers = [_number(end, text) for end in ends]
            if len(ends) > 2 or numbers != sorted(numbers):
                raise _unknown(text)
            found += range(numbers[0], numbers[-1] + 1)
        return cls(tuple(dict.fromkeys(found)))

    @property
    def name(self) -> str:
        """ "C2-C3" for neighbours, "C2,C5" otherwise."""
        first, last = self.numbers[0], self.numbers[-1]
        if len(self.numbers) > 1 and self.numbers == tuple(range(first, last + 1)):
            return f"{level_name(first)}-{level_name(last)}"
        return ",".join(map(level_name, self.numbers))


def _number(text: str, whole: str) -> int:
    if text.isdigit() and int(text) >= 1:
        return int(text)
    if text.upper() in NAMES:
        return NAMES.index(text.upper()) + 1
    raise _unknown(whole)


def _unknown(text: str) -> DataError:
    return DataError(
        f"'{text}' is no vertebral level",
        where={"expected": "C1 … C7, T1 … T12, L1 … L5, S1, a number, or a range such as C2-C3"},
    )


def disc_points(
    labels: NDArray[Any], grid: Grid, convention: Convention = "sct", file: str = ""
) -> dict[int, Floats]:
    """World places of discs by SCT's number: (1, 3) for a point, (n, 3) voxels for a disc of TotalSpineSeg.

    Args:
        labels: integer (X, Y, Z).
        grid: of the labels; need not be that of the segmentation, as places are in world mm.
        convention: how discs are numbered.
        file: for messages.

    Raises:
        DataError: no disc in it, values that the convention does not have, or areas instead of points.
    """
    values = [int(v) for v in np.unique(labels) if v != 0]
    if convention == "totalspineseg":
        _require_known(values, CLASSES_TSS, convention, file)
        numbers = {value: DISCS_TSS[value] for value in values if value in DISCS_TSS}
    else:
        _require_known(values, {*range(1, 27), *LANDMARKS_SCT}, convention, file)
        numbers = {value: value for value in values if value not in LANDMARKS_SCT}
    if not numbers:
        raise DataError(
            "there are no disc labels in this file",
            where={"file": file, "values": ", ".join(map(str, values)) or "all 0", "convention": convention},
            remedy="give disc labels with --discs FILE (3 is C2-C3), or a map of levels with --levels FILE",
        )
    out = {}
    for value, number in numbers.items():
        voxels = np.argwhere(labels == value)
        places = grid.world(voxels)
        if convention == "sct":
            if len(voxels) > _MAX_POINT_VOXELS:
                raise DataError(
                    "disc labels are points, but this file holds areas",
                    where={"file": file, "label": value, "voxels": len(voxels)},
                    remedy="--levels FILE for a map of levels; --convention totalspineseg for its maps",
                )
            places = places.mean(0, keepdims=True)
        out[number] = places
    return out


def _require_known(values: list[int], known: Any, convention: str, file: str) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        raise DataError(
            f"labels that the convention '{convention}' does not have",
            where={"file": file, "labels": ", ".join(map(str, unknown[:20]))},
            remedy="choose with --convention sct or --convention totalspineseg",
        )


def disc_heights(points: Mapping[int, Floats], line: CentreLine) -> dict[int, float]:
    """Heights along the centre line of discs: of the nearest point of the line to each posterior tip.

    Of a disc's voxels those count that lie nearest to the line (within a millimetre): its posterior tip.

    Raises:
        DataError: a disc lies far from the structure, or discs are not in order.
    """
    out: dict[int, float] = {}
    for number, places in sorted(points.items()):
        heights, distances = line.project(places)
        nearest = distances.min()
        if nearest > _FAR_MM:
            raise DataError(
                "disc labels lie far from the structure: they are of another space or person",
                where={
                    "disc": number,
                    "distance": f"{nearest:.0f} mm",
                    "expected": f"within {_FAR_MM:.0f} mm",
                },
                remedy="give labels in the world space of the segmentation",
            )
        out[number] = float(heights[distances <= nearest + 1.0].mean())
    ordered = list(out.values())
    if any(lower >= upper for upper, lower in itertools.pairwise(ordered)):
        raise DataError(
            "disc labels are not in order from superior to inferior",
            where={"heights": ", ".join(f"{n}: {h:.1f} mm" for n, h in out.items())},
            remedy="check the labels, and the header of their file",
        )
    return out


def levels_from_discs(tube: Tube, points: Mapping[int, Floats]) -> NDArray[np.int64]:
    """The level of every slice of a tube, 0 where the disc above or below is not labelled.

    A slice belongs to level L when its height lies above disc L + 1 and not above disc L.
    """
    if tube.line is None:
        return np.zeros(len(tube), dtype=np.int64)
    return levels_between(tube, disc_heights(points, tube.line))


def levels_between(tube: Tube, heights: Mapping[int, float]) -> NDArray[np.int64]:
    """As `levels_from_discs`, from heights of discs along the centre line."""
    out = np.zeros(len(tube), dtype=np.int64)
    for number, top in heights.items():
        bottom = heights.get(number + 1)
        if bottom is not None:
            out[(tube.heights > bottom) & (tube.heights <= top)] = number
    return out


def levels_from_map(tube: Tube, values: NDArray[np.float32], levels: NDArray[Any]) -> NDArray[np.int64]:
    """The level of every slice of a tube: the most frequent label in the structure, else in the slice; 0 if none.

    Args:
        tube: made of `values`.
        values: (X, Y, Z) in [0, 1].
        levels: integer (X, Y, Z) on the same grid, SCT's numbers, 0 none.
    """
    labels, masks = tube.frame.stack(levels), tube.frame.stack(values)
    out = np.zeros(len(tube), dtype=np.int64)
    for place, k in enumerate(tube.slices):
        image = labels[k].astype(np.int64)
        inside = image[masks[k] > max(PRESENT, tube.peak[place] / 2)]
        for found in (inside[inside > 0], image[image > 0]):
            if len(found):
                out[place] = int(np.bincount(found).argmax())
                break
    return out


@dataclass(frozen=True)
class LevelMean:
    """Mean over the slices of a level set. mean, sd: NaN if undefined (sd with n, as SCT's). n: slices used.

    note: why there is no mean; empty if there is. slices: numbers of the slices that the mean is over, () without
    one; those that were filled with 0 are not among them.
    """

    levels: LevelSet
    mean: float
    sd: float
    n: int
    note: str = ""
    slices: tuple[int, ...] = ()


def level_mean(
    tube: Tube,
    levels: NDArray[np.int64],
    wanted: LevelSet,
    column: Floats,
    min_slices: int = 2,
    expected: Sequence[int] = (),
) -> LevelMean:
    """Average a column of a tube (such as `tube.area_mm2`) over a level set, slices with equal weights.

    Ends that the tube dropped and slices that are not finite do not count. There is no mean from fewer than
    `min_slices`, or where a level of the set has no slice at all.

    Args:
        tube: of the structure.
        levels: (n,) level of each slice of the tube.
        wanted: the levels to average over.
        column: (n,) of the tube.
        min_slices: fewer slices of the tube's own give no mean.
        expected: numbers of slices that a reference was averaged over: those that the tube does not have at all count
            as 0, so that a fragment is no measurement of the whole.
    """
    use = np.isin(levels, wanted.numbers) & ~tube.end & np.isfinite(column)
    missing = [n for n in wanted.numbers if not (use & (levels == n)).any()]
    n = int(use.sum())
    if missing:
        note = f"no slices of {', '.join(map(level_name, missing))}"
    elif n < min_slices:
        note = f"{n} slice{'s' if n != 1 else ''}, {min_slices} needed"
    else:
        lacking = np.setdiff1d(np.asarray(expected, dtype=np.int64), tube.slices)
        found = np.append(column[use], np.zeros(len(lacking)))
        slices = tuple(int(k) for k in tube.slices[use])
        return LevelMean(wanted, float(found.mean()), float(found.std()), n, slices=slices)
    return LevelMean(wanted, float("nan"), float("nan"), n, note)


def missing_discs(points: Mapping[int, Any], wanted: LevelSet) -> list[int]:
    """Discs that would be needed to bound the levels of a set and are not labelled."""
    needed = {d for n in wanted.numbers for d in (n, n + 1)}
    return sorted(needed - set(points))


def present_levels(levels: NDArray[np.int64]) -> Sequence[int]:
    """Levels that slices have, from superior to inferior."""
    return [int(n) for n in np.unique(levels) if n > 0]
