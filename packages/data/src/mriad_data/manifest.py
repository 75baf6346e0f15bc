"""`data.manifest`: cases from a table (CSV, TSV or YAML) that names files.

Columns: `id`, `person`, `session`, `contrast`, `domain`, `image:<channel>`, `label:<name>`, `kind:<name>`
(kind of that label), `validity:<name>` (mask of what is annotated), `confidence:<name>` (of a pseudo-label, 0 to 1),
`annotated:<name>` (structures that were looked for, separated by `;`; empty: all),
`annotation:<name>` (a label map that is no target, such as `annotation:levels`), `number:<key>` (a reference number).
An empty cell means: this case has none. A YAML manifest holds rows with the same keys under `cases:`, and
may hold `root`, `structures`, `ignore`.
"""

from __future__ import annotations

import csv
import difflib
import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from mriad.errors import DataError
from mriad.interfaces import Dataset
from mriad.vocabulary import LabelKind, LabelSet
from pydantic import Field, model_validator

from mriad_data.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.vocabulary import CaseIndex

PLAIN = ("id", "person", "session", "contrast", "domain")
PREFIXED = ("image", "label", "kind", "validity", "confidence", "annotated", "annotation", "number")
NAMES = ("manifest.csv", "manifest.tsv", "manifest.yaml", "manifest.yml")
LABELS = "labels.yaml"
KINDS: tuple[str, ...] = tuple(kind for kind in get_args(LabelKind) if kind != "none")

Row = tuple[str, dict[str, str]]
"""Where a row stands ("line 3"), and its non-empty cells by column."""


class Manifest(Dataset):
    """Cases from a table that names files; no voxels are read.

    Raises:
        DataError: the table cannot be read, or has faults; all of them in one report: unknown columns,
            missing files, double ids, cells that cannot be understood.
    """

    type: Literal["data.manifest"] = "data.manifest"
    path: Path | None = Field(
        None, description="The table, or a folder that holds manifest.csv, .tsv or .yaml."
    )
    packaged: str = Field(
        "", description="Instead of `path`: a table in an installed package, as `mriad_data:manifests/spine`."
    )
    root: Path | None = Field(
        None, description="Folder that file names are relative to; default: that of the table."
    )
    structures: dict[str, int] = Field(
        default_factory=dict,
        description="Structure → value in hard label files; default: labels.yaml beside the table.",
    )
    ignore: list[int] = Field(
        default_factory=list,
        description='Values of label files that mean "not annotated"; default: labels.yaml.',
    )

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.path is None) == (not self.packaged):
            raise ValueError("give one of `path` and `packaged`")
        return self

    def build(self) -> CaseIndex:
        """Return the cases and their label set."""
        from mriad_data.index import Columns

        table = find_table(self.path or packaged_path(self.packaged))
        rows, settings = read_table(table)
        if not rows:
            raise DataError("a manifest holds no case", where={"file": str(table)})
        structures = self.structures or settings.get("structures") or {}
        ignore = self.ignore or settings.get("ignore") or []
        root = self.root or table.parent / str(settings.get("root") or "")
        if not root.is_dir():
            raise DataError(
                "the folder of a data set is missing", where={"root": str(root), "manifest": str(table)}
            )
        faults = Faults()
        columns = {column for _, cells in rows for column in cells}
        _check_columns(columns, faults)
        label_set = _label_set(structures, ignore, faults)
        cases = Columns()
        for row in rows:
            if (found := _row(row, root, label_set.names, faults)) is not None:
                cases.add(found)
        _check_ids(rows, faults)
        if not label_set.structures and any(column.startswith("label:") for column in columns):
            faults.add(
                "structures", f"none are named: add {LABELS} beside the table, or the field `structures`"
            )
        faults.raise_any(f"manifest {table}")
        return cases.index(label_set, root)


def packaged_path(text: str) -> Path:
    """The place of `package:file`.

    Raises:
        DataError: the package is not installed.
    """
    package, _, file = text.partition(":")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        where = {"packaged": text, "expected": "package:file, such as mriad_data:manifests/spine"}
        raise DataError(f"there is no package '{package}'", where=where)
    return Path(next(iter(spec.submodule_search_locations))) / file


def find_table(place: Path) -> Path:
    """The table itself, or the one in a folder.

    Raises:
        DataError: there is none.
    """
    if place.is_dir():
        for name in NAMES:
            if (place / name).is_file():
                return place / name
    if not place.is_file():
        raise DataError(
            "there is no manifest",
            where={"path": str(place), "expected": f"a table, or a folder with {', '.join(NAMES[:3])}"},
            remedy="`mriad init FOLDER` writes one for most folder layouts",
        )
    return place


