"""Measurements as CSV, with the columns of `sct_process_segmentation` (SCT), in its order.

Read by name, a program that takes SCT's table takes this one. Differences: `Timestamp` is empty (equal inputs
give equal bytes; the time is in run.json), `SCT Version` holds mriad's, `DistancePMJ` is empty, further
columns of our own follow. STD is over slices with n, as SCT has it.
"""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import numpy as np
from mriad.atomic import atomic_file

from mriad_eval.morphometry.levels import LevelSet, level_mean, level_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mriad_eval.morphometry.area import Tube
    from mriad_eval.morphometry.volumes import Volumes

QUANTITIES = {
    "area": "area_mm2",
    "angle_AP": "angle_ap",
    "angle_RL": "angle_rl",
    "diameter_AP": "diameter_ap",
    "diameter_RL": "diameter_rl",
    "eccentricity": "eccentricity",
    "orientation": "orientation",
    "solidity": "solidity",
}
"""SCT's name → field of `Tube`; mm², degrees, mm, 1, degrees, 1."""
COLUMNS = (
    "Timestamp",
    "SCT Version",
    "Filename",
    "Slice (I->S)",
    "VertLevel",
    "DistancePMJ",
    *(f"{function}({name})" for name in QUANTITIES for function in ("MEAN", "STD")),
    "SUM(length)",
    "Structure",
    "Values",
    "MEAN(raw_area)",
    "Slices",
    "Regions",
    "Note",
)
VOLUME_COLUMNS = ("Filename", "Structure", "soft_mm3", "binary_mm3", "voxels")
Record = dict[str, str]


def slice_records(tube: Tube, levels: NDArray[np.int64] | None, plain: Record) -> list[Record]:
    """One record a slice of a tube, ends included (noted); `plain` holds file, structure and version."""
    out = []
    for i, number in enumerate(tube.slices):
        notes = ["end of the structure, not averaged"] * bool(tube.end[i])
        notes += ["several regions"] * bool(tube.regions[i] > 1) + ["no value above .5"] * bool(
            tube.peak[i] <= 0.5
        )
        level = "" if levels is None or not levels[i] else str(levels[i])
        out.append(
            _record(tube, np.arange(len(tube)) == i, plain, str(number), level, int(tube.regions[i]), notes)
        )
    return out


def level_record(
    tube: Tube, levels: NDArray[np.int64], wanted: LevelSet, plain: Record, min_slices: int
) -> Record:
    """The record of a level set; NaN with a note where there is no mean."""
    mean = level_mean(tube, levels, wanted, tube.area_mm2, min_slices)
    use = np.isin(levels, wanted.numbers) & ~tube.end
    regions = int(tube.regions[use].max(initial=0))
    numbers = tube.slices[use].tolist()
    notes = [mean.note] * bool(mean.note) + ["several regions"] * (regions > 1)
    record = _record(tube, use, plain, ranges(numbers), ranges(wanted.numbers), regions, notes)
    if mean.note:
        record |= {column: "nan" for column in record if column.startswith(("MEAN(", "STD(", "SUM("))}
    return record


def _record(
    tube: Tube, use: NDArray[np.bool_], plain: Record, slices: str, level: str, regions: int, notes: list[str]
) -> Record:
    record = {"Timestamp": "", "DistancePMJ": "", **plain, "Slice (I->S)": slices, "VertLevel": level}
    for name, field in QUANTITIES.items():
        values = getattr(tube, field)[use]
        values = values[np.isfinite(values)]
        record[f"MEAN({name})"] = number(values.mean() if len(values) else math.nan)
        record[f"STD({name})"] = number(values.std() if len(values) else math.nan)
    record["SUM(length)"] = number(tube.length_mm[use].sum())
    record["MEAN(raw_area)"] = number(tube.raw_mm2[use].mean() if use.any() else math.nan)
    return record | {"Slices": str(int(use.sum())), "Regions": str(regions), "Note": "; ".join(notes)}


def volume_record(volumes: Volumes, plain: Record) -> Record:
    """The record of a structure's volume."""
    return {
        **plain,
        "soft_mm3": number(volumes.soft_mm3),
        "binary_mm3": number(volumes.binary_mm3),
        "voxels": str(volumes.voxels),
    }


def number(value: float) -> str:
    """Ten digits; `nan` where not defined."""
    return "nan" if math.isnan(value) else f"{value:.10g}"


def ranges(numbers: Sequence[int]) -> str:
    """`[1, 2, 3, 5]` → "1:3;5", SCT's way to list slices and levels."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ";".join(str(run[0]) if len(run) == 1 else f"{run[0]}:{run[-1]}" for run in runs)


def level_text(record: Record) -> str:
    """`VertLevel` by name: "2:3" → "C2-C3"."""
    parts = []
    for run in record["VertLevel"].split(";"):
        ends = [level_name(int(end)) for end in run.split(":") if end]
        parts.append("-".join(ends))
    return ",".join(parts)


def write_records(path: Path, records: Iterable[Record], columns: Sequence[str] = COLUMNS) -> Path:
    """Write a table, whole or not at all.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return path
