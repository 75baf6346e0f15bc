"""One definition of the maths, two back ends: the compiled one against PyTorch, and PyTorch where numba is absent."""

from __future__ import annotations

import sys

import mriad_synthseg
import numpy as np
import pytest
import torch
from generator_inputs import a_batch, a_map, made
from mriad.errors import ExperimentError
from mriad_synthseg.generate import Generate
from scipy import ndimage

SETTINGS = {
    "paper": {"preset": "paper"},
    "code2020": {"preset": "code2020"},
    "head": {"preset": "head"},
    "crop and shapes": {"preset": "head", "size": [18, 25, 21], "background_shapes": 4},
    "literal": {"velocity_doubled": False, "velocity_std": (3, 3), "blur_voxels": 1.2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_both_make_the_same(name):
    pytest.importorskip("numba")
    batch = a_batch(*[a_map((30, 27, 28))] * 8)
    one, other = (made(Generate(backend=b, **SETTINGS[name]), batch) for b in ("torch", "numba"))
    assert one.target.dtype == other.target.dtype
    same = one.target == other.target
    # Coordinates that round differently by 1e-7 may fall on two sides of a voxel's face, here and there.
    assert same.float().mean() > 0.9999
    apart = (one.image - other.image).abs()
    assert apart.median() < 1e-6
    assert (apart > 1e-4).float().mean() < 1e-3


def test_many_labels_need_wider_integers():
    pytest.importorskip("numba")
    from mriad.vocabulary import LabelSet, Task

    names = LabelSet.of({f"s{i}": i for i in range(1, 301)})
    task = Task(channels=("image",), label_sets={"": names}, link="softmax")
    index = torch.randint(0, 301, (1, 12, 11, 10), generator=torch.Generator().manual_seed(0))
    one, other = (
        made(Generate(preset="code2020", backend=b), a_batch(index), task) for b in ("torch", "numba")
    )
    assert torch.equal(one.target, other.target)
    assert one.target.max() > 255
    assert torch.allclose(one.image, other.image, atol=1e-4)


def test_compiled_powers():
    pytest.importorskip("numba")
    from mriad_synthseg import kernels

    rng = np.random.default_rng(0)
    values = np.concatenate([[0, 1, 1e-7, 0.5], rng.uniform(size=3000)]).astype(np.float32)
    for exponent in (0.1, 0.74, 1.0, 1.35, 5.0):
        given = values.copy()
        kernels.curve(given, np.float32(0), np.float32(1), np.float32(exponent))
        expected = values.astype(np.float64) ** np.float64(np.float32(exponent))
        assert np.abs(given - expected).max() < 5e-7
        assert (given[0], given[1]) == (0, 1)
    for low, high in rng.uniform(0, 300, (200, 2)).astype(np.float32):
        low, high = min(low, high), max(low, high)
        given = np.array([low, high], np.float32)
        kernels.curve(given, low, np.float32(high - low), np.float32(1))
        assert tuple(given) == (0, 1)


@pytest.mark.parametrize("sigma", [0, 0.3, 1.3, 3])
@pytest.mark.parametrize("size", [(9, 4, 3), (2, 7, 12)])
def test_compiled_blur_is_scipys(sigma, size):
    pytest.importorskip("numba")
    from mriad_synthseg import kernels
    from mriad_synthseg.painting import kernel

    image = np.random.default_rng(0).uniform(10, 20, size).astype(np.float32)
    expected = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest") if sigma else image
    found = image.copy()
    tables = np.zeros(1, np.float32), np.ones(1, np.float32)
    weights = kernel(sigma).float().numpy()
    low, high = kernels.paint(
        found, np.zeros(size, np.uint8), *tables, weights, np.empty((0, 0, 0)), np.float32(300)
    )
    assert np.allclose(found, expected, atol=1e-5)
    assert (low, high) == (found.min(), found.max())


def test_without_numba_torch_computes(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("compiled", "kernels", "vector_cell"):
        monkeypatch.delitem(sys.modules, f"mriad_synthseg.{name}", raising=False)
        monkeypatch.delattr(mriad_synthseg, name, raising=False)
    auto, torch_ = (made(Generate(backend=b), a_batch(a_map())) for b in ("auto", "torch"))
    assert torch.equal(auto.image, torch_.image)
    with pytest.raises(ExperimentError, match="needs numba") as found:
        made(Generate(backend="numba"), a_batch(a_map()))
    assert "mriad-synthseg[fast]" in str(found.value)
