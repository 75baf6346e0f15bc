"""Metrics against worked values, algebra and independent implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import SurfaceDistanceMetric
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad_eval.metrics import (
    AbsoluteVolumeError,
    AverageSurfaceDistance,
    AverageSymmetricSurfaceDistance,
    Dice,
    HausdorffDistance,
    HausdorffPercentile,
    Precision,
    RelativeVolumeError,
    Sensitivity,
    SoftDice,
    SoftVolume,
    Specificity,
    SurfaceDice,
    Volume,
)
from mriad_eval.metrics_lesion import LesionF1, LesionFalsePositives, LesionLoad
from mriad_eval.metrics_soft import CalibrationError


def built(metric: Any) -> Any:
    """The metric as a function of arrays, grid and validity."""
    measure = metric.build()
    return lambda p, g, grid, validity=None: measure(StructurePair(p, g, grid, validity))


ASD = built(AverageSurfaceDistance())
ASD_BACK = built(AverageSurfaceDistance(start="reference"))
ASSD = built(AverageSymmetricSurfaceDistance())
MASD = built(AverageSymmetricSurfaceDistance(form="mean_of_two"))
DICE = built(Dice())
RVE = built(RelativeVolumeError())
SOFT_RVE = built(RelativeVolumeError(volume="soft"))
SOFT = built(SoftDice())
SOFT_SQUARED = built(SoftDice(form="squared"))
ALL = [ASD, ASD_BACK, ASSD, MASD, DICE, RVE, SOFT_RVE, SOFT, SOFT_SQUARED]
HD, HD95 = built(HausdorffDistance()), built(HausdorffPercentile())
RATIOS = [built(m()) for m in (AbsoluteVolumeError, Sensitivity, Specificity, Precision)]
VOLUMES = [built(Volume()), built(SoftVolume())]
# What depends on sizes in mm otherwise than by a factor: tolerance, smallest lesion, distance to the boundary.
SIZED = [built(m()) for m in (SurfaceDice, LesionF1, LesionFalsePositives, LesionLoad, CalibrationError)]
EVERY = [*ALL, HD, HD95, *RATIOS, *VOLUMES, *SIZED]


def grid_of(shape: tuple[int, ...], spacing: tuple[float, float, float] = (1, 1, 1)) -> Grid:
    return Grid.of(shape, np.diag([*spacing, 1.0]))


def box(shape: tuple[int, int, int], start: tuple[int, int, int], size: int) -> np.ndarray:
    out = np.zeros(shape, dtype=np.float32)
    out[tuple(slice(a, a + size) for a in start)] = 1
    return out


SPACE = (48, 48, 48)
CUBE = box(SPACE, (12, 12, 12), 10)
OUTER = box(SPACE, (10, 10, 10), 14)
SHIFTED = box(SPACE, (14, 12, 12), 10)
SPECK = CUBE.copy()
SPECK[21 + 16, 21 + 16, 21 + 16] = 1


@pytest.mark.parametrize(
    ("prediction", "spacing", "expected"),
    [
        (SHIFTED, (1, 1, 1), (0.688525, 0.688525, 0.688525, 0.688525, 0.8)),
        (OUTER, (1, 1, 1), (2.199378, 2, 2.134686, 2.099689, 0.534188)),
        (OUTER, (1, 1, 3), (3.809778, 2.491803, 3.382137, 3.150791, 0.534188)),
        (SPECK, (1, 1, 1), (0.056672, 0, 0.028365, 0.028336, 0.999500)),
    ],
    ids=["shifted", "around", "around, thick slices", "one voxel far away"],
)
def test_worked_values(prediction: np.ndarray, spacing: Any, expected: tuple[float, ...]) -> None:
    grid = grid_of(SPACE, spacing)
    got = [measure(prediction, CUBE, grid) for measure in (ASD, ASD_BACK, ASSD, MASD, DICE)]
    assert [note for _, note in got] == [""] * 5
    np.testing.assert_allclose([value for value, _ in got], expected, atol=6e-7)


def test_volume_error_is_signed() -> None:
    grid = grid_of(SPACE)
    assert RVE(OUTER, CUBE, grid)[0] == pytest.approx(174.4)
    assert RVE(CUBE, OUTER, grid)[0] == pytest.approx(100 * (1000 - 2744) / 2744)
    assert SOFT_RVE(0.6 * CUBE, CUBE, grid) == (pytest.approx(-40), "")
    assert SOFT_RVE(0.5 * CUBE, CUBE, grid) == (-100, "miss")  # nothing exceeds .5


def test_soft_dice_forms_differ_where_values_are_soft() -> None:
    p = np.full((4, 4, 4), 0.6, dtype=np.float32)
    assert SOFT(p, p, grid_of(p.shape))[0] == pytest.approx(0.6)  # 2·.36 / 1.2
    assert SOFT_SQUARED(p, p, grid_of(p.shape))[0] == pytest.approx(1.0)
    assert {SoftDice().key(), SoftDice(form="squared").key()} == {"soft_dice", "soft_dice_squared"}


def test_a_tie_is_background() -> None:
    half = 0.5 * CUBE
    assert DICE(half, CUBE, grid_of(SPACE)) == (0.0, "miss")


NOTHING = np.zeros(SPACE, dtype=np.float32)


@pytest.mark.parametrize("measure", ALL)
def test_nothing_to_find_and_nothing_found(measure: Any) -> None:
    value, note = measure(0.2 * CUBE, NOTHING, grid_of(SPACE))
    assert math.isnan(value)
    assert note == "empty"


@pytest.mark.parametrize(
    ("measure", "if_missed", "if_false"),
    [
        *[(m, math.nan, math.nan) for m in (ASD, ASD_BACK, ASSD, MASD)],
        *[(m, 0.0, 0.0) for m in (DICE, SOFT, SOFT_SQUARED)],
        *[(m, -100.0, math.nan) for m in (RVE, SOFT_RVE)],
    ],
)
def test_one_side_empty(measure: Any, if_missed: float, if_false: float) -> None:
    grid = grid_of(SPACE)
    value, note = measure(NOTHING, CUBE, grid)
    np.testing.assert_equal((value, note), (if_missed, "miss"))
    value, note = measure(CUBE, NOTHING, grid)
    np.testing.assert_equal((value, note), (if_false, "false positive"))


SOFT_RAVD = built(AbsoluteVolumeError(volume="soft"))


@pytest.mark.parametrize("largest", [1.0, 0.4], ids=["full voxels", "thin structure"])
def test_small_values_everywhere_are_a_miss(largest: float) -> None:
    """They sum to the very volume of the reference, and find nothing."""
    g = np.float32(largest) * CUBE
    haze = np.full(SPACE, g.mean(), dtype=np.float32)
    assert haze.sum(dtype=np.float64) == pytest.approx(g.sum(dtype=np.float64), rel=1e-6)
    grid = grid_of(SPACE)
    assert SOFT_RVE(haze, g, grid) == (-100, "miss")
    assert SOFT_RAVD(haze, g, grid) == (100, "miss")
    assert SOFT(haze, g, grid) == SOFT_SQUARED(haze, g, grid) == (0, "miss")


def test_a_structure_that_nowhere_fills_half_a_voxel_can_be_found() -> None:
    thin = np.zeros(SPACE, dtype=np.float32)
    thin[20, 20, 5:40] = np.linspace(0.2, 0.4, 35)
    grid = grid_of(SPACE)
    assert SOFT_SQUARED(thin, thin, grid) == (pytest.approx(1), "")
    assert SOFT(thin, thin, grid) == (pytest.approx((thin**2).sum() / thin.sum()), "")
    assert SOFT_RVE(0.75 * thin, thin, grid) == (pytest.approx(-25), "")
    assert SOFT_RAVD(0.75 * thin, thin, grid) == (pytest.approx(25), "")
    assert SOFT_SQUARED(0.5 * thin, thin, grid) == (0, "miss")  # a tie is background
    assert SOFT_SQUARED(np.roll(thin, 5, 0), thin, grid) == (0, "miss")  # beside it
    assert SOFT_SQUARED(thin, CUBE, grid) == (0, "miss")  # full voxels are found by values > .5 alone
    hidden = np.ones(SPACE, dtype=bool)
    hidden[20, 20] = False
    assert SOFT_SQUARED(thin, thin, grid, hidden)[1] == "empty"


def test_declarations() -> None:
    for metric in (Dice(), SoftDice()):
        assert (metric.unit, metric.direction, metric.worst, metric.level) == ("1", "higher", 0.0, "case")
    for metric in (AverageSurfaceDistance(), AverageSymmetricSurfaceDistance()):
        assert (metric.unit, metric.direction, metric.worst) == ("mm", "lower", None)
    rve = RelativeVolumeError()
    assert (rve.unit, rve.direction, rve.toward, rve.worst) == ("%", "toward", 0.0, -100.0)


@pytest.mark.parametrize("measure", EVERY)
def test_invalid_voxels_change_nothing(measure: Any) -> None:
    rng = np.random.default_rng(3)
    p, g = rng.random((2, 9, 8, 7)).astype(np.float32)
    valid = np.zeros(p.shape, dtype=bool)
    valid[:, 2:6] = True
    noise_p, noise_g = rng.random((2, 9, 8, 7)).astype(np.float32)
    grid = grid_of(p.shape, (1, 1.5, 2))
    here = measure(p, g, grid, valid)
    there = measure(np.where(valid, p, noise_p), np.where(valid, g, noise_g), grid, valid)
    assert here == there


def test_the_edge_of_an_annotation_is_no_surface() -> None:
    """A long bar annotated over part of its length: the distance is that of its sides, not of the cut."""
    shape = (20, 20, 40)
    g, p = np.zeros((2, *shape), dtype=np.float32)
    g[8:12, 8:12] = 1
    p[7:13, 7:13] = 1
    valid = np.zeros(shape, dtype=bool)
    valid[..., 10:30] = True
    grid = grid_of(shape)
    value, _ = ASD_BACK(p, g, grid, valid)
    assert value == pytest.approx(1.0)  # every side voxel of the bar is one voxel inside
    assert ASD_BACK(p * valid, g * valid, grid)[0] < 1.0  # the cut taken for surface dilutes it


def test_a_mask_that_fills_all_that_is_valid_has_distance_zero() -> None:
    p = np.ones((5, 5, 5), dtype=np.float32)
    valid = np.zeros(p.shape, dtype=bool)
    valid[1:4, 1:4, 1:4] = True
    assert ASSD(p, p, grid_of(p.shape), valid) == (0.0, "")


# ---- independent implementations
# -------------------------------------------------------------------------------


def blobs(seed: int, shape: tuple[int, int, int] = (20, 22, 18)) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping irregular masks away from the border."""
    rng = np.random.default_rng(seed)
    where = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    masks = []
    for _ in range(2):
        centre = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
        radius = rng.uniform(4, 6, 3)
        inside = (((where - centre[:, None, None, None]) / radius[:, None, None, None]) ** 2).sum(0)
        masks.append((inside + rng.uniform(0, 0.3, shape) < 1).astype(np.float32))
    return masks[0], masks[1]


