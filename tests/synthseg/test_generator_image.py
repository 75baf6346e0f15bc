"""The generator's intensities: synthseg.md section 9, checks 3 to 6 and 8, and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generator_inputs import BACKENDS, SIDED, a_batch, a_map, a_task, made, still
from mriad.batch import Batch, Draws, sample_key
from mriad.vocabulary import LabelSet
from mriad_synthseg.drawing import draw
from mriad_synthseg.fields import upsampled
from mriad_synthseg.generate import Generate
from mriad_synthseg.painting import Palette, acquisition, blurred, finished, kernel
from scipy import ndimage


def drawn_for(config: Generate, batch: Batch, tag: str = "t"):
    """The parameters of the batch's first sample, as `made` draws them."""
    inside = tuple(batch.target.shape[2:])
    return draw(
        config.settings,
        config.roles(SIDED),
        Draws(batch.keys, tag),
        channels=1,
        inside=inside,
        size=tuple(config.size) or inside,
        spacing=batch.spacing,
        shapes=config.background_shapes,
        shape_nodes=config.background_shape_nodes,
    )[0]


@BACKENDS
def test_without_noise_the_image_is_the_means_of_the_classes(backend):
    config = Generate(**still(), backend=backend)
    batch = a_batch(a_map())
    image = made(config, batch).image[0, 0]
    mean = drawn_for(config, batch).mean[0]
    classes = torch.tensor(config.roles(SIDED).classes)
    flat = mean[classes][a_map()[0]]
    assert torch.allclose(image, (flat - flat.min()) / (flat.max() - flat.min()), atol=1e-6)
    assert len(image.unique()) == 5  # background and the four classes of six structures
    assert image[a_map()[0] == 1].unique() == image[a_map()[0] == 2].unique()


@BACKENDS
def test_moments_of_each_class(backend):
    """Within 4 standard errors of the draw, up to the linear map to [0, 1]."""
    config = Generate(**still(std=(5, 25)), backend=backend)
    index = a_map((48, 40, 44))
    batch = a_batch(index)
    drawn = drawn_for(config, batch)
    image = made(config, batch).image[0, 0]
    classes = torch.tensor(config.roles(SIDED).classes)[index[0]]
    # The map to [0, 1] is unknown from outside: it is found from two classes, and the others must fit.
    found = {k: image[classes == k] for k in range(5)}
    means = torch.tensor([float(found[k].mean()) for k in range(5)])
    slope, offset = np.polyfit(
        drawn.mean[0].numpy(), means.numpy(), 1, w=[len(found[k]) ** 0.5 for k in range(5)]
    )
    for k in range(5):
        n, sigma = len(found[k]), float(drawn.std[0, k])
        assert (
            abs((float(found[k].mean()) - offset) / slope - float(drawn.mean[0, k])) < 4.5 * sigma / n**0.5
        ), k
        assert abs(float(found[k].std()) / slope - sigma) < 4.5 * sigma / (2 * n) ** 0.5, k


def test_sides_share_a_gaussian_and_classes_do_not():
    config = Generate(**still(std=(5, 25)))
    drawn = drawn_for(config, a_batch(a_map()))
    shared = Palette.of(drawn, config.roles(SIDED))
    assert shared.mean[0, 1] == shared.mean[0, 2]
    assert shared.std[0, 4] == shared.std[0, 5]
    assert len(shared.mean[0].unique()) == len(shared.std[0].unique()) == 5
    literal = Generate(preset="head").roles(SIDED)
    assert len(set(literal.classes)) == 7


@BACKENDS
def test_edges_of_image_and_target_coincide(backend):
    """Deformed, nothing warps the image after it is painted: boundary voxels are one set."""
    config = Generate(
        **{**still(), "rotation_deg": 15, "velocity_std": (2, 2), "scaling": 0.1},
        share_sides=False,
        backend=backend,
    )
    batch = made(config, a_batch(a_map()))
    image, target = batch.image[0, 0], batch.target[0, 0].int()
    assert not torch.equal(target, a_map()[0].int())
    for axis in range(3):
        assert torch.equal(image.diff(dim=axis) != 0, target.diff(dim=axis) != 0)


@BACKENDS
@pytest.mark.parametrize("preset", ["paper", "code2020", "head"])
def test_images_fill_the_range(preset, backend):
    config = Generate(preset=preset, backend=backend, size=[12, 10, 11])
    batch = a_batch(*[a_map()] * 60)
    image = made(config, batch).image
    assert torch.isfinite(image).all()
    assert (image.amin((1, 2, 3, 4)) == 0).all()
    assert torch.allclose(image.amax((1, 2, 3, 4)), torch.tensor(1.0), atol=1e-6)
    assert image.max() <= 1 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "code2020", "head"])
