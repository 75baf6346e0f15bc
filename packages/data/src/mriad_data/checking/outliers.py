"""Checks among scans of one contrast: who lacks one, and whose voxel size or field of view is unlike the others'."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from mriad_data.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.checking.reading import Seen

LARGEST_Z = 3.5
"""Modified z-score from which a value is an outlier: Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993."""
LEAST_SCANS = 6
"""Fewer scans of a contrast have no outlier."""
LEAST_SPREAD = 0.02
"""Relative spread that scans are always allowed: one of many equal ones may differ by a few per cent."""
COMMON = 0.5
"""A contrast that this fraction of the persons have is one that all should have."""


def check_contrasts(seen: Sequence[Seen], wanted: Sequence[str] = ()) -> Iterator[Finding]:
    """Persons without a contrast, and cases without a channel, that the others have.

    Args:
        seen: the cases.
        wanted: channels that an experiment names; a case without one cannot be used.
    """
    yield from _channels(seen, wanted)
    persons: dict[str, set[str]] = {}
    for one in seen:
        if one.of("channel"):
            persons.setdefault(one.case.person, set()).add(one.case.contrast)
    contrasts = {
        c: sum(c in had for had in persons.values()) for c in sorted(set().union(*persons.values()) - {""})
    }
    if len(persons) < 2:
        return
    common = {c for c, count in contrasts.items() if count >= COMMON * len(persons) and count > 1}
    for person, had in persons.items():
        if common - had and had != {""}:
            yield Finding(
                "contrasts",
                "warning",
                "a person lacks a contrast that most have",
                person,
                detail=f"{', '.join(sorted(common - had))} (has {', '.join(sorted(had - {''}))})",
                remedy="fetch it, or leave the person out where all contrasts are needed",
            )
    rare = [f"{c} ({count} of {len(persons)} persons)" for c, count in contrasts.items() if c not in common]
    if rare and contrasts:
        yield Finding("contrasts", "note", "contrasts that few persons have", detail=", ".join(rare))


def _channels(seen: Sequence[Seen], wanted: Sequence[str]) -> Iterator[Finding]:
    with_images = [one for one in seen if one.case.channels]
    counts: dict[str, int] = defaultdict(int)
    for one in with_images:
        for name in one.case.channels:
            counts[name] += 1
    common = [n for n, count in counts.items() if count >= COMMON * len(with_images)]
    for one in with_images:
        missing = [n for n in (wanted or common) if n not in one.case.channels]
        if missing:
            yield Finding(
                "contrasts",
                "error" if wanted else "warning",
                "a case lacks a channel that the experiment reads" if wanted else "a case lacks a channel",
                one.case.id,
                detail=", ".join(missing),
                remedy="fetch it, or leave the case out",
            )


def check_spacing(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Voxel sizes that are unlike those of the same contrast."""
    yield from _outliers(seen, "spacing", "a voxel size unlike its contrast's", ":.3g", scale=False)


def check_size(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Fields of view that are unlike those of the same contrast."""
    yield from _outliers(seen, "size", "a field of view unlike its contrast's", ":.0f", scale=True)


def _outliers(seen: Sequence[Seen], check: str, what: str, form: str, scale: bool) -> Iterator[Finding]:
    groups: dict[str, list[tuple[Seen, str, NDArray[np.float64]]]] = defaultdict(list)
    for one in seen:
        if one.reference is not None and one.reference.grid is not None:
            name = one.case.contrast or ("images" if one.reference.role == "channel" else "label maps")
            groups[name].append((one, one.reference.place, _along_body(one.reference.grid, scale)))
    for name, found in groups.items():
        if len(found) < LEAST_SCANS:
            continue
        values = np.array([v for _, _, v in found])
        scores, median = robust_z(values)
        for (one, place, own), score in zip(found, scores, strict=True):
            axis = int(np.abs(score).argmax())
            if abs(score[axis]) > LARGEST_Z:
                shown = "×".join(("{" + form + "}").format(v) for v in own)
                usual = "×".join(("{" + form + "}").format(v) for v in median)
                yield Finding(
                    check,
                    "warning",
                    what,
                    one.case.id,
                    place,
                    f"{shown} mm, the {len(found)} {name} {usual} (z {score[axis]:+.1f} along {'RAS'[axis]})",
                    "look at it: another protocol, a crop, or a damaged header?",
                    {"z": float(score[axis])},
                )


def robust_z(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Modified z-scores (n, k) of the logarithms of positive values (n, k), and the median (k,).

    0.6745 (x − median) / MAD, the MAD being LEAST_SPREAD at least; of logarithms, so that half and double are equally
    far.
    """
    logs = np.log(values)
    median = np.median(logs, axis=0)
    spread = np.median(np.abs(logs - median), axis=0)
    return 0.6745 * (logs - median) / np.maximum(spread, LEAST_SPREAD), np.exp(median)


def _along_body(grid: Grid, scale: bool) -> NDArray[np.float64]:
    """Voxel size, or with `scale` extent, in mm along right, anterior, superior."""
    order = [next(i for i, c in enumerate(grid.orientation) if c in pair) for pair in ("RL", "AP", "SI")]
    size = np.array(grid.spacing) * (np.array(grid.shape) if scale else 1)
    return np.asarray(size[order], np.float64)
