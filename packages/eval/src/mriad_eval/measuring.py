"""Measure segmentation files: volumes of all structures, area of the tubular ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError, MriadError
from mriad.evaluation import require_same_grid
from mriad.images import read_volume
from mriad.parallel import failure

from mriad_eval.maps import read_map
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.levels import (
    Convention,
    LevelSet,
    disc_points,
    levels_between,
    levels_from_discs,
    levels_from_map,
    present_levels,
)
from mriad_eval.morphometry.literal_sct import literal_area, literal_levels
from mriad_eval.morphometry.table import (
    Record,
    level_record,
    number,
    ranges,
    slice_records,
    volume_record,
)
from mriad_eval.morphometry.template import Template, match_discs
from mriad_eval.morphometry.volumes import volumes_of

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.geometry import Grid
    from mriad.vocabulary import LabelSet
    from numpy.typing import NDArray

    from mriad_eval.morphometry.area import Tube
    from mriad_eval.morphometry.centre_line import CentreLine
    from mriad_eval.morphometry.settings import CsaSettings

TUBULAR = ("cord", "spinalcord", "canal", "spinalcanal")
"""Structures that are tubes by their name, letters only."""
TIP_MM = 20.0
"""A disc's posterior tip is nearer to the cord's centre line than this."""


@dataclass(frozen=True)
class Marks:
    """Where vertebral levels come from: a file of discs (points or TotalSpineSeg's map) or a map of levels.

    template: gives the discs that `discs` lacks, by matching its image to `scan`, the image that was segmented.
    """

    discs: Path | None = None
    levels: Path | None = None
    convention: Convention = "sct"
    template: TemplateFiles | None = None
    scan: Path | None = None


@dataclass(frozen=True)
class TemplateFiles:
    """A template that the user names: its image, the mask of its cord, and its disc labels (SCT's numbers)."""

    image: Path
    cord: Path
    discs: Path


@dataclass(frozen=True)
class Work:
    """One segmentation: its files (one, or one a structure), its name in tables, and its vertebral levels."""

    case: str
    files: tuple[Path, ...]
    marks: Marks | None


@dataclass(frozen=True)
class Measurer:
    """Measures one `Work`; pickles. `at`: level sets to average over; () each level by itself and C2-C3."""

    label_set: LabelSet
    tubes: tuple[str, ...]
    csa: CsaSettings
    at: tuple[LevelSet, ...] = ()
    literal: bool = False
    version: str = ""

    def __call__(self, work: Work) -> Measured | MriadError:
        """Return the measurements, or what was wrong."""
        try:
            return self._measured(work)
        except MriadError as error:
            return failure(work.case, error)

    def _measured(self, work: Work) -> Measured:
        channels, _, grid = read_map(work.case, work.files, self.label_set)
        out = Measured(work.case)
        plain = {"SCT Version": self.version, "Filename": work.files[0].name}
        for values, structure in zip(channels, self.label_set.names, strict=True):
            named = {**plain, "Structure": structure, "Values": self.csa.values}
            out.volumes.append(volume_record(volumes_of(values, grid), named))
            if structure in self.tubes:
                self._measure_tube(out, values, grid, work.marks, named)
        return out

    def _measure_tube(
        self, out: Measured, values: NDArray[np.float32], grid: Grid, marks: Marks | None, named: Record
    ) -> None:
        tube = measure_tube(values, grid, self.csa.tube)
        if tube.note:
            out.notes.append(f"{named['Structure']}: {tube.note}")
        levels, labels = _levels(out, tube, values, grid, marks)
        out.slices += slice_records(tube, levels, named)
        if levels is not None:
            present = present_levels(levels)
            wanted = self.at or (*(LevelSet((n,)) for n in present), *_usual(present))
            out.levels += [level_record(tube, levels, w, named, self.csa.min_slices) for w in wanted]
        if self.literal:
            slice_levels = literal_levels(labels, grid) if labels is not None else _spread(tube, levels)
            kept = values if self.csa.values == "soft" else (values > 0.5).astype(np.float32)
            out.literal += _literal(kept, grid, slice_levels, named, self.at)


@dataclass
class Measured:
    """Records of one case for each table, and notes for the reader."""

    case: str
    levels: list[Record] = field(default_factory=list)
    slices: list[Record] = field(default_factory=list)
    volumes: list[Record] = field(default_factory=list)
    literal: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _usual(present: Any) -> tuple[LevelSet, ...]:
    return (LevelSet((2, 3)),) if {2, 3} <= set(present) else ()


def _levels(
    out: Measured, tube: Tube, values: NDArray[np.float32], grid: Grid, marks: Marks | None
) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Levels of the tube's slices (None: unknown), and the map of levels if there is one."""
    if marks is None or (marks.discs is None and marks.levels is None):
        out.notes.append(
            "no vertebral levels: area is given per slice, not per level "
            "(--discs FILE with disc labels, 3 is C2-C3, or --levels FILE with a map of levels)"
        )
        return None, None
    if not len(tube):
        return np.zeros(0, dtype=np.int64), None
    if marks.levels is not None:
        volume = read_volume(marks.levels)
        require_same_grid(out.case, grid, volume.grid)
        labels = _whole(volume.data, marks.levels)
        return levels_from_map(tube, values, labels), labels
    if marks.discs is None or tube.line is None:
        return np.zeros(len(tube), dtype=np.int64), None
    volume = read_volume(marks.discs)
    points = disc_points(_whole(volume.data, marks.discs), volume.grid, marks.convention, str(marks.discs))
    if marks.template is not None and marks.scan is not None:
        levels = _from_template(out, tube, points, marks.template, marks.scan)
    else:
        levels = levels_from_discs(tube, points)
        _note_distance(out, tube.line, points)
    if not levels.any():
        out.notes.append(
            f"no level of the structure lies between two neighbouring discs (labelled: {ranges(list(points))})"
        )
    return levels, None


def _note_distance(out: Measured, line: CentreLine, points: dict[int, Any]) -> None:
    """A posterior tip lies before the cord it belongs to; further away it is doubtful whose discs these are."""
    furthest = max(float(line.project(places)[1].min()) for places in points.values())
    if furthest > TIP_MM:
        out.notes.append(
            f"a disc label lies {furthest:.0f} mm from the structure's centre line (a posterior tip lies within "
            f"{TIP_MM:.0f} mm): are the labels of this person and session?"
        )


def _from_template(
    out: Measured, tube: Tube, points: dict[int, Any], files: TemplateFiles, scan: Path
) -> NDArray[np.int64]:
    """Levels from the discs that are labelled and those of a template."""
    mask, labels = read_volume(files.cord), read_volume(files.discs)
    theirs = measure_tube((mask.data > 0.5).astype(np.float32), mask.grid).line
    if theirs is None or tube.line is None:
        raise DataError("the template's cord is in fewer than four slices", where={"file": files.cord})
    discs = disc_points(_whole(labels.data, files.discs), labels.grid, file=str(files.discs))
    template = Template(read_volume(files.image), theirs, discs)
    found = match_discs(read_volume(scan), tube.line, points, template)
    added = [n for n in found.heights if n not in found.taken]
    out.notes.append(
        f"discs {ranges(added)} are the template's, labelled were {ranges(found.taken)} "
        f"(stretch {found.stretch:.3g}): look at the levels before you use them"
    )
    return levels_between(tube, found.heights)


def _whole(data: NDArray[Any], path: Path) -> NDArray[Any]:
    """Label values as integers; float files of whole numbers are common."""
    rounded = np.rint(data)
    if (np.abs(data - rounded) > 1e-3).any() or rounded.min() < 0:
        raise DataError("labels must be whole numbers from 0", where={"file": path})
    return rounded.astype(np.int64)


def _spread(tube: Tube, levels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Levels of a tube's slices as one value a slice of the grid."""
    out = np.zeros(tube.frame.count, dtype=np.int64)
    if levels is not None:
        out[tube.slices] = levels
    return out


def _literal(
    values: NDArray[np.float32],
    grid: Grid,
    levels: NDArray[np.int64],
    named: Record,
    at: tuple[LevelSet, ...],
) -> list[Record]:
    """Records of the literal mode: one a slice, then one a level set with slices."""
    found = literal_area(values, grid)
    columns = {"area": found.area_mm2, "angle_AP": found.angle_ap, "angle_RL": found.angle_rl}
    defined = np.isfinite(found.area_mm2)
    groups = [([int(k)], str(levels[k] or "")) for k in np.flatnonzero(defined)]
    present = present_levels(levels)
    for wanted in at or (*(LevelSet((n,)) for n in present), *_usual(present)):
        chosen = np.flatnonzero(np.isin(levels, wanted.numbers) & defined)
        if len(chosen):
            groups.append((chosen.tolist(), ranges(wanted.numbers)))
    out = []
    for slices, level in groups:
        record = {**named, "Slice (I->S)": ranges(slices), "VertLevel": level, "Slices": str(len(slices))}
        for name, column in columns.items():
            record[f"MEAN({name})"] = number(float(column[slices].mean()))
            record[f"STD({name})"] = number(float(column[slices].std()))
        out.append({**record, "Note": "as SCT 6.0, for reproduction only"})
    return out
