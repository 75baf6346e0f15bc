"""`data.store`: prepared samples as memory-mapped arrays, one folder a key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.atomic import temporary_folder
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.interfaces import Store
from mriad.vocabulary import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = ("image", "target", "validity", "field")
NAMES = ("case", "person", "contrast", "domain")
RECORD = "sample.json"
FORMAT = 1


class ArrayStore(Store):
    """Samples as `.npy` files under `<folder>/<first two digits>/<key>/`, read as memory maps.

    A sample is written to a temporary folder and renamed, so it is seen whole or not at all; of several
    writers of one key one wins and the others use its copy. Sizes are checked when a sample is opened,
    checksums by `verify`.
    """

    type: Literal["data.store"] = "data.store"

    def build(self, folder: Path) -> ArrayFolder:
        """The store below `folder`, which is made when the first sample is put."""
        return ArrayFolder(Path(folder))


@dataclass(frozen=True)
class ArrayFolder:
    """What `data.store` builds; picklable, shared by processes through the file system."""

    folder: Path

    def place(self, key: str) -> Path:
        """The folder of a key.

        Raises:
            ValueError: the key is not 64 hexadecimal digits.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ValueError(f"a store key has 64 hexadecimal digits, not {key!r}")
        return self.folder / key[:2] / key

    def get(self, key: str) -> Sample | None:
        """The sample with read-only memory maps; None if it is not there or a file of it is damaged in
        size.
        """
        place = self.place(key)
        try:
            record = json.loads((place / RECORD).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                return None
            arrays: dict[str, Any] = {
                name: _opened(place, name, facts) for name, facts in record["arrays"].items()
            }
            grid = Grid.of(record["grid"]["shape"], np.reshape(record["grid"]["affine"], (4, 4)))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent or damaged: the caller makes it anew, and `put` replaces it
        return Sample(grid=grid, **{n: record[n] for n in NAMES}, **arrays)

    def put(self, key: str, sample: Sample) -> Sample:
        """Write atomically unless a good copy is there; return what `get` gives.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        place = self.place(key)
        there = self.get(key)
        if there is not None:
            return there
        with temporary_folder(place) as temporary:
            _write(temporary, sample)
            self._move(temporary, place, key)
        stored = self.get(key)
        if stored is None:
            raise DataError("a stored sample cannot be read back", where={"path": str(place)})
        return stored

    def _move(self, temporary: Path, place: Path, key: str) -> None:
        """Rename into place. Another writer's good copy is kept, a damaged one is moved aside."""
        for last in (False, False, True):  # between any two lines another writer may do the same
            try:
                temporary.rename(place)
            except OSError:
                if self.get(key) is not None:
                    return
                if last or not place.exists():
                    raise
                with temporary_folder(place) as aside, contextlib.suppress(OSError):
                    place.rename(aside / "damaged")
            else:
                return

    def verify(self) -> dict[str, str]:
        """Read every sample and compare checksums; return what is wrong by key. May take long."""
        faults: dict[str, str] = {}
        for record in sorted(self.folder.glob(f"[0-9a-f][0-9a-f]/*/{RECORD}")):
            key = record.parent.name
            sample = self.get(key)
            if sample is None:
                faults[key] = "incomplete"
                continue
            stated = json.loads(record.read_text(encoding="utf-8"))["arrays"]
            wrong = [n for n, facts in stated.items() if _sha256(getattr(sample, n)) != facts["sha256"]]
            if wrong:
                faults[key] = f"checksum differs: {', '.join(wrong)}"
        return faults


def _write(folder: Path, sample: Sample) -> None:
    facts: dict[str, Any] = {}
    for name in ARRAYS:
        array = getattr(sample, name)
        if array is None:
            continue
        array = np.ascontiguousarray(array)
        facts[name] = {"sha256": _sha256(array), "shape": list(array.shape), "dtype": array.dtype.str}
        if array.size:  # an empty file cannot be mapped
            facts[name]["bytes"] = _save(folder / f"{name}.npy", array)
    record = {
        "format": FORMAT,
        **{name: getattr(sample, name) for name in NAMES},
        "grid": {"shape": sample.grid.shape, "affine": sample.grid.affine},
        "arrays": facts,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _save(path: Path, array: NDArray[Any]) -> int:
    """Write an .npy file and return its size. `np.save` does not say why it failed; a plain write does."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
        return file.tell()


def _opened(place: Path, name: str, facts: dict[str, Any]) -> NDArray[Any]:
    """The array as a read-only map.

    Raises:
        ValueError: the file has not the size that it was written with.
    """
    if "bytes" not in facts:
        return np.empty(facts["shape"], np.dtype(facts["dtype"]))
    path = place / f"{name}.npy"
    if path.stat().st_size != facts["bytes"]:
        raise ValueError(f"{path} was cut off")
    # A plain array on the map: np.memmap itself slows down every slice.
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    if list(array.shape) != facts["shape"]:
        raise ValueError(f"{path} has another shape than recorded")
    return array


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
