"""Lesion-wise detection: the rule by hand, a plain implementation, and the numbers of a table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad_eval.detection import Detection, Rule
from mriad_eval.metrics_lesion import (
    LesionCount,
    LesionF1,
    LesionFalsePositives,
    LesionLoad,
    LesionPredictiveValue,
    LesionSensitivity,
)
from scipy import ndimage

SHAPE = (30, 12, 12)


def pair_of(p: Any, g: Any, spacing: tuple[float, ...] = (1, 1, 1), valid: Any = None) -> StructurePair:
    grid = Grid.of(p.shape, np.diag([*spacing, 1.0]))
    return StructurePair(np.asarray(p, np.float32), np.asarray(g, np.float32), grid, valid)


def empty() -> np.ndarray:
    return np.zeros(SHAPE, np.float32)


def measured(p: Any, g: Any, **more: Any) -> dict[str, float]:
    pair = pair_of(p, g, **more)
    classes = (LesionF1, LesionSensitivity, LesionPredictiveValue, LesionFalsePositives)
    return {m().key(): m().build()(pair)[0] for m in classes}


def test_worked_value() -> None:
    """Two lesions of 10 voxels of 1 mm, one of them covered in full."""
    g, p = empty(), empty()
    g[2:12, 3, 3] = g[15:25, 8, 8] = 1
    p[2:12, 3, 3] = 1
    assert measured(p, g) == {
        "lesion_f1": pytest.approx(2 / 3),
        "lesion_sensitivity": 0.5,
        "lesion_ppv": 1.0,
        "lesion_false_positives": 0.0,
    }


def test_strictly_larger_than_3_mm3() -> None:
    g = empty()
    g[2:5, 3, 3] = 1
    assert Detection.of(pair_of(g, g), Rule()).note == "empty"
    g[2:6, 3, 3] = 1
    assert Detection.of(pair_of(g, g), Rule()).reference == 1
    # 3 mm³ again where a voxel has .3 mm³ and rounding could tip it
    tiny = empty()
    tiny[2:12, 3, 3] = 1
    assert Detection.of(pair_of(tiny, tiny, (0.1, 1, 3)), Rule()).reference == 0
    assert LesionCount(larger_than_mm3=2.9).build()(pair_of(tiny, tiny, (0.1, 1, 3)))[0] == 1


def test_face_connectivity() -> None:
    g = empty()
    g[2:6, 3, 3] = g[6:10, 4, 3] = 1  # they touch along an edge
    assert Detection.of(pair_of(g, g), Rule()).reference == 2


def test_alpha_is_the_share_that_must_be_covered() -> None:
    g, p = empty(), empty()
    g[0:20, 2:4, 2] = 1  # 40 voxels
    p[0:4, 2, 2] = 1  # 4 of them: .10 is not more than .10
    assert measured(p, g)["lesion_sensitivity"] == 0.0
    p[4, 2, 2] = 1
    assert measured(p, g)["lesion_sensitivity"] == 1.0
    pair = pair_of(p, g)
    assert LesionSensitivity(alpha=0.2).build()(pair)[0] == 0.0


def test_beta_is_the_share_that_may_lie_outside() -> None:
    g, p = empty(), empty()
    g[0:10, 5, 5] = 1
    p[0:6, 5, 5] = 1
    p[0:7, 6, 5] = p[0:7, 7, 5] = 1  # 6 inside, 14 outside: .70 is allowed
    assert measured(p, g)["lesion_sensitivity"] == 1.0
    p[7, 7, 5] = 1
    assert measured(p, g)["lesion_sensitivity"] == 0.0


def test_gamma_stops_the_search() -> None:
    """The first covers 70 % of what is covered; a second, mostly outside, is not looked at."""
    g, p = empty(), empty()
    g[0:20, 5, 5] = 1
    p[0:7, 5, 5] = 1
    p[12:15, 5:11, 5] = 1  # 3 inside, 15 outside
    assert measured(p, g)["lesion_sensitivity"] == 1.0
    assert LesionSensitivity(gamma=0.8).build()(pair_of(p, g))[0] == 0.0


def test_what_is_undefined() -> None:
    g, nothing = empty(), empty()
    g[2:12, 3, 3] = 1
    assert measured(nothing, g) == {
        "lesion_f1": 0.0,
        "lesion_sensitivity": 0.0,
        "lesion_ppv": pytest.approx(math.nan, nan_ok=True),
        "lesion_false_positives": 0.0,
    }
    assert measured(g, nothing) == {
        "lesion_f1": 0.0,
        "lesion_sensitivity": pytest.approx(math.nan, nan_ok=True),
        "lesion_ppv": 0.0,
        "lesion_false_positives": 1.0,
    }
    assert math.isnan(measured(nothing, nothing)["lesion_f1"])


def test_load_and_count() -> None:
    g, p = empty(), empty()
    g[2:12, 3, 3] = g[20, 3, 3] = 1  # a lesion and a speck
    p[2:12, 3, 3] = p[15:20, 8, 8] = 1
    pair = pair_of(p, g, (1, 1, 2))
    values = {
        m.key(): m.build()(pair)[0]
        for m in (LesionCount(), LesionCount(of="reference"), LesionLoad(), LesionLoad(of="reference"))
    }
    assert values == {
        "lesion_count": 2,
        "reference_lesion_count": 1,
        "lesion_load": 30.0,
        "reference_lesion_load": 20.0,
    }
    assert {m().direction for m in (LesionCount, LesionLoad, LesionFalsePositives)} == {"none"}
    assert (LesionLoad().unit, LesionCount().unit) == ("mm3", "lesions")


def test_lesions_that_are_not_annotated() -> None:
    g, p = empty(), empty()
    g[2:12, 3, 3] = p[2:12, 3, 3] = p[2:12, 8, 8] = 1
    valid = np.ones(SHAPE, bool)
    valid[:, 8] = False
    assert measured(p, g)["lesion_ppv"] == 0.5
    assert measured(p, g, valid=valid)["lesion_ppv"] == 1.0


def plain(p: np.ndarray, g: np.ndarray, voxel: float, rule: Rule) -> tuple[int, int, int]:
    """Lesions, and those detected, one by one."""

    def parts(mask: np.ndarray) -> list[np.ndarray]:
        labels, count = ndimage.label(mask)
        return [m for i in range(count) if (m := labels == i + 1).sum() * voxel > rule.larger_than_mm3]

    mine, theirs = parts(g), parts(p)
    whole_g = np.any(mine, axis=0) if mine else np.zeros_like(g)
    hits = 0
    for lesion in mine:
        overlaps = [(int((lesion & other).sum()), (other & ~whole_g).sum() / other.sum()) for other in theirs]
        overlaps = sorted((o for o in overlaps if o[0]), key=lambda o: (-o[0], -o[1]))
        covered = sum(o for o, _ in overlaps)
        good, explained = covered / lesion.sum() > rule.alpha, 0
        for overlap, outside in overlaps:
            if explained >= rule.gamma * covered:
                break
            good &= outside <= rule.beta
            explained += overlap
        hits += good
    return len(mine), len(theirs), hits


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 9, 7, 6), elements=st.integers(0, 9)),
    st.integers(3, 6),
    st.sampled_from([0.5, 1, 4]),
)
def test_against_a_plain_implementation(noise: Any, level: int, voxel: float) -> None:
    p, g = noise > level
    rule = Rule()
    found = Detection.of(pair_of(p, g, (voxel, 1, 1)), rule)
    here, there = plain(p, g, voxel, rule), plain(g, p, voxel, rule)
    assert (found.reference, found.prediction, found.reference_detected) == here
    assert found.prediction_detected == there[2]
    assert math.isnan(found.f1) or 0 <= found.f1 <= 1
    turned = Detection.of(pair_of(g, p, (voxel, 1, 1)), rule)
    assert turned.f1 == pytest.approx(found.f1, nan_ok=True)
    flipped = Detection.of(pair_of(p[::-1, :, ::-1], g[::-1, :, ::-1], (voxel, 1, 1)), rule)
    assert flipped.f1 == pytest.approx(found.f1, nan_ok=True)
