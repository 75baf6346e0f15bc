"""Slabs: volumes that pass by in pieces, so that a large one is never held whole more often than needed."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mriad.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

SLAB_BYTES = 64 * 2**20
"""About the size of a piece that passes by: small beside a volume, large beside the cost of a call."""
IN_MEMORY_BYTES = 512 * 2**20
"""A whole result above this lies in a temporary file (in TMPDIR) and is memory-mapped."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Consecutive planes of a grid.

    values: (K, X, Y, Z) float32 on any device, whole but along `axis` (0, 1 or 2), where it begins at plane `start`.
    """

    axis: int
    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """The plane after the last one."""
        return self.start + int(self.values.shape[self.axis + 1])

    @property
    def index(self) -> tuple[slice, slice, slice, slice]:
        """Where the slab lies in the whole (K, X, Y, Z) array."""
        picks = [slice(None)] * 4
        picks[self.axis + 1] = slice(self.start, self.stop)
        return picks[0], picks[1], picks[2], picks[3]

    def array(self) -> NDArray[np.float32]:
        """The values as a float32 array."""
        found: NDArray[np.float32] = self.values.to("cpu", torch.float32).numpy()
        return found


def planes_per_slab(channels: int, shape: Sequence[int], axis: int, limit: int = SLAB_BYTES) -> int:
    """How many planes across `axis` of a float32 (channels, *shape) array fill `limit` bytes; at least 1."""
    plane = 4 * channels * int(np.prod([n for i, n in enumerate(shape) if i != axis]))
    return max(1, min(int(shape[axis]), limit // max(plane, 1)))


def slabs_of_array(array: NDArray[np.float32], axis: int = 0) -> Iterator[Slab]:
    """Cut (K, X, Y, Z) into slabs across `axis`; each is a copy, so that a memory map is read piece by piece."""
    step = planes_per_slab(array.shape[0], array.shape[1:], axis)
    for start in range(0, array.shape[axis + 1], step):
        index: list[Any] = [slice(None)] * 4
        index[axis + 1] = slice(start, start + step)
        yield Slab(axis, start, torch.from_numpy(np.array(array[tuple(index)], dtype=np.float32)))


class Scratch:
    """A float32 array (K, X, Y, Z) that is filled slab by slab: in memory, or in a nameless temporary file if large.

    In the file the planes of `axis` lie one after the other, and only the part in use is mapped: what was written
    does not count as memory of the process. The file is gone when the last array that maps it is.

    Args:
        channels: K.
        shape: X, Y, Z.
        axis: the axis that slabs will come along.
        in_memory: bytes above which a file is used.

    Raises:
        StorageError: the temporary folder is full or cannot be written.
    """

    def __init__(
        self, channels: int, shape: Sequence[int], axis: int = 0, in_memory: int = IN_MEMORY_BYTES
    ) -> None:
        self.axis = axis
        self._shape = (channels, int(shape[0]), int(shape[1]), int(shape[2]))
        self._order = [axis + 1, *(i for i in range(4) if i != axis + 1)]
        self._planes_first = tuple(self._shape[i] for i in self._order)
        self._file: Any = None
        self._memory: NDArray[np.float32] | None = None
        if 4 * int(np.prod(self._shape)) <= in_memory:
            self._memory = np.zeros(self._planes_first, dtype=np.float32)
            return
        try:
            self._file = tempfile.TemporaryFile(prefix="mriad-")  # noqa: SIM115 - lives as long as its maps
            # Blocks are claimed now: a full disk found later, through a map, would end the process.
            self._claim(4 * int(np.prod(self._shape)))
        except OSError as error:
            raise StorageError(
                f"no room for a temporary file of {4 * int(np.prod(self._shape)) / 2**30:.1f} GiB: "
                f"{error.strerror}",
                where={"folder": tempfile.gettempdir()},
                remedy="set TMPDIR to a folder with more room",
            ) from error

    def _claim(self, size: int) -> None:
        try:
            os.posix_fallocate(self._file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # not every system and file system can
            if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            self._file.truncate(size)

    def _planes(self, start: int, count: int) -> NDArray[np.float32]:
        """A writable view (count, …) of some planes."""
        if self._memory is not None:
            return self._memory[start : start + count]
        plane = 4 * int(np.prod(self._planes_first[1:]))
        return np.memmap(
            self._file,
            dtype=np.float32,
            mode="r+",
            offset=start * plane,
            shape=(count, *self._planes_first[1:]),
        )

    def put(self, slab: Slab) -> None:
        """Write a slab where it belongs."""
        self._merge(slab, add=False)

    def add(self, slab: Slab) -> None:
        """Add a slab to what is there; a new scratch holds zeros."""
        self._merge(slab, add=True)

    def _merge(self, slab: Slab, add: bool) -> None:
        values = slab.array()
        step = values.shape[self.axis + 1]
        start = slab.start if slab.axis == self.axis else 0
        target = self._planes(start, step).transpose(np.argsort(self._order))
        if slab.axis != self.axis:
            target = target[slab.index]
        if add:
            target += values
        else:
            target[...] = values

    def array(self) -> NDArray[np.float32]:
        """The whole array (K, X, Y, Z); a memory map if it lies in a file."""
        whole = self._planes(0, self._planes_first[0])
        return whole.transpose(np.argsort(self._order))


def collect(
    slabs: Iterable[Slab], channels: int, shape: Sequence[int], in_memory: int = IN_MEMORY_BYTES
) -> NDArray[np.float32]:
    """Put slabs together to one array (channels, *shape); a memory map when it is larger than `in_memory` bytes."""
    scratch: Scratch | None = None
    for slab in slabs:
        scratch = scratch or Scratch(channels, shape, slab.axis, in_memory)
        scratch.put(slab)
    return (scratch or Scratch(channels, shape, 0, in_memory)).array()
