"""Scratch arrays and predictions, in memory and in a temporary file."""

import resource
import tempfile

import numpy as np
import pytest
import torch
from inference_fakes import CORD, TWO
from mriad.errors import StorageError
from mriad.geometry import Grid
from mriad.inference.prediction import CasePrediction, PredictionStream, harden
from mriad.inference.slab import Scratch, Slab, collect, planes_per_slab, slabs_of_array
from mriad.vocabulary import LabelSet

SHAPE = (5, 6, 7)


def _random(channels=2):
    return np.random.default_rng(0).random((channels, *SHAPE), np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_collect_puts_slabs_together(axis, in_memory):
    whole = _random()
    slabs = [
        Slab(axis, n, torch.from_numpy(np.take(whole, range(n, min(n + 2, SHAPE[axis])), axis + 1)))
        for n in range(0, SHAPE[axis], 2)
    ]
    found = collect(reversed(slabs), 2, SHAPE, in_memory)
    np.testing.assert_array_equal(found, whole)
    assert isinstance(found, np.memmap) == (in_memory == 0)


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_scratch_adds_slabs_of_any_axis(in_memory):
    whole, scratch = _random(), Scratch(2, SHAPE, 1, in_memory)
    for axis in range(3):
        for slab in slabs_of_array(whole, axis):
            scratch.add(slab)
    np.testing.assert_allclose(scratch.array(), 3 * whole, rtol=1e-6)


def test_a_large_scratch_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = collect(slabs_of_array(_random()), 2, SHAPE, in_memory=0)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(found, _random())


def test_no_room_for_the_temporary_file():
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"no room for a temporary file(.|\n)*set TMPDIR"):
            Scratch(4, (100, 100, 100), in_memory=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_planes_per_slab_is_bounded():
    assert planes_per_slab(2, (100, 10, 10), 0, limit=8000) == 10
    assert planes_per_slab(2, (100, 10, 10), 0, limit=1) == 1
    assert planes_per_slab(2, (3, 10, 10), 0) == 3


def _hard(values, labels, exclusive):
    array = np.array(values, np.float32).reshape(len(labels), -1, 1, 1)
    return harden(slabs_of_array(array), array.shape[1:], labels, exclusive).ravel().tolist()


def test_hard_values_when_structures_exclude_each_other():
    # columns: a wins below 0.5; background wins; tie with background; tie of structures
    values = [[0.4, 0.1, 0.5, 0.4], [0.35, 0.2, 0.0, 0.4]]
    assert _hard(values, TWO, True) == [3, 0, 0, 3]


def test_hard_values_when_structures_stand_alone():
    values = [[0.4, 0.6, 0.5, 0.9], [0.35, 0.7, 0.0, 0.9]]
    assert _hard(values, TWO, False) == [0, 7, 0, 3]


def test_hard_values_use_the_smallest_type():
    for value, dtype in ((1, np.uint8), (255, np.uint8), (1000, np.uint16), (70000, np.uint32)):
        labels = LabelSet.of({"a": value})
        found = harden(slabs_of_array(np.ones((1, 2, 2, 2), np.float32)), (2, 2, 2), labels, False)
        assert found.dtype == dtype
        assert (found == value).all()


def test_prediction_and_stream_agree():
    grid = Grid.of(SHAPE, np.eye(4))
    whole = _random(1)
    kept = PredictionStream(slabs_of_array(whole), grid, CORD, False).collect()
    assert isinstance(kept, CasePrediction)
    np.testing.assert_array_equal(kept.probabilities, whole)
    straight = PredictionStream(slabs_of_array(whole), grid, CORD, False).hard()
    np.testing.assert_array_equal(straight, kept.hard())
    np.testing.assert_array_equal(straight, whole[0] > 0.5)
