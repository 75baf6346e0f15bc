"""Checkpoints as files of one folder: atomic to write, safe to read."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import zipfile
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from mriad.atomic import storage_error, storing
from mriad.errors import CheckpointError
from mriad.launch.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
_PLAIN = (torch.Size, torch.dtype, torch.device, str, bytes, bool, int, float, complex, type(None))


class FolderCheckpoints:
    """A `CheckpointStore` that keeps `<name>.pt` files.

    Args:
        folder: where they lie; created at the first save.
        writes: False makes `save` do nothing: of ranks that hold equal networks only rank 0 writes.
        guard: called before each save; raises where this process may no longer write (a lost lease).
    """

    def __init__(self, folder: Path, *, writes: bool = True, guard: Callable[[], None] | None = None) -> None:
        self.folder = folder
        self.writes = writes
        self._guard = guard

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write beside the old checkpoint, flush to disk, then rename.

        Raises:
            StorageError: the place is full or cannot be written; the previous checkpoint is untouched.
            CheckpointError: `state` holds something that cannot be loaded again without executing code.
        """
        path = self._path(name)
        _check_plain(state, name)
        if not self.writes:
            return
        if self._guard is not None:
            self._guard()
        make_folder(self.folder)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with storing(path), beside.open("xb") as file:
                sink = _Sink(file)
                try:
                    # torch's writer turns the OSError of a full disk into a RuntimeError without an errno.
                    torch.save(dict(state), cast("IO[bytes]", sink))
                except (OSError, RuntimeError) as err:
                    raise storage_error(path, sink.error or OSError(str(err))) from err
                file.flush()
                os.fsync(file.fileno())
                beside.replace(path)
                _sync_folder(self.folder)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a checkpoint with its tensors on the CPU, or None where there is none.

        Raises:
            CheckpointError: damaged, or holds code.
        """
        path = self._path(name)
        if not path.exists():
            return None
        return load_plain(path)

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise CheckpointError(
                f"'{name}' cannot name a checkpoint", where={"expected": "letters, digits, . _ -"}
            )
        return self.folder / f"{name}.pt"


def load_plain(path: Path) -> dict[str, Any]:
    """Load a file that `torch.save` wrote, refusing everything but tensors and plain values.

    Raises:
        CheckpointError: missing, damaged, or holds code; nothing of it was executed.
    """
    if not zipfile.is_zipfile(path):  # cut short, or a bare pickle
        raise _damaged(path, "it is no whole torch file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as err:
        if "GLOBAL" not in str(err):
            raise _damaged(path, "its index cannot be read") from err
        raise CheckpointError(
            f"checkpoint {path.name} holds code",
            where={"file": path, "refused": _refused(str(err)), "expected": "tensors and plain values"},
            remedy="do not use a checkpoint that you did not make; train again, or restore a copy",
        ) from err
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as err:
        raise _damaged(path, (str(err).splitlines() or [type(err).__name__])[0].split(". ")[0]) from err
    if not isinstance(state, dict):
        raise _damaged(path, f"it holds a {type(state).__name__}, not a mapping")
    return state


class _Sink:
    """A binary file that remembers why a write failed, since torch's writer forgets it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as err:
            self.error = err
            raise

    def flush(self) -> None:
        self._file.flush()


def _check_plain(value: Any, where: str) -> None:
    """Refuse at saving what `weights_only` would refuse at loading, when it is too late."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, torch.Tensor):
        return
    if kind in (dict, OrderedDict):
        for key, item in value.items():
            _check_plain(key, f"{where}, a key")
            _check_plain(item, f"{where}.{key}")
    elif kind in (list, tuple, set):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}.{index}")
    else:
        raise CheckpointError(
            f"a {kind.__name__} cannot be kept in a checkpoint",
            where={"at": where, "expected": "tensors, numbers, strings, lists, tuples, sets, dicts"},
            remedy="convert it in state_dict(), for example with torch.as_tensor or float",
        )


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {path.name} is damaged",
        where={"file": path, "reason": reason},
        remedy="remove the file to start from the beginning, or restore a copy",
    )


def _refused(text: str) -> str:
    found = re.search(r"GLOBAL (\S+)", text)
    return found.group(1) if found else "an object"


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
