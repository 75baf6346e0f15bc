"""What `mriad measure` reads and leaves behind: structures, files of levels, tables and the record."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError, MriadError, StorageError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.images import read_volume
from mriad.inference.stored import versions_in_use
from mriad.launch.files import atomic_write_json, read_json
from mriad.parallel import map_cases
from mriad.vocabulary import LabelSet

from mriad_eval.maps import label_set_of
from mriad_eval.measuring import TUBULAR, Marks, Measured, Measurer, TemplateFiles, Work
from mriad_eval.morphometry.table import VOLUME_COLUMNS, write_records
from mriad_eval.pairing import files_by_case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad_eval.morphometry.levels import Convention
    from mriad_eval.pairing import Files

_PERSON = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
LEVELS, SLICES, VOLUMES, LITERAL, RECORD = (
    "csa.csv",
    "csa_slices.csv",
    "volumes.csv",
    "csa_sct6_literal.csv",
    "run.json",
)


def measure_all(
    work: Sequence[Work], measurer: Measurer, workers: int = 0, advance: Any = None
) -> tuple[list[Measured], list[MriadError]]:
    """Measure every segmentation; what cannot be measured does not stop the others.

    Raises:
        MriadError: there is one only, and it cannot be measured.
    """
    found: list[Measured] = []
    faults: list[MriadError] = []
    for one in map_cases(measurer, work, workers, name=lambda w: w.case, progress=advance):
        if isinstance(one, MriadError):
            faults.append(one)
        else:
            found.append(one)
    if faults and len(work) == 1:
        raise faults[0]
    return found, faults


def structures_of(files: Files) -> LabelSet:
    """The structures of segmentations without --labels: those that `mriad predict` noted beside them, the single
    structure of a mask or soft map, or one a value.

    Raises:
        DataError: soft maps of several structures without names.
    """
    first = next(iter(files.values()))
    noted = _noted(first)
    if noted is not None:
        return noted
    if all(len(paths) == 1 for paths in files.values()):
        data = read_volume(first[0], stacked=True).data
        if data.ndim == 3 and data.max() <= 1 + 1e-3:
            return LabelSet.of({"structure": 1})
    return label_set_of(files.values())


def _noted(paths: Sequence[Path]) -> LabelSet | None:
    """Structures in the JSON files that `mriad predict` writes beside its outputs."""
    names: dict[str, int] = {}
    for path in paths:
        side = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
        try:
            told = json.loads(side.read_text("utf-8")).get("Structures")
        except (OSError, ValueError, AttributeError):
            return None
        if not isinstance(told, dict):
            return None
        names |= {str(name): int(value) for name, value in told.items()}
    return LabelSet.of(names) if names else None


def tubes_of(label_set: LabelSet, asked: Sequence[str]) -> tuple[str, ...]:
    """The structures whose area is measured.

    Raises:
        DataError: a name that is no structure.
    """
    unknown = [name for name in asked if name not in label_set.names]
    if unknown:
        raise DataError(
            f"no structure '{unknown[0]}' in these segmentations",
            where={"structures": ", ".join(label_set.names)},
            remedy="name values with --labels, such as --labels cord=1",
        )
    if asked or len(label_set) == 1:
        return tuple(asked) or label_set.names
    plain = {name: "".join(c for c in name.lower() if c.isalpha()) for name in label_set.names}
    return tuple(name for name, letters in plain.items() if letters in TUBULAR)


def marks_of(
    files: Files, discs: Path | None, levels: Path | None, convention: Convention
) -> dict[str, Marks]:
    """Case → its labels. One segmentation takes one file whatever its name; folders are paired by name.

    Raises:
        DataError: no such file, several files of one case, or labels of another person by the files' names.
    """
    place, kind = (discs, "disc") if discs is not None else (levels, "level")
    if place is None:
        return {}
    if len(files) == 1 and place.is_file():
        chosen = {next(iter(files)): place}
    else:
        labels = files_by_case(place, "*", f"{kind} labels")
        found = {case: _one(case, labels.get(case, ()), kind) for case in files}
        chosen = {case: path for case, path in found.items() if path is not None}
    for case, path in chosen.items():
        _require_one_person(files[case][0], path, kind)
    return {
        case: Marks(discs=path, convention=convention) if kind == "disc" else Marks(levels=path)
        for case, path in chosen.items()
    }


def _require_one_person(segmentation: Path, labels: Path, kind: str) -> None:
    """Another person's labels may well lie near the cord, and then every level would be wrong in silence."""
    names = [_PERSON.search(path.name) for path in (segmentation, labels)]
    if all(names) and len({name[0] for name in names if name}) > 1:
        raise DataError(
            f"the {kind} labels are another person's, by the files' names",
            where={"segmentation": segmentation, f"{kind} labels": labels},
            remedy="give the labels of the same person; rename the file if they are",
        )


