"""The phantom as a data set: cases, sources, seeds, rescans, fingerprints."""

import pickle

import numpy as np
import pytest
from mriad.component import Component
from mriad.identity import fingerprint
from mriad.interfaces import Dataset
from mriad.testing import check_dataset
from mriad_data.phantom import CONTRASTS, PhantomSpine
from mriad_data.phantom.imaging import magnitude, point_spread, receive_field
from mriad_data.phantom.parameters import SpineParameters
from mriad_data.phantom.scan import BASELINE, Scan, sessions
from pydantic import ValidationError
from scipy.ndimage import fourier_gaussian, gaussian_filter

TINY = {"size_mm": (48, 72, 72), "spacing_mm": 1.5}


def tiny(**values):
    return PhantomSpine(**{**TINY, "persons": 2, **values})


def test_cases():
    index = tiny().build()
    assert len(index) == 12
    assert index.persons == ("sub-001", "sub-002")
    assert index.label_set.names == ("cord",)
    case = index[1]
    assert case.id == "sub-001_T2w"
    assert (case.person, case.contrast, case.domain, case.session) == ("sub-001", "T2w", "T2w", "")
    assert {n: label.kind for n, label in case.labels.items()} == {
        "hard": "hard",
        "soft": "soft",
        "truth": "soft",
    }
    image = case.channels["image"].read()
    assert image.data.shape == (32, 48, 48)
    assert image.data.dtype == np.float32
    assert np.isfinite(image.data).all()
    assert (image.data >= 0).all()
    assert image.grid.spacing == pytest.approx((1.5, 1.5, 1.5))
    assert image.grid.orientation == "RAS"
    for name, label in case.labels.items():
        volume = label.source.read()
        assert volume.grid.same(image.grid), name
        assert 0 <= volume.data.min() < volume.data.max() <= 1
    assert set(np.unique(case.labels["hard"].source.read().data)) == {0, 1}
    assert {"area_mm2/C2", "area_mm2/C3", "area_mm2/C2-C3"} <= set(case.numbers)
    assert "C5" not in str(sorted(case.numbers))


def test_it_is_registered_by_name():
    from mriad.registry import registry

    assert registry().get("dataset", "data.phantom_spine") is PhantomSpine
    loaded = Dataset.resolve({"type": "data.phantom_spine", "persons": 3, "spacing_mm": 2})
    assert isinstance(loaded, Component)
    assert type(loaded).model_validate(loaded.model_dump(mode="json")) == loaded


def test_it_keeps_the_contract_of_data_sets():
    check_dataset(tiny(persons=1, contrasts=("T1w", "DWI"), rescans=1), cases=4)


def test_resolutions_of_the_paper():
    """Section 2.1 of the spinal cord paper."""
    scan = Scan(SpineParameters(), 1)
    spacing = {c: scan.grid(c).spacing for c in CONTRASTS}
    assert spacing["T1w"] == pytest.approx((1, 1, 1))
    assert spacing["T2w"] == pytest.approx((0.8, 0.8, 0.8))
    assert spacing["T2star"] == pytest.approx((0.5, 0.5, 3))
    for c in ("MTon", "GRE-T1w", "DWI"):
        assert spacing[c] == pytest.approx((0.9, 0.9, 5))
        extent = np.array(scan.grid(c).shape) * spacing[c]
        assert extent == pytest.approx((64, 192, 192), abs=2.6)


def test_same_seed_same_voxels_whatever_else_is_asked():
    one = tiny().build()
    other = tiny(persons=5, contrasts=("T2w",), rescans=1).build()
    case = next(c for c in other if c.person == "sub-002" and c.session == "baseline")
    assert np.array_equal(one[7].channels["image"].read().data, case.channels["image"].read().data)
    assert one[7].channels["image"].fingerprint == case.channels["image"].fingerprint
    again = pickle.loads(pickle.dumps(one[7]))
    assert np.array_equal(again.labels["soft"].source.read().data, one[7].labels["soft"].source.read().data)
    assert again.channels["image"].fingerprint == one[7].channels["image"].fingerprint


def test_persons_contrasts_and_seeds_differ():
    index = tiny().build()
    truths = [index[i].labels["truth"].source.read().data for i in (0, 6)]
    assert not np.array_equal(*truths)
    images = [index[i].channels["image"].read().data for i in range(6)]
    for i in range(6):
        for j in range(i):
            assert abs(np.corrcoef(images[i].ravel(), images[j].ravel())[0, 1]) < 0.99
    seeded = tiny(seed=1).build()
    assert not np.array_equal(truths[0], seeded[0].labels["truth"].source.read().data)


