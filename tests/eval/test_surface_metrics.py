"""Hausdorff distances and surface Dice: worked values, every way of search, MONAI on real masks."""

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad_eval import distances
from mriad_eval.distances import SurfaceDistances, boundary, directed, nearest_offsets
from mriad_eval.masks import Masks
from mriad_eval.metrics import (
    AverageSurfaceDistance,
    AverageSymmetricSurfaceDistance,
    Dice,
    HausdorffDistance,
    HausdorffPercentile,
    MaximumSymmetricSurfaceDistance,
    SurfaceDice,
)
from scipy import ndimage


def pair_of(p: Any, g: Any, spacing: tuple[float, ...] = (1, 1, 1), valid: Any = None) -> StructurePair:
    grid = Grid.of(p.shape, np.diag([*spacing, 1.0]))
    return StructurePair(np.asarray(p, np.float32), np.asarray(g, np.float32), grid, valid)


def value(metric: Any, *arguments: Any) -> float:
    return metric.build()(pair_of(*arguments))[0]


def box(start: tuple[int, int, int], size: int) -> np.ndarray:
    out = np.zeros((48, 48, 48), dtype=np.float32)
    out[tuple(slice(a, a + size) for a in start)] = 1
    return out


CUBE, OUTER, SHIFTED = box((12, 12, 12), 10), box((10, 10, 10), 14), box((14, 12, 12), 10)
SPECK = CUBE.copy()
SPECK[37, 37, 37] = 1


@pytest.mark.parametrize(
    ("prediction", "spacing", "hd", "hd95"),
    [
        (SHIFTED, (1, 1, 1), 2, 2),
        (OUTER, (1, 1, 1), 3.464102, 2.828427),
        (OUTER, (1, 1, 3), 6.633250, 6.324555),
        (SPECK, (1, 1, 1), 27.712813, 0),
    ],
)
def test_worked_values(prediction: np.ndarray, spacing: Any, hd: float, hd95: float) -> None:
    for metric in (HausdorffDistance(), MaximumSymmetricSurfaceDistance()):
        assert value(metric, prediction, CUBE, spacing) == pytest.approx(hd, abs=6e-7)
    assert value(HausdorffPercentile(), prediction, CUBE, spacing) == pytest.approx(hd95, abs=6e-7)
    assert value(HausdorffPercentile(percentile=100), prediction, CUBE, spacing) == pytest.approx(
        hd, abs=6e-7
    )


def test_boundary_voxels_of_the_cubes() -> None:
    assert [int(boundary(mask > 0).sum()) for mask in (OUTER, CUBE)] == [1016, 488]


def test_the_pooled_percentile_is_another_number() -> None:
    a = value(HausdorffPercentile(form="pooled"), OUTER, CUBE)
    found = SurfaceDistances.of(pair_of(OUTER, CUBE))
    assert a == np.percentile(np.concatenate([found.from_prediction, found.from_reference]), 95)
    keys = [HausdorffPercentile(form="pooled").key(), HausdorffPercentile(percentile=99).key()]
    assert keys == ["hd95_pooled", "hd99"]


def test_surface_dice_by_hand() -> None:
    # The shifted cube: of its 488 boundary voxels those of the two faces across the shift differ.
    assert value(SurfaceDice(tolerance_mm=2), SHIFTED, CUBE) == 1.0
    found = SurfaceDistances.of(pair_of(SHIFTED, CUBE))
    at_most_1 = sum(int((d <= 1).sum()) for d in (found.from_prediction, found.from_reference))
    assert value(SurfaceDice(tolerance_mm=1), SHIFTED, CUBE) == at_most_1 / 976
    assert value(SurfaceDice(tolerance_mm=0.3), box((12, 12, 15), 10), CUBE, (1, 1, 0.1)) == 1.0  # 3 × 0.1 mm
    assert SurfaceDice(tolerance_mm=1.5).key() == "nsd_1.5mm"


