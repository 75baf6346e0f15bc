"""Compressed arrays of the store: equal to numpy's under any index, read in bricks, damage found where it is."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.cli import main
from mriad.errors import StorageError
from mriad.geometry import Grid
from mriad.images import FileSource
from mriad.interfaces import PreprocessingStep
from mriad.preparation import Recipe, fit_steps, prepare
from mriad.vocabulary import Case, Label, LabelSet, Sample
from mriad_data.packed_array import PackedArray, write_packed
from mriad_data.patches import EverySliceDraw, PatchDraw
from mriad_data.resampling import Resample
from mriad_data.store import ArrayFolder, ArrayStore
from mriad_data.store_entries import entries

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from store_writers import KEY, hammer  # noqa: E402

CODECS = ["lz4", "zstd"]


def packed(path: Path, array: np.ndarray, codec: str = "lz4") -> PackedArray:
    with path.open("wb") as file:
        facts = write_packed(file, array, codec)
    assert path.stat().st_size == facts["bytes"]
    return PackedArray(path.read_bytes(), array.shape, array.dtype, codec, facts["table"], str(path))


@pytest.fixture
def count_bricks(monkeypatch):
    """The places of all bricks that are unpacked."""
    seen = []
    brick = PackedArray._brick

    def counted(self, place, shape):
        seen.append(place)
        return brick(self, place, shape)

    monkeypatch.setattr(PackedArray, "_brick", counted)
    return seen


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An array of odd sizes, plain and packed."""
    array = np.random.default_rng(0).normal(size=(2, 70, 33, 32)).astype(np.float32)
    return array, packed(tmp_path_factory.mktemp("packed") / "a.lz4", array)


def index(n: int) -> st.SearchStrategy:
    edge = st.one_of(st.none(), st.integers(-n - 3, n + 3))
    return st.one_of(
        st.integers(-n, n - 1),
        st.integers(0, n - 1).map(np.int64),
        st.builds(slice, edge, edge),
        st.builds(slice, edge, edge, st.sampled_from([1, 2, -1])),
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_index_gives_what_numpy_gives(pair, data):
    array, lazy = pair
    axes = data.draw(st.integers(0, 4))
    key = tuple(data.draw(index(n)) for n in array.shape[:axes])
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(key)))
        last = tuple(data.draw(index(n)) for n in array.shape[4 - (len(key) - at) :]) if at < len(key) else ()
        key = (*key[:at], ..., *last)
    np.testing.assert_array_equal(lazy[key], array[key])


@pytest.mark.parametrize(
    "key", [None, (0, None), [1, 0], (slice(None), [1, 2]), np.array([True, False]), True], ids=repr
)
def test_other_indices_too(pair, key):
    array, lazy = pair
    np.testing.assert_array_equal(lazy[key], array[key])


@pytest.mark.parametrize("key", [2, -3, (0, 70), (0, 0, 0, 0, 0), (..., ...)])
def test_what_numpy_refuses_is_refused(pair, key):
    array, lazy = pair
    for one in (array, lazy):
        with pytest.raises(IndexError):
            one[key]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 33, 5, 64), (1, 32, 32, 32), (0, 4, 4, 4)])
def test_any_array_comes_back_bit_for_bit(tmp_path, codec, dtype, shape):
    array = (np.random.default_rng(1).normal(size=shape) * 100).astype(dtype)
    lazy = packed(tmp_path / "a", array, codec)
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size) == (array.shape, array.dtype, 4, array.size)
    assert np.asarray(lazy).tobytes() == array.tobytes()
    assert len(lazy) == len(array)


def test_it_does_as_an_array_in_numpy(pair):
    array, lazy = pair
    np.testing.assert_array_equal(lazy == array[0, 0, 0, 0], array == array[0, 0, 0, 0])
    np.testing.assert_array_equal(2 * lazy + lazy, 3 * array, strict=True)
    np.testing.assert_array_equal(np.stack([lazy, lazy]), np.stack([array, array]))
    np.testing.assert_array_equal(np.where(lazy > 0, lazy, 0), np.where(array > 0, array, 0))
    np.testing.assert_array_equal(lazy.transpose(0, 3, 2, 1), array.transpose(0, 3, 2, 1))
    assert lazy.astype(np.float16).dtype == np.float16
    assert [channel.tobytes() for channel in lazy] == [channel.tobytes() for channel in array]
    assert (lazy > 10).any() == (array > 10).any()
    back = pickle.loads(pickle.dumps(lazy))
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, array)
    with pytest.raises(TypeError):
        lazy[0] = 1


