"""The brain phantom's solids and regions: distances, warp, topology, sides, SynthSeg's numbers."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad_data.phantom.brain.anatomy import DEEP, draw_brain
from mriad_data.phantom.brain.mixture import mix
from mriad_data.phantom.brain.regions import BRAIN, INDEX, REGIONS
from mriad_data.phantom.brain.shapes import Blob, Tube, ellipse, superellipsoid, union, without
from mriad_data.phantom.brain.warp import to_template
from scipy import ndimage

F = np.float32


def grid(spacing, size=(160, 192, 160), centre=(0, -18, 6)):
    shape = [round(s / spacing) for s in size]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.array(centre) - spacing * (np.array(shape) - 1) / 2
    return Grid.of(shape, affine)


@pytest.fixture(scope="module")
def whole():
    """Largest region of each voxel of person 1 at 2 mm."""
    return mix(grid(2.0), draw_brain(0, 1), head=False).whole


def neighbours(whole, name):
    """Shares of the regions that touch a region."""
    mask = whole == INDEX[name]
    ring = ndimage.binary_dilation(mask) & ~mask
    values, counts = np.unique(whole[ring], return_counts=True)
    return {REGIONS[v].name: c / counts.sum() for v, c in zip(values, counts, strict=True)}


def test_a_sphere_has_its_distance():
    points = np.random.default_rng(0).uniform(-20, 20, (3, 500)).astype(F)
    expected = np.linalg.norm(points - [[1], [2], [3]], axis=0) - 7
    assert Blob((1, 2, 3), (7, 7, 7), (10, 20, 30)).distance(points) == pytest.approx(expected, abs=1e-3)
    assert superellipsoid(*points, (F(7), F(7), F(7)), 2.0) == pytest.approx(
        np.linalg.norm(points, axis=0) - 7, abs=1e-3
    )


@given(st.tuples(*[st.floats(3, 20)] * 3), st.tuples(*[st.floats(-90, 90)] * 3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_ellipsoids_lie_in_their_box_and_their_boundary_is_where_it_should_be(axes, turn, seed):
    blob = Blob((1.0, -2.0, 3.0), axes, turn)
    direction = np.random.default_rng(seed).standard_normal((3, 200))
    unit = direction / np.linalg.norm(direction, axis=0)
    # Points of the ellipsoid by turning scaled unit vectors, with rotations composed here by hand.
    surface = unit * np.array(axes)[:, None]
    for axis, degrees in enumerate(turn):
        a, b = [i for i in range(3) if i != axis]
        angle = np.deg2rad(degrees) * (-1 if axis == 1 else 1)
        c, s = np.cos(angle), np.sin(angle)
        surface[[a, b]] = c * surface[a] - s * surface[b], s * surface[a] + c * surface[b]
    surface += [[1.0], [-2.0], [3.0]]
    assert np.abs(blob.distance(surface.astype(F))).max() < 2e-3
    low, high = blob.box
    assert (surface.min(1) >= np.array(low) - 1e-4).all()
    assert (surface.max(1) <= np.array(high) + 1e-4).all()


def test_distances_of_a_superellipsoid_have_slope_one_near_the_boundary():
    rng = np.random.default_rng(1)
    points = rng.uniform(-30, 30, (3, 4000))

    def distance(p):
        return superellipsoid(*p.astype(F), (F(20), F(28), F(17)), 2.3).astype(float)

    near = np.abs(distance(points)) < 1
    assert near.sum() > 80
    step = 0.01
    slopes = np.stack(
        [(distance(points + e) - distance(points - e)) / (2 * step) for e in step * np.eye(3)[..., None]]
    )
    assert np.linalg.norm(slopes, axis=0)[near] == pytest.approx(1, abs=0.12)


def test_a_straight_tube_is_a_capsule():
    points = np.random.default_rng(2).uniform(-15, 15, (3, 300)).astype(F)
    tube = Tube(((0, 0, -5), (0, 0, 5)), (3.0, 3.0))
    expected = [np.hypot(np.hypot(x, y), max(abs(z) - 5, 0)) - 3 for x, y, z in points.T]
    assert tube.distance(points) == pytest.approx(expected, abs=1e-4)
    bent = Tube(((0, 0, -5), (0, 0, 5), (0, 0, 5)), (3.0, 3.0, 3.0), join_mm=0.1)
    with np.errstate(invalid="ignore"):
        assert np.isnan(bent.distance(points)).any()  # two equal points are no link; the anatomy has none
    for solid in DEEP.values():
        if isinstance(solid, Tube):
            assert np.linalg.norm(np.diff(solid.points, axis=0), axis=1).min() > 3


def test_ellipse_and_joins():
    angle = np.linspace(0, 6, 50).astype(F)
    assert ellipse(5 * np.cos(angle), 3 * np.sin(angle), F(5), F(3)) == pytest.approx(0, abs=1e-5)
    p, q = np.array([3.0, -1.0, 0.0], F), np.array([0.0, 4.0, 0.0], F)
    assert union(p, q, 2.0) == pytest.approx([0.0, -1.0, -0.5])
    assert without(p, q, 2.0) == pytest.approx([3.0, -1.0, 0.5])


def test_the_warp_folds_nothing_and_has_the_slopes_it_says():
    for person in range(1, 9):
        brain = draw_brain(0, person)
        place = np.random.default_rng(person).uniform(-80, 80, (3, 400)).astype(F)
        _, slopes = to_template(brain, place)
        jacobian = slopes(np.arange(400))
        assert np.linalg.det(np.moveaxis(jacobian, 2, 0)).min() > 0.6
        for axis in range(3):
            e = np.zeros((3, 1), F)
            e[axis] = 0.5
            difference = to_template(brain, place + e)[0] - to_template(brain, place - e)[0]
            assert np.abs(jacobian[:, axis] - difference).max() < 2e-3


def test_each_structure_is_one_piece(whole):
    everywhere = np.ones((3, 3, 3))
    for region in BRAIN:
        pieces, count = ndimage.label(whole == INDEX[region.name], everywhere)
        sizes = np.bincount(pieces.ravel())[1:]
        share = sizes.max() / sizes.sum()
        if (
            region.tissue in ("white", "cortex", "cerebellar_white", "cerebellar_cortex")
            or region.name == "CSF"
        ):
            assert share > 0.95, region.name  # thin gyri and leaves break at 2 mm
        else:
            assert count == 1, region.name


def test_ventricles_lie_deep(whole):
    """Beside a lateral ventricle: white matter and deep grey matter, no water and hardly cortex."""
    for side in ("left", "right"):
        around = neighbours(whole, f"{side}_lateral_ventricle")
        assert around[f"{side}_cerebral_white_matter"] > 0.7
        assert around.get("CSF", 0) < 0.01
        assert around.get("background", 0) == 0
        assert sum(v for k, v in around.items() if "cortex" in k) < 0.05
        assert around[f"{side}_caudate"] > 0.02
        assert (
            "CSF" not in neighbours(whole, f"{side}_thalamus")
            or neighbours(whole, f"{side}_thalamus")["CSF"] < 0.2
        )
        touching = neighbours(whole, f"{side}_pallidum")
        assert touching[f"{side}_putamen"] > 0.2


def test_the_cortex_is_folded(whole):
    """Water reaches deep: much of the cortex's outer surface is buried in sulci."""
    brain = np.isin(whole, [INDEX[r.name] for r in BRAIN if r.name != "CSF"])
    cortex = np.isin(whole, [INDEX["left_cerebral_cortex"], INDEX["right_cerebral_cortex"]])
    closed = ndimage.binary_closing(np.pad(brain, 12), ndimage.generate_binary_structure(3, 1), 8)[
        (slice(12, -12),) * 3
    ]
    surface = cortex & ndimage.binary_dilation(~brain)
    depth = ndimage.distance_transform_edt(closed, 2.0)
    assert (depth[surface] > 6).mean() > 0.3