@pytest.mark.parametrize("metric", [HausdorffDistance(), HausdorffPercentile(), SurfaceDice()])
def test_one_side_empty(metric: Any) -> None:
    nothing, measure = np.zeros_like(CUBE), metric.build()
    for p, g, note in [
        (nothing, CUBE, "miss"),
        (CUBE, nothing, "false positive"),
        (nothing, nothing, "empty"),
    ]:
        got = measure(pair_of(p, g))
        expected = 0.0 if isinstance(metric, SurfaceDice) and note != "empty" else math.nan
        np.testing.assert_equal(got, (expected, note))


# ---- the search


def plain(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Every pair of voxels, the slow way."""
    x, y = (np.argwhere(m) * np.array(spacing) for m in (a, b))
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1)).min(1)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(bool, (2, 7, 5, 6)),
    st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 3.0, 7.5])] * 3),
    st.sampled_from([(0, 0, 0.0), (1, 1, 1e9), (360, 7200, 1e-4), (30, 30, 0.0)]),
)
def test_every_way_of_search_gives_the_same(masks: Any, spacing: Any, sizes: Any) -> None:
    a, b = masks
    if not (a.any() and b.any()):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "_NEAR", sizes[0])
        patch.setattr(distances, "_WIDE", sizes[1])
        patch.setattr(distances, "_WIDE_LOOK", sizes[2])
        patch.setattr(distances, "_LAST", 3)
        got = directed(a, b, a & b, spacing)
    np.testing.assert_allclose(got, plain(a, b, spacing), rtol=1e-12, atol=1e-12)


def test_far_masks_by_tree_and_by_transform() -> None:
    a, b = box((2, 2, 2), 6) > 0, box((38, 38, 38), 6) > 0
    spacing = (1.0, 1.2, 2.0)
    near = plain(boundary(a), boundary(b), spacing)
    for cost in (0.0, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distances, "_TRANSFORM", cost)
            got = directed(boundary(a), boundary(b), a & b, spacing)
        np.testing.assert_allclose(got, near, rtol=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 7.5), (2.0, 0.3, 1.1)])
def test_neighbours_are_complete(spacing: Any) -> None:
    offsets, lengths = nearest_offsets(spacing, 360)
    assert 250 < len(offsets) < 480
    assert (np.diff(lengths) >= 0).all()
    every = np.stack(np.meshgrid(*[np.arange(-30, 31)] * 3, indexing="ij"), -1).reshape(-1, 3)
    within = np.sqrt(((every * np.array(spacing)) ** 2).sum(1))
    assert ((within > 0) & (within <= lengths[-1])).sum() == len(offsets)


def test_arrays_as_nibabel_reads_them() -> None:
    p, g = np.asfortranarray(SHIFTED), np.asfortranarray(CUBE)
    valid = np.ones(p.shape, bool)
    valid[..., 15] = False
    for metric in (Dice(), HausdorffDistance(), AverageSurfaceDistance()):
        here = value(metric, p, g, (1, 2, 3), np.asfortranarray(valid))
        assert here == pytest.approx(value(metric, SHIFTED, CUBE, (1, 2, 3), valid), rel=1e-12)


def test_the_box_is_tight() -> None:
    masks = Masks.of(pair_of(OUTER, CUBE))
    assert masks.prediction.shape == (16, 16, 16)
    assert (masks.in_prediction, masks.in_reference, masks.in_both) == (2744, 1000, 1000)
    assert masks.annotated == 48**3


def test_one_slice_is_measured_in_its_plane() -> None:
    p, g = np.zeros((2, 30, 30, 1), np.float32)
    g[10:20, 10:20], p[12:20, 10:20] = 1, 1
    assert value(HausdorffDistance(), p, g, (0.5, 1, 5)) == 1.0
    a, b = (boundary(m[..., 0] > 0) for m in (p, g))
    mean = plain(np.atleast_3d(a), np.atleast_3d(b), (0.5, 1, 5)).mean()
    assert value(AverageSurfaceDistance(), p, g, (0.5, 1, 5)) == pytest.approx(mean)


def test_one_computation_for_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = distances.directed
    monkeypatch.setattr(distances, "directed", lambda *a: calls.append(1) or original(*a))
    pair = pair_of(OUTER, CUBE)
    for metric in (
        AverageSymmetricSurfaceDistance(),
        HausdorffDistance(),
        HausdorffPercentile(),
        SurfaceDice(),
    ):
        metric.build()(pair)
    assert len(calls) == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.tuples(*[st.floats(0.3, 4)] * 3))
def test_a_growing_error_never_scores_better(smaller: int, more: int, spacing: Any) -> None:
    g = np.zeros((24, 10, 10), np.float32)
    g[4:10, 3:7, 3:7] = 1
    near, far = (np.roll(g, shift, axis=0) for shift in (smaller, smaller + more))
    for metric in (HausdorffDistance(), HausdorffPercentile(), AverageSymmetricSurfaceDistance()):
        assert value(metric, near, g, spacing) <= value(metric, far, g, spacing) + 1e-12
    assert value(SurfaceDice(), near, g, spacing) >= value(SurfaceDice(), far, g, spacing)
    assert value(Dice(), near, g, spacing) >= value(Dice(), far, g, spacing)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, (2, 5, 6, 4)), st.tuples(*[st.floats(0.3, 5)] * 3), st.floats(0, 6))
def test_order_symmetry_and_bounds(masks: Any, spacing: Any, tolerance: float) -> None:
    p, g = masks.astype(np.float32)
    pair, turned = pair_of(p, g, spacing), pair_of(g, p, spacing)
    hd, hd95, pooled, assd = (
        m.build()(pair)[0]
        for m in (
            HausdorffDistance(),
            HausdorffPercentile(),
            HausdorffPercentile(form="pooled"),
            AverageSymmetricSurfaceDistance(),
        )
    )
    for metric in (HausdorffDistance(), HausdorffPercentile(), SurfaceDice(tolerance_mm=tolerance)):
        here, there = metric.build()(pair), metric.build()(turned)
        assert here[0] == pytest.approx(there[0], nan_ok=True)
    if not math.isnan(hd):
        assert max(pooled, hd95, assd) <= hd + 1e-12
        nsd = SurfaceDice(tolerance_mm=tolerance).build()(pair)[0]
        assert 0 <= nsd <= 1
        assert SurfaceDice(tolerance_mm=hd).build()(pair)[0] == 1.0


# ---- MONAI on real masks


def real_pairs(data: Any) -> list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Cord (7.5 mm slices), lesions and hippocampus, each with a shifted copy."""
    found = []
    for name in (
        "spine/sub-errsm30/sub-errsm30_T2star_label-cord_seg.nii.gz",
        "ms-lesions/cross-sectional/sub-07/sub-07_label-lesion_seg.nii.gz",
        "hippocampus/labelsTr/hippocampus_075.nii.gz",
    ):
        image = nib.load(data / name)
        g = np.asarray(image.dataobj) > 0
        p = ndimage.shift(g.astype(float), (0.7, -1.2, 0.4), order=1) > 0.4
        found.append((p, g, tuple(float(s) for s in image.header.get_zooms()[:3])))
    return found


def test_equal_to_monai_on_real_masks(real_data: Any) -> None:
    for p, g, spacing in real_pairs(real_data):
        tensors = [torch.from_numpy(m.astype(np.float32))[None, None] for m in (p, g)]
        theirs = {
            HausdorffDistance(): HausdorffDistanceMetric(),
            HausdorffPercentile(): HausdorffDistanceMetric(percentile=95),
            AverageSymmetricSurfaceDistance(): SurfaceDistanceMetric(symmetric=True),
            AverageSurfaceDistance(): SurfaceDistanceMetric(),
            SurfaceDice(tolerance_mm=1): SurfaceDiceMetric(class_thresholds=[1.0]),
            SurfaceDice(tolerance_mm=2.2): SurfaceDiceMetric(class_thresholds=[2.2]),
        }
        for metric, their in theirs.items():
            expected = float(their(*tensors, spacing=spacing))
            assert value(metric, p, g, spacing) == pytest.approx(expected, rel=1e-6), metric
