"""One step of the augmentation at a time against MONAI, SciPy and plain loops, with the same parameters."""

from __future__ import annotations

import math

import monai.transforms as mt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.layers import GaussianFilter
from mriad_softseg import intensity
from mriad_softseg.coordinates import Bend, Coordinates, displacement, linear_part, nodes
from mriad_softseg.recipes import LEGENDRE, Affine, Elastic, Recipe
from mriad_softseg.resampling import Parts, resampled
from scipy import ndimage
from scipy.spatial.transform import Rotation

SIZE = (14, 18, 22)
CPU = torch.device("cpu")


def smooth_image(size=SIZE, seed=0):
    """A band-limited image in [0, 1], so that interpolations of one order agree to rounding."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(size), 1.5)
    return torch.from_numpy(((noise - noise.min()) / np.ptp(noise)).astype(np.float32))[None]


IMAGE = smooth_image()
AFFINE = Affine((0.3, -0.25, 0.15), (1.15, 0.85, 1.1), (0.7, -1.3, 2.1))


def moved(image, recipe, order=1, beyond="mirror", spacing=(1, 1, 1), bend=None):
    where = Coordinates.of(recipe, image.shape[1:], spacing, bend)
    return resampled(Parts(image), where, order, beyond).image


@pytest.mark.parametrize("order", [1, 2])
def test_affine_agrees_with_monai(order):
    monai = mt.Affine(
        rotate_params=AFFINE.angles,
        scale_params=AFFINE.steps,
        translate_params=AFFINE.shift,
        mode="bilinear" if order == 1 else 2,
        padding_mode="reflection",
        image_only=True,
    )
    expected = monai(IMAGE).as_tensor()
    torch.testing.assert_close(moved(IMAGE, Recipe(affine=AFFINE), order), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("beyond", ["border", "mirror"])
def test_splines_agree_with_scipy(beyond):
    where = Coordinates.of(Recipe(affine=AFFINE), SIZE, (1, 1, 1), None)
    places = np.indices(SIZE).reshape(3, -1) - (np.array(SIZE)[:, None] - 1) / 2
    x = where.linear.numpy() @ places + where.offset.numpy()[:, None] + (np.array(SIZE)[:, None] - 1) / 2
    if beyond == "border":
        x = np.clip(x, 0, np.array(SIZE)[:, None] - 1)
    expected = ndimage.map_coordinates(IMAGE[0].numpy().astype(np.float64), x, order=2, mode="reflect")
    found = resampled(Parts(IMAGE), where, 2, beyond).image
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, atol=2e-5)


def test_splines_pass_through_the_voxels():
    still = Recipe(affine=Affine())
    torch.testing.assert_close(moved(IMAGE, still, 2), IMAGE, rtol=0, atol=2e-6)
    torch.testing.assert_close(moved(IMAGE, still, 1), IMAGE, rtol=0, atol=2e-5)


def test_elastic_agrees_with_monai_for_the_same_field():
    generator = torch.Generator().manual_seed(0)
    bend = displacement(
        3.5, 1.2, SIZE, nodes(SIZE, 3.5), lambda s: torch.randn(tuple(s), generator=generator)
    )
    field = torch.einsum("xk,rkyz->rxyz", bend.along_x, bend.rest)
    from monai.transforms.utils import create_grid

    grid = torch.as_tensor(create_grid(SIZE)).float()
    grid[:3] += field
    expected = mt.Resample(mode="bilinear", padding_mode="reflection")(IMAGE, grid=grid)
    found = moved(IMAGE, Recipe(), bend=bend)
    torch.testing.assert_close(found, expected.as_tensor(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("sigma", [3.5, 4.3, 5.5])
def test_elastic_field_is_distributed_as_monais(sigma):
    """Standard deviation by the formula of the specification, autocorrelation exp(−d²/4σ²), borders included."""
    size, magnitude = (48, 48, 48), 30.0
    generator = torch.Generator().manual_seed(1)
    std = Elastic(sigma, magnitude).std(3)
    fields = []
    for _ in range(4):
        bend = displacement(
            sigma, std, size, nodes(size, 3.5), lambda s: torch.randn(tuple(s), generator=generator)
        )
        fields.append(torch.einsum("xk,rkyz->rxyz", bend.along_x, bend.rest))
    ours = torch.cat(fields)
    white = torch.rand(12, 1, *size, generator=generator) * 2 - 1
    theirs = GaussianFilter(3, sigma, 3.0)(white)[:, 0] * magnitude  # as Rand3DElastic calls it
    inner = theirs[:, 14:-14, 14:-14, 14:-14]  # MONAI's field fades where its filter runs over the border
    assert ours.std().item() == pytest.approx(std, rel=0.08)
    assert inner.std().item() == pytest.approx(std, rel=0.15)
    assert ours[:, :3].std().item() == pytest.approx(std, rel=0.2)
    for lag in (1, 3, 6):
        wanted = math.exp(-(lag**2) / (4 * sigma**2))
        for axis in (1, 2, 3):
            n = ours.shape[axis]
            pair = ours.narrow(axis, 0, n - lag) * ours.narrow(axis, lag, n - lag)
            assert (pair.mean() / ours.square().mean()).item() == pytest.approx(wanted, abs=0.08)
        pair = inner[..., :-lag] * inner[..., lag:]
        assert (pair.mean() / inner.square().mean()).item() == pytest.approx(wanted, abs=0.15)


def test_elastic_std_of_the_specification():
    found = [Elastic(s, m).std(3) for s, m in ((3.5, 25), (3.5, 35), (5.5, 25), (5.5, 35))]
    assert [round(x, 2) for x in found] == [0.33, 0.46, 0.17, 0.23]


def test_flip_is_exact_and_agrees_with_monai():
    from mriad_softseg.resampling import flipped

    found = flipped(Parts(IMAGE), (True, False, True)).image
    assert torch.equal(found, mt.Flip(spatial_axis=[0, 2])(IMAGE).as_tensor())


@pytest.mark.parametrize("zoom", [0.5, 0.63, 0.97])
def test_low_resolution_agrees_with_monai(zoom):
    monai = mt.RandSimulateLowResolution(prob=1.0, zoom_range=(zoom, zoom))
    expected = torch.as_tensor(monai(IMAGE))
    torch.testing.assert_close(intensity.low_resolution(IMAGE, zoom, "floor"), expected, rtol=0, atol=1e-6)


def test_low_resolution_by_loops_and_without_a_shift():
    def line(values, zoom):
        n = len(values)
        m = max(1, round(n * zoom))
        coarse = [values[min(n - 1, math.floor((i + 0.5) * n / m))] for i in range(m)]
        out = []
        for i in range(n):
            place = min(max((i + 0.5) * m / n - 0.5, 0), m - 1)
            low = int(place)
            out.append(coarse[low] + (place - low) * (coarse[min(low + 1, m - 1)] - coarse[low]))
        return out

    expected = IMAGE[0].numpy().astype(np.float64)
    for axis in range(3):
        expected = np.apply_along_axis(line, axis, expected, 0.63)
    found = intensity.low_resolution(IMAGE, 0.63, "nearest")
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)
    # A ramp shows the shift: floor moves it by half a voxel at zoom 0.7, nearest on average not at all.
    ramp = torch.arange(200.0).reshape(1, 1, 1, 200)
    shift = {
        pick: (intensity.low_resolution(ramp, 0.7, pick) - ramp)[..., 20:-20].mean().item()
        for pick in ("floor", "nearest")
    }
    assert shift["floor"] < -0.4
    assert abs(shift["nearest"]) < 0.08


@pytest.mark.parametrize("gamma", [0.5, 1.7, 3.0])
def test_gamma_agrees_with_monai(gamma):
    image = IMAGE * 300 - 40
    expected = mt.AdjustContrast(gamma=gamma)(image).as_tensor()
    torch.testing.assert_close(intensity.gamma_(image.clone(), gamma), expected, rtol=1e-4, atol=1e-3)
    constant = torch.full((1, 3, 3, 3), 7.0)
    assert torch.equal(intensity.gamma_(constant.clone(), gamma), constant)


def test_bias_field_agrees_with_monai():
    coefficients = np.random.default_rng(0).uniform(0, 0.5, len(LEGENDRE)).tolist()
    monai = mt.RandBiasField(degree=3, prob=1.0)
    monai._coeff, monai._do_transform = coefficients, True
    expected = monai(IMAGE, randomize=False)
    found = IMAGE * intensity.bias_field(coefficients, SIZE, (False,) * 3, CPU)
    torch.testing.assert_close(found, expected.as_tensor().float(), rtol=1e-5, atol=1e-5)
    mirrored = intensity.bias_field(coefficients, SIZE, (True, False, True), CPU)
    torch.testing.assert_close(
        mirrored.flip(0, 2), intensity.bias_field(coefficients, SIZE, (False,) * 3, CPU)
    )


@pytest.mark.parametrize("sigmas", [(0.3, 1.0, 2.0), (2.0, 0.0, 0.7)])
def test_blur_agrees_with_monai_and_scipy(sigmas):
    monai = mt.GaussianSmooth([max(s, 1e-4) for s in sigmas], approx="erf")
    found = intensity.blur(IMAGE, sigmas, "zeros")
    torch.testing.assert_close(found, monai(IMAGE).as_tensor(), rtol=0, atol=2e-4)
    # Sampled and integrated Gaussians differ by σ² + 1/12: SciPy's with the wider σ is the nearest oracle.
    wider = [math.sqrt(s * s + 1 / 12) if s > 0.5 else 0 for s in sigmas]
    ours = intensity.blur(IMAGE, [s if s > 0.5 else 0 for s in sigmas], "repeat")
    scipy = ndimage.gaussian_filter(IMAGE[0].numpy(), wider, mode="nearest", truncate=6)
    np.testing.assert_allclose(ours[0].numpy(), scipy, atol=3e-3)
    constant = torch.full((1, *SIZE), 3.0)
    torch.testing.assert_close(intensity.blur(constant, sigmas, "repeat"), constant)


def test_z_score_agrees_with_monai_and_over_a_field_with_numpy():
    image = IMAGE * 200 + 30
    mean, std = intensity.moments(image, None)
    expected = mt.NormalizeIntensity()(image).as_tensor()
    torch.testing.assert_close((image - mean) / std, expected, rtol=1e-4, atol=1e-4)
    field = torch.zeros(1, *SIZE)
    field[:, 2:9, 4:] = 1
    mean, std = intensity.moments(image, field)
    seen = image[0].numpy()[field[0].numpy() > 0].astype(np.float64)
    assert mean.item() == pytest.approx(seen.mean(), rel=1e-5)
    assert std.item() == pytest.approx(seen.std(), rel=1e-4)
    for nothing in (torch.zeros(1, *SIZE), None):
        mean, std = intensity.moments(torch.full((1, *SIZE), 5.0), nothing)
        assert (mean.item(), std.item()) == (5, 1)


angles = st.floats(-0.6, 0.6)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(angles, angles, angles),
    st.tuples(*[st.floats(0.7, 1.4)] * 3),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(0.5, 3)] * 3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_the_composed_map_is_the_steps_one_after_the_other(turns, steps, shift, flip, spacing, bent, seed):
    """A ramp is read exactly by linear interpolation, so its values are the coordinates themselves."""
    size = (9, 11, 8)
    bend = None
    generator = torch.Generator().manual_seed(seed)
    if bent:
        bend = displacement(
            2.0, 0.5, size, nodes(size, 2.0), lambda s: torch.randn(tuple(s), generator=generator)
        )
    where = Coordinates.of(Recipe(affine=Affine(turns, steps, shift), flip=flip), size, spacing, bend)
    centre = (np.array(size) - 1) / 2
    y = np.moveaxis(np.indices(size), 0, -1) - centre
    y = y * np.where(flip, -1, 1)
    if bend is not None:
        y = y + torch.einsum("xk,rkyz->xyzr", bend.along_x, bend.rest).numpy()
    y = y * np.array(steps) + np.array(shift)
    turn = Rotation.from_euler("XYZ", turns).as_matrix()
    x = (y * spacing) @ turn.T / spacing + centre
    inside = ((x >= 0) & (x <= np.array(size) - 1)).all(-1)
    ramp = torch.from_numpy(np.indices(size).astype(np.float32))
    found = resampled(Parts(ramp), where, 1, "border")
    np.testing.assert_allclose(np.moveaxis(found.image.numpy(), 0, -1)[inside], x[inside], atol=1e-4)
    outside = ((x < -0.501) | (x > np.array(size) - 0.499)).any(-1)
    within = ((x > -0.499) & (x < np.array(size) - 0.501)).all(-1)
    assert (found.validity[0].numpy()[outside] == 0).all()
    assert (found.validity[0].numpy()[within] == 1).all()


def test_rotation_is_rigid_in_mm():
    spacing = np.array([1.0, 0.5, 3.0])
    linear, _ = linear_part(Affine((0.3, -0.4, 0.5)), spacing)
    in_mm = np.diag(spacing) @ linear.numpy() @ np.diag(1 / spacing)
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)


def test_volumes_follow_the_sampling_steps():
    x = np.indices((40, 40, 40)) - 19.5
    ball = torch.from_numpy(np.clip(9.5 - np.linalg.norm(x, axis=0), 0, 1).astype(np.float32))[None]
    where = Coordinates.of(
        Recipe(affine=Affine((0.3, 0.2, -0.3), (1.1, 0.9, 0.8), (1, 2, -1))), (40, 40, 40), (1, 1, 1), None
    )
    found = resampled(Parts(ball, ball.clone()), where, 1, "border").target
    assert (found.sum() / ball.sum()).item() == pytest.approx(1 / (1.1 * 0.9 * 0.8), rel=0.005)


def test_a_bend_is_what_its_factors_say():
    along, rest = torch.ones(SIZE[0], 1), torch.zeros(3, 1, *SIZE[1:])
    rest[2] = 1.5
    found = moved(IMAGE, Recipe(), bend=Bend(along, rest), beyond="border")
    expected = ndimage.shift(IMAGE[0].numpy(), (0, 0, -1.5), order=1, mode="nearest")
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-5)
