"""Shares of voxels against counting 16³ points in each; true volumes against closed forms and finer counts."""

from dataclasses import replace

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad_data.phantom.brain.anatomy import draw_brain
from mriad_data.phantom.brain.mixture import Scene, mix, plane_share, ramp_share
from mriad_data.phantom.brain.regions import BRAIN, INDEX, REGIONS
from mriad_data.phantom.brain.shapes import Blob, Tube
from mriad_data.phantom.brain.volumes import _count_deep, _divide, true_volumes
from mriad_data.phantom.brain.warp import to_template
from mriad_data.phantom.session import rotation

F = np.float32


def grid(spacing, size, centre, turn_deg=(0, 0, 0)):
    spacing = np.broadcast_to(spacing, 3)
    shape = [round(s / h) for s, h in zip(size, spacing, strict=True)]
    affine = np.eye(4)
    affine[:3, :3] = rotation(np.deg2rad(turn_deg)) * spacing
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid.of(shape, affine)


def counted(brain, g, voxels, n=16):
    """Share of each region among n³ points of each voxel, float (regions, voxels): hard decisions only."""
    along = (np.arange(n) + 0.5) / n - 0.5
    offsets = np.stack(np.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)
    out = np.zeros((len(REGIONS), len(voxels)))
    for i, voxel in enumerate(voxels):
        points, _ = to_template(brain, g.world(voxel + offsets.T).T.astype(F))
        scene = Scene.of(brain, points, 0.0, head=False)
        if scene is None:
            out[0, i] = 1
            continue
        for region, share in scene.shares(points, ramp_share(1e-4), 1e-4):
            out[region, i] += np.round(share).mean()
    return out


@pytest.mark.parametrize(
    ("spacing", "size", "centre", "turn"),
    [
        (1.0, (40, 44, 40), (30, -30, 20), (0, 0, 0)),
        (2.0, (96, 100, 80), (10, -40, 0), (10, -20, 5)),
        ((1.0, 1.0, 4.0), (60, 60, 48), (-30, 0, 10), (0, 0, 0)),
        (3.0, (150, 180, 150), (0, -18, 6), (0, 0, 0)),
    ],
)
def test_shares_against_supersampling(spacing, size, centre, turn):
    brain, g = draw_brain(0, 2), grid(spacing, size, centre, turn)
    mixture = mix(g, brain, head=False)
    rng = np.random.default_rng(0)
    mixed = rng.choice(mixture.mixed, 150, replace=False)
    plain = rng.choice(np.setdiff1d(np.flatnonzero(mixture.whole.ravel()), mixture.mixed), 60, replace=False)
    chosen = np.concatenate([mixed, plain])
    expected = counted(brain, g, np.stack(np.unravel_index(chosen, g.shape), -1))
    got = np.stack([mixture.fraction(r).ravel()[chosen] for r in range(len(REGIONS))])
    boundary = (expected > 0) & (expected < 1)
    assert boundary[:, :150].sum() > 150
    assert np.abs(got - expected)[boundary].mean() < 0.007  # .005 over many voxels, see the slow test
    assert np.abs(got - expected)[:, 150:].max(0).mean() < 0.005
    assert np.abs(got.sum(0) - 1).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("spacing", "person"), [(1.0, 1), (3.0, 3)])
def test_mean_error_of_shares_over_a_brain(spacing, person):
    brain, g = draw_brain(0, person), grid(spacing, (160, 192, 160), (0, -18, 6))
    mixture = mix(g, brain, head=False)
    chosen = np.random.default_rng(1).choice(mixture.mixed, 1200, replace=False)
    expected = counted(brain, g, np.stack(np.unravel_index(chosen, g.shape), -1))
    got = np.stack([mixture.fraction(r).ravel()[chosen] for r in range(len(REGIONS))])
    boundary = (expected > 0) & (expected < 1)
    assert np.abs(got - expected)[boundary].mean() < 0.005


