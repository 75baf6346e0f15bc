"""`data.store`: prepared samples as memory-mapped arrays, plain or compressed, one folder a key."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import re
import resource
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.atomic import temporary_folder
from mriad.errors import DataError, MriadError, StorageError
from mriad.geometry import Grid
from mriad.interfaces import Store
from mriad.vocabulary import Sample
from pydantic import Field

from mriad_data.packed_array import Codec, PackedArray, write_packed
from mriad_data.store_claims import claim
from mriad_data.store_entries import FORMATS, RECENT_S, RECORD, choose, entries, file_name, remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ARRAYS = ("image", "target", "validity", "field")
NAMES = ("case", "person", "contrast", "domain")
MARK_S = 3600.0
"""Seconds between two marks of use on an entry."""
_COUNT_S = 60.0  # seconds for which the size of a limited store is believed
_MAPS_A_SAMPLE = 4
_ATTEMPTS = 3


class ArrayStore(Store):
    """Samples as `.npy` files under `<folder>/<first two digits>/<key>/`, read as memory maps.

    A sample is written to a temporary folder and renamed, so it is seen whole or not at all; of several
    processes that need one key at once one makes it and the others use its copy. Sizes are checked when a sample is
    opened, checksums by `verify`. An entry of another format version is not read; it is replaced when its
    key is made again. What is there is read however it was written: changing `compression` makes nothing anew.
    """

    type: Literal["data.store"] = "data.store"
    max_gib: float | None = Field(
        None,
        gt=0,
        description="Size in GiB above which what no run has used for a day is removed, least recently used first; "
        "null: no limit.",
    )
    compression: Literal["none", "lz4", "zstd"] = Field(
        "none",
        description="How new samples are written. none: plain `.npy`, fastest. lz4, zstd: in bricks of 32³ voxels, "
        "of which a patch unpacks those that it touches; for a disk that is too small, or slow.",
    )

    def build(self, folder: Path) -> ArrayFolder:
        """The store below `folder`, which is made when the first sample is put."""
        limit = None if self.max_gib is None else int(self.max_gib * 2**30)
        return ArrayFolder(Path(folder), limit, None if self.compression == "none" else self.compression)


@dataclass
class _Open:
    """A sample whose arrays are mapped, and its files with the inode and size that they had."""

    sample: Sample
    record: str
    stamp: tuple[int, int]
    files: tuple[tuple[str, tuple[int, int]], ...]


@dataclass
class _Process:
    """What this process knows about a store."""

    opened: dict[str, _Open] = field(default_factory=dict)
    """By key, the least recently used first."""
    bytes: int = 0
    counted: float = -math.inf
    warned: bool = False


@dataclass(frozen=True)
class ArrayFolder:
    """What `data.store` builds; picklable, shared by processes through the file system.

    Args:
        folder: of the store.
        max_bytes: see `ArrayStore.max_gib`.
        codec: see `ArrayStore.compression`; None: plain.
    """

    folder: Path
    max_bytes: int | None = None
    codec: Codec | None = None
    _process: _Process = field(default_factory=_Process, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayFolder, (self.folder, self.max_bytes, self.codec)  # maps stay with their process

    def place(self, key: str) -> Path:
        """The folder of a key.

        Raises:
            ValueError: the key is not 64 hexadecimal digits.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ValueError(f"a store key has 64 hexadecimal digits, not {key!r}")
        return self.folder / key[:2] / key

    def get(self, key: str) -> Sample | None:
        """The sample with read-only memory maps, or with a `PackedArray` for each that is compressed; None if it is
        not there, of another format version, or a file of it is damaged in size.

        Marks the entry as used, at most once an hour. Maps of the last samples stay open: a patch then costs no
        more than from a map that one holds oneself.
        """
        known = self._process.opened.pop(key, None)
        if known is None or not _unchanged(known):
            known = self._mapped(self.place(key))
        if known is None:
            return None
        self._process.opened[key] = known
        if len(self._process.opened) > _OPEN:
            # Another thread may do the same between any two lines.
            with contextlib.suppress(RuntimeError, StopIteration):
                self._process.opened.pop(next(iter(self._process.opened)), None)
        return known.sample

    def _mapped(self, place: Path) -> _Open | None:
        """Open an entry; None if absent or damaged: the caller makes it anew, and `put` replaces it.

        Raises:
            StorageError: this process has too many files open, which says nothing about the entry.
        """
        try:
            return _open(place)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                return None
            raise StorageError(
                "a stored sample cannot be opened",
                where={"path": str(place), "reason": error.strerror, "open maps": len(self._process.opened)},
                remedy="raise the limit of open files (ulimit -n), or use fewer loaders",
            ) from error
        except _BROKEN:
            return None

    def once(self, key: str, make: Callable[[], Sample]) -> Sample:
        """The sample of a key, or else what `make` gives, kept; of several processes that ask at once one makes it.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        found = self.get(key)
        if found is not None:
            return found
        with claim(self.folder, key):
            found = self.get(key)  # another process may have made it while we waited
            return found if found is not None else self.put(key, make())

    def put(self, key: str, sample: Sample) -> Sample:
        """Write atomically unless a good copy is there; return what `get` gives.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        place = self.place(key)
        there = self.get(key)
        if there is not None:
            return there
        for _ in range(_ATTEMPTS):
            try:
                with temporary_folder(place) as temporary:
                    written = _write(temporary, sample, self.codec)
                    self._move(temporary, place, key)
            except StorageError as error:
                if "free" not in error.where:  # not for want of space
                    raise
                remedy = "free space (`mriad data store prune`, `mriad runs prune`), then run the same again"
                raise StorageError(error.what, where=error.where, remedy=remedy) from error
            stored = self.get(key)
            if stored is not None:  # else another writer moved it aside, for the damaged one that it replaced
                if self.max_bytes is not None:
                    self._keep_limit(written)
                return stored
        raise DataError("a stored sample cannot be read back", where={"path": str(place)})

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

    def _keep_limit(self, written: int) -> None:
        """Remove what no recent run used while the store is too large; a tenth more, so as not to do it often."""
        assert self.max_bytes is not None
        process, now = self._process, time.monotonic()
        process.bytes += written
        known = None
        if now - process.counted > _COUNT_S:
            known = list(entries(self.folder))
            process.bytes, process.counted = sum(e.bytes for e in known), now
        if process.bytes <= self.max_bytes or process.warned:
            return
        known = known or list(entries(self.folder))
        freed = sum(remove(entry) for entry in choose(known, 0.9 * self.max_bytes, RECENT_S))
        process.bytes = sum(e.bytes for e in known) - freed
        if process.bytes > self.max_bytes:
            process.warned = True
            warnings.warn(
                f"the store {self.folder} holds {process.bytes / 2**30:.1f} GiB, more than data.store.max_gib "
                f"({self.max_bytes / 2**30:.1f}); runs used all of it in the last day, so nothing more is removed",
                RuntimeWarning,
                stacklevel=3,
            )

    def check(self, key: str) -> str:
        """Read a sample and compare checksums; return what is wrong, "" if nothing. Leaves no mark of use."""
        try:
            sample = _open(self.place(key), mark=False).sample
            stated = json.loads((self.place(key) / RECORD).read_text(encoding="utf-8"))["arrays"]
        except (OSError, *_BROKEN):
            return "incomplete"
        wrong = [n for n, facts in stated.items() if not _is_as_written(getattr(sample, n), facts["sha256"])]
        return f"checksum differs: {', '.join(wrong)}" if wrong else ""

    def verify(self, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
        """Read every sample of this format version and compare checksums; return what is wrong by key.

        May take long: `progress(done, total)` is called after each.
        """
        faults: dict[str, str] = {}
        known = [entry for entry in entries(self.folder) if entry.state != "other version"]
        for done, entry in enumerate(known, 1):
            fault = self.check(entry.key)
            if fault and entry.folder.exists():  # not one that was removed meanwhile
                faults[entry.key] = fault
            if progress is not None:
                progress(done, len(known))
        return faults


_BROKEN = (ValueError, KeyError, TypeError, AttributeError, MriadError)
"""What reading a record that is not as it was written may raise."""


def _most_open() -> int:
    """Samples whose maps stay open: each map holds a file, and a quarter of what a process may open is ours."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 4096 if soft == resource.RLIM_INFINITY else min(soft, 16_384)
    return max(8, files // 4 // _MAPS_A_SAMPLE)


_OPEN = _most_open()
_MAP: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def _unchanged(known: _Open) -> bool:
    """Whether the files are still those that are mapped; marks the use."""
    try:
        for path, stamp in known.files:
            if _stamp(os.stat(path)) != stamp:  # noqa: PTH116 (a Path costs more than the call)
                return False
        status = os.stat(known.record)  # noqa: PTH116
    except OSError:
        return False
    if _stamp(status) != known.stamp:
        return False
    _mark(known.record, status)
    return True


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_size


def _mark(record: str, status: os.stat_result) -> None:
    if time.time() - status.st_mtime > MARK_S:
        with contextlib.suppress(OSError):  # a store may be read-only
            os.utime(record)


def _open(place: Path, mark: bool = True) -> _Open:
    """Read the record and map the arrays.

    Raises:
        OSError: a file is gone.
        ValueError: another format version, or a file is not what the record says. Also what is in `_BROKEN`.
    """
    path = str(place / RECORD)
    with open(path, "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        record = json.loads(file.read())
    if record["format"] not in FORMATS:
        raise ValueError(f"{path} is of another version")
    grid = Grid.of(record["grid"]["shape"], np.reshape(record["grid"]["affine"], (4, 4)))
    arrays: dict[str, Any] = {}
    files = []
    for name, facts in record["arrays"].items():
        file_path = f"{place}/{file_name(name, facts)}"
        arrays[name], stamp = _mapped(file_path, facts)
        if stamp is not None:
            files.append((file_path, stamp))
    if mark:
        _mark(path, status)
    sample = Sample(grid=grid, **{n: record[n] for n in NAMES}, **arrays)
    return _Open(sample, path, _stamp(status), tuple(files))


def _write(folder: Path, sample: Sample, codec: Codec | None) -> int:
    """Write the files of a sample and return their bytes."""
    facts: dict[str, Any] = {}
    for name in ARRAYS:
        array = getattr(sample, name)
        if array is None:
            continue
        array = np.ascontiguousarray(array)
        facts[name] = {"sha256": _sha256(array), "shape": list(array.shape), "dtype": array.dtype.str}
        if array.size and codec is not None:
            with (folder / f"{name}.{codec}").open("wb") as file:
                facts[name] |= write_packed(file, array, codec)
        elif array.size:  # an empty file cannot be mapped
            facts[name]["bytes"] = _save(folder / f"{name}.npy", array)
    record = {
        "format": FORMATS[codec is not None],
        **{name: getattr(sample, name) for name in NAMES},
        "grid": {"shape": sample.grid.shape, "affine": sample.grid.affine},
        "arrays": facts,
    }
    text = json.dumps(record, indent=1)
    (folder / RECORD).write_text(text, encoding="utf-8")
    return len(text) + sum(int(f.get("bytes", 0)) for f in facts.values())


def _save(path: Path, array: NDArray[Any]) -> int:
    """Write an .npy file and return its size. `np.save` does not say why it failed; a plain write does."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
        return file.tell()


def _mapped(path: str, facts: dict[str, Any]) -> tuple[Any, tuple[int, int] | None]:
    """The array as a read-only map, or packed, and the file's stamp; an array without voxels has no file.

    `np.load` would take the same, ten times as long.

    Raises:
        OSError: the file is gone.
        ValueError: it has not the size or the header that it was written with.
    """
    dtype, shape = np.dtype(facts["dtype"]), tuple(facts["shape"])
    if "bytes" not in facts:
        return np.empty(shape, dtype), None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if status.st_size != facts["bytes"]:
            raise ValueError(f"{path} is not as it was written")
        mapped = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ, **_MAP)
    finally:
        os.close(descriptor)
    if "codec" in facts:
        return PackedArray(mapped, shape, dtype, facts["codec"], facts["table"], path), _stamp(status)
    count = math.prod(shape)
    start = status.st_size - count * dtype.itemsize
    # Version 1.0 of the format: eight bytes, two with the length of the header, the header, the voxels.
    if mapped[:8] != b"\x93NUMPY\x01\x00" or int.from_bytes(mapped[8:10], "little") + 10 != start:
        raise ValueError(f"{path} is not as it was written")
    # A plain array on the map: np.memmap itself slows down every slice.
    return np.frombuffer(mapped, dtype, count, start).reshape(shape), _stamp(status)


def _is_as_written(array: Any, sha256: str) -> bool:
    try:
        return _sha256(np.asarray(array)) == sha256
    except (StorageError, OSError):  # a packed brick
        return False


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
