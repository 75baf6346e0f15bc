"""The generator's deformation: synthseg.md section 9, checks 1, 2, 6 and 7, and independent implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from generator_inputs import BACKENDS, SIDED, a_batch, a_map, a_task, made, still
from hypothesis import given
from hypothesis import strategies as st
from mriad.batch import Draws
from mriad_synthseg.drawing import affine, draw
from mriad_synthseg.fields import coordinates, doubled, half, identity, integrated, placement, upsampled
from mriad_synthseg.generate import Generate
from mriad_synthseg.painting import looked_up
from scipy import ndimage
from scipy.spatial.transform import Rotation


def integrate(velocity: torch.Tensor, backend: str) -> torch.Tensor:
    """Displacement (3, …) by either back end."""
    if backend == "torch":
        return integrated(velocity)
    from mriad_synthseg import compiled

    padded = np.zeros((*velocity.shape[1:], 4), np.float32)
    padded[..., :3] = velocity.permute(1, 2, 3, 0).numpy()
    return torch.from_numpy(compiled.integrated(padded)[..., :3].copy()).permute(3, 0, 1, 2)


def a_velocity(seed: int, std: float, size=(80, 80, 80), nodes: int = 10) -> torch.Tensor:
    """At half resolution: σ in its own voxels."""
    coarse = torch.randn((3, *[nodes] * 3), generator=torch.Generator().manual_seed(seed)) * std
    return upsampled(coarse, size)


def least_jacobian(u: np.ndarray) -> float:
    """Least determinant of x + u(x), trilinear between voxels, over all eight corners of each cell; (3, X, Y, Z)."""
    edges = [np.diff(u, axis=a + 1) for a in range(3)]
    for a in range(3):
        edges[a][a] += 1
    least = np.inf
    for corner in itertools.product((0, 1), repeat=3):
        x, y, z = (
            edge[
                :,
                *(
                    slice(None) if b == a else slice(c, c + n - 1)
                    for b, (c, n) in enumerate(zip(corner, u.shape[1:], strict=True))
                ),
            ]
            for a, edge in enumerate(edges)
        )
        least = min(least, float((x * np.cross(y, z, axis=0)).sum(0).min()))
    return least


def test_the_least_jacobian_of_affine_and_mirrored_maps():
    at = identity((5, 6, 4)).numpy()
    matrix = np.array([[0.2, 0.1, 0], [-0.3, 0.1, 0.2], [0.1, 0, -0.4]])
    found = least_jacobian(np.einsum("ij,jxyz->ixyz", matrix, at))
    assert found == pytest.approx(np.linalg.det(matrix + np.eye(3)), rel=1e-5)
    kink = np.zeros((3, 5, 6, 4))
    kink[0, 2:] = -1.5  # one layer of cells turns over
    assert least_jacobian(kink) == pytest.approx(-0.5)


@BACKENDS
def test_a_constant_velocity_is_its_own_displacement(backend):
    velocity = torch.zeros(3, 12, 11, 10)
    assert torch.equal(integrate(velocity, backend), velocity)
    velocity[0] = 1.75
    assert torch.allclose(integrate(velocity, backend)[0], torch.tensor(1.75), atol=1e-5)
    assert torch.equal(integrate(velocity, backend)[1:], torch.zeros(2, 12, 11, 10))


@pytest.mark.parametrize(
    ("size", "nodes", "std"),
    [
        (40, 5, 4),  # the same distance of nodes on an eighth of the voxels
        pytest.param(80, 10, 3, marks=pytest.mark.slow),
        pytest.param(80, 10, 4, marks=pytest.mark.slow),
    ],
)
def test_twenty_fields_are_diffeomorphic_where_the_plain_displacement_folds(size, nodes, std):
    """The spec's simulation, 160³ at half resolution: σ is in full-resolution voxels, so half of it is drawn here."""
    least, folded = [], 0
    for seed in range(20):
        velocity = a_velocity(seed, std / 2, (size,) * 3, nodes)
        least.append(least_jacobian(integrate(velocity, "torch").numpy()))
        folded += least_jacobian(velocity.numpy()) < 0
    assert min(least) > 0.1
    assert folded >= 15


@BACKENDS
def test_backwards_undoes_forwards(backend):
    velocity = a_velocity(0, 3)
    there, back = integrate(velocity, backend).numpy(), integrate(-velocity, backend).numpy()
    at = identity((80, 80, 80)).numpy() + back
    round_trip = back + np.stack([ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in there])
    inner = round_trip[:, 8:-8, 8:-8, 8:-8]
    assert np.linalg.norm(inner, axis=0).mean() < 0.2
    assert np.linalg.norm(there, axis=0).mean() > 1.5  # and something was undone


