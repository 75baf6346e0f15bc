from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from mriad.errors import ExperimentError
from mriad.geometry import Grid
from mriad.vocabulary import LabelSet
from mriad_standard import Identity, LargestComponent, Sigmoid, Softmax

LABELS = LabelSet.of({"vs": 1, "cochlea": 2})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads(make_task, generator, dtype):
    raw = torch.randn(3, 4, 5, 6, generator=generator).to(dtype)
    e = np.exp(raw.double().numpy())
    softmax = Softmax().build(make_task())(raw)
    assert softmax.shape == (2, 4, 5, 6)
    assert softmax.dtype == torch.float32
    np.testing.assert_allclose(softmax.numpy(), (e / e.sum(0))[1:], rtol=1e-5)
    np.testing.assert_allclose(Sigmoid().build(make_task("sigmoid"))(raw).numpy(), e / (1 + e), rtol=1e-5)
    np.testing.assert_array_equal(
        Identity().build(make_task("raw"))(raw).numpy(), np.clip(raw.float().numpy(), 0, 1)
    )
    assert [h.link for h in (Softmax(), Sigmoid(), Identity())] == ["softmax", "sigmoid", "raw"]


def grid(shape, spacing=(1, 1, 1)):
    return Grid.of(shape, np.diag([*spacing, 1]))


def blobs():
    p = np.zeros((2, 20, 20, 12), dtype=np.float32)
    p[0, 2:6, 2:6, 2:6] = 0.9  # 64 voxels
    p[0, 12:18, 12:18, 2:8] = 0.8  # 216 voxels: the largest
    p[1, 8:10, 8:10, 8:10] = 0.7
    p[1, 1, 1, 1] = 0.7
    return p


def test_only_the_largest_stays_and_other_structures_are_untouched():
    p = blobs()
    before = p.copy()
    out = LargestComponent(structure="vs").apply(p, grid(p.shape[1:]), LABELS)
    np.testing.assert_array_equal(p, before)
    expected = before.copy()
    expected[0, :10] = 0
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("connectivity", [6, 26])
def test_agrees_with_simpleitk(connectivity):
    p = np.random.default_rng(0).random((1, 12, 12, 12), dtype=np.float32)
    out = LargestComponent(structure="vs", connectivity=connectivity, rim_mm=0).apply(
        p, grid((12, 12, 12)), LabelSet.of({"vs": 1})
    )
    labels = SimpleITK.ConnectedComponent(
        SimpleITK.GetImageFromArray((p[0] > 0.5).astype(np.uint8)), connectivity == 26
    )
    largest = SimpleITK.GetArrayFromImage(SimpleITK.RelabelComponent(labels)) == 1
    np.testing.assert_array_equal(out[0] > 0, largest)


def test_corners_connect_at_26_only():
    p = np.zeros((1, 6, 6, 6), dtype=np.float32)
    p[0, 0, 0, 0] = p[0, 1, 1, 1] = p[0, 4, 4, 4] = 0.9
    labels = LabelSet.of({"vs": 1})
    kept = {
        c: int(
            (
                LargestComponent(structure="vs", connectivity=c, rim_mm=0).apply(p, grid(p.shape[1:]), labels)
                > 0
            ).sum()
        )
        for c in (6, 18, 26)
    }
    assert kept == {6: 1, 18: 1, 26: 2}


def test_soft_border_stays_within_the_rim_in_mm():
    p = np.full((1, 15, 15, 15), 0.1, dtype=np.float32)
    p[0, 7, 7, 7] = 0.9
    p[0, 7, 7, 9] = 0.8  # another component, inside the rim
    out = LargestComponent(structure="vs", rim_mm=2.0).apply(
        p, grid((15, 15, 15), (1, 2, 1)), LabelSet.of({"vs": 1})
    )[0]
    distance = np.linalg.norm((np.indices(out.shape) - 7) * np.array([1, 2, 1])[:, None, None, None], axis=0)
    stays = distance <= 2
    stays[7, 7, 9] = False
    np.testing.assert_array_equal(out > 0, stays)


def test_decision_is_the_largest_probability_with_background():
    p = np.zeros((2, 4, 1, 1), dtype=np.float32)
    p[:, 0, 0, 0] = (0.45, 0.35)  # background 0.2: vs
    p[:, 1, 0, 0] = (0.35, 0.45)  # cochlea
    p[:, 3, 0, 0] = (0.3, 0.1)  # background 0.6
    out = LargestComponent(structure="vs", rim_mm=0).apply(p, grid((4, 1, 1)), LABELS)
    assert out[0, :, 0, 0].tolist() == [pytest.approx(0.45), 0, 0, 0]


def test_nothing_found_changes_nothing():
    p = np.full((2, 3, 3, 3), 0.1, dtype=np.float32)
    np.testing.assert_array_equal(LargestComponent(structure="vs").apply(p, grid((3, 3, 3)), LABELS), p)


def test_unknown_structure_is_named():
    p = np.zeros((2, 3, 3, 3), dtype=np.float32)
    with pytest.raises(
        ExperimentError, match=r"(?s)no structure 'cochela'.*vs, cochlea.*did you mean 'cochlea'"
    ):
        LargestComponent(structure="cochela").apply(p, grid((3, 3, 3)), LABELS)
