"""The folder of a data set artefact: `manifest.csv` and `labels.yaml`, as `data.manifest` reads them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.atomic import atomic_file
from mriad.images import FileSource, write_like

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Case, CaseIndex, LabelSet, Source

MANIFEST = "manifest.csv"
LABELS = "labels.yaml"
PLAIN = ("id", "person", "session", "contrast", "domain")


def open_dataset(folder: Path | str) -> CaseIndex:
    """Read the cases of a data set that a stage made.

    Raises:
        DataError: there is no manifest, or a file that it names is missing.
    """
    from mriad.interfaces import Dataset

    return Dataset.resolve({"type": "data.manifest", "path": str(Path(folder) / MANIFEST)}).build()


def write_dataset(folder: Path, cases: Sequence[Case], label_set: LabelSet) -> Path:
    """Write the manifest of cases whose voxels are all in files; return its path.

    Files below `folder` are named relative to it, so that the runs folder can be moved; others absolutely.
    Annotations that are files are kept. The manifest is written last: a folder that has one is whole.

    Raises:
        TypeError: a source is not a file (see `as_file`).
        StorageError: the place is full or cannot be written.
    """
    structures = {s.name: s.value for s in label_set.structures}
    with atomic_file(folder / LABELS) as path:
        # JSON is YAML too, and writing it needs no library.
        path.write_text(json.dumps({"structures": structures, "ignore": list(label_set.ignore)}), "utf-8")
    rows = [_row(case, folder.resolve()) for case in cases]
    found = {column for row in rows for column in row} - set(PLAIN)
    order = ("image", "label", "kind", "validity", "confidence", "annotated", "annotation", "number")
    columns = sorted(found, key=lambda c: (order.index(c.partition(":")[0]), c))
    with (
        atomic_file(folder / MANIFEST) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, [*PLAIN, *columns], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder / MANIFEST


def as_file(source: Source, path: Path) -> FileSource:
    """The source itself where it is a file; else its voxels, written to `path` as float32.

    Raises:
        DataError: the voxels cannot be made.
        StorageError: the place is full or cannot be written.
    """
    if isinstance(source, FileSource):
        return source
    if not path.exists():
        volume = source.read()
        write_like(path, volume.data, volume.grid, "float32")
    return FileSource(str(path))


def _row(case: Case, folder: Path) -> dict[str, str]:
    row = {name: getattr(case, name) for name in PLAIN}
    row |= {f"image:{name}": _place(source, folder) for name, source in case.channels.items()}
    for name, label in case.labels.items():
        row[f"label:{name}"] = _place(label.source, folder)
        row[f"kind:{name}"] = label.kind
        if label.validity is not None:
            row[f"validity:{name}"] = _place(label.validity, folder)
        if label.confidence is not None:
            row[f"confidence:{name}"] = _place(label.confidence, folder)
        if label.annotated is not None:
            row[f"annotated:{name}"] = "; ".join(label.annotated)
    for name, source in case.annotations.items():
        if isinstance(
            source, FileSource
        ):  # one that is generated is made anew by the data set that knows how
            row[f"annotation:{name}"] = _place(source, folder)
    return row | {f"number:{key}": repr(float(value)) for key, value in case.numbers.items()}


def _place(source: Source, folder: Path) -> str:
    if not isinstance(source, FileSource):
        raise TypeError(f"{source.location} is no file: make it one with `as_file`")
    path = Path(source.path).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
