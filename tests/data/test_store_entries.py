"""What the store holds: marks of use, other versions, the size limit, and `mriad data store`."""

from __future__ import annotations

import json
import os
import time
import warnings

import numpy as np
import pytest
from mriad.cli import main
from mriad.errors import StorageError
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad_data import store as store_module
from mriad_data.store import ArrayFolder, ArrayStore
from mriad_data.store_commands import parse_size
from mriad_data.store_entries import choose, entries, remove, remove_leftovers

DAY = 86_400


@pytest.fixture
def filled(runs, make_sample):
    """filled(n) → the store below the runs root with n samples; number i was used i days and two hours ago."""

    def make(count: int = 4, folder=None) -> ArrayFolder:
        store = ArrayFolder(folder or runs / "store")
        for i in range(count):
            store.put(fingerprint(i), make_sample(Grid.of((10, 10, 10), np.eye(4)), case=f"sub-{i}"))
            used(store, i, i * DAY + 7200)
        return store

    return make


def used(store: ArrayFolder, number: int, ago: float) -> None:
    at = time.time() - ago
    os.utime(store.place(fingerprint(number)) / "sample.json", (at, at))


def rewrite(store: ArrayFolder, number: int, **fields) -> None:
    path = store.place(fingerprint(number)) / "sample.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["data", "store", *arguments])
    return int(ended.value.code or 0)


def cases(store: ArrayFolder) -> list[str]:
    return sorted(e.case for e in entries(store.folder))


def test_getting_marks_the_use_at_most_once_an_hour(filled, monkeypatch):
    store = filled(2)
    record = store.place(fingerprint(1)) / "sample.json"
    touched = []
    utime = os.utime
    monkeypatch.setattr(store_module.os, "utime", lambda *a, **k: (touched.append(a), utime(*a, **k)))
    for other in (store, ArrayFolder(store.folder)):  # mapped already, and not
        used(store, 1, 2 * DAY)
        touched.clear()
        for _ in range(5):
            assert other.get(fingerprint(1)) is not None
        assert len(touched) == 1
        assert time.time() - record.stat().st_mtime < 60
    store.check(fingerprint(0))
    assert time.time() - (store.place(fingerprint(0)) / "sample.json").stat().st_mtime > 7000


def test_a_store_that_may_only_be_read_is_used(filled, monkeypatch):
    store = filled(1)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(store_module.os, "utime", refuse)
    assert store.get(fingerprint(0)) is not None


def test_maps_are_given_again_until_a_file_changes(filled, make_sample):
    store, key = filled(1), fingerprint(0)
    first = store.get(key)
    assert store.get(key).image is first.image
    other = ArrayFolder(store.folder)
    entry = next(entries(store.folder))
    assert remove(entry) == entry.bytes
    assert store.get(key) is None
    fresh = make_sample(Grid.of((10, 10, 10), np.eye(4)), seed=9)
    other.put(key, fresh)
    np.testing.assert_array_equal(store.get(key).image, fresh.image)
    assert first.image.sum() != 0  # whoever holds the old maps keeps them: nothing was pulled away


def test_few_maps_stay_open(runs, make_sample, monkeypatch):
    monkeypatch.setattr(store_module, "_OPEN", 3)
    store = ArrayFolder(runs / "store")
    for i in range(6):
        store.put(fingerprint(i), make_sample(Grid.of((4, 4, 4), np.eye(4))))
    assert list(store._process.opened) == [fingerprint(i) for i in (3, 4, 5)]
    store.get(fingerprint(3))
    store.get(fingerprint(0))
    assert list(store._process.opened) == [fingerprint(i) for i in (5, 3, 0)]