def read_table(table: Path) -> tuple[list[Row], Mapping[str, Any]]:
    """Rows and, from a YAML manifest or labels.yaml beside the table, `root`, `structures` and `ignore`.

    Raises:
        DataError: the file is not such a table.
    """
    beside = table.with_name(LABELS)
    settings = read_yaml(beside) if beside.is_file() else {}
    unknown = set(settings) - {"structures", "ignore"}
    if unknown:
        raise DataError(
            f"{LABELS} holds unknown keys",
            where={
                "file": str(beside),
                "unknown": ", ".join(sorted(unknown)),
                "expected": "structures, ignore",
            },
        )
    if table.suffix in (".yaml", ".yml"):
        content = read_yaml(table)
        unknown = set(content) - {"root", "structures", "ignore", "cases"}
        cases = content.get("cases")
        if unknown or not isinstance(cases, list) or not all(isinstance(row, dict) for row in cases):
            raise DataError(
                "a YAML manifest holds something else than expected",
                where={"file": str(table), "unknown": ", ".join(sorted(unknown)) or "–"}
                | {"expected": "`cases`, a list of mappings; optional: root, structures, ignore"},
            )
        rows = [(f"case {i}", _cells(row)) for i, row in enumerate(cases)]
        return rows, {**settings, **content}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t" if table.suffix == ".tsv" else ",", strict=True)
            rows = [(f"line {reader.line_num}", _cells(row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("a manifest cannot be read", where={"file": str(table), "reason": error}) from error
    return rows, settings


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """Non-empty cells as text. Cells beyond the header come under the name "" and are refused with the
    columns.
    """
    return {
        "" if column is None else str(column).strip(): str(value).strip()
        for column, value in row.items()
        if value is not None and str(value).strip()
    }


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        DataError: unreadable, or no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError("a YAML file cannot be read", where={"file": str(path), "reason": reason}) from error
    if not isinstance(content, dict):
        raise DataError("a YAML file holds no mapping", where={"file": str(path)})
    return content


def _check_columns(columns: Iterable[str], faults: Faults) -> None:
    columns = sorted(columns)
    known = [*PLAIN, *(f"{prefix}:" for prefix in PREFIXED)]
    for column in columns:
        prefix, colon, name = column.partition(":")
        if column in PLAIN or (colon and prefix in PREFIXED and name):
            continue
        if not column:
            faults.add("columns", "a row has more cells than the header")
            continue
        close = difflib.get_close_matches(f"{prefix}:" if colon or prefix in PREFIXED else column, known, n=1)
        meant = close[0] + ((name or "<name>") if close[0].endswith(":") else "") if close else ""
        faults.add(f"column '{column}'", f"unknown; did you mean '{meant}'?" if meant else "unknown")
    for needed in ("id", "person"):
        if needed not in columns:
            why = " (splits never cut a person; repeat the id if every case is another person)"
            faults.add(f"column '{needed}'", f"missing{why if needed == 'person' else ''}")
    names = {p: {c.partition(":")[2] for c in columns if c.startswith(f"{p}:")} for p in PREFIXED}
    for prefix in ("kind", "validity", "confidence", "annotated"):
        for name in sorted(names[prefix] - names["label"]):
            faults.add(f"column '{prefix}:{name}'", f"there is no column 'label:{name}'")


def _label_set(structures: Any, ignore: Any, faults: Faults) -> LabelSet:
    try:
        return LabelSet.of({str(k): int(v) for k, v in dict(structures).items()}, [int(v) for v in ignore])
    except DataError as error:
        faults.add("structures", error.what)
    except (TypeError, ValueError) as error:
        faults.add("structures", f"names and whole numbers are meant, such as {{cord: 1}}: {error}")
    return LabelSet(())


def _row(row: Row, root: Path, structures: Sequence[str], faults: Faults) -> dict[str, str | float] | None:
    """One row as a case by columns; None, and its faults noted, if it cannot be one."""
    from mriad.images import FileSource

    from mriad_data.sources import as_cell

    where, cells = row
    before = len(faults)
    out: dict[str, str | float] = {name: cells[name] for name in PLAIN if name in cells}

    def under(prefix: str) -> dict[str, str]:
        return {c.partition(":")[2]: v for c, v in cells.items() if c.startswith(f"{prefix}:")}

    def put(prefix: str, name: str, file: str, stacked: bool = False) -> None:
        path = root / file
        if not path.is_file():
            faults.add(where, f"{path} is missing")
        out[f"{prefix}:{name}"] = as_cell(FileSource(str(path), stacked), str(root))

    for prefix in ("image", "annotation", "validity", "confidence"):
        for name, file in under(prefix).items():
            put(prefix, name, file)
    kinds = under("kind")
    for name, file in under("label").items():
        kind = kinds.get(name, name if name in KINDS else "hard")
        if kind not in KINDS:
            faults.add(where, f"kind:{name} is '{kind}', not one of {', '.join(KINDS)}")
            continue
        put("label", name, file, stacked=kind == "soft")
        out[f"kind:{name}"] = kind
        if f"annotated:{name}" in cells:
            listed = [part.strip() for part in cells[f"annotated:{name}"].split(";") if part.strip()]
            unknown = [part for part in listed if part not in structures]
            if unknown:
                faults.add(where, f"annotated:{name} names {', '.join(unknown)}, which are no structures")
            out[f"annotated:{name}"] = json.dumps(listed)
    for key, text in under("number").items():
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            faults.add(where, f"number:{key} is '{text}', not a number")
        out[f"number:{key}"] = number
    for needed in ("id", "person"):
        if not cells.get(needed) and f"column '{needed}'" not in faults.lines:
            faults.add(where, f"{needed} is empty")
    name = cells.get("id", "")
    if name.startswith(".") or "/" in name or "\\" in name:
        faults.add(where, f"id '{name}' cannot name a file: no / and \\, no full stop at its beginning")
    if not any(column.startswith(("image:", "label:")) for column in cells):
        faults.add(where, "names neither an image nor a label")
    if len(faults) > before or not cells.get("id") or not cells.get("person"):
        return None
    return out


def _check_ids(rows: Iterable[Row], faults: Faults) -> None:
    seen: dict[str, str] = {}
    for where, cells in rows:
        name = cells.get("id")
        if name is None:
            continue
        if name in seen:
            faults.add(where, f"id '{name}' was used in {seen[name]}")
        seen.setdefault(name, where)
