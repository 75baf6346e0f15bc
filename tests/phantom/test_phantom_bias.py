"""Boundary bias and its control modes (EVIDENCE section 5)."""

import numpy as np
import pytest
from mriad_data.phantom.anatomy import draw_anatomy
from mriad_data.phantom.bias import shifts
from mriad_data.phantom.parameters import CONTRASTS, SpineParameters
from mriad_data.phantom.scan import Scan

SMALL = {"size_mm": (32, 48, 48), "spacing_mm": (1.0, 1.0, 1.0)}
PERSONS = range(1, 41)


def labels(mode, person):
    return np.array([s.label for s in shifts(SpineParameters(mode=mode), person).values()])


def images(mode, person):
    return np.array([s.image for s in shifts(SpineParameters(mode=mode), person).values()])


def test_published_magnitudes():
    """T2w areas about 8 % above T1w, a mean that is not zero, a draw per contrast and person."""
    drawn = np.array([labels("published", n) for n in PERSONS])
    by = dict(zip(CONTRASTS, drawn.mean(0), strict=True))
    ratios = []
    for n in PERSONS:
        anatomy = draw_anatomy(0, n)
        top, bottom = anatomy.levels()["C2"][0], anatomy.levels()["C3"][1]
        ratios.append(
            anatomy.mean_area(top, bottom, by["T2w"]) / anatomy.mean_area(top, bottom, by["T1w"]) - 1
        )
    assert np.mean(ratios) == pytest.approx(0.08, abs=0.015)
    assert drawn.mean() > 0.05
    assert 0.02 < drawn.std(0).mean() < 0.04
    assert np.array_equal(images("published", 1), images("published", 2))


def test_none_is_none():
    assert not labels("none", 1).any()
    assert not images("none", 1).any()


def test_image_only_has_no_rater():
    assert np.array_equal(labels("image_only", 3), images("image_only", 3))
    assert labels("image_only", 3).mean() > 0.02


def test_zero_mean_averages_out_for_each_person():
    for n in PERSONS:
        assert labels("labels_zero_mean", n).mean() == pytest.approx(0, abs=1e-12)
        assert np.allclose(np.diff(labels("labels_zero_mean", n)), np.diff(labels("published", n)))
        assert np.array_equal(images("labels_zero_mean", n), images("published", n))


def test_same_sign_is_outwards_everywhere():
    for n in PERSONS:
        assert (labels("labels_same_sign", n) > 0).all()
        assert np.allclose(labels("labels_same_sign", n), np.abs(labels("published", n)))


def test_random_per_person_says_nothing_about_contrast():
    drawn = np.array([labels("random_per_person", n) for n in range(1, 301)])
    for n in (1, 2, 3):
        assert np.allclose(sorted(labels("random_per_person", n)), sorted(labels("published", n)))
    # Means per contrast agree within their standard error, about .083/√300 = .005 mm.
    assert np.ptp(drawn.mean(0)) < 0.03
    published = np.array([labels("published", n) for n in range(1, 301)])
    assert np.ptp(published.mean(0)) > 0.15


def test_masks_of_mode_none_are_identical_over_contrasts():
    scan = Scan(SpineParameters(mode="none", **SMALL), 1)
    masks = [scan.label(c, "hard").data for c in CONTRASTS]
    assert all(np.array_equal(masks[0], m) for m in masks)
    soft, truth = scan.label("T1w", "soft").data, scan.label("T1w", "truth").data
    assert np.allclose(soft, truth, atol=1e-6)
    assert np.array_equal(masks[0] > 0, truth > 0.5)


def test_hard_masks_follow_the_shift_and_soft_is_their_shared_mean():
    scan = Scan(SpineParameters(**SMALL), 2)
    volume = {c: int(scan.label(c, "hard").data.sum()) for c in CONTRASTS}
    assert volume["T2w"] > volume["T1w"]
    softs = [scan.label(c, "soft").data for c in CONTRASTS]
    assert all(np.allclose(softs[0], s, atol=1e-6) for s in softs)  # one grid: one target
    truth = scan.label("T2w", "truth").data
    # Volumes of the grown tubes by their closed-form areas, relative to the truth's.
    anatomy, z = draw_anatomy(0, 2), np.linspace(-24, 24, 500)
    weight = anatomy.line.speed(z)
    areas = [(anatomy.area(z, s) * weight).mean() for s in labels("published", 2)]
    expected = np.mean(areas) / (anatomy.area(z) * weight).mean()
    assert softs[0].sum() / truth.sum() == pytest.approx(expected, rel=2e-3)


def test_soft_target_of_two_contrasts():
    both = Scan(SpineParameters(soft_contrasts=("T1w", "T2w"), **SMALL), 1)
    each = [
        Scan(SpineParameters(soft_contrasts=(c,), **SMALL), 1).label("DWI", "soft").data
        for c in ("T1w", "T2w")
    ]
    assert np.allclose(both.label("DWI", "soft").data, (each[0] + each[1]) / 2, atol=1e-6)


def test_images_differ_between_modes_in_the_boundary_alone():
    quiet = {"noise": 0, "bias_field": 0, "point_spread": 0, **SMALL}
    published = Scan(SpineParameters(**quiet), 1).image("T2w").data
    zero_mean = Scan(SpineParameters(mode="labels_zero_mean", **quiet), 1).image("T2w").data
    assert np.array_equal(published, zero_mean)
    scan = Scan(SpineParameters(mode="none", **quiet), 1)
    plain, truth = scan.image("T2w").data, scan.label("T2w", "truth").data
    inside = truth == 1
    changed = np.abs(published - plain) > 1e-3
    assert not changed[inside].any()
    assert changed[(truth > 0) & (truth < 1)].any()