def test_fingerprints_change_with_what_changes_voxels():
    base = tiny().build()[0]
    prints = {base.channels["image"].fingerprint}
    for change in (
        {"seed": 1},
        {"mode": "none"},
        {"noise": 0.5},
        {"spacing_mm": 1.6},
        {"size_mm": (50, 72, 72)},
    ):
        prints.add(tiny(**change).build()[0].channels["image"].fingerprint)
    prints |= {label.source.fingerprint for label in base.labels.values()}
    assert len(prints) == 9
    assert tiny().build().fingerprint == tiny().build().fingerprint
    parameters = SpineParameters()
    assert parameters.fingerprint != fingerprint(parameters)  # the version enters
    with pytest.raises(ValidationError):
        parameters.seed = 3


def test_contrasts_look_as_they_should():
    """Mean signals of deep cord and deep CSF; bright and dark CSF (figures of the spinal cord paper)."""
    scan = Scan(SpineParameters(size_mm=(40, 60, 60)), 3)
    for contrast, bright in {"T1w": 0, "T2w": 1, "T2star": 1, "MTon": 1, "GRE-T1w": 0, "DWI": 0}.items():
        image, grid = scan.image(contrast).data, scan.grid(contrast)
        truth = scan.label(contrast, "truth").data
        cord = image[truth == 1].mean()
        # Beside the cord, where the sac is wide: 8 mm to the right of its centre.
        sides = []
        for z in np.linspace(-15, 5, 9):
            point, _, _ = scan.anatomy.line.derivatives(z)
            _, lateral, _ = scan.anatomy.line.frame(z)
            reach = (float(scan.anatomy.cord(z)[0]) + float(scan.anatomy.sac(z)[0])) / 2
            i, j, k = np.round(grid.voxels(point + reach * lateral)).astype(int)
            sides.append(image[i, j, k])
        assert (np.mean(sides) > cord) == bright, contrast


def test_rescans_keep_the_anatomy_and_change_pose_and_noise():
    index = tiny(persons=1, contrasts=("T2w",), rescans=2, size_mm=(56, 80, 80)).build()
    assert [c.id for c in index] == [f"sub-001_ses-{s}_T2w" for s in ("baseline", "rescan1", "rescan2")]
    assert [c.session for c in index] == ["baseline", "rescan1", "rescan2"]
    areas = [c.numbers["area_mm2/C3"] for c in index]
    assert areas[1] == areas[0] == areas[2]
    truths = [c.labels["truth"].source.read().data for c in index]
    images = [c.channels["image"].read().data for c in index]
    assert not np.array_equal(truths[0], truths[1])
    assert not np.array_equal(images[1], images[2])
    discs = [np.array([c.numbers[f"disc_mm/3/{a}"] for a in "xyz"]) for c in index]
    lower = [np.array([c.numbers[f"disc_mm/4/{a}"] for a in "xyz"]) for c in index]
    assert np.linalg.norm(discs[0] - discs[1]) > 0.3  # moved
    assert np.linalg.norm(discs[1] - lower[1]) == pytest.approx(
        np.linalg.norm(discs[0] - lower[0])
    )  # rigidly


def test_a_turned_cord_keeps_its_volume():
    """The same length of cord in a posed scan: mean area from the mask, corrected for tilt by known levels."""
    for session in sessions(3, ()):
        scan = Scan(SpineParameters(size_mm=(64, 96, 96), pose_deg=8, spacing_mm=(1, 1, 1)), 2, session)
        truth, grid, pose = scan.label("T1w", "truth").data, scan.grid("T1w"), scan.pose()
        anatomy = scan.anatomy
        top, bottom = anatomy.discs[2], anatomy.discs[3]
        points = grid.world(np.argwhere(truth > 0)) @ pose[:3, :3] - pose[:3, 3] @ pose[:3, :3]
        ends = [anatomy.line.derivatives(z)[0] for z in (bottom, top)]
        normals = [anatomy.line.frame(z)[0] for z in (bottom, top)]
        between = ((points - ends[0]) @ normals[0] > 0) & ((points - ends[1]) @ normals[1] < 0)
        volume = truth[truth > 0][between].sum()
        z = np.linspace(bottom, top, 2001)
        expected = np.trapezoid(anatomy.area(z) * anatomy.line.speed(z), z)
        assert volume == pytest.approx(expected, rel=0.03)  # whole voxels at both ends


