"""Hashes of files are those of hashlib, and are taken again when a file changes."""

from __future__ import annotations

import hashlib
import os

import mriad.filehash as filehash
import pytest
from mriad.errors import DataError


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(filehash, "_known", {})
    monkeypatch.setattr(filehash, "_journal", None)


def settle(path, seconds=10):
    """Make the file look as if it had been written some time ago."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


def test_the_hash_is_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert filehash.file_sha256(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_a_known_file_is_not_read_again_and_a_changed_one_is(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    settle(path)
    first = filehash.file_sha256(path)
    monkeypatch.setattr(filehash.hashlib, "sha256", lambda: pytest.fail("was read again"))
    assert filehash.file_sha256(path) == first
    monkeypatch.undo()
    path.write_bytes(b"two")
    settle(path, 5)
    assert filehash.file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_file_written_just_now_is_not_trusted(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    status = path.stat()
    filehash.file_sha256(path)
    path.write_bytes(b"two")  # same size and inode; set the same time, as a coarse clock would
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert filehash.file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_the_journal_is_used_by_the_next_process(tmp_path, monkeypatch):
    path, journal = tmp_path / "a", tmp_path / "runs" / "hashes.jsonl"
    path.write_bytes(b"one")
    settle(path)
    filehash.remember_in(journal)
    first = filehash.file_sha256(path)
    journal.write_text("damaged\n" + journal.read_text())
    filehash._known.clear()
    filehash.remember_in(journal)
    monkeypatch.setattr(filehash.hashlib, "sha256", lambda: pytest.fail("was read again"))
    assert filehash.file_sha256(path) == first


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="a file cannot be read") as found:
        filehash.file_sha256(tmp_path / "none")
    assert str(tmp_path / "none") in str(found.value)
