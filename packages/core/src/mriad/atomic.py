"""Files and folders that are seen whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}
_FULL[errno.EFBIG] = "the file would pass the size limit of this process or file system"


def storage_error(path: Path | str, error: OSError) -> StorageError:
    """Say why a place cannot be written, in words, and what to do."""
    where: dict[str, object] = {"path": str(path)}
    if error.errno in _FULL:
        with contextlib.suppress(OSError):
            where["free"] = f"{shutil.disk_usage(_existing(Path(path))).free / 2**30:.2f} GiB"
        return StorageError(
            f"cannot write: {_FULL[error.errno]}",
            where=where,
            remedy="free space (`mriad runs prune` removes old runs), or choose another folder",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        blocked = next((p for p in Path(path).parents if p.exists() and not p.is_dir()), None)
        if blocked is not None:
            where["expected"] = f"a folder, but {blocked} is a file"
        return StorageError(
            "cannot write: the place is not below a folder", where=where, remedy="choose another folder"
        )
    return StorageError(
        f"cannot write: {error.strerror or error}",
        where=where,
        remedy="check that the folder exists and that you may write to it, or choose another",
    )


def _existing(path: Path) -> Path:
    """The nearest existing folder at or above `path`."""
    return next((p for p in (path, *path.parents) if p.is_dir()), Path("/"))


@contextlib.contextmanager
def storing(path: Path | str) -> Iterator[None]:
    """Turn every OSError inside the block into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; when the block ends well the file there takes the name `path`.

    Parent folders are made. After an error nothing is left, and a file that was at `path` is as before.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    path = Path(path)
    # Hidden, and with the ending of the final name, which readers and writers choose their format by.
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{path.name}")
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(beside: Path | str) -> Iterator[Path]:
    """Give an empty folder beside `beside` (so that it can be renamed); what is left of it is then removed.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    beside = Path(beside)
    folder = beside.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{beside.name}")
    try:
        with storing(beside):
            folder.mkdir(parents=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
