"""Writing a phantom to a folder: all or nothing, tables and JSON. Shared by the phantoms."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mriad.atomic import storing, temporary_folder
from mriad.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Written:
    """What `write_bids` made."""

    folder: Path
    persons: int
    images: int
    fingerprint: str
    """Of the parameters that decide the voxels."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends well.

    Raises:
        StorageError: `out` holds something, or the place is full or cannot be written. Nothing is left behind.
    """
    out = out.absolute()
    with storing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StorageError(
                "the output folder holds something already, and nothing is overwritten",
                where={"folder": str(out)},
                remedy="choose another --out, or empty the folder",
            )
    with temporary_folder(out) as folder:
        yield folder
        if out.exists():
            out.rmdir()
        folder.rename(out)


def write_tsv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write a tab-separated table; all rows have the columns of the first."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
