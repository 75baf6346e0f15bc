"""The store: atomic, shared, read-only, and damage is noticed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from mriad.errors import StorageError
from mriad_data.store import ArrayFolder, ArrayStore

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from store_writers import KEY, hammer  # noqa: E402


def test_a_sample_comes_back_as_read_only_maps(tmp_path, grid, make_sample):
    store = ArrayStore().build(tmp_path / "s")
    assert store.get(KEY) is None
    valid = np.ones((1, *grid.shape), np.uint8)
    sample = make_sample(grid, "soft", validity=valid, person="p", contrast="T1w", domain="d")
    for found in (store.put(KEY, sample), store.get(KEY)):
        for name in ("image", "target", "validity"):
            array = getattr(found, name)
            np.testing.assert_array_equal(array, getattr(sample, name))
            assert array.dtype == getattr(sample, name).dtype
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        assert found.field is None
        assert found.grid == grid
        assert (found.case, found.person, found.contrast, found.domain) == ("case-1", "p", "T1w", "d")


def test_a_label_map_without_image_can_be_kept(tmp_path, grid, make_sample):
    from dataclasses import replace

    sample = replace(make_sample(grid), image=np.empty((0, *grid.shape), np.float32))
    assert ArrayFolder(tmp_path).put(KEY, sample).image.shape == (0, *grid.shape)


@pytest.mark.parametrize("damage", ["cut", "gone", "record"])
def test_a_damaged_sample_is_not_given_and_is_made_anew(tmp_path, grid, make_sample, damage):
    store, sample = ArrayFolder(tmp_path), make_sample(grid)
    store.put(KEY, sample)
    place = store.place(KEY)
    if damage == "cut":
        image = place / "image.npy"
        image.write_bytes(image.read_bytes()[:-8])
    elif damage == "gone":
        (place / "target.npy").unlink()
    else:
        (place / "sample.json").write_text("{")
    assert store.get(KEY) is None
    np.testing.assert_array_equal(store.put(KEY, sample).image, sample.image)
    assert sorted(p.name for p in place.parent.iterdir()) == [KEY]


def test_verify_finds_a_flipped_bit(tmp_path, grid, make_sample):
    store = ArrayFolder(tmp_path)
    store.put(KEY, make_sample(grid))
    assert store.verify() == {}
    path = store.place(KEY) / "image.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert store.get(KEY) is not None
    assert store.verify() == {KEY: "checksum differs: image"}


def test_concurrent_writers_end_with_one_good_copy(tmp_path, grid, make_sample, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
    sample = make_sample(grid)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=hammer, args=(tmp_path, sample, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = ArrayFolder(tmp_path)
    assert store.verify() == {}
    assert len(list(tmp_path.glob("*/*"))) == 20  # nothing temporary is left


def test_a_copy_that_another_writer_took_for_damaged_is_written_again(
    tmp_path, grid, make_sample, monkeypatch
):
    """Two writers replace a damaged entry: one moves the other's good copy aside, which it saw as the damaged one."""
    store, sample = ArrayFolder(tmp_path), make_sample(grid)
    move, taken = ArrayFolder._move, []

    def robbed(self, temporary, place, key):
        move(self, temporary, place, key)
        if not taken:
            taken.append(place.rename(tmp_path / "aside"))

    monkeypatch.setattr(ArrayFolder, "_move", robbed)
    np.testing.assert_array_equal(store.put(KEY, sample).image, sample.image)
    assert taken
    assert store.verify() == {}


def test_a_full_disk_leaves_nothing(tmp_path, make_sample):
    from mriad.geometry import Grid

    store = ArrayFolder(tmp_path)
    sample = make_sample(Grid.of((40, 40, 40), np.eye(4)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError) as found:
            store.put(KEY, sample)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in str(found.value)
    assert "free space" in str(found.value)
    assert store.get(KEY) is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    store.put(KEY, sample)


def test_a_place_below_a_file_is_refused(tmp_path, grid, make_sample):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="not below a folder") as found:
        ArrayStore().build(tmp_path / "file" / "store").put(KEY, make_sample(grid))
    assert f"{tmp_path / 'file'} is a file" in str(found.value)


def test_keys_are_fingerprints(tmp_path):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        ArrayFolder(tmp_path).get("../../etc")
