"""What the scanner adds to the brain phantom: equations, contrasts, texture, motion, distortion."""

import math

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad_data.phantom.brain.acquisition import distort, move, off_resonance, texture_field, trajectory
from mriad_data.phantom.brain.parameters import BrainParameters
from mriad_data.phantom.brain.regions import INDEX
from mriad_data.phantom.brain.scan import BrainScan
from mriad_data.phantom.session import rotation
from mriad_data.phantom.signals import EQUATIONS, signals
from mriad_data.phantom.tissue import Timing, Tissue
from scipy.ndimage import map_coordinates

F = np.float32
CLEAN = {"noise": 0, "bias_field": 0, "point_spread": 0, "texture": 0, "motion_mm": 0, "distortion": 0}


def test_flair_by_bloch_steps():
    tissue = Tissue(proton_density=0.8, t1_s=1.2, t2_s=0.1, t2star_s=0.05)
    timing = Timing(equation="inversion_spin_echo", tr_s=8.0, te_s=(0.09,), ti_s=2.4)
    # Saturated by the 90° pulse, recovering until the inversion, then until the excitation.
    before = 1 - math.exp(-(8.0 - 2.4) / 1.2)
    after = 1 - (1 + before) * math.exp(-2.4 / 1.2)
    expected = 0.8 * abs(after) * math.exp(-0.09 / 0.1)
    assert EQUATIONS["inversion_spin_echo"](tissue, timing) == pytest.approx(expected)


def test_order_of_tissues():
    p = BrainParameters()
    names = tuple(type(p.tissues).model_fields)
    s = {
        c: signals(p.tissues, p.sequences.of(c), names, "cortex")
        for c in ("T1w", "T2w", "PD", "FLAIR", "DBS")
    }
    order = ("white", "pallidum", "thalamus", "putamen", "caudate", "cortex", "csf")
    assert [s["T1w"][t] for t in order] == sorted((s["T1w"][t] for t in order), reverse=True)
    for contrast in ("T2w", "PD", "FLAIR", "DBS"):
        assert s[contrast]["white"] < s[contrast]["cortex"], contrast
    assert s["T2w"]["csf"] > 1.5 * s["T2w"]["cortex"]
    assert s["T2w"]["pallidum"] < s["T2w"]["caudate"]  # iron
    assert s["FLAIR"]["csf"] < 0.1 * s["FLAIR"]["white"]
    assert s["T1w"]["csf"] < 0.5 * s["T1w"]["cortex"]
    assert s["DBS"]["white"] < 0.4 * s["DBS"]["cortex"]  # nearly nulled
    assert abs(s["PD"]["white"] - s["PD"]["cortex"]) < 0.25
    assert s["T1w"]["fat"] > s["T1w"]["white"]
    assert all(v["air"] == 0 and v["cortex"] == 1 for v in s.values())


def test_images_show_that_order():
    """Means of deep voxels in whole images, with all faults on."""
    scan = BrainScan(BrainParameters(size_mm=(100, 100, 80), spacing_mm=(2.5, 2.5, 2.5)), 3)
    mixture = scan.mixture("T1w")
    pure = np.ones(mixture.whole.size, bool)
    pure[mixture.mixed] = False
    pure = pure.reshape(mixture.whole.shape)

    def mean(image, *names):
        return image[pure & np.isin(mixture.whole, [INDEX[n] for n in names])].mean()

    for contrast in ("T1w", "T2w", "FLAIR", "DBS"):
        image = scan.image(contrast).data
        white = mean(image, "left_cerebral_white_matter", "right_cerebral_white_matter")
        grey = mean(image, "left_putamen", "right_putamen")
        water = mean(image, "left_lateral_ventricle", "right_lateral_ventricle")
        if contrast == "T1w":
            assert white > grey > water
        elif contrast == "FLAIR":
            assert water < 0.5 * white
        else:
            assert water > grey > 0
            assert water > white


def test_without_faults_the_image_is_the_mean_of_its_tissues():
    p = BrainParameters(size_mm=(60, 60, 60), spacing_mm=(3, 3, 3), tissue_sd=0, **CLEAN)
    scan = BrainScan(p, 1)
    image, shares = scan.image("T2w").data, scan.label("T2w", "truth").data
    s = signals(p.tissues, p.sequences.of("T2w"), tuple(type(p.tissues).model_fields), "cortex")
    from mriad_data.phantom.brain.regions import BRAIN

    expected = np.einsum("sxyz,s->xyz", shares, [s[r.tissue] for r in BRAIN])
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.999999
    gain = image.max() / expected.max()
    assert 0.8 * 400 < gain < 1.25 * 400
    assert np.abs(image / gain - expected).max() < 1e-4