@pytest.mark.parametrize("percent", [1, 2, 5])
def test_atrophy_sessions(percent):
    index = tiny(persons=1, contrasts=("T2w",), atrophy_percent=(percent,), size_mm=(56, 80, 80)).build()
    before, after = index
    assert after.session == f"atrophy{percent}"
    ratio = after.numbers["area_mm2/C3"] / before.numbers["area_mm2/C3"]
    assert ratio == pytest.approx(1 - percent / 100, rel=1e-12)
    # The volume of the mask in the whole field follows, up to the new pose.
    assert after.labels["truth"].source.fingerprint != before.labels["truth"].source.fingerprint
    assert sessions(1, (2.5,))[2].name == "atrophy2p5"


def test_disc_labels():
    case = tiny(disc_labels=True).build()[0]
    volume = case.labels["discs"].source.read()
    values = sorted(int(v) for v in np.unique(volume.data) if v)
    assert 3 in values
    for value in values:
        (voxel,) = np.argwhere(volume.data == value)
        found = [case.numbers[f"disc_mm/{value}/{a}"] for a in "xyz"]
        assert np.abs(volume.grid.world(voxel) - found).max() <= 0.75 + 1e-6


def test_a_hard_tie_is_background():
    scan = Scan(SpineParameters(mode="none", size_mm=(32, 48, 48), spacing_mm=(2, 2, 2)), 1)
    truth, hard = scan.label("T1w", "truth").data, scan.label("T1w", "hard").data
    assert np.array_equal(hard == 1, truth > 0.5)


def test_bad_values_are_refused_with_the_field_named():
    with pytest.raises(ValidationError, match="size_mm I-S is 20; the phantom needs 40 to 400 mm"):
        tiny(size_mm=(48, 72, 20))
    with pytest.raises(ValidationError, match="spacing_mm must lie between"):
        tiny(spacing_mm=30)
    with pytest.raises(ValidationError, match="listed twice"):
        tiny(contrasts=("T1w", "T1w"))
    with pytest.raises(ValidationError, match="is not a loss between"):
        tiny(atrophy_percent=(-2,))
    with pytest.raises(ValidationError, match="T1w"):
        tiny(contrasts=("FLAIR",))


def test_point_spread_has_the_variance_asked_for():
    image = np.zeros((21, 21, 21), np.float32)
    image[10, 10, 10] = 1
    out = point_spread(image.copy(), (0.42, 0.0, 0.5))
    at = np.arange(21) - 10.0
    for axis, sd in enumerate((0.42, 0.0, 0.5)):
        profile = out.sum(tuple(i for i in range(3) if i != axis))
        assert (profile * at**2).sum() == pytest.approx(sd**2, abs=1e-6)
    assert out.sum() == pytest.approx(1, abs=1e-6)
    smooth = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
    smooth = gaussian_filter(smooth, 2)
    expected = np.fft.ifftn(fourier_gaussian(np.fft.fftn(smooth), 0.42)).real
    error = np.abs(point_spread(smooth.copy(), (0.42,) * 3) - expected)[5:-5, 5:-5, 5:-5]
    assert error.max() < 0.02 * smooth.std()


def test_noise_is_rician():
    rng = np.random.default_rng(0)
    air = magnitude(np.zeros((60, 60, 60), np.float32), 3.0, rng)
    assert air.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh
    bright = magnitude(np.full((60, 60, 60), 300.0, np.float32), 3.0, rng)
    assert bright.std() == pytest.approx(3.0, rel=0.01)
    assert bright.mean() == pytest.approx(np.hypot(300, 3 / np.sqrt(1)), rel=1e-3)


def test_receive_field_is_smooth_and_positive():
    field = receive_field((20, 30, 25), 1.0, np.random.default_rng(1))
    assert 0.3 < field.min() < field.max() < 3.5
    assert max(np.abs(np.diff(np.log(field), axis=a)).max() for a in range(3)) < 0.25
    assert np.allclose(receive_field((5, 5, 5), 0.0, np.random.default_rng(1)), 1)


def test_switches():
    parameters = SpineParameters(
        size_mm=(32, 48, 48), spacing_mm=(1, 1, 1), noise=0, bias_field=0, point_spread=0, mode="none"
    )
    scan = Scan(parameters, 1)
    image, truth = scan.image("T1w").data, scan.label("T1w", "truth").data
    assert len(np.unique(np.round(image[truth == 1], 1))) < 5000
    white = np.median(image[truth == 1])
    assert 0.8 * 400 * 0.9 < white < 1.25 * 400 * 1.1
    assert scan.session == BASELINE
