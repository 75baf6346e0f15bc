"""The columns of an index of cases: their names and types, a case as a row, comparing without making texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mriad.errors import DataError

from mriad_data.sources import as_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Case
    from numpy.typing import NDArray

PLAIN = ("id", "person", "contrast", "domain", "session")
PREFIXES = ("image", "label", "kind", "validity", "confidence", "annotated", "annotation", "number")
WORDS = pa.dictionary(pa.int32(), pa.string())
"""Type of columns with few different values, and of persons."""


def case_row(case: Case, root: str = "") -> dict[str, str | float]:
    """A case by columns.

    Raises:
        DataError: a source is no file; the case is named.
    """
    row: dict[str, str | float] = {name: getattr(case, name) for name in PLAIN}
    try:
        row |= {f"image:{name}": as_cell(source, root) for name, source in case.channels.items()}
        for name, label in case.labels.items():
            row[f"label:{name}"] = as_cell(label.source, root)
            row[f"kind:{name}"] = label.kind
            if label.validity is not None:
                row[f"validity:{name}"] = as_cell(label.validity, root)
            if label.confidence is not None:
                row[f"confidence:{name}"] = as_cell(label.confidence, root)
            if label.annotated is not None:
                row[f"annotated:{name}"] = json.dumps(label.annotated)
        row |= {f"annotation:{name}": as_cell(source, root) for name, source in case.annotations.items()}
    except DataError as error:
        raise DataError(error.what, where={"case": case.id, **error.where}, remedy=error.remedy) from error
    return row | {f"number:{key}": float(value) for key, value in case.numbers.items()}


def check_columns(names: Sequence[str]) -> None:
    """Refuse a table whose columns are not those of an index.

    Raises:
        DataError: id or person is missing, or a column is not known; all are named.
    """
    unknown = [n for n in names if n not in PLAIN and n.partition(":")[0] not in PREFIXES]
    lacking = [n for n in ("id", "person") if n not in names]
    if unknown or lacking:
        raise DataError(
            "a table does not have the columns of an index",
            where={"unknown": ", ".join(unknown) or "–", "missing": ", ".join(lacking) or "–"},
        )


def normal_table(table: pa.Table) -> pa.Table:
    """The table with plain columns first and without null there, and with words as dictionaries."""
    columns: dict[str, Any] = {}
    for name in PLAIN:
        if name not in table.column_names:
            columns[name] = pa.repeat("", len(table)).cast(WORDS)
            continue
        column = table[name]
        if column.null_count:
            column = pc.fill_null(column.cast(pa.string()), "")
        columns[name] = _plain(column) if name == "id" else _words(column)
    for name in table.column_names:
        if name not in PLAIN:
            columns[name] = _words(table[name]) if name.startswith("kind:") else table[name]
    return pa.table(columns)


def _plain(column: Any) -> Any:
    return column.cast(pa.string()) if column.type != pa.string() else column


def _words(column: Any) -> Any:
    """A column as one dictionary array."""
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    chunked = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    return chunked if chunked.num_chunks == 1 else chunked.unify_dictionaries().combine_chunks()


def is_one_of(column: Any, values: Sequence[str]) -> Any:
    """A mask of the rows whose text is one of these."""
    wanted = pa.array(values, pa.string())
    if not pa.types.is_dictionary(column.type):
        return pc.is_in(column, value_set=wanted)
    whole = column.combine_chunks()
    # Compares the few distinct words, not the rows.
    return pc.take(pc.is_in(whole.dictionary, value_set=wanted), whole.indices)


_LONGEST = 256  # bytes of an id that is hashed here
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: no two numbers become one
_TAIL = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


def may_repeat(column: Any) -> bool:
    """False if no text of a column occurs twice; True if one may, which a slower look has to decide.

    Texts are hashed eight bytes at a time, all rows at once: a third of the time of counting distinct ones.
    """
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    if not chunks:
        return False
    longest = pc.max(pc.binary_length(column)).as_py()
    if column.null_count or column.type != pa.string() or longest > _LONGEST:
        return True
    hashes = np.sort(np.concatenate([_hashed(chunk, longest) for chunk in chunks]))
    return bool((hashes[1:] == hashes[:-1]).any())


def _hashed(chunk: Any, longest: int) -> NDArray[np.uint64]:
    """(n,) a number a row, equal for equal texts of at most `longest` bytes."""
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    starts, lengths = ends[:-1], np.diff(ends)
    text = np.zeros(int(ends[-1]) + 8, np.uint8)  # every place has eight bytes from it on
    if data is not None:
        text[:-8] = np.frombuffer(data, np.uint8, int(ends[-1]))
    words = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))
    found = lengths.astype(np.uint64) * _MIXER
    for place in range(0, longest, 8):
        left = np.clip(lengths - place, 0, 8)
        found ^= words[np.minimum(starts + place, len(words) - 1)] & _TAIL[left]
        found *= _MIXER
        found ^= found >> np.uint64(29)
    return found
