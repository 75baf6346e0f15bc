"""Writes an index of file cases as the table that `data.manifest` reads: `manifest.csv` and `labels.yaml`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.atomic import atomic_file
from mriad.errors import DataError
from mriad.images import FileSource

if TYPE_CHECKING:
    from mriad.vocabulary import Case, CaseIndex, Source

TABLE = "manifest.csv"
LABELS = "labels.yaml"


def write_manifest(folder: Path | str, index: CaseIndex) -> Path:
    """Write cases whose sources are files; return the table. Files below `folder` are named relative to it.

    Raises:
        DataError: a source is not a file, so a table cannot name it.
        StorageError: the folder is full or cannot be written.
    """
    folder = Path(folder).absolute()
    rows = [_row(case, folder) for case in index]
    plain = ["id", "person", "session", "contrast", "domain"]
    used = {column for row in rows for column, cell in row.items() if cell}
    columns = [c for c in plain if c in used]
    columns += sorted(used - set(plain), key=lambda c: (_ORDER.index(c.partition(":")[0]), c))
    with (
        atomic_file(folder / TABLE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with atomic_file(folder / LABELS) as temporary:
        temporary.write_text(_labels(index), encoding="utf-8")
    return folder / TABLE


_ORDER = ("image", "label", "kind", "validity", "confidence", "annotated", "annotation", "number")


def _row(case: Case, folder: Path) -> dict[str, str]:
    row = {name: getattr(case, name) for name in ("id", "person", "session", "contrast", "domain")}
    row |= {f"image:{name}": _file(case, source, folder) for name, source in case.channels.items()}
    for name, label in case.labels.items():
        row[f"label:{name}"] = _file(case, label.source, folder)
        row[f"kind:{name}"] = label.kind
        if label.validity is not None:
            row[f"validity:{name}"] = _file(case, label.validity, folder)
        if label.confidence is not None:
            row[f"confidence:{name}"] = _file(case, label.confidence, folder)
        if label.annotated is not None:
            row[f"annotated:{name}"] = "; ".join(label.annotated)
    row |= {f"annotation:{name}": _file(case, source, folder) for name, source in case.annotations.items()}
    return row | {f"number:{key}": repr(value) for key, value in case.numbers.items()}


def _file(case: Case, source: Source, folder: Path) -> str:
    if not isinstance(source, FileSource):
        raise DataError(
            "only cases whose voxels lie in files can be listed in a manifest",
            where={"case": case.id, "source": source.location},
        )
    path = Path(source.path).absolute()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _labels(index: CaseIndex) -> str:
    # JSON scalars and flow mappings are YAML too, and quote odd names safely.
    lines = ["structures:", *(f"  {json.dumps(s.name)}: {s.value}" for s in index.label_set.structures)]
    if not index.label_set.structures:
        lines = ["structures: {}"]
    return "\n".join(
        [*lines, *([f"ignore: {list(index.label_set.ignore)}"] if index.label_set.ignore else []), ""]
    )
