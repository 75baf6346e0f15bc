"""`TableIndex`: an index of cases that lies in columns; a `Case` is made when one is asked for.

Columns are those of a manifest: `id`, `person`, `contrast`, `domain`, `session`; `image:<channel>`,
`label:<name>` with `kind:<name>`, `validity:<name>`, `confidence:<name>` and `annotated:<name>` (a JSON list of
structures), `annotation:<name>`; `number:<key>`. Sources are text, see `mriad_data.sources`. Null means: this case
has none. A million rows take about 0.15 GiB.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mriad.atomic import atomic_file
from mriad.errors import DataError
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet

from mriad_data.case_columns import (
    PLAIN,
    PREFIXES,
    WORDS,
    case_row,
    check_columns,
    is_one_of,
    may_repeat,
    normal_table,
)
from mriad_data.sources import from_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mriad.vocabulary import Source
    from numpy.typing import NDArray

_FORMAT = 1
_META = b"mriad"
_BATCH = 4096


class TableIndex(CaseIndex):
    """A `CaseIndex` on an Arrow table; equal cases give the fingerprint of the plain index.

    Args:
        table: columns as the module says; absent plain columns other than id and person count as empty.
        label_set: of every case.
        root: folder that paths in the table are relative to.

    Raises:
        DataError: id or person is missing, a column is not known, two cases have one id, or an id cannot be the
            name of a file.
    """

    def __init__(self, table: pa.Table, label_set: LabelSet, root: str | Path = "") -> None:
        check_columns(table.column_names)
        self._set(normal_table(table), label_set, str(root))
        self._check_ids()

    def _set(self, table: pa.Table, label_set: LabelSet, root: str) -> None:
        self.table = table
        self.label_set = label_set
        self.root = root
        self._names = {
            prefix: [c.partition(":")[2] for c in table.column_names if c.startswith(f"{prefix}:")]
            for prefix in PREFIXES
        }

    def _with(self, table: pa.Table) -> TableIndex:
        """The same index with fewer rows, whose ids need no second check."""
        made = TableIndex.__new__(TableIndex)
        made._set(table, self.label_set, self.root)
        made.aliases = self.aliases
        return made

    @classmethod
    def of(cls, cases: Iterable[Case], label_set: LabelSet, root: str | Path = "") -> TableIndex:
        """Put cases whose voxels lie in files into columns.

        Raises:
            DataError: as the constructor, or a source that is no file.
        """
        builder = Columns()
        for case in cases:
            builder.add(case_row(case, str(root)))
        return builder.index(label_set, root)

    def _check_ids(self) -> None:
        ids = self.table["id"]
        bad = pc.match_substring_regex(ids, r"^$|^\.|[/\\\x00]")
        if pc.any(bad).as_py():
            first = ids.filter(bad)[0].as_py()
            raise DataError(
                f"{first!r} cannot be the id of a case",
                where={"expected": "text without / and \\ that does not begin with a full stop"},
            )
        if may_repeat(ids) and pc.count_distinct(ids).as_py() < len(ids):
            counts = pc.value_counts(ids)
            twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise DataError(
                "two cases have one id",
                where={"case": ", ".join(twice[:6].to_pylist()) + (", …" if len(twice) > 6 else "")},
            )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> TableIndex: ...
    def __getitem__(self, index: Any) -> Any:
        """The case at a position; of a slice, an index of those cases."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._with(self.table.slice(start, max(0, stop - start)))
            return self._with(self.table.take(pa.array(range(start, stop, step), pa.int64())))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there is no case {index}: the index has {len(self)}")
        return self._case(self.table.slice(place, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Case]:
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            for row in batch.to_pylist():
                yield self._case(row)

    def _case(self, row: Mapping[str, Any]) -> Case:
        root, names = self.root, self._names

        def sources(prefix: str) -> dict[str, Source]:
            cells = ((name, row[f"{prefix}:{name}"]) for name in names[prefix])
            return {name: from_cell(cell, root) for name, cell in cells if cell is not None}

        labels = {}
        for name, source in sources("label").items():
            mask, trust = row.get(f"validity:{name}"), row.get(f"confidence:{name}")
            listed = row.get(f"annotated:{name}")
            labels[name] = Label(
                row.get(f"kind:{name}") or "hard",
                source,
                None if mask is None else from_cell(mask, root),
                None if trust is None else from_cell(trust, root),
                None if listed is None else tuple(json.loads(listed)),
            )
        return Case(
            id=row["id"],
            person=row["person"],
            channels=sources("image"),
            labels=labels,
            contrast=row["contrast"],
            domain=row["domain"],
            session=row["session"],
            numbers={n: v for n in names["number"] if (v := row[f"number:{n}"]) is not None},
            annotations=sources("annotation"),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Through a stream: pickling a slice of a table would carry the whole table along.
        # Dictionaries are undone for the same reason.
        schema = pa.schema([(f.name, pa.string() if f.type == WORDS else f.type) for f in self.table.schema])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(self.table.cast(schema))
        return (_unpickled, (sink.getvalue().to_pybytes(), self.label_set, self.root, dict(self.aliases)))

    def column(self, name: Literal["id", "person", "contrast", "domain", "session"]) -> list[str]:
        """One attribute of every case, in order; no case is made."""
        column = self.table[name]
        if pa.types.is_dictionary(column.type):
            column = column.combine_chunks()
            words = column.dictionary.to_pylist()
            return [words[code] for code in column.indices.to_numpy().tolist()]
        values: list[str] = column.to_numpy().tolist()
        return values

    def codes(
        self, name: Literal["person", "contrast", "domain", "session"]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """A column as numbers (n,) of words, without making a text a row. Every word occurs."""
        column = self.table[name].combine_chunks()
        numbers = column.indices.to_numpy().astype(np.int64)
        used = np.bincount(numbers, minlength=len(column.dictionary)) > 0
        words = column.dictionary.filter(pa.array(used)).to_pylist()
        return (np.cumsum(used) - 1)[numbers], words

    @property
    def persons(self) -> tuple[str, ...]:
        """Distinct persons in order of appearance."""
        whole = self.table["person"].combine_chunks()
        return tuple(pc.take(whole.dictionary, pc.unique(whole.indices)).to_pylist())

    def select(self, keep: Callable[[Case], bool]) -> TableIndex:
        """The cases for which `keep` is true, in order; makes every case. `where` is faster."""
        rows = [i for i, case in enumerate(self) if keep(case)]
        return self._with(self.table.take(pa.array(rows, pa.int64())))

    def where(self, *, has: Sequence[str] = (), **values: str | Iterable[str]) -> TableIndex:
        """The cases with these values, in order; no case is made.

        Args:
            has: columns that must not be empty, such as "label:soft" or "image:FLAIR".
            **values: `id`, `person`, `contrast`, `domain` or `session`: a value, or several of which one must fit.

        Raises:
            DataError: a column that the index does not have.
        """
        mask = None
        for name in (*values, *has):
            if name not in self.table.column_names or (name in values and name not in PLAIN):
                raise DataError(
                    f"the index has no column '{name}'", where={"columns": ", ".join(self.table.column_names)}
                )
        for name, wanted in values.items():
            chosen = [wanted] if isinstance(wanted, str) else list(wanted)
            hit = is_one_of(self.table[name], chosen)
            mask = hit if mask is None else pc.and_(mask, hit)
        for name in has:
            hit = pc.is_valid(self.table[name])
            mask = hit if mask is None else pc.and_(mask, hit)
        return self if mask is None else self._with(self.table.filter(mask))

    def write(self, path: Path | str) -> Path:
        """Write the index as Parquet (.parquet) or Arrow (.arrow: larger, opens without being read).

        Raises:
            DataError: another ending.
            StorageError: the place is full or cannot be written.
        """
        path = Path(path)
        meta = {
            "format": _FORMAT,
            "root": self.root,
            "structures": {s.name: s.value for s in self.label_set.structures},
            "ignore": list(self.label_set.ignore),
            "background": list(self.label_set.background),
            "aliases": dict(self.aliases),
        }
        table = self.table.replace_schema_metadata({_META: json.dumps(meta).encode()})
        if path.suffix not in (".parquet", ".arrow"):
            raise DataError("an index is written as .parquet or .arrow", where={"file": str(path)})
        with atomic_file(path) as temporary:
            if path.suffix == ".parquet":
                import pyarrow.parquet as pq

                pq.write_table(table, temporary, compression="zstd")
            else:
                with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
        return path

    @classmethod
    def open(cls, path: Path | str, root: str | Path | None = None) -> TableIndex:
        """Open an index that `write` wrote.

        Args:
            path: a .parquet or .arrow file; the latter stays on disk and is mapped into memory.
            root: another folder that paths are relative to, where the data set was moved.

        Raises:
            DataError: not such a file, damaged, or of another format.
        """
        path = Path(path)
        try:
            if path.suffix == ".parquet":
                import pyarrow.parquet as pq

                # Words stay dictionaries, as they were written; columns that the file lacks are ignored.
                table = pq.read_table(path, read_dictionary=list(PLAIN[1:]))
            else:
                with pa.memory_map(str(path)) as file:
                    table = pa.ipc.open_file(file).read_all()
            meta = json.loads((table.schema.metadata or {})[_META])
            version = meta["format"]
            label_set = LabelSet.of(meta["structures"], meta["ignore"])
            label_set = replace(label_set, background=tuple(meta["background"]))
            aliases = dict(meta["aliases"])
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
            reason = "no index of cases by its header" if isinstance(error, KeyError) else error
            raise DataError(
                "a file cannot be opened as an index of cases",
                where={"file": str(path), "reason": " ".join(str(reason).split())[:200]},
                remedy="write it with TableIndex.write",
            ) from error
        if version != _FORMAT:
            raise DataError(
                "an index was written by another version of mriad",
                where={"file": str(path), "format": version, "expected": _FORMAT},
            )
        made = cls(table.replace_schema_metadata(None), label_set, meta["root"] if root is None else root)
        made.aliases = aliases
        return made


class Columns:
    """Collects rows column by column; a column that first appears late is empty before."""

    def __init__(self, *columns: str) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in (*PLAIN, *columns)}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, row: Mapping[str, str | float]) -> None:
        """Append a case by columns; absent ones are empty."""
        for name, value in row.items():
            column = self._columns.setdefault(name, [])
            if len(column) < self._rows:
                column.extend([None] * (self._rows - len(column)))
            column.append(value)
        self._rows += 1

    def index(self, label_set: LabelSet, root: str | Path = "") -> TableIndex:
        """The index of all rows; the columns are given up.

        Raises:
            DataError: as `TableIndex`.
        """
        arrays, names = [], []
        for name in list(self._columns):
            column = self._columns.pop(name)
            column.extend([None] * (self._rows - len(column)))
            kind = pa.float64() if name.startswith("number:") else pa.string()
            arrays.append(pa.array(column, kind))
            names.append(name)
        return TableIndex(pa.table(arrays, names=names), label_set, root)


def _unpickled(stream: bytes, label_set: LabelSet, root: str, aliases: Mapping[str, str]) -> TableIndex:
    made = TableIndex.__new__(TableIndex)
    made._set(normal_table(pa.ipc.open_stream(stream).read_all()), label_set, root)
    made.aliases = aliases
    return made
