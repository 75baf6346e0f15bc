"""Split files that others publish, read into folds: {side: [entries]} each.

- ours, JSON or YAML: `{"train": [...], "validation": [...], "test": [...]}`, or a list of such folds;
- the spinal cord paper's: the same in YAML with `val`; ivadomed's `.joblib` with `valid`; decathlon-like data
  lists, whose entries are `{"image": FILE, "label": FILE}`;
- nnU-Net's `splits_final.json`: a list of `{"train": [...], "val": [...]}`, without test.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zlib
from typing import TYPE_CHECKING, Any

from mriad.errors import SplitError

from mriad_data.splits.persons import SIDES

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = '{"train": [...], "validation": [...], "test": [...]}'
_SIDE = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FACTS = frozenset(
    {
        "name",
        "description",
        "modality",
        "labels",
        "licence",
        "license",
        "reference",
        "release",
        "tensorImageSize",
    }
    | {
        "channel_names",
        "file_ending",
        "numTraining",
        "numTest",
        "numValidation",
        "seed",
        "modalities",
        "centerset",
        "excluded",
    }
)
"""Keys of decathlon-like data lists that are no sides."""
_MOST = 64 << 20  # bytes: the largest public split files have some 100 KiB

Fold = dict[str, list[str]]


def read_folds(path: Path) -> list[Fold]:
    """Folds of a file; a fold of nnU-Net has no "test".

    Raises:
        SplitError: the file cannot be read, or holds something else than splits.
    """
    found = _parsed(path)
    folds = found if isinstance(found, list) else [found]
    if not folds:
        raise SplitError("a split file holds no fold", where={"file": path, "expected": EXPECTED})
    return [_fold(raw, path) for raw in folds]


def read_names(path: Path) -> list[str]:
    """A list of persons or case ids: JSON, YAML, or one a line.

    Raises:
        SplitError: it cannot be read, or is no list.
    """
    if path.suffix in (".json", ".yaml", ".yml"):
        found = _parsed(path)
    else:
        found = [
            line.strip() for line in _bytes(path).decode("utf-8", "replace").splitlines() if line.strip()
        ]
    if not isinstance(found, list):
        raise SplitError("a list of persons or case ids is meant", where={"file": path})
    return [_entry(entry, path) for entry in found]


def _fold(raw: Any, path: Path) -> Fold:
    where: dict[str, object] = {"file": path, "expected": EXPECTED}
    if not isinstance(raw, dict):
        raise SplitError(
            "a split file has other sides than expected", where={**where, "found": type(raw).__name__}
        )
    given = [str(key) for key in raw if str(key) not in _FACTS and not str(key).startswith("num")]
    names = [_SIDE.get(key, "") for key in given]
    if "" in names or len(set(names)) < len(names) or not {"train", "validation"} <= set(names):
        raise SplitError(
            "a split file has other sides than expected",
            where={**where, "found": ", ".join(given) or "none"},
        )
    fold: Fold = {}
    for key, side in zip(given, names, strict=True):
        if not isinstance(raw[key], list):
            raise SplitError("each side of a split file is a list of persons or case ids", where=where)
        fold[side] = [_entry(entry, path) for entry in raw[key]]
    return {side: fold[side] for side in SIDES if side in fold}


def _entry(entry: Any, path: Path) -> str:
    """A name; of a data list, that of the image file."""
    if isinstance(entry, dict):
        image = entry.get("image")
        image = image[0] if isinstance(image, list) and image else image
        if isinstance(image, str):
            return image
    elif isinstance(entry, str | int):
        return str(entry)
    raise SplitError(
        "an entry of a split file is neither a name nor a mapping with `image`",
        where={"file": path, "entry": repr(entry)[:80]},
    )


def _parsed(path: Path) -> Any:
    data = _bytes(path)
    try:
        if path.suffix == ".joblib":
            return _Plain(io.BytesIO(_unpacked(data))).load()
        text = data.decode("utf-8-sig")
        if path.suffix in (".yaml", ".yml"):
            from ruamel.yaml import YAML

            return YAML(typ="safe", pure=True).load(text)
        return json.loads(text)
    except Exception as error:  # a damaged pickle or YAML may raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SplitError(
            "a split file cannot be read", where={"file": path, "expected": EXPECTED, "reason": reason}
        ) from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise SplitError(
            "a split file cannot be read",
            where={"file": path, "expected": EXPECTED, "reason": error.strerror or error},
        ) from error
    if len(data) > _MOST:
        raise SplitError("a split file cannot be read", where={"file": path, "reason": "larger than 64 MiB"})
    return data


def _unpacked(data: bytes) -> bytes:
    """joblib stores plain, or with zlib or gzip; what it expands to is limited."""
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(_MOST + 1)
    elif data[:1] == b"\x78":
        found = zlib.decompressobj().decompress(data, _MOST + 1)
    else:
        return data
    if len(found) > _MOST:
        raise ValueError("it expands to more than 64 MiB")
    return found


class _Plain(pickle.Unpickler):
    """Reads lists, mappings, texts and numbers; anything that would name code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}; only plain lists of names are read")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside the file")
