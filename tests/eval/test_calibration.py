"""Calibration near the boundary: by hand, and that it says what it should of known miscalibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from mriad.case_table import summarise
from mriad.evaluation import Reference, score_case
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad.vocabulary import LabelSet
from mriad_eval.calibration import CalibrationBins
from mriad_eval.metrics_soft import CalibrationCurve, CalibrationError
from scipy import ndimage

SHAPE = (40, 40, 40)
GRID = Grid.of(SHAPE, np.eye(4))


def ball(radius: float) -> np.ndarray:
    where = np.indices(SHAPE) - 19.5
    return np.sqrt((where**2).sum(0)) - radius


def pair_of(p: Any, g: Any, grid: Grid = GRID, valid: Any = None) -> StructurePair:
    return StructurePair(np.asarray(p, np.float32), np.asarray(g, np.float32), grid, valid)


def test_a_calibrated_prediction_and_an_overconfident_one() -> None:
    """The target is drawn with probability p: then p is right, and p pushed to 0 and 1 is not."""
    p = 1 / (1 + np.exp(ball(12)))
    g = np.random.default_rng(0).random(SHAPE) < p
    good = CalibrationBins.of(pair_of(p, g))
    assert good.error < 0.02
    sharp = p**4 / (p**4 + (1 - p) ** 4)
    assert CalibrationBins.of(pair_of(sharp, g)).error > 5 * good.error
    blunt = 0.5 + 0.5 * (p - 0.5) + 1e-3
    assert CalibrationBins.of(pair_of(blunt, g)).error > 5 * good.error


def test_bins_by_hand() -> None:
    """One row of voxels: the boundary of the mask is its two ends, and all lie within 3 mm of one."""
    g, p = np.zeros((2, 10, 1, 1))
    g[3:8] = 1
    p[:, 0, 0] = [0, 0, 0.24, 0.5, 0.9, 1, 1, 0.64, 0.62, 0]
    found = CalibrationBins.of(pair_of(p, g, Grid.of((10, 1, 1), np.eye(4))), bins=4)
    assert found.voxels.tolist() == [4, 0, 3, 3]
    np.testing.assert_allclose(found.predicted, [0.06, np.nan, (0.5 + 0.64 + 0.62) / 3, 2.9 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.target, [0, np.nan, 2 / 3, 1])
    expected = (0.24 + abs(0.5 + 0.64 + 0.62 - 2) + 0.1) / 10
    assert found.error == pytest.approx(expected, rel=1e-6)


def test_only_what_is_near_the_boundary_counts() -> None:
    g = (ball(12) < 0).astype(float)
    edge = g.astype(bool) & ~ndimage.binary_erosion(g > 0)
    near = ndimage.distance_transform_edt(~edge) <= 3
    p = np.where(near, g, 1 - g)  # all wrong, but far away
    found = CalibrationBins.of(pair_of(p, g))
    assert found.error == 0
    assert found.voxels.sum() == near.sum()
    thick = Grid.of(SHAPE, np.diag([1, 1, 4, 1]))
    count = (ndimage.distance_transform_edt(~edge, sampling=(1, 1, 4)) <= 3).sum()
    assert CalibrationBins.of(pair_of(p, g, thick)).voxels.sum() == count


def test_a_soft_target_is_its_own_best_prediction() -> None:
    soft = 1 / (1 + np.exp(ball(10)))
    assert CalibrationError().build()(pair_of(soft, soft)) == (pytest.approx(0, abs=1e-7), "")


def test_what_is_not_annotated_does_not_count() -> None:
    g = (ball(12) < 0).astype(float)
    p = g.copy()
    p[..., 20:] = 0.3
    valid = np.zeros(SHAPE, bool)
    valid[..., :20] = True
    assert CalibrationBins.of(pair_of(p, g, valid=valid)).error == 0


def test_empty_masks() -> None:
    g, nothing = (ball(12) < 0).astype(float), np.zeros(SHAPE)
    measure = CalibrationError().build()
    for p, target, note in [
        (nothing, g, "miss"),
        (g, nothing, "false positive"),
        (nothing, nothing, "empty"),
    ]:
        value, found = measure(pair_of(p, target))
        assert math.isnan(value)
        assert found == note


def test_the_curve_is_rows_of_the_table() -> None:
    p = 1 / (1 + np.exp(ball(12)))
    g = (np.random.default_rng(1).random(SHAPE) < p).astype(np.float32)[None]
    metrics = [CalibrationError(), *(CalibrationCurve(quantity=q) for q in ("target", "predicted", "voxels"))]
    rows = score_case(p[None], GRID, Reference("a", g, GRID), LabelSet.of({"cord": 1}), metrics)
    by = {m.key(): {r.part: r.value for r in rows if r.metric == m.key()} for m in metrics}
    assert list(by["calibration_target"]) == [str(b) for b in range(10)]
    total = sum(by["calibration_voxels"].values())
    error = sum(
        by["calibration_voxels"][b] * abs(by["calibration_predicted"][b] - by["calibration_target"][b])
        for b in by["calibration_target"]
    )
    assert by["calibration_error"][""] == pytest.approx(error / total)
    assert {s.direction for s in summarise(rows)} == {"lower", "none"}


def test_bins_of_cases_add_up() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(SHAPE)
    g = (ball(12) < 0).astype(float)
    left, right = np.zeros((2, *SHAPE), bool)
    left[:20], right[20:] = True, True
    whole = CalibrationBins.of(pair_of(p, g))
    edge = g.astype(bool) & ~ndimage.binary_erosion(g > 0)
    assert whole.voxels.sum() == (ndimage.distance_transform_edt(~edge) <= 3).sum()
    twice = whole + whole
    np.testing.assert_allclose(twice.target, whole.target)
    assert twice.error == pytest.approx(whole.error)
    assert twice.voxels.sum() == 2 * whole.voxels.sum()
