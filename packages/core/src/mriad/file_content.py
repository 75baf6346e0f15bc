"""Is one file the other, compressed anew?

A gzip file ends with checksum and length of what is in it, so eight bytes are read. Equal ends are only a hint
(32 bits); the contents are then compared by SHA-256.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import zlib
from pathlib import Path

from mriad.errors import DataError
from mriad.filehash import file_sha256

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_known: dict[bytes, list[tuple[str, str]]] = {}
"""End of a gzip file → (fingerprint, path) of files with different contents that have it."""
_first: dict[str, str] = {}


def content_mark(path: str) -> str:
    """The SHA-256 of the file's bytes, or that of the file of equal content that was seen first in this process.

    Files that are not gzip, or are damaged, stand for themselves.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    own = file_sha256(path)
    if own in _first:
        return _first[own]
    found = own
    end = _end(path) if path.endswith(".gz") else b""
    if end:
        for mark, other in _known.setdefault(end, []):
            if _same_content(path, other):
                found = mark
                break
        else:
            _known[end].append((own, path))
    _first[own] = found
    return found


def content_hint(path: str) -> bytes:
    """A few bytes, equal for files of equal `content_mark`; made without reading what lies between.

    Of a gzip file the end, whatever its name; of another its length and end.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            begin = file.read(2)
            length = file.seek(0, 2)
            file.seek(-min(length, 8), 2)
            end = file.read(8)
    except OSError as error:
        raise DataError(
            "a file cannot be read", where={"file": path, "reason": error.strerror or error}
        ) from error
    return end if begin == _GZIP else end + length.to_bytes(8, "little")


def _end(path: str) -> bytes:
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        file.seek(-8, 2)
        return file.read(8)
    return b""


def _same_content(path: str, other: str) -> bool:
    try:
        return _content(path) == _content(other)
    except (OSError, EOFError, zlib.error):
        return False


def _content(path: str) -> bytes:
    digest = hashlib.sha256()
    with gzip.open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
