"""Compressed arrays of the store: bricks that are unpacked when a patch asks for them.

An array (C, X, Y, Z) is cut into bricks of one channel and 32³ voxels, in C order, smaller at the far ends. A file
holds a table with the end (bytes from the table's end) and the CRC-32 of every packed brick, then the bricks.
"""

from __future__ import annotations

import itertools
import math
import operator
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from mriad.errors import StorageError
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Codec = Literal["lz4", "zstd"]
SIDE = 32
"""Voxels a side: 128 KiB of float32, which stay in a core's cache while they are unpacked."""
ENTRY = np.dtype([("end", "<u8"), ("crc", "<u4")])
_CODECS = {"lz4": "lz4_raw", "zstd": "zstd"}


def write_packed(file: BinaryIO, array: NDArray[Any], codec: Codec) -> dict[str, Any]:
    """Write an array brick by brick; return what `PackedArray` needs to know: codec, bytes and the table's checksum.

    Memory beyond the array: two bricks.
    """
    import pyarrow as pa

    pack = pa.Codec(_CODECS[codec])
    bricks = list(_bricks(array.shape))
    table = np.zeros(len(bricks), ENTRY)
    file.write(table.tobytes())  # room for it
    end = 0
    for number, box in enumerate(bricks):
        packed = pack.compress(np.ascontiguousarray(array[box]).reshape(-1).view(np.uint8), asbytes=True)
        end += len(packed)
        table[number] = end, zlib.crc32(packed)
        file.write(packed)
    file.seek(0)
    file.write(table.tobytes())
    return {"codec": codec, "bytes": table.nbytes + end, "table": zlib.crc32(table.tobytes())}


def _bricks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Boxes of the bricks in their order."""
    sides = _sides(shape)
    starts = [range(0, n, side) for n, side in zip(shape, sides, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, sides, shape, strict=True))


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if axis < len(shape) - 3 else SIDE for axis in range(len(shape)))


@dataclass(frozen=True, eq=False)
class PackedArray(NDArrayOperatorsMixin):
    """A read-only array that unpacks what is sliced out of it; everything else asks for the whole of it.

    `array[box]` with whole numbers and slices of step 1 unpacks the bricks that the box touches, and checks each
    against its checksum. Any other index, operator, numpy function or method of an array works as on the array that
    `np.asarray` gives, which is unpacked anew each time.

    Args:
        data: the file, mapped.
        shape: of the array.
        dtype: of the array.
        codec: that it was packed with.
        table: checksum of the table.
        path: of the file, for messages.

    Raises:
        ValueError: the table is not as it was written.
    """

    data: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: Codec
    table: int
    path: str
    _ends: NDArray[Any] = field(init=False, repr=False)

    __array_priority__ = 1.0

    def __post_init__(self) -> None:
        counts = [-(-n // side) for n, side in zip(self.shape, _sides(self.shape), strict=True)]
        size = math.prod(counts) * ENTRY.itemsize
        raw = self.data[:size]
        if len(raw) != size or zlib.crc32(raw) != self.table:
            raise ValueError(f"{self.path} is not as it was written")
        object.__setattr__(self, "_ends", np.frombuffer(raw, ENTRY).reshape(counts))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes when unpacked."""
        return self.size * self.dtype.itemsize

    @cached_property
    def _unpack(self) -> Any:
        import pyarrow as pa

        return pa.Codec(_CODECS[self.codec]).decompress

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        box = self._box(key)
        if box is None:
            return np.asarray(self)[key]
        kept, low, high = box
        found = self._read(low, high)
        return found if kept is None else found[kept]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a compressed array cannot be had without a copy")
        whole = self._read([0] * self.ndim, list(self.shape))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(i) if isinstance(i, PackedArray) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        return function(*_plain(arguments), **_plain(options))

    def __getattr__(self, name: str) -> Any:
        # Methods of an array (`sum`, `astype`, `transpose`, …); nothing of this object itself, nor of a protocol
        # that would go by the memory of an array.
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.array, (np.asarray(self),)  # a map stays with its process

    def _box(self, key: Any) -> tuple[tuple[Any, ...] | None, list[int], list[int]] | None:
        """Index → what to take of the box, and its bounds; None if it is not a box of neighbours."""
        keys = key if isinstance(key, tuple) else (key,)
        if sum(k is Ellipsis for k in keys) > 1 or any(k is None for k in keys):
            return None
        given = len(keys) - sum(k is Ellipsis for k in keys)
        if given > self.ndim:
            return None
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
        keys = (*keys[:at], *[slice(None)] * (self.ndim - given), *keys[at + 1 :])
        low, high = [], []
        kept: list[int | slice] = []
        for k, n in zip(keys, self.shape, strict=True):
            if isinstance(k, slice):
                start, stop, step = k.indices(n)
                if step != 1:
                    return None
                low.append(start)
                high.append(max(start, stop))
                kept.append(slice(None))
            elif isinstance(k, bool | np.bool_) or not hasattr(k, "__index__") or np.ndim(k):
                return None
            else:
                number = operator.index(k)
                if not -n <= number < n:
                    raise IndexError(f"index {number} is out of bounds for an axis of {n}")
                number %= n
                low.append(number)
                high.append(number + 1)
                kept.append(0)
        return (None if all(isinstance(k, slice) for k in kept) else tuple(kept)), low, high

    def _read(self, low: list[int], high: list[int]) -> NDArray[Any]:
        """Unpack a box."""
        out = np.empty([b - a for a, b in zip(low, high, strict=True)], self.dtype)
        if not out.size:
            return out
        sides = _sides(self.shape)
        ranges = [range(a // s, (b - 1) // s + 1) for a, b, s in zip(low, high, sides, strict=True)]
        # Per axis and brick: where its part lies in the box, and which part of the brick it is.
        parts = [
            [
                (
                    slice(max(i * s, a) - a, min(i * s + s, b) - a),
                    slice(max(i * s, a) - i * s, min(i * s + s, b) - i * s),
                    min(i * s + s, n) - i * s,
                )
                for i in numbers
            ]
            for numbers, a, b, s, n in zip(ranges, low, high, sides, self.shape, strict=True)
        ]
        for place, part in zip(itertools.product(*ranges), itertools.product(*parts), strict=True):
            inside, within, shape = zip(*part, strict=True)
            out[inside] = self._brick(place, shape)[within]
        return out

    def _brick(self, place: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
        """One brick.

        Raises:
            StorageError: its checksum is not the one that was written.
        """
        flat = self._ends.reshape(-1)
        number = int(np.ravel_multi_index(place, self._ends.shape))
        head = self._ends.nbytes
        start = head + (int(flat[number - 1]["end"]) if number else 0)
        packed = self.data[start : head + int(flat[number]["end"])]
        if zlib.crc32(packed) != int(flat[number]["crc"]):
            raise StorageError(
                "a stored sample is damaged: the checksum of a compressed brick differs",
                where={"file": self.path, "brick": f"{number + 1} of {flat.size}"},
                remedy="`mriad data store verify --fix` removes it; then run the same again, which makes it anew",
            )
        raw = self._unpack(packed, math.prod(shape) * self.dtype.itemsize)
        return np.frombuffer(raw, self.dtype).reshape(shape)


def _plain(value: Any) -> Any:
    """Arguments of a numpy function with every packed array unpacked."""
    if isinstance(value, PackedArray):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