@pytest.mark.parametrize("codec", CODECS)
def test_a_patch_unpacks_the_bricks_that_it_touches_alone(tmp_path, make_sample, count_bricks, codec):
    store = ArrayStore(compression=codec).build(tmp_path)
    sample = make_sample(Grid.of((100, 70, 70), np.eye(4)))
    found = store.put(KEY, sample)
    count_bricks.clear()
    generator = np.random.default_rng(3)
    box = PatchDraw((20, 20, 20), 0.0)(found, generator, (0, 0, 0))
    wanted = PatchDraw((20, 20, 20), 0.0)(sample, np.random.default_rng(3), (0, 0, 0))
    np.testing.assert_array_equal(box.image, wanted.image)
    np.testing.assert_array_equal(box.target, wanted.target)
    assert 2 <= len(count_bricks) <= 2 * 8 < 2 * 4 * 3 * 3  # of image and target

    for draw in (PatchDraw((20, 80, 20), 1.0), PatchDraw(("full", 20, 20), 1.0)):
        ours, plain = (draw(s, np.random.default_rng(5), (3, 3, 3)) for s in (found, sample))
        for name in ("image", "target", "validity", "field"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(plain, name))
    slices = EverySliceDraw("axial", ("full", "full"), "foreground")
    assert slices.items(found) == slices.items(sample)
    np.testing.assert_array_equal(
        slices(found, generator, (0, 0, 0), 3).image, slices(sample, generator, (0, 0, 0), 3).image
    )


@pytest.mark.parametrize("codec", CODECS)
def test_a_store_of_both_kinds_is_read_whatever_is_asked_for(tmp_path, grid, make_sample, codec):
    plain, small = ArrayFolder(tmp_path), ArrayStore(compression=codec).build(tmp_path)
    other = KEY[::-1]
    samples = {KEY: make_sample(grid), other: make_sample(grid, "soft", seed=4)}
    plain.put(KEY, samples[KEY])
    small.put(other, samples[other])
    for store in (plain, small, pickle.loads(pickle.dumps(small))):
        for key, sample in samples.items():
            found = store.get(key)
            np.testing.assert_array_equal(found.image, sample.image)
            np.testing.assert_array_equal(found.target, sample.target)
            assert store.put(key, samples[KEY]).case == sample.case  # what is there stays
        assert store.verify() == {}
    assert {e.state for e in entries(tmp_path)} == {"good"}
    assert sorted(p.name for p in small.place(other).iterdir()) == [
        f"image.{codec}", "sample.json", f"target.{codec}",
    ]  # fmt: skip
    assert small.codec == pickle.loads(pickle.dumps(small)).codec == codec


def test_smooth_images_and_labels_take_less_room(tmp_path, make_sample):
    from scipy import ndimage

    grid = Grid.of((96, 96, 96), np.eye(4))
    sample = make_sample(grid)
    ball = np.linspace(-1, 1, 96) ** 2
    inside = ball[:, None, None] + ball[:, None] + ball < 0.8
    image = (ndimage.gaussian_filter(sample.image, (0, 2, 2, 2)) * inside).astype(np.float32)
    sample = replace(sample, image=image, target=inside[None].astype(np.uint8))
    sizes = {}
    for codec in (None, *CODECS):
        store = ArrayFolder(tmp_path / str(codec), codec=codec)
        store.put(KEY, sample)
        sizes[codec] = next(entries(store.folder)).bytes
    assert sizes["zstd"] < sizes["lz4"] < 0.6 * sizes[None]


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_brick_is_found_where_it_is_and_the_sample_made_anew(tmp_path, make_sample, codec):
    root = tmp_path / "store"
    store = ArrayStore(compression=codec).build(root)
    sample = make_sample(Grid.of((80, 40, 40), np.eye(4)))
    store.put(KEY, sample)
    path = store.place(KEY) / f"image.{codec}"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 16  # in the last brick
    path.write_bytes(raw)

    found = ArrayStore().build(root).get(KEY)
    np.testing.assert_array_equal(found.image[:, :64, :32, :32], sample.image[:, :64, :32, :32])
    with pytest.raises(StorageError, match="checksum of a compressed brick differs") as error:
        found.image[:, 60:70, 30:36, 30:36]
    assert str(path) in str(error.value)
    assert "24 of 24" in str(error.value)
    assert "mriad data store verify --fix" in str(error.value)
    assert store.verify() == {KEY: "checksum differs: image"}
    with pytest.raises(SystemExit):
        main(["data", "store", "verify", "--fix", "--runs", str(tmp_path)])
    assert store.get(KEY) is None
    again = store.once(KEY, lambda: sample)
    np.testing.assert_array_equal(again.image, sample.image)
    assert store.verify() == {}