def test_the_share_behind_a_plane():
    """Random planes through a voxel of 2³ cells, against 40³ points."""
    rng = np.random.default_rng(3)
    cells = np.array([2, 2, 2])
    along = (np.arange(80) + 0.5) / 80 - 0.5
    fine = np.stack(np.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)
    middle = np.stack(np.meshgrid(*[[-0.25, 0.25]] * 3, indexing="ij")).reshape(3, -1)
    normals = rng.standard_normal((40, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = rng.uniform(-0.7, 0.7, 40)
    distance = (normals @ middle - offsets[:, None]).T.astype(F)
    share = plane_share(cells, 40)(distance.ravel()).reshape(8, 40).mean(0)
    expected = ((normals @ fine) < offsets[:, None]).mean(1)
    assert np.abs(share - expected).max() < 0.004
    assert share.min() >= 0
    assert share.max() <= 1


def test_a_mixture_holds_together():
    mixture = mix(grid(5.0, (160, 200, 200), (0, 0, -10)), draw_brain(0, 1), head=True)
    assert np.all(np.diff(mixture.mixed) > 0)
    assert np.bincount(mixture.row, mixture.share) == pytest.approx(1, abs=1e-5)
    ones = mixture.mean(np.ones(len(REGIONS), F))
    assert np.abs(ones - 1).max() < 1e-5
    total = sum(mixture.fraction(i).sum(dtype=float) for i in range(len(REGIONS)))
    assert total == pytest.approx(mixture.whole.size, rel=1e-5)
    assert mixture.volumes_voxels.sum() == pytest.approx(mixture.whole.size, rel=1e-5)
    largest = np.argmax([mixture.fraction(i) for i in range(len(REGIONS))], 0)
    assert (largest == mixture.whole).mean() > 0.9999  # ties aside
    present = {REGIONS[i].name for i in np.unique(mixture.whole)}
    assert {"skull", "marrow", "skin_and_fat", "muscle", "eye"} <= present


def test_the_brain_is_the_same_with_a_head_and_in_a_turned_grid():
    brain = draw_brain(0, 3)
    place = ((88, 88, 60), (0, -10, 5))
    plain, inside = (mix(grid(4.0, *place), brain, head) for head in (False, True))
    structures = [INDEX[r.name] for r in BRAIN]
    same = np.isin(plain.whole, structures)
    assert same.sum() > 4000
    assert np.array_equal(plain.whole[same], inside.whole[same])
    straight = mix(grid(3.0, (70, 72, 60), (0, -5, 5)), brain, False)
    turned = mix(grid(3.0, (84, 84, 69), (0, -5, 5), (8, -6, 12)), brain, False)
    for name in ("left_thalamus", "right_putamen", "left_pallidum"):
        a, b = (m.volumes_voxels[INDEX[name]] for m in (straight, turned))
        assert a == pytest.approx(b, rel=0.02), name


def test_counting_gives_closed_form_volumes():
    """An ellipsoid (4/3 π a b c) and a capsule (π r² l + 4/3 π r³) in a person without warp."""
    one = draw_brain(0, 1)
    solids = {
        "left_thalamus": Blob((-30, 0, 10), (9, 14, 11), (20, 30, 40)),
        "right_hippocampus": Tube(((30, -10, 0), (34, 15, 10)), (6.0, 6.0)),
    }
    still = replace(one.warp, amplitudes=np.zeros_like(one.warp.amplitudes))
    brain = replace(one, solids=solids, warp=still, scale=(1.0, 1.0, 1.0))
    volumes = np.zeros(len(REGIONS))
    for middle in ((-30, 0, 10), (32, 2, 5)):
        cells = _divide(np.array(middle, float)[:, None], 56.0, 28)
        scene = Scene.of(brain, to_template(brain, cells.astype(F))[0], 2.0, head=False)
        _count_deep(brain, scene, cells, 2.0, 3, volumes)
    length = np.linalg.norm([4, 25, 10])
    assert volumes[INDEX["left_thalamus"]] == pytest.approx(4 / 3 * np.pi * 9 * 14 * 11, rel=1e-3)
    expected = np.pi * 36 * length + 4 / 3 * np.pi * 216
    assert volumes[INDEX["right_hippocampus"]] == pytest.approx(expected, rel=1e-3)


RANGES_ML = {
    # Ranges per side (both where neutral) that hold most healthy adults' volumes in large automatically labelled
    # samples (Potvin et al., NeuroImage 2016, subcortical norms; Walhovd et al., Neurobiol Aging 2011), as commonly
    # quoted and made wide; how much water around the brain is labelled CSF differs between programs.
    "cerebral_white_matter": (150, 330),
    "cerebral_cortex": (170, 350),
    "lateral_ventricle": (2.5, 45),
    "inferior_lateral_ventricle": (0.1, 2.5),
    "cerebellum_white_matter": (7, 25),
    "cerebellum_cortex": (30, 75),
    "thalamus": (4.5, 10.5),
    "caudate": (2.3, 5.5),
    "putamen": (3.2, 7.5),
    "pallidum": (1.0, 2.6),
    "hippocampus": (2.3, 5.6),
    "amygdala": (0.9, 2.8),
    "accumbens_area": (0.25, 1.0),
    "ventral_DC": (2.2, 5.8),
    "3rd_ventricle": (0.5, 4),
    "4th_ventricle": (0.8, 4),
    "brain-stem": (14, 33),
    "CSF": (150, 600),
}


@pytest.mark.parametrize("person", [4, 5])
def test_volumes_are_plausible(person):
    g = grid(4.0, (168, 200, 168), (0, -18, 6))
    volumes = mix(g, draw_brain(0, person), head=False, cell_mm=1.4).volumes_voxels * 0.064
    for region in BRAIN:
        low, high = RANGES_ML[region.name.removeprefix("left_").removeprefix("right_")]
        assert low < volumes[INDEX[region.name]] < high, region.name
    brain = sum(volumes[INDEX[r.name]] for r in BRAIN if r.name != "CSF")
    assert 900 < brain < 1700


@pytest.mark.slow
def test_true_volumes_are_exact():
    """Against half the distance between points: 1e-3; against the shares at 1 mm: 2 % (thin horns and leaves)."""
    known, finer = true_volumes(0, 2), true_volumes(0, 2, 1)
    for name, value in known.items():
        assert value.volume_mm3 == pytest.approx(finer[name].volume_mm3, rel=1e-3), name
    mixture = mix(grid(1.0, (168, 198, 168), (0, -18, 6)), draw_brain(0, 2), head=False)
    for region in BRAIN:
        assert mixture.volumes_voxels[INDEX[region.name]] == pytest.approx(
            known[region.name].volume_mm3, rel=0.02
        )


def test_what_a_point_is_does_not_depend_on_its_neighbours():
    """Solids that are far from a block are left out; that must change nothing."""
    brain = draw_brain(0, 2)
    rng = np.random.default_rng(4)
    centres = rng.uniform((-75, -115, -75), (75, 80, 90), (250, 3))

    def regions(places):
        points, _ = to_template(brain, places.T.astype(F))
        out = np.zeros(len(places), int)
        scene = Scene.of(brain, points, 0.0, head=False)
        if scene is None:
            return out
        for region, share in scene.shares(points, ramp_share(1e-4), 1e-4):
            out[share > 0.5] = region
        return out

    together = regions(centres)
    assert len(np.unique(together)) > 8
    assert np.array_equal(together, np.concatenate([regions(c[None]) for c in centres]))