def test_texture_belongs_to_the_person_not_to_the_grid():
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.deg2rad([5, -8, 10])) * 2
    turn[:3, 3] = (-50, -60, -20)
    straight = np.diag([2.0, 2, 2, 1])
    straight[:3, 3] = (-80, -90, -60)
    a, b = (texture_field(Grid.of((70, 70, 60), m), np.random.default_rng([0, 1])) for m in (straight, turn))
    assert a.std() == pytest.approx(0.8, abs=0.15)  # linear reading lowers it a little
    assert abs(a.mean()) < 0.05
    inner = (slice(20, 50),) * 3
    index = np.stack(np.meshgrid(*(np.r_[s] for s in inner), indexing="ij"), -1)
    world = Grid.of((70, 70, 60), turn).world(index)
    there = map_coordinates(a, np.moveaxis(Grid.of((70, 70, 60), straight).voxels(world), -1, 0), order=1)
    valid = np.moveaxis(Grid.of((70, 70, 60), straight).voxels(world), -1, 0)
    inside = np.all((valid > 1) & (valid < np.array([68, 68, 58]).reshape(3, 1, 1, 1)), 0)
    assert np.corrcoef(there[inside], b[inner][inside])[0, 1] > 0.85  # read twice


def test_a_constant_offset_moves_the_image_and_rest_leaves_it():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (16, 18, 20)).astype(F)
    still = np.zeros((18, 3))
    assert np.abs(move(image, still, (1.0, 2.0, 1.5), 1) - image).max() < 1e-5
    by = np.tile([2.0, -4.0, 3.0], (18, 1))  # 2 voxels, −2 voxels, 2 voxels
    moved = move(image, by, (1.0, 2.0, 1.5), 1)
    assert np.abs(moved - np.roll(image, (2, -2, 2), (0, 1, 2))).max() < 1e-4


def test_motion_by_a_plain_sum_over_frequencies():
    """A small image, its Fourier sum written out."""
    rng = np.random.default_rng(1)
    image = rng.uniform(0, 1, (5, 6, 4)).astype(F)
    path = rng.normal(0, 0.6, (6, 3))
    spacing = (1.0, 1.5, 2.0)
    out = np.zeros(image.shape, complex)
    places = np.argwhere(np.ones(image.shape))
    for kx in range(5):
        for line in range(6):
            ky = line - 3  # in time order, from the most negative frequency
            for kz in range(4):
                f = [(kx if kx <= 2 else kx - 5) / 5, ky / 6, (kz if kz < 2 else kz - 4) / 4]
                sample = sum(image[tuple(p)] * np.exp(-2j * np.pi * np.dot(f, p)) for p in places)
                sample *= np.exp(
                    -2j * np.pi * sum(fi / h * t for fi, h, t in zip(f, spacing, path[line], strict=True))
                )
                for p in places:
                    out[tuple(p)] += sample * np.exp(2j * np.pi * np.dot(f, p)) / image.size
    assert np.abs(move(image, path, spacing, 1) - np.abs(out)).max() < 1e-4


def test_a_trajectory_rests_in_the_middle_and_grows_with_its_size():
    paths = [trajectory(160, 1.0, np.random.default_rng(n)) for n in range(40)]
    assert all((p[80] == 0).all() for p in paths)
    spread = np.median([np.linalg.norm(p, axis=1).mean() for p in paths])
    assert 0.3 < spread < 3
    double = trajectory(160, 2.0, np.random.default_rng(3))
    assert double == pytest.approx(2 * paths[3])


def test_distortion_moves_signal_and_keeps_its_sum():
    image = np.zeros((3, 60, 4), F)
    profile = np.exp(-0.5 * ((np.arange(60) - 30) / 5) ** 2)
    image += profile[None, :, None].astype(F)
    shift = (1.5 * np.exp(-0.5 * ((np.arange(60) - 34) / 8) ** 2)).astype(F)
    field = np.broadcast_to(shift[None, :, None], image.shape)
    out = distort(image, field, 1)
    expected = np.interp(np.arange(60) + shift, np.arange(60), profile) * (1 + np.gradient(shift))
    assert out[1, :, 2] == pytest.approx(expected, abs=1e-5)
    assert out.sum() == pytest.approx(image.sum(), rel=2e-3)
    centre = (out[0, :, 0] * np.arange(60)).sum() / out[0, :, 0].sum()
    assert centre < 29.2
    assert distort(image, np.zeros_like(image), 1) == pytest.approx(image, abs=1e-7)


def test_the_field_error_sits_over_sinus_and_ears():
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = (-80, -114, -74)
    g = Grid.of((41, 49, 41), affine)
    error = off_resonance(g)
    for place in ((0, 42, -22), (50, -22, -26), (-50, -22, -26)):
        assert error[tuple(np.round(g.voxels(np.array(place, float))).astype(int))] > 0.85
    assert error[tuple(np.round(g.voxels(np.array([0.0, -20, 60]))).astype(int))] < 0.02
    assert 0 <= error.min() < 0.01
    assert error.max() < 1.2


def test_tissues_of_persons_differ_a_little():
    values = [BrainScan(BrainParameters(), n).tissues().white.t1_s for n in range(1, 60)]
    assert np.std(np.log(values)) == pytest.approx(0.03, abs=0.008)
    assert BrainScan(BrainParameters(tissue_sd=0), 5).tissues() == BrainParameters().tissues