def test_a_thousand_draws(preset):
    batch = a_batch(*[a_map((12, 12, 12))] * 1000)
    image = made(Generate(preset=preset), batch).image
    assert torch.isfinite(image).all()
    assert (image.amin((1, 2, 3, 4)) == 0).all()
    assert torch.allclose(image.amax((1, 2, 3, 4)), torch.tensor(1.0), atol=1e-6)


@BACKENDS
def test_maps_of_one_label(backend):
    """σ > 0 fills the range; σ = 0 is a constant image, which becomes 0 and no NaN."""
    alone = torch.full((1, 8, 8, 8), 3)
    noisy = made(Generate(**still(std=(5, 25)), backend=backend), a_batch(alone)).image
    assert (noisy.min(), noisy.max()) == (0, pytest.approx(1))
    flat = made(Generate(**still(), backend=backend), a_batch(alone)).image
    assert torch.equal(flat, torch.zeros(1, 1, 8, 8, 8))
    nothing = made(Generate(**still(), backend=backend), a_batch(torch.zeros(1, 8, 8, 8, dtype=torch.int64)))
    assert torch.equal(nothing.image, torch.zeros(1, 1, 8, 8, 8))
    assert torch.equal(nothing.target.int(), torch.zeros(1, 1, 8, 8, 8, dtype=torch.int32))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.3])
def test_blur_is_scipys(sigma):
    image = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(image.numpy().astype(np.float64), sigma, mode="nearest")
    assert np.allclose(blurred(image, sigma), expected, atol=1e-6)
    assert float(kernel(sigma).sum()) == pytest.approx(1)


def test_the_papers_blur_barely_blurs():
    """Specs section 7, item 9: at σ = .3 a neighbour weighs about .4 %."""
    assert float(kernel(0.3)[0]) == pytest.approx(0.004, abs=0.0005)
    assert len(kernel(0.3)) == 3


def test_bias():
    assert torch.equal(upsampled(torch.zeros(1, 4, 4, 4), (8, 9, 10)).exp(), torch.ones(1, 8, 9, 10))
    draws = Draws(tuple(range(200)), "t")
    config = Generate(bias_std=(0.5, 0.5))
    found = draw(
        config.settings,
        config.roles(SIDED),
        draws,
        channels=1,
        inside=(8, 8, 8),
        size=(8, 8, 8),
        spacing=[(1, 1, 1)] * 200,
    )
    fields = torch.stack([upsampled(d.bias, (8, 8, 8)) for d in found])
    assert abs(float(fields.mean())) < 4 * 0.5 / (200 * 64) ** 0.5 * 2  # nodes weigh unequally inside
    assert fields[..., 0, 0, 0].std() == pytest.approx(0.5, rel=0.15)
    assert (fields.exp() > 0).all()


@BACKENDS
def test_bias_multiplies(backend):
    """Two constant tissues: the ratio of image to class mean is the field itself."""
    config = Generate(**still(bias_std=(0.4, 0.4), clip=1e6, background_zero_probability=1), backend=backend)
    batch = a_batch(a_map())
    drawn = drawn_for(config, batch)
    image = made(config, batch).image[0, 0].double()
    classes = torch.tensor(config.roles(SIDED).classes)[a_map()[0]]
    painted = drawn.mean[0][classes].double() * upsampled(drawn.bias, (24, 20, 22))[0].double().exp()
    assert torch.allclose(image, painted / painted.max(), atol=1e-5)


def test_clip_range_and_exponent():
    image = torch.tensor([[[-5.0, 0, 100, 300, 900]]])
    assert torch.allclose(finished(image.clone(), 300, 1), torch.tensor([[[0, 0, 1 / 3, 1, 1]]]))
    assert torch.allclose(finished(image.clone(), 300, 2), torch.tensor([[[0, 0, 1 / 9, 1, 1]]]))


@BACKENDS
def test_background_kinds_and_skull_stripping(backend):
    batch = a_batch(*[a_map()] * 40)
    zero = made(Generate(**still(background_zero_probability=1, std=(5, 25)), backend=backend), batch).image
    outside = a_map() == 0
    assert (zero[:, outside] == 0).all()
    low = drawn_for(Generate(**still(background_low_probability=1)), a_batch(a_map()))
    assert 0 <= low.mean[0, 0] < 15
    assert 0 <= low.std[0, 0] < 5
    config = Generate(
        **still(strip_probability=1, background_zero_probability=1), extracerebral=["skull"], backend=backend
    )
    after = made(config, batch)
    skull = a_map() == 6
    assert (after.image[:, skull] == 0).all()
    assert (after.target[:, skull] == 0).all()
    assert (after.target[:, a_map() == 3] == 3).all()


