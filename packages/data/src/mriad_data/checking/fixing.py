"""Corrected copies of labels and channels that do not lie on their image's grid; nothing is changed in place."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.atomic import temporary_folder
from mriad.errors import DataError, StorageError
from mriad.filehash import file_sha256
from mriad.gridcheck import grid_difference
from mriad.images import FileSource, write_like
from mriad.manifest import write_manifest
from mriad.vocabulary import CaseIndex, LabelSet, Volume

from mriad_data.checking.files import distance_mm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.geometry import Grid
    from mriad.vocabulary import Case, Source

    from mriad_data.checking.reading import Seen, VolumeFacts
    from mriad_data.checking.run import Checked

RECORD = "run.json"
Method = Literal["header", "resampled"]


@dataclass(frozen=True)
class Copy:
    """One volume that was looked at."""

    case: str
    role: str
    name: str
    source: str
    distance_mm: float
    difference: str
    method: Method | None = None
    """header: voxels as they are on the image's grid; resampled; None: left."""
    file: str = ""
    """The copy, relative to the folder."""
    why: str = ""
    """Why it was left."""
    volumes_mm3: tuple[float, float] | None = None
    """Of a hard label, what is marked: before and after."""


@dataclass(frozen=True)
class Fixed:
    """What was written."""

    folder: Path
    copies: Sequence[Copy]
    table: Path | None
    """Manifest of all cases with the corrected files."""

    @property
    def fixed(self) -> list[Copy]:
        """Those that have a copy."""
        return [copy for copy in self.copies if copy.method is not None]

    def lines(self) -> list[str]:
        """What was done, for a person."""
        if not self.copies:
            return ["geometry: nothing to fix, nothing was written"]
        lines = []
        by_header = [c for c in self.copies if c.method == "header"]
        resampled = [c for c in self.copies if c.method == "resampled"]
        if by_header:
            most = max(c.distance_mm for c in by_header)
            lines.append(
                f"fixed     {len(by_header)} by header: voxels as they were, moved by {most:.3g} mm at most"
            )
        if resampled:
            lines.append(f"fixed     {len(resampled)} by resampling, labels as labels")
        lines += [f"left      {c.case} {c.name}: {c.why}" for c in self.copies if c.method is None]
        if self.fixed:
            lines.append(
                f"written   {self.folder}: copies, {RECORD}" + (", manifest.csv" if self.table else "")
            )
        return lines


def misplaced(seen: Sequence[Seen]) -> list[tuple[Seen, VolumeFacts, Grid]]:
    """Volumes that were read and do not lie on the grid of their case's first channel."""
    found = []
    for one in seen:
        reference = one.reference
        for v in one.volumes:
            if reference is None or reference.grid is None or v.grid is None or v.fault:
                continue
            if not v.grid.same(reference.grid):
                found.append((one, v, reference.grid))
    return found