@BACKENDS
def test_integration_follows_the_velocity(backend):
    """Against many small Euler steps with SciPy's own interpolation."""
    size = (24, 20, 22)
    velocity = a_velocity(3, 1.5, size, 4)
    at = identity(size).numpy().astype(np.float64)
    field, steps = velocity.numpy().astype(np.float64), 256
    for _ in range(steps):
        at += np.stack([ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in field]) / steps
    expected = at - identity(size).numpy()
    found = integrate(velocity, backend).numpy()
    assert np.abs(found - expected)[:, 3:-3, 3:-3, 3:-3].max() < 0.1
    assert np.abs(expected).max() > 1.5


@given(st.lists(st.integers(2, 9), min_size=3, max_size=3), st.integers(2, 5))
def test_upsampling_is_trilinear(size, nodes):
    coarse = torch.randn((2, *[nodes] * 3), generator=torch.Generator().manual_seed(nodes))
    expected = F.interpolate(coarse[None], size=tuple(size), mode="trilinear", align_corners=True)[0]
    assert torch.allclose(upsampled(coarse, size), expected, atol=1e-5)


@given(st.lists(st.integers(2, 9), min_size=3, max_size=3))
def test_doubling_is_trilinear(size):
    nodes = torch.randn((2, *half(size)), generator=torch.Generator().manual_seed(1))
    at = identity(size).numpy() / 2
    expected = [ndimage.map_coordinates(c, at, order=1) for c in nodes.numpy().astype(np.float64)]
    assert np.allclose(doubled(nodes, size).numpy(), expected, atol=1e-5)


def test_the_affine_is_scale_shear_rotation():
    angles = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    scaling, shears = torch.tensor([1.1, 0.9, 1.05]), torch.tensor([0.01, -0.02, 0.03, 0, 0.01, -0.01])
    rotation = Rotation.from_euler("xyz", angles.numpy()).as_matrix()  # extrinsic: x first
    shear = np.eye(3)
    shear[~np.eye(3, dtype=bool)] = shears.numpy()
    assert np.allclose(affine(angles, scaling, shears), np.diag(scaling) @ shear @ rotation, atol=1e-7)


def drawn_many(count: int = 1000, **fields):
    config = Generate(**fields)
    draws = Draws(tuple(range(count)), "many")
    return draw(
        config.settings,
        config.roles(SIDED),
        draws,
        channels=1,
        inside=(20, 20, 20),
        size=(16, 20, 24),
        spacing=[(1.0, 1.0, 1.0)] * count,
    )


def test_draws_stay_in_their_ranges():
    found = drawn_many()
    singular = np.stack([np.linalg.svd(d.matrix, compute_uv=False) for d in found])
    volume = np.array([float(torch.linalg.det(d.matrix)) for d in found])
    assert singular.min() > 0.9 - 0.03
    assert singular.max() < 1.1 + 0.03
    assert volume.min() > 0.9**3 * 0.99
    assert volume.max() < 1.1**3 * 1.01
    shift = torch.stack([d.translation for d in found])
    assert -20 <= shift.min() < -19
    assert 19 < shift.max() <= 20
    mean, std = torch.stack([d.mean for d in found]), torch.stack([d.std for d in found])
    assert 25 <= mean.min() < 26
    assert 224 < mean.max() <= 225
    assert 5 <= std.min() < 5.2
    assert 24.8 < std.max() <= 25
    exponent = torch.stack([d.exponent for d in found]).log()
    assert -0.3 <= exponent.min() < -0.29
    assert 0.29 < exponent.max() <= 0.3
    assert {d.origin for d in found} <= {(x, 0, -2) for x in range(5)}
    assert len({d.origin for d in found}) == 5
    assert np.mean([d.strip for d in found]) == pytest.approx(0.2, abs=0.05)
    # σ of the velocity ~ U(0, 3): its mean square is 3
    assert torch.stack([d.velocity for d in found]).square().mean() == pytest.approx(3, rel=0.1)


def test_switching_a_step_off_leaves_the_other_draws():
    on, off = (
        drawn_many(5),
        drawn_many(5, rotation_deg=0, bias_std=(0, 0), velocity_nodes=4, flip_probability=1),
    )
    for a, b in zip(on, off, strict=True):
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.exponent, b.exponent)
        assert torch.equal(a.translation, b.translation)
        assert a.origin == b.origin