def test_sides(whole):
    g = grid(2.0)
    for region in BRAIN:
        if region.side != "neutral":
            x = g.world(np.argwhere(whole == INDEX[region.name]))[:, 0].mean()
            assert np.sign(x) == (1 if region.side == "right" else -1), region.name


def test_a_brain_drawn_without_variation_is_its_mirror_image():
    """Deep structures of a symmetric person: left is right, mirrored."""
    one = draw_brain(0, 1)
    solids = {}
    for name, solid in one.solids.items():
        if name.startswith("right_"):
            solids[name] = solid
            if isinstance(solid, Blob):
                x, y, z = solid.centre
                a, b, c = solid.turn_deg
                other = replace(solid, centre=(-x, y, z), turn_deg=(a, -b, -c))
            else:
                other = replace(solid, points=tuple((-x, y, z) for x, y, z in solid.points))
            solids["left_" + name[6:]] = other
        elif not name.startswith("left_"):
            solids[name] = (
                replace(solid, turn_deg=(solid.turn_deg[0], 0, 0)) if isinstance(solid, Blob) else solid
            )
    still = replace(one.warp, amplitudes=np.zeros_like(one.warp.amplitudes))
    mixture = mix(grid(3.0, (120, 120, 90), (0, -20, 0)), replace(one, solids=solids, warp=still), head=False)
    for name in DEEP:
        left, right = (mixture.fraction(INDEX[f"{side}_{name}"]) for side in ("left", "right"))
        assert right.sum() > 5
        assert np.abs(left[::-1] - right).max() < 2e-3, name


def test_persons_differ_in_size_shape_and_asymmetry():
    persons = [draw_brain(0, n) for n in range(1, 25)]
    scales = np.array([p.scale for p in persons])
    assert 0.015 < scales.mean(1).std() < 0.08
    assert np.ptp(scales / scales.mean(1, keepdims=True)) > 0.02  # not all of one shape
    ratio = [p.solids["left_hippocampus"].radii[0] / p.solids["right_hippocampus"].radii[0] for p in persons]
    assert 0.01 < np.std(ratio) < 0.08
    widest = [max(p.solids["left_lateral_ventricle"].radii) for p in persons]
    assert max(widest) / min(widest) > 1.4
    assert draw_brain(1, 1).scale != draw_brain(0, 1).scale


def test_numbers_are_paired():
    for region in REGIONS:
        if region.side == "left":
            other = REGIONS[INDEX["right_" + region.name[5:]]]
            assert (other.tissue, other.contrast_class) == (region.tissue, region.contrast_class)
    values = [region.value for region in REGIONS]
    assert len(set(values)) == len(values) == 39


def test_numbers_and_classes_are_synthsegs():
    root = Path(
        os.environ.get("MRIAD_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data")
    )
    path = root / "brain-labels" / "labels.tsv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with path.open(newline="") as file:
        table = {int(row["label"]): row for row in csv.DictReader(file, delimiter="\t")}
    for region in REGIONS:
        row = table[region.value]
        assert int(row["generation_class"]) == region.generation_class, region.name
        assert int(row["generation_class_contrast_specific"]) == region.contrast_class, region.name
        assert row["side"] == region.side
        assert int(row["segmentation_label"]) == (region.value if region.brain else 0)