def with_template(
    marks: dict[str, Marks],
    image: Path | None,
    cord: Path | None,
    discs: Path | None,
    scan: Path | None,
) -> dict[str, Marks]:
    """Add a template to the labels of one segmentation.

    Raises:
        DataError: not all of its files are given, there are several segmentations, or no disc is labelled.
    """
    if image is None and cord is None and discs is None and scan is None:
        return marks
    if image is None or cord is None or discs is None or scan is None:
        raise DataError(
            "a template needs its image, its cord and its discs, and the scan to match",
            remedy="--template IMAGE --template-cord MASK --template-discs LABELS --scan IMAGE",
        )
    if len(marks) != 1 or next(iter(marks.values())).discs is None:
        raise DataError(
            "a template cannot tell which vertebra is which: one disc must be labelled in the scan",
            where={"segmentations with disc labels": sum(m.discs is not None for m in marks.values())},
            remedy="one segmentation a call, with --discs FILE that labels at least one disc (3 is C2-C3)",
        )
    return {
        case: replace(one, template=TemplateFiles(image, cord, discs), scan=scan)
        for case, one in marks.items()
    }


def _one(case: str, paths: Sequence[Path], kind: str) -> Path | None:
    """The file of labels among those of a case: the one that is named so, or the only one; None if there is none."""
    named = [path for path in paths if kind in path.name.lower()]
    if len(named) > 1:
        raise DataError(
            f"several files could hold the {kind}s of one case",
            where={"case": case, "files": ", ".join(path.name for path in named)},
            remedy=f"give a folder with one file a case that is named …_label-{kind}s_…",
        )
    return named[0] if named else paths[0] if len(paths) == 1 else None


def record_of(work: Sequence[Work], measurer: Measurer) -> dict[str, Any]:
    """What `run.json` says about where the numbers come from."""
    config = {
        "structures": {s.name: s.value for s in measurer.label_set.structures},
        "tubes": list(measurer.tubes),
        "csa": asdict(measurer.csa),
        "at": [wanted.name for wanted in measurer.at],
        "literal_sct": measurer.literal,
        "convention": next((w.marks.convention for w in work if w.marks), ""),
    }
    inputs = []
    for one in work:
        marks = one.marks or Marks()
        row: dict[str, Any] = {"case": one.case, "segmentation": _hashes(one.files)}
        row |= {
            kind: _hashes([path]) for kind, path in (("discs", marks.discs), ("levels", marks.levels)) if path
        }
        if marks.template and marks.scan:
            files = marks.template
            row["template"] = _hashes([files.image, files.cord, files.discs])
            row["scan"] = _hashes([marks.scan])
        inputs.append(row)
    bytes_of = [{k: v if k == "case" else sorted(v.values()) for k, v in row.items()} for row in inputs]
    return {
        "format": 1,
        "kind": "measure",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint({"config": config, "inputs": bytes_of}),
        "config": config,
        "versions": versions_in_use(),
        "inputs": inputs,
    }


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    return {str(path): file_sha256(path) for path in paths}


def require_free(folder: Path, digest: str) -> None:
    """The same measurement may be written again; another one is never replaced.

    Raises:
        StorageError: the folder holds another one.
    """
    there = [name for name in (LEVELS, SLICES, VOLUMES, RECORD) if (folder / name).exists()]
    if there and (read_json(folder / RECORD) or {}).get("fingerprint") != digest:
        raise StorageError(
            "the folder holds other measurements, and nothing is overwritten",
            where={"folder": folder, "files": ", ".join(there)},
            remedy="choose another --out",
        )


def write_measurements(
    folder: Path,
    found: Sequence[Measured],
    record: dict[str, Any],
    faults: Sequence[MriadError],
    measurer: Measurer,
) -> None:
    """Write the tables that have rows, then `run.json` with notes and failures."""
    tables = [(SLICES, [r for m in found for r in m.slices]), (LEVELS, [r for m in found for r in m.levels])]
    if measurer.literal:
        tables.append((LITERAL, [r for m in found for r in m.literal]))
    for name, rows in tables:
        if rows:
            write_records(folder / name, rows)
    write_records(folder / VOLUMES, [r for m in found for r in m.volumes], VOLUME_COLUMNS)
    notes = {m.case: m.notes for m in found if m.notes}
    failed = {str(fault.where.get("case", "")): str(fault) for fault in faults}
    atomic_write_json(folder / RECORD, {**record, "notes": notes, "failed": failed})