@pytest.mark.parametrize("damage", ["table", "cut", "gone"])
def test_a_damaged_file_is_not_given_and_is_made_anew(tmp_path, grid, make_sample, damage):
    store, sample = ArrayFolder(tmp_path, codec="zstd"), make_sample(grid)
    store.put(KEY, sample)
    path = store.place(KEY) / "image.zstd"
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(raw if damage == "table" else raw[:-1])
    store = ArrayFolder(tmp_path, codec="zstd")  # one that has not opened it before
    assert store.get(KEY) is None
    np.testing.assert_array_equal(store.put(KEY, sample).image, sample.image)
    assert store.verify() == {}


def test_two_processes_that_write_end_with_one_good_copy(tmp_path, grid, make_sample, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    sample = make_sample(grid)
    writers = [
        context.Process(target=hammer, args=(tmp_path, sample, barrier, codec)) for codec in (None, "lz4")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert ArrayFolder(tmp_path).verify() == {}
    assert len(list(tmp_path.glob("*/*"))) == 20


class Whole(PreprocessingStep):
    """A guest's fitted step, whose program takes numpy's own arrays alone."""

    type: Literal["test.whole"] = "test.whole"
    fitted: ClassVar[bool] = True

    def fit(self, samples):
        return {"least": float(min(torch.from_numpy(np.array(s.image)).min() for s in samples if _own(s)))}

    def apply(self, sample, parameters):
        assert _own(sample)
        return replace(sample, image=np.sqrt(sample.image - np.float32(parameters["least"])))


def _own(sample: Sample) -> bool:
    return type(sample.image) is np.ndarray and type(sample.target) is np.ndarray


def test_steps_see_arrays_of_numpy_and_give_the_same_through_any_store(tmp_path, write):
    """The fitted step is applied to what the store keeps of the steps before it."""
    rng = np.random.default_rng(0)
    cases = []
    for name in ("a", "b"):
        image = write(tmp_path / f"{name}.nii.gz", rng.normal(100, 5, (20, 22, 18)).astype(np.float32))
        label = write(tmp_path / f"{name}_seg.nii.gz", (rng.random((20, 22, 18)) > 0.7).astype(np.uint8))
        cases.append(
            Case(name, name, {"T2w": FileSource(str(image))}, {"hard": Label("hard", FileSource(str(label)))})
        )
    samples = {}
    for codec in (None, *CODECS):
        store = ArrayFolder(tmp_path / str(codec), codec=codec)
        steps = (Resample(spacing_mm=[1.2, "keep", 0.9]), Whole())
        recipe = Recipe(("T2w",), LabelSet.of({"cord": 1}), "hard", "hard", steps, (None, None), store)
        fitted = fit_steps(cases, recipe)
        samples[codec] = [prepare(cases, fitted)[i] for i in range(2)]
    for codec in CODECS:
        for ours, plain in zip(samples[codec], samples[None], strict=True):
            assert isinstance(ours.image, PackedArray)
            np.testing.assert_array_equal(ours.image, plain.image)
            np.testing.assert_array_equal(ours.target, plain.target)
            assert (ours.case, ours.person) == (plain.case, plain.person)


def test_a_full_disk_leaves_nothing(tmp_path, make_sample):
    store = ArrayFolder(tmp_path, codec="lz4")
    sample = make_sample(Grid.of((40, 40, 40), np.eye(4)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match="cannot write") as found:
            store.put(KEY, sample)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free space" in str(found.value)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    store.put(KEY, sample)