def sitk_image(mask: np.ndarray, spacing: tuple[float, float, float]) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8).transpose(2, 1, 0))
    image.SetSpacing([float(s) for s in spacing])
    return image


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.8, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_simpleitk(seed: int, spacing: tuple[float, float, float]) -> None:
    p, g = blobs(seed)
    grid = grid_of(p.shape, spacing)
    a, b = sitk_image(p, spacing), sitk_image(g, spacing)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(b, a)
    assert DICE(p, g, grid)[0] == pytest.approx(overlap.GetDiceCoefficient(1))
    # SimpleITK's VolumeSimilarity is 2(V1 − V2)/(V1 + V2); turn it into V_P/V_G − 1.
    similarity = overlap.GetVolumeSimilarity(1)
    assert RVE(p, g, grid)[0] == pytest.approx(100 * ((2 - similarity) / (2 + similarity) - 1))
    # Directed distances from SimpleITK's own contour (face-connected) and Maurer distance map.
    contours = [SimpleITK.BinaryContour(x, fullyConnected=False) for x in (a, b)]
    maps = [
        SimpleITK.GetArrayFromImage(
            SimpleITK.SignedMaurerDistanceMap(
                c, squaredDistance=False, useImageSpacing=True, insideIsPositive=False
            )
        )
        for c in contours
    ]
    on = [SimpleITK.GetArrayFromImage(c) > 0 for c in contours]
    from_p, from_g = np.abs(maps[1])[on[0]], np.abs(maps[0])[on[1]]
    assert ASD(p, g, grid)[0] == pytest.approx(from_p.mean(), rel=1e-5)
    assert ASD_BACK(p, g, grid)[0] == pytest.approx(from_g.mean(), rel=1e-5)
    assert ASSD(p, g, grid)[0] == pytest.approx(np.concatenate([from_p, from_g]).mean(), rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_agrees_with_monai(symmetric: bool) -> None:
    p, g = blobs(7)
    spacing = (0.7, 1.0, 2.5)
    theirs = SurfaceDistanceMetric(symmetric=symmetric)(
        torch.from_numpy(p)[None, None], torch.from_numpy(g)[None, None], spacing=spacing
    )
    ours = (ASSD if symmetric else ASD)(p, g, grid_of(p.shape, spacing))[0]
    assert ours == pytest.approx(float(theirs), rel=1e-5)


# ---- properties
# -----------------------------------------------------------------------------------------------

masks = hnp.arrays(np.float32, (2, 5, 6, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)
quick = settings(max_examples=40, deadline=None)


def same(a: tuple[float, str], b: tuple[float, str]) -> None:
    assert a[1] == b[1]
    assert a[0] == pytest.approx(b[0], rel=1e-9, nan_ok=True)


@quick
@given(masks, spacings)
def test_symmetry_and_bounds(pair: np.ndarray, spacing: tuple[float, float, float]) -> None:
    p, g = pair
    grid = grid_of(p.shape, spacing)
    for measure in (DICE, ASSD, MASD, SOFT_SQUARED, SOFT):
        here, there = measure(p, g, grid)[0], measure(g, p, grid)[0]
        if measure in (SOFT, SOFT_SQUARED) and (
            math.isnan(here) or math.isnan(there) or min(here, there) == 0
        ):
            continue  # what finds a structure is more than what makes one present: the roles differ
        assert here == pytest.approx(there, nan_ok=True)
    for measure in (DICE, SOFT, SOFT_SQUARED):
        value = measure(p, g, grid)[0]
        assert math.isnan(value) or 0 <= value <= 1 + 1e-12
    a, b, pooled = (m(p, g, grid)[0] for m in (ASD, ASD_BACK, ASSD))
    if not math.isnan(pooled):
        assert 0 <= min(a, b) <= pooled + 1e-12
        assert pooled <= max(a, b) + 1e-12
        assert max(a, b) <= np.linalg.norm(np.array(p.shape) * spacing)


@quick
@given(masks)
def test_itself_is_perfect(pair: np.ndarray) -> None:
    p = pair[0]
    if not (p > 0.5).any():
        return
    grid = grid_of(p.shape)
    for measure, best in [
        (DICE, 1),
        (SOFT_SQUARED, 1),
        (ASD, 0),
        (ASSD, 0),
        (MASD, 0),
        (RVE, 0),
        (SOFT_RVE, 0),
    ]:
        assert measure(p, p, grid) == (pytest.approx(best, abs=1e-6), "")


@quick
@given(masks, spacings, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_flips_and_permutations_change_nothing(
    pair: np.ndarray, spacing: tuple[float, float, float], order: list[int], flips: tuple[bool, ...]
) -> None:
    p, g = pair
    moved = [np.flip(x.transpose(order), [i for i in range(3) if flips[i]]) for x in (p, g)]
    grid = grid_of(p.shape, spacing)
    moved_grid = grid_of(moved[0].shape, tuple(spacing[i] for i in order))  # type: ignore[arg-type]
    for measure in EVERY:
        same(measure(p, g, grid), measure(*moved, moved_grid))


@quick
@given(masks, spacings, st.floats(0.2, 4))
def test_scaling_the_spacing_scales_distances_only(
    pair: np.ndarray, spacing: tuple[float, float, float], factor: float
) -> None:
    p, g = pair
    grid = grid_of(p.shape, spacing)
    larger = grid_of(p.shape, tuple(s * factor for s in spacing))  # type: ignore[arg-type]
    for measure in [*ALL, HD, HD95, *RATIOS, *VOLUMES]:
        scale = factor if measure in (ASD, ASD_BACK, ASSD, MASD, HD, HD95) else 1
        scale = factor**3 if measure in VOLUMES else scale
        value, note = measure(p, g, grid)
        same((value * scale, note), measure(p, g, larger))


@quick
@given(masks, st.tuples(*[st.integers(0, 3)] * 6))
def test_more_background_around_changes_nothing(pair: np.ndarray, pad: tuple[int, ...]) -> None:
    p, g = pair
    widths = [(pad[0], pad[1]), (pad[2], pad[3]), (pad[4], pad[5])]
    wide = [np.pad(x, widths) for x in (p, g)]
    for measure in [*ALL, HD, HD95, *VOLUMES, *SIZED[:-1]]:  # specificity and calibration see more background
        same(measure(p, g, grid_of(p.shape)), measure(*wide, grid_of(wide[0].shape)))


def test_an_oblique_grid_measures_as_a_straight_one() -> None:
    p, g = blobs(1)
    straight = grid_of(p.shape, (0.5, 1, 2))
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 1, 2])
    oblique = Grid.of(p.shape, affine)
    for measure in EVERY:
        same(measure(p, g, straight), measure(p, g, oblique))