def test_too_many_open_files_do_not_look_like_damage(filled, monkeypatch):
    store = ArrayFolder(filled(1).folder)

    def full(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(store_module.os, "open", full)
    with pytest.raises(StorageError, match="cannot be opened") as found:
        store.get(fingerprint(0))
    assert "ulimit -n" in str(found.value)


def test_a_sample_of_another_version_is_not_used_and_replaced_when_made(filled, make_sample, capsys):
    store = filled(2)
    rewrite(store, 0, format=99)
    assert ArrayFolder(store.folder).get(fingerprint(0)) is None
    assert store.get(fingerprint(0)) is None
    assert store.verify() == {}  # it is not damaged
    assert command("list") == 0
    assert "version 99, not used" in capsys.readouterr().out
    assert command("verify") == 0
    assert "1 samples read, 0 damaged; 1 of other versions not read" in capsys.readouterr().out
    sample = make_sample(Grid.of((10, 10, 10), np.eye(4)), case="anew")
    assert store.once(fingerprint(0), lambda: sample).case == "anew"
    assert [e.state for e in entries(store.folder)] == ["good", "good"]


def test_what_may_go_is_chosen_by_use(filled):
    store = filled(4)
    found = list(entries(store.folder))
    one = found[0].bytes
    assert choose(found) == []
    assert [e.case for e in choose(found, unused_s=1.5 * DAY)] == ["sub-3", "sub-2"]
    assert [e.case for e in choose(found, max_bytes=3 * one)] == ["sub-3"]
    # What was used in the last day stays, however small the limit.
    assert [e.case for e in choose(found, max_bytes=0)] == ["sub-3", "sub-2", "sub-1"]
    assert len(choose(found, max_bytes=0, unused_s=0)) == 4
    rewrite(store, 1, format=0)
    used(store, 1, 25 * 3600)
    (store.place(fingerprint(0)) / "image.npy").unlink()
    states = [(e.case, e.state) for e in choose(entries(store.folder))]
    assert states == [("", "other version"), ("", "damaged")]


def test_what_was_used_since_it_was_listed_stays(filled):
    store = filled(3)
    oldest = choose(entries(store.folder), unused_s=1.5 * DAY)[0]
    store.get(oldest.key)  # marks
    assert remove(oldest) == 0
    assert store.get(oldest.key) is not None


def test_a_limited_store_drops_what_no_recent_run_used(runs, filled, make_sample):
    filled(4)
    one = next(entries(runs / "store")).bytes
    store = ArrayStore(max_gib=4.5 * one / 2**30).build(runs / "store")
    grid = Grid.of((10, 10, 10), np.eye(4))
    store.put(fingerprint("new"), make_sample(grid, case="new"))
    assert cases(store) == ["new", "sub-0", "sub-1", "sub-2"]  # 0.9 × 4.5 samples
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(5):
            store.put(fingerprint(f"more{i}"), make_sample(grid, case=f"more{i}"))
    assert cases(store) == ["more0", "more1", "more2", "more3", "more4", "new", "sub-0"]
    (said,) = caught
    assert "more than data.store.max_gib" in str(said.message)
    assert "in the last day" in str(said.message)


def test_what_killed_writers_left_is_removed_after_an_hour(filled):
    store = filled(1)
    left = store.folder / "ab" / f".4711-abcd.{fingerprint(5)}"
    left.mkdir(parents=True)
    (left / "image.npy").write_bytes(b"x" * 100)
    assert len(list(entries(store.folder))) == 1
    assert remove_leftovers(store.folder) == 0
    os.utime(left, (time.time() - 4000, time.time() - 4000))
    assert remove_leftovers(store.folder) == 100
    assert not left.exists()


def test_list_and_size(filled, capsys):
    assert command("list") == 0
    assert "nothing is stored" in capsys.readouterr().out
    filled(3)
    assert command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["sub-0", "sub-1", "sub-2"]
    assert "10×10×10" in lines[1]
    assert "2 h ago" in lines[1]
    assert "2 days ago" in lines[3]
    assert command("size") == 0
    said = capsys.readouterr().out
    assert "3  stored" in said
    assert "2  unused for a day" in said
    assert command("size", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unused_for_a_day"]["entries"] == 2
    assert command("list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_prune(filled, capsys):
    store = filled(4)
    assert command("prune", "--older-than", "1.5", "--dry-run") == 0
    assert "2 of 4 entries" in capsys.readouterr().out
    assert len(cases(store)) == 4
    assert command("prune", "--older-than", "1.5", "--yes") == 0
    assert cases(store) == ["sub-0", "sub-1"]
    assert command("prune", "--max-size", "0", "--yes") == 0
    said = capsys.readouterr().out
    assert cases(store) == ["sub-0"]
    assert "runs used them lately (--older-than 0 removes them all the same)" in said
    assert command("prune", "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert command("prune", "--max-size", "0", "--older-than", "0", "--yes") == 0
    assert cases(store) == []
    assert command("prune", "--max-size", "many") == 2
    assert "'many' is no size such as 20GiB" in capsys.readouterr().err


def test_verify_finds_damage_by_its_checksum_and_it_is_made_again(filled, make_sample, capsys):
    store = filled(2)
    key = fingerprint(1)
    good = store.get(key).image.copy()
    path = store.place(key) / "image.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert command("verify") == 1
    assert f"{key[:12]}  sub-1  checksum differs: image" in capsys.readouterr().out
    assert command("verify", "--fix") == 0
    assert "removed 1" in capsys.readouterr().out
    assert store.get(key) is None
    again = store.once(key, lambda: make_sample(Grid.of((10, 10, 10), np.eye(4)), case="sub-1"))
    np.testing.assert_array_equal(again.image, good)
    assert command("verify") == 0


@pytest.mark.parametrize(
    ("text", "count"), [("20GiB", 20 * 2**30), ("1.5 MB", 1_500_000), ("7", 7), ("2k", 2048), ("1e9", 10**9)]
)
def test_sizes_are_read(text, count):
    assert parse_size(text) == count