@BACKENDS
def test_the_background_is_cut_into_smooth_shapes(backend):
    config = Generate(**still(), background_shapes=5, background_shape_nodes=3, backend=backend)
    batch = made(config, a_batch(a_map((40, 40, 40))))
    background = a_map((40, 40, 40))[0] == 0
    values = batch.image[0, 0][background]
    assert 3 <= len(values.unique()) <= 5
    assert torch.equal(batch.target[0, 0].int(), a_map((40, 40, 40))[0].int())
    same = batch.image[0, 0].diff(dim=0)[:, :3, :3] == 0  # a corner of the volume is background alone
    assert same.float().mean() > 0.8  # shapes, not speckle
    drawn = drawn_for(config, a_batch(a_map((40, 40, 40))))
    fields = upsampled(drawn.shapes, (40, 40, 40))
    means = drawn.shape_mean[0][fields.argmax(0)][background]
    order = np.argsort(means.numpy())
    assert (np.diff(values.numpy()[order]) >= -1e-6).all()


def test_an_acquisition_is_blur_samples_and_interpolation():
    """The matrix against its three parts done by SciPy, and what it must keep."""
    n, step, sigma = 41, 4.0, 3.0
    rng = np.random.default_rng(0)
    line = ndimage.gaussian_filter1d(rng.normal(size=n), 1)
    smooth = ndimage.gaussian_filter1d(line, sigma, mode="nearest")
    places = np.arange(0, 41, 4.0)
    expected = np.interp(np.arange(n), places, np.interp(places, np.arange(n), smooth))
    operator = acquisition(n, step, sigma).numpy()
    assert np.allclose(operator @ line, expected, atol=1e-6)
    assert np.allclose(operator.sum(1), 1)
    assert np.allclose(
        acquisition(n, 1.0, 0.5).numpy() @ line, ndimage.gaussian_filter1d(line, 0.5, mode="nearest")
    )


def test_coarser_acquisitions():
    """Spacing and thickness within their limits, in mm; anisotropic ones are coarser along one axis."""
    draws = Draws(tuple(range(500)), "t")
    config = Generate(preset="head", resolution_isotropic_probability=0.5, blur_factor=1)
    found = draw(
        config.settings,
        config.roles(SIDED),
        draws,
        channels=1,
        inside=(8, 8, 8),
        size=(8, 8, 8),
        spacing=[(1.0, 1.0, 1.5)] * 500,
    )
    native = np.array([1, 1, 1.5])
    mm = np.array([d.acquisition.step for d in found]) * native
    sigma = np.array([d.acquisition.sigma for d in found])
    coarser = mm > native
    assert set(coarser.sum(1)) == {1, 3}
    assert mm[coarser.sum(1) == 3].max() <= 4
    assert 7 < mm[coarser.sum(1) == 1].max() <= 8
    thick = sigma / 0.75 * native
    assert (thick <= mm + 1e-9)[coarser].all()
    assert (thick >= native - 1e-9)[coarser].all()
    assert (sigma[~coarser] == 0.5).all()
    assert all(coarser[coarser.sum(1) == 1].any(0))


@BACKENDS
@pytest.mark.parametrize("limit", [1, 6])
def test_a_simulated_acquisition_is_blurred_once(limit, backend):
    """By its slice profile alone, along each axis; SciPy and NumPy take the image that is painted without either."""
    shape = (26, 24, 28)
    config = Generate(
        **still(std=(5, 25), gamma=0.3, blur_voxels=0.5, blur_factor=1.03),
        resolution_probability=1,
        resolution_isotropic_probability=0,
        resolution_anisotropic_mm=limit,
        backend=backend,
    )
    batch = a_batch(a_map(shape))
    found = made(config, batch).image[0, 0].numpy()
    bare = config.model_copy(update={"blur_voxels": 0, "resolution_probability": 0})
    expected = made(bare, batch).image[0, 0].numpy().astype(np.float64)
    alone = drawn_for(config.model_copy(update={"resolution_probability": 0}), batch).blur
    assert 0.5 / 1.03 <= alone <= 0.5 * 1.03
    scan = drawn_for(config, batch).acquisition
    for axis, (n, step, sigma) in enumerate(zip(shape, scan.step, scan.sigma, strict=True)):
        assert step > 1 or sigma == alone
        expected = ndimage.gaussian_filter1d(expected, sigma, axis=axis, mode="nearest")
        if step > 1:
            count = int((n - 1) / step) + 1
            places = (n - 1) / 2 + step * (np.arange(count) - (count - 1) / 2)
            expected = np.apply_along_axis(
                lambda line, at=places: np.interp(
                    np.arange(len(line)), at, np.interp(at, np.arange(len(line)), line)
                ),
                axis,
                expected,
            )
    assert (max(scan.step) > 1) == (limit > 1)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert np.allclose(found, expected, atol=1e-5)