def test_the_lookup_is_the_nearest_voxel_of_the_composed_map():
    """One lookup at M·(x + φ(x) − c) + c + t + o, against SciPy at float64 coordinates."""
    (drawn,) = drawn_many(1, velocity_std=(2, 2), flip_probability=1, translation_voxels=3)
    size, volume = (
        (16, 20, 24),
        torch.randint(0, 200, (20, 20, 20), generator=torch.Generator().manual_seed(0)),
    )
    at = coordinates(drawn, volume.shape, size, True, torch.device("cpu"))
    (found,) = looked_up([volume.to(torch.uint8)], at, size, [0])
    u = integrated(upsampled(drawn.velocity, half(size)) / 2).double().numpy() * 2
    displaced = np.stack([ndimage.map_coordinates(c, identity(size).numpy() / 2, order=1) for c in u])
    matrix, offset = placement(drawn, volume.shape, size)
    centre = (np.array(size) - 1) / 2
    moved = drawn.matrix.numpy() @ (displaced + identity(size).numpy() - centre.reshape(3, 1, 1, 1)).reshape(
        3, -1
    )
    moved = moved + (centre + drawn.translation.numpy() + np.array(drawn.origin))[:, None]
    moved[0] = 19 - moved[0]  # mirrored
    shelled = np.pad(volume.numpy(), 1)
    voxel = np.clip(np.floor(moved + 0.5).astype(int), -1, 20) + 1
    expected = shelled[tuple(voxel)].reshape(size)
    near_a_face = np.abs(moved - np.floor(moved) - 0.5).min(0).reshape(size) < 1e-3
    different = (found.numpy() != expected) & ~near_a_face
    assert not different.any()
    assert (found != 0).float().mean() > 0.3
    assert matrix.shape == (3, 3)
    assert offset.shape == (3,)


@BACKENDS
def test_doubled_vectors_and_the_literal_code_differ_by_what_the_spec_says(backend):
    """A constant velocity a moves by a in both forms; a field that bends does not."""
    (drawn,) = drawn_many(1, **still(velocity_std=(3, 3)))
    inside = size = (20, 20, 20)
    constant = torch.ones_like(drawn.velocity) * torch.tensor([1.5, 0, 0]).reshape(3, 1, 1, 1)
    for doubling, velocity in itertools.product((True, False), (constant,)):
        at = coordinates(
            drawn.__class__(**{**vars(drawn), "velocity": velocity, "origin": (0, 0, 0)}),
            inside,
            size,
            doubling,
            torch.device("cpu"),
        )
        moved = at - identity(half(size)) * 2
        assert torch.allclose(moved[0], torch.tensor(1.5), atol=1e-4)
    bent = [coordinates(drawn, inside, size, d, torch.device("cpu")) for d in (True, False)]
    assert (bent[0] - bent[1]).abs().max() > 0.1
    if backend == "numba":
        from mriad_synthseg import compiled

        for d in (True, False):
            assert np.abs(compiled.coordinates(drawn, inside, size, d) - bent[not d].numpy()).max() < 1e-3


@BACKENDS
def test_flip_exchanges_the_sides(backend):
    """Partners' volumes are exchanged, and flipping a mirrored map with exchanged labels gives the map."""
    config = {**still(), "backend": backend, "std": (0, 0)}
    plain = made(Generate(**config), a_batch(a_map()))
    flipped = made(Generate(**{**config, "flip_probability": 1}), a_batch(a_map()))
    count = [torch.bincount(b.target.flatten().int(), minlength=7) for b in (plain, flipped)]
    assert (count[0][1], count[0][2]) == (count[1][2], count[1][1])
    assert (count[0][4], count[0][5]) == (count[1][5], count[1][4])
    assert (count[0][3], count[0][6]) == (count[1][3], count[1][6])
    assert count[0][1] != count[0][2]
    exchanged = torch.tensor([0, 2, 1, 3, 5, 4, 6])
    again = made(Generate(**{**config, "flip_probability": 1}), a_batch(exchanged[a_map().flip(1)]))
    assert torch.equal(again.target, plain.target)
    assert torch.equal(again.image, plain.image)


@BACKENDS
def test_a_flip_commutes_with_the_deformation(backend):
    """Flipped, a deformed sample is that of the mirrored map."""
    config = Generate(preset="head", flip_probability=1, resolution_probability=0, backend=backend)
    straight = Generate(preset="head", flip_probability=0, resolution_probability=0, backend=backend)
    exchanged = torch.tensor([0, 2, 1, 3, 5, 4, 6])
    one = made(config, a_batch(a_map()))
    other = made(straight, a_batch(exchanged[a_map().flip(1)]))
    assert (one.target == other.target).float().mean() > 0.999
    assert (
        one.image - other.image
    ).abs().median() < 1e-5 or not config.sides_share  # classes are exchanged too


@BACKENDS
@pytest.mark.parametrize("size", [[16, 16, 16], [30, 21, 33]])
def test_crops_and_pads(backend, size):
    batch = made(Generate(**still(), size=size, backend=backend), a_batch(a_map()))
    assert tuple(batch.image.shape) == (1, 1, *size)
    assert tuple(batch.target.shape) == (1, 1, *size)
    whole = made(Generate(**still(), backend=backend), a_batch(a_map()))
    assert torch.equal(whole.target, a_map()[None].to(whole.target.dtype))
    if size[0] > 24:  # padded with background all around, nothing lost
        assert int((batch.target == 1).sum()) == int((a_map() == 1).sum())


def test_angles_are_degrees():
    found = drawn_many(1, **still(rotation_deg=90))[0]
    assert np.allclose(found.matrix @ found.matrix.T, np.eye(3), atol=1e-7)
    assert math.isclose(float(torch.linalg.det(found.matrix)), 1, rel_tol=1e-6)
    assert a_task().outputs() == 7
