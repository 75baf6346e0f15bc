"""Cleaning of posteriors against plain loops and scipy; the head; NaN never comes out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import ExperimentError
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.predictor import predict_whole
from mriad.vocabulary import LabelSet, Sample, Task
from mriad_synthseg.posterior_cleaning import clean, keep_pieces, largest, renormalise
from mriad_synthseg.posteriors import Posteriors
from scipy import ndimage
from torch import nn

LABELS = LabelSet.of({"left a": 1, "right a": 2, "b": 3})
TASK = Task(("image",), {"": LABELS}, "softmax")


def by_flood(mask):
    """The largest 6-connected component by a stack of voxels; ties: the one met first."""
    left, best = {tuple(v) for v in np.argwhere(mask)}, set()
    for voxel in [tuple(v) for v in np.argwhere(mask)]:
        if voxel not in left:
            continue
        piece, stack = set(), [voxel]
        left.discard(voxel)
        while stack:
            at = stack.pop()
            piece.add(at)
            for axis in range(3):
                for step in (-1, 1):
                    near = tuple(a + step * (i == axis) for i, a in enumerate(at))
                    if near in left:
                        left.discard(near)
                        stack.append(near)
        if len(piece) > len(best):
            best = piece
    out = np.zeros(mask.shape, bool)
    for voxel in best:
        out[voxel] = True
    return out


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_largest_piece_is_that_of_a_flood(seed):
    mask = np.random.default_rng(seed).random((5, 4, 6)) < 0.45
    np.testing.assert_array_equal(largest(mask), by_flood(mask))


def test_an_empty_mask_has_no_piece():
    assert not largest(np.zeros((3, 3, 3), bool)).any()


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_cleaning_is_its_definition(seed):
    """Softmax, scipy's Gaussian, flood filling over all and each group, division; voxel by voxel."""
    raw = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (4, 6, 5, 7)).astype(np.float32))
    groups = [[1, 2], [3]]
    found = clean(raw, 0.5, 0.25, groups).numpy()
    p = raw.softmax(0).numpy().astype(np.float64)
    p = np.stack([ndimage.gaussian_filter(c, 0.5, mode="nearest") for c in p])
    for channels in ([1, 2, 3], *groups):
        kept = by_flood(p[channels].sum(0) > 0.25)
        p[channels] *= kept
    expected = np.zeros_like(p)
    for voxel in np.ndindex(*p.shape[1:]):
        total = p[(slice(None), *voxel)].sum()
        expected[(slice(None), *voxel)] = p[(slice(None), *voxel)] / total if total > 1e-6 else [1, 0, 0, 0]
    np.testing.assert_allclose(found, expected[1:], atol=1e-5)
    assert found.sum(0).max() <= 1 + 1e-5


def test_where_nothing_is_left_background_is_one():
    """Background of exactly 0 and a filtered structure: 0 / 0 in the original, background here."""
    posteriors = np.zeros((3, 9, 1, 1), np.float32)
    posteriors[1, :5], posteriors[1, 7] = 1, 1
    posteriors[0, 5:7], posteriors[0, 8] = 1, 1
    keep_pieces(posteriors, 0.25, [])
    assert posteriors[:, 7].sum() == 0
    renormalise(posteriors)
    assert np.isfinite(posteriors).all()
    assert posteriors[0, 7, 0, 0] == 1
    np.testing.assert_array_equal(posteriors.sum(0), 1)


def test_a_structure_below_the_threshold_everywhere_is_removed():
    raw = torch.log(torch.tensor([0.8, 0.1, 0.05, 0.05]))[:, None, None, None].expand(4, 3, 3, 3)
    assert clean(raw, 0.0, 0.25, []).abs().max() == 0
    np.testing.assert_allclose(clean(raw, 0.0, None, [])[0].numpy(), 0.1, atol=1e-6)


def test_smoothing_keeps_the_sum_and_spreads():
    raw = torch.full((2, 9, 9, 9), -20.0)
    raw[0] = 20
    raw[:, 4, 4, 4] = torch.tensor([-20.0, 20.0])
    found = clean(raw, 0.5, None, [])[0].numpy()
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    weights /= weights.sum()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[4, 4, 4] == pytest.approx(weights[2] ** 3, abs=1e-6)
    assert found[5, 4, 4] == pytest.approx(weights[2] ** 2 * weights[1], abs=1e-6)


def test_the_head_names_what_it_does_not_have():
    with pytest.raises(ExperimentError, match="`groups` names a structure that is not there") as caught:
        Posteriors(groups=[["left a", "c"]]).build(TASK)
    assert "left a, right a, b" in str(caught.value)
    with pytest.raises(ExperimentError, match="or twice"):
        Posteriors(groups=[["left a"], ["left a"]]).build(TASK)
    assert Posteriors().link == "softmax"
    assert not Posteriors().voxelwise
    assert Posteriors(smooth_voxels=0, keep_largest=False).voxelwise


def test_the_head_acts_on_the_working_grid_before_the_native_one():
    """A stray voxel that the network sees is gone on a native grid that is turned; the rest lies where it should."""

    class Threshold(nn.Module):
        def forward(self, x):
            bright = torch.where(x > 0.5, 12.0, -12.0)
            return torch.cat([-bright, bright, torch.full_like(x, -30), torch.full_like(x, -30)], 1)

    image = np.zeros((1, 12, 10, 8), np.float32)
    image[0, 2:7, 2:7, 2:6] = 1
    image[0, 10, 8, 1] = 1
    working = Grid.of((12, 10, 8), np.eye(4))
    turned = np.array([[0, -1, 0, 11], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    native = Grid.of((10, 12, 8), turned)
    section = PredictSection(head=Posteriors(smooth_voxels=0))
    found = predict_whole([Threshold()], Sample("a", image, working), section, TASK, native=native)
    expected = image[0].copy()
    expected[10, 8, 1] = 0
    np.testing.assert_allclose(found[0], expected[::-1].transpose(1, 0, 2), atol=1e-5)