@BACKENDS
def test_a_coarse_axis_is_smoother(backend):
    shape = (40, 40, 40)
    config = Generate(
        **still(std=(20, 20), resolution_probability=1, resolution_isotropic_probability=0),
        resolution_anisotropic_mm=8,
        backend=backend,
    )
    batch = a_batch(*[torch.full((1, *shape), 3)] * 6)
    image = made(config, batch).image[:, 0]
    rough = np.array([[float(im.diff(dim=a).square().mean()) for a in range(3)] for im in image])
    assert (rough.min(1) < rough.max(1) * 0.8).any()
    assert (image.amin((1, 2, 3)) == 0).all()
    assert torch.allclose(image.amax((1, 2, 3)), torch.tensor(1.0))


def test_several_channels_share_the_anatomy():
    task = a_task(channels=("T1w", "T2w"))
    batch = made(Generate(**still()), a_batch(a_map()), task)
    assert batch.image.shape[1] == 2
    assert not torch.equal(batch.image[:, 0], batch.image[:, 1])
    assert torch.equal(batch.image[:, 0].diff() != 0, batch.image[:, 1].diff() != 0)


# soft label maps


def soft(index: torch.Tensor, structures: int = 6) -> torch.Tensor:
    return torch.stack([(index[0] == s + 1).float() for s in range(structures)])


def test_soft_maps_without_mixtures_are_painted_like_hard_ones():
    hard = made(Generate(**still(std=(5, 25)), backend="torch"), a_batch(a_map()))
    mixed = made(Generate(**still(std=(5, 25))), a_batch(soft(a_map())))
    assert torch.allclose(hard.image, mixed.image, atol=1e-5)
    assert torch.allclose(mixed.target, soft(hard.target[0].long())[None], atol=1e-4)


def test_mixed_voxels_have_the_moments_of_their_mixture():
    """Mean Σ f·μ and variance Σ f·σ²."""
    pair = LabelSet.of({"a": 1, "b": 2})
    fractions = torch.zeros(1, 2, 40, 40, 40)
    fractions[:, 0], fractions[:, 1] = 1, 0
    fractions[..., 20:] = 0
    fractions[:, 0, ..., 10:30], fractions[:, 1, ..., 10:30] = 0.25, 0.75
    fractions[:, 1, ..., 30:] = 1
    config = Generate(**still(std=(10, 25), mean=(60, 200)))
    batch = Batch(
        torch.empty(1, 0, 40, 40, 40), (sample_key(0, "s", 0, "m"),), ("m",), fractions, spacing=((1.0,) * 3,)
    )
    after = made(config, batch, a_task(pair))
    pure_a, mixture, pure_b = (
        after.image[0, 0][..., s] for s in (slice(0, 10), slice(10, 30), slice(30, 40))
    )
    expected = 0.25 * pure_a.mean() + 0.75 * pure_b.mean()
    variance = 0.25 * pure_a.var() + 0.75 * pure_b.var()
    assert float(mixture.mean()) == pytest.approx(
        float(expected), abs=5 * float(variance) ** 0.5 / 16000**0.5
    )
    assert float(mixture.var()) == pytest.approx(float(variance), rel=0.08)
    assert torch.allclose(after.target, fractions, atol=1e-6)


def test_soft_maps_are_moved_linearly_and_stay_fractions():
    config = Generate(
        size=[20, 20, 20],
        translation_voxels=0,
        background_shapes=3,
        structures=["left_thalamus", "right_thalamus"],
    )
    after = made(config, a_batch(soft(a_map()), soft(a_map())))
    assert tuple(after.target.shape) == (2, 2, 20, 20, 20)
    assert after.target.min() >= 0
    assert after.target.max() <= 1
    between = (after.target > 0.01) & (after.target < 0.99)
    assert between.any()
    assert torch.isfinite(after.image).all()