def refuse_filled(out: Path) -> None:
    """Refuse a folder that holds something, before time is spent on the data.

    Raises:
        StorageError: names it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(
            "copies go into a folder of their own, and there is something already",
            where={"path": str(out)},
            remedy="choose another folder with --out, or remove it",
        )


def fix_geometry(
    checked: Checked,
    out: Path,
    tolerance_mm: float = 1.0,
    resample: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Fixed:
    """Write copies of what does not lie on its image's grid, a manifest of all cases, and a record.

    Args:
        checked: what `check_data` found.
        out: a folder that does not exist or is empty; it is seen when all is written.
        tolerance_mm: a volume of the image's shape whose grid lies at most this far from the image's differs by
            header alone: its voxels are kept and take the image's grid.
        resample: what differs by more, or in shape, is resampled onto the image's grid: hard labels so that no new
            value arises (the value whose mask, interpolated linearly, weighs most), soft ones linearly, channels by
            cubic splines. Otherwise it is left.
        advance: called after each volume.

    Raises:
        StorageError: `out` holds something, or cannot be written.
        DataError: a volume that could be read before cannot be any more.
    """
    refuse_filled(out)
    wrong = misplaced(checked.seen)
    if not wrong:
        return Fixed(out, (), None)
    root = _common([v.place for _, v, _ in wrong])
    with temporary_folder(out.absolute()) as folder:
        copies = []
        for one, v, grid in wrong:
            copies.append(_copy(one, v, grid, folder, root, tolerance_mm, resample))
            advance()
        made = Fixed(out, tuple(copies), None)
        if not made.fixed:
            return made
        table = _write_table(checked, folder, made.fixed)
        record = _record(checked, made, tolerance_mm, resample)
        (folder / RECORD).write_text(
            json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return replace(made, table=out / table if table else None)


def _copy(
    one: Seen, v: VolumeFacts, grid: Grid, folder: Path, root: Path, tolerance_mm: float, resample: bool
) -> Copy:
    assert v.grid is not None
    source = _source(one.case, v)
    apart = distance_mm(v.grid, grid)
    made = Copy(one.case.id, v.role, v.name, v.place, apart, grid_difference(v.grid, grid))
    if not isinstance(source, FileSource):
        return replace(made, why="it is no file of its own")
    by_header = v.grid.shape == grid.shape and apart <= tolerance_mm
    if not (by_header or resample):
        left = (
            "its shape differs"
            if v.grid.shape != grid.shape
            else f"{apart:.3g} mm is over --tolerance-mm {tolerance_mm:g}, to be raised if only the header is wrong"
        )
        return replace(made, why=f"{left}; --resample brings it onto the image's grid")
    volume = source.read()
    hard = v.drawn or v.role == "validity"
    moved = Volume(volume.data, grid) if by_header else _resampled(volume, grid, "hard" if hard else v.role)
    before, after = (_marked_mm3(x) for x in (volume, moved)) if hard else (0.0, 0.0)
    if hard and before and not after:
        return replace(made, why="nothing of it lies within the image")
    file = _below(folder, root, Path(v.place))
    write_like(file, moved.data, _like(one, grid), "labels" if hard else "float32")
    return replace(
        made,
        method="header" if by_header else "resampled",
        file=str(file.relative_to(folder)),
        volumes_mm3=(before, after) if hard else None,
    )


def _resampled(volume: Volume, grid: Grid, kind: str) -> Volume:
    from mriad_data.registration.resampling import pulled
    from mriad_data.registration.transform import Transform

    if kind == "hard":
        return pulled(volume, Transform.identity(), grid, "hard")
    if kind == "channel":
        return pulled(volume, Transform.identity(), grid, "image", 3)
    return pulled(volume, Transform.identity(), grid, "soft")


def _like(one: Seen, grid: Grid) -> str | Grid:
    """The file whose header the copy takes: that of the reference, with its codes and units."""
    reference = one.reference
    source = _source(one.case, reference) if reference is not None else None
    return source.path if isinstance(source, FileSource) else grid


def _source(case: Case, v: VolumeFacts) -> Source:
    if v.role == "channel":
        return case.channels[v.name]
    if v.role == "annotation":
        return case.annotations[v.name]
    label = case.labels[v.name]
    found = {"label": label.source, "validity": label.validity, "confidence": label.confidence}[v.role]
    assert found is not None
    return found


def _marked_mm3(volume: Volume) -> float:
    return float(np.count_nonzero(volume.data)) * volume.grid.voxel_volume


def _common(places: Sequence[str]) -> Path:
    """The folder below which all files lie."""
    import os

    parents = [str(Path(place).absolute().parent) for place in places]
    return Path(os.path.commonpath(parents)) if parents else Path()


def _below(folder: Path, root: Path, place: Path) -> Path:
    """Where the copy of a file goes; a file that several cases name is copied for each of them."""
    file = folder / place.absolute().relative_to(root)
    number = 2
    while file.exists():
        file = file.with_name(f"{number}_{place.name}")
        number += 1
    return file


def _write_table(checked: Checked, folder: Path, fixed: Sequence[Copy]) -> str:
    """A manifest of all cases with the copies in place of what they correct; "" where cases are no files."""
    files = {(c.case, c.role, c.name): folder / c.file for c in fixed}
    label_set = checked.gathered.label_set
    if label_set is None:
        values = sorted(
            {n for one in checked.seen for v in one.of("label") if v.drawn for n in v.values if n > 0}
        )
        label_set = LabelSet.of({f"structure_{n}": n for n in values or [1]})
    cases = [_with_copies(one.case, files) for one in checked.seen]
    try:
        return write_manifest(folder, CaseIndex(cases, label_set)).name
    except DataError:  # sources that are no files cannot stand in a table; the copies are there all the same
        return ""


def _with_copies(case: Case, files: dict[tuple[str, str, str], Path]) -> Case:
    def at(role: str, name: str, source: Any) -> Any:
        file = files.get((case.id, role, name))
        return source if file is None else FileSource(str(file), getattr(source, "stacked", False))

    labels = {
        name: replace(
            label,
            source=at("label", name, label.source),
            validity=at("validity", name, label.validity),
            confidence=at("confidence", name, label.confidence),
        )
        for name, label in case.labels.items()
    }
    return replace(
        case,
        channels={name: at("channel", name, source) for name, source in case.channels.items()},
        labels=labels,
        annotations={name: at("annotation", name, source) for name, source in case.annotations.items()},
    )


def _record(checked: Checked, made: Fixed, tolerance_mm: float, resample: bool) -> dict[str, Any]:
    return {
        "command": "data check --fix geometry",
        "versions": {name: version(name) for name in ("mriad", "mriad-data")},
        "options": {"tolerance_mm": tolerance_mm, "resample": resample},
        "inputs": {"target": checked.report.target, "cases": checked.report.cases},
        "copies": [
            {
                "case": c.case,
                "role": c.role,
                "name": c.name,
                "source": c.source,
                "source_sha256": file_sha256(c.source),
                "distance_mm": c.distance_mm,
                "difference": c.difference,
                "method": c.method,
                "file": c.file,
                **({"marked_mm3": list(c.volumes_mm3)} if c.volumes_mm3 else {}),
            }
            for c in made.fixed
        ],
        "left": [
            {"case": c.case, "name": c.name, "source": c.source, "distance_mm": c.distance_mm, "why": c.why}
            for c in made.copies
            if c.method is None
        ],
    }
