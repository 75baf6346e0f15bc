"""The augmenters whole: contracts, back ends, determinism, labels, agreement with MONAI's chain in distribution."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.batch import Batch, Draws, sample_key
from mriad.errors import DataError, ExperimentError
from mriad.testing import a_batch, a_task, check_augmenter
from mriad_softseg import Augment, BigAug, LiteralAugment, LiteralBigAug, MonaiChain, fused
from mriad_softseg.big_aug import Stack
from mriad_softseg.coordinates import Coordinates, displacement, nodes
from mriad_softseg.recipes import Affine, Recipe, draw_chain
from mriad_softseg.resampling import Parts, resampled
from mriad_softseg.stacked import draw_stack, sharpened
from scipy import ndimage, stats

compiled = pytest.importorskip("mriad_softseg.compiled", reason="numba is not installed")

TASK = a_task("raw")
ALL = dict.fromkeys(
    [
        "affine_probability",
        "elastic_probability",
        "low_resolution_probability",
        "gamma_probability",
        "bias_probability",
        "noise_probability",
        "blur_probability",
        "scaling_probability",
    ],
    1.0,
)
NONE = {**dict.fromkeys(ALL, 0.0), "flip_probability": 0.0}
STACKED = [name for name in Stack.model_fields if name.endswith("_probability")]


def run(config, batch, keys=None):
    batch = batch if keys is None else replace(batch, keys=tuple(keys))
    return config.build(TASK)(batch, Draws(batch.keys, "augment"))


def keys_of(count, epoch=0):
    return tuple(sample_key(0, "labelled", epoch, f"case-{i}") for i in range(count))


@pytest.mark.parametrize(
    "config",
    [
        Augment(**ALL),
        Augment(**ALL, backend="torch"),
        Augment(**ALL, image_order=2),
        Augment(**ALL, image_order=2, backend="torch"),
        LiteralAugment(),
        LiteralAugment(**ALL, backend="torch"),
        MonaiChain(),
        BigAug(),
        BigAug(**dict.fromkeys(STACKED, 1.0), backend="torch"),
        LiteralBigAug(),
    ],
    ids=lambda c: f"{c.type_name()}-{getattr(c, 'backend', '')}",
)
def test_contract(config):
    check_augmenter(config, TASK)
    batch = a_batch(2, "soft")
    masked = replace(
        batch,
        validity=(
            torch.rand(2, 1, *batch.image.shape[2:], generator=torch.Generator().manual_seed(0)) > 0.1
        ).float(),
        field=torch.ones(2, 1, *batch.image.shape[2:]),
    )
    check_augmenter(config, TASK, masked)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 2]),
    st.sampled_from(["border", "mirror"]),
    st.sampled_from(["soft", "hard", "none"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(7, 9, 8), (10, 12, 1), (1, 6, 5)]),
)
def test_back_ends_agree(seed, order, beyond, kind, masked, bent, size):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(ndimage.gaussian_filter(rng.random((2, *size)), (0, 1, 1, 1)).astype(np.float32))
    target = {
        "soft": torch.from_numpy(rng.random((2, *size), dtype=np.float32)),
        "hard": torch.from_numpy(rng.integers(0, 3, (1, *size))),
        "none": None,
    }[kind]
    validity = torch.from_numpy((rng.random((1, *size)) > 0.1).astype(np.float32)) if masked else None
    field = torch.from_numpy((rng.random((1, *size)) > 0.1).astype(np.float32)) if masked else None
    generator = torch.Generator().manual_seed(seed)
    bend = None
    if bent:
        bend = displacement(
            2.0, 0.7, size, nodes(size, 2.0), lambda s: torch.randn(tuple(s), generator=generator)
        )
    turn = Affine(*(tuple(rng.uniform(a, b, 3).tolist()) for a, b in ((-0.5, 0.5), (0.7, 1.3), (-2, 2))))
    flip = tuple(bool(f) for f in rng.integers(0, 2, 3))
    where = Coordinates.of(Recipe(affine=turn, flip=flip), size, (1, 1.5, 2), bend)
    parts = Parts(image, target, validity, field)
    one, other = resampled(parts, where, order, beyond), compiled.resampled(parts, where, order, beyond)
    torch.testing.assert_close(other.image, one.image, rtol=0, atol=5e-5)
    # At the edge between two voxels, or of the patch, rounding decides.
    for name in ("target", "validity", "field"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            assert ((a.double() - b.double()).abs() > 5e-4).double().mean() < 0.01, name


def test_back_ends_agree_on_threads():
    batch = a_batch(2, "soft", 24)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(Augment(**ALL, backend="compiled"), batch)
        torch.set_num_threads(3)
        three = run(Augment(**ALL, backend="compiled"), batch)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one.image, three.image, rtol=0, atol=1e-4)
    assert torch.equal(one.target, three.target)
    torch.testing.assert_close(
        run(Augment(**ALL, backend="torch"), batch).image, one.image, rtol=0, atol=2e-3
    )


def test_nothing_drawn_changes_nothing():
    batch = a_batch(2, "soft")
    for config in (
        Augment(**NONE, z_score="off"),
        LiteralAugment(**NONE, z_score="off"),
        LiteralBigAug(**dict.fromkeys(STACKED, 0.0)),
    ):
        out = run(config, batch)
        assert torch.equal(out.target, batch.target)
        assert out.validity is None
        if isinstance(config, LiteralBigAug):  # only its first step is left
            mean = batch.image.mean((2, 3, 4), keepdim=True)
            std = batch.image.std((2, 3, 4), keepdim=True, correction=0)
            torch.testing.assert_close(out.image, (batch.image - mean) / std)
        else:
            assert torch.equal(out.image, batch.image)
            assert out.image.data_ptr() != batch.image.data_ptr()


def test_switching_a_step_on_leaves_the_other_draws():
    draws = [
        draw_chain(c, Draws(keys_of(20), "a"), (9, 9, 9), 3)
        for c in (Augment(), Augment(noise_probability=1))
    ]
    for one, other in zip(*draws, strict=True):
        assert replace(one, noise=0) == replace(other, noise=0)
        assert other.noise > 0
    stacks = [draw_stack(c, Draws(keys_of(20), "a"), 3) for c in (BigAug(), BigAug(blur_probability=1))]
    assert [replace(r, blur=None) for r in stacks[0]] == [replace(r, blur=None) for r in stacks[1]]


def test_draws_stay_in_their_ranges_and_come_as_often_as_they_should():
    recipes = draw_chain(Augment(), Draws(keys_of(3000), "a"), (64, 192, 320), 3)
    share = {
        "affine": 0.9,
        "elastic": 0.5,
        "bias": 0.3,
        "blur": 0.3,
    }
    for name, wanted in share.items():
        assert np.mean([getattr(r, name) is not None for r in recipes]) == pytest.approx(wanted, abs=0.03)
    for name, neutral, wanted in (
        ("zoom", 1, 0.25),
        ("gamma", 1, 0.5),
        ("noise", 0, 0.1),
        ("factor", 1, 0.15),
    ):
        assert np.mean([getattr(r, name) != neutral for r in recipes]) == pytest.approx(wanted, abs=0.03)
    flips = np.array([r.flip for r in recipes])
    np.testing.assert_allclose(flips.mean(0), 0.5, atol=0.03)
    assert abs(np.corrcoef(flips.T)[0, 1]) < 0.05
    for values, low, high in (
        ([r.affine.angles for r in recipes if r.affine], -np.deg2rad(20), np.deg2rad(20)),
        ([r.affine.steps for r in recipes if r.affine], 0.8, 1.2),
        ([r.affine.shift[0] for r in recipes if r.affine], -6.4, 6.4),
        ([r.affine.shift[2] for r in recipes if r.affine], -32, 32),
        ([r.elastic.sigma for r in recipes if r.elastic], 3.5, 5.5),
        ([r.elastic.magnitude for r in recipes if r.elastic], 25, 35),
        ([r.zoom for r in recipes if r.zoom != 1], 0.5, 1),
        ([r.gamma for r in recipes if r.gamma != 1], 0.5, 3),
        ([r.bias for r in recipes if r.bias], 0, 0.5),
        ([r.blur for r in recipes if r.blur], 0, 2),
        ([r.noise for r in recipes if r.noise], 0, 0.1),
        ([r.factor for r in recipes if r.factor != 1], 0.75, 2),
    ):
        values = np.array(values).ravel()
        assert low <= values.min()
        assert values.max() <= high
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3
    literal = draw_chain(LiteralAugment(), Draws(keys_of(500), "a"), (64, 192, 320), 3)
    assert {r.flip for r in literal} == {(False,) * 3, (True,) * 3}
    assert all(r.affine.angles[2] == 0 and r.affine.steps[2] == 1 for r in literal if r.affine)
    assert max(abs(x) for r in literal if r.affine for x in r.affine.shift) <= 0.1


def test_big_aug_never_scales_through_zero_and_the_literal_one_does():
    sound = draw_stack(BigAug(affine_probability=1), Draws(keys_of(2000), "a"), 3)
    factors = np.array([1 / r.space.affine.steps[0] for r in sound])
    assert all(len(set(r.space.affine.steps)) == 1 for r in sound)
    assert 0.4 <= factors.min() < 0.42
    assert 1.58 < factors.max() <= 1.6
    literal = draw_stack(LiteralBigAug(affine_probability=1), Draws(keys_of(2000), "a"), 3)
    steps = np.array([r.space.affine.steps for r in literal])
    assert steps[:, 1].min() < -0.5
    assert steps[:, 1].max() > 2.5
    assert 0.6 <= steps[:, 0].min() <= steps[:, 0].max() <= 1.4
    assert (steps[:, 2] == 1).all()
    # The specification's displacement: a standard deviation of 0.05 to 0.096 voxels.
    stds = [r.space.elastic.std(3) for r in literal if r.space.elastic]
    assert 0.045 < min(stds) < max(stds) < 0.1


def test_sharpening_by_scipy():
    image = a_batch(1, "soft").image[0]
    import monai.transforms as mt

    expected = mt.GaussianSharpen(sigma1=0.9, sigma2=0.6, alpha=12.0, approx="erf")(image).as_tensor()
    found = sharpened(image.clone(), 12.0, 0.9, 0.6)
    inner = (slice(None), *[slice(7, -7)] * 3)  # MONAI filters zeros in from the border
    assert found[inner].numel()
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-3, atol=1e-2)


def test_a_hidden_field_and_the_z_score():
    batch = a_batch(2, "soft")
    field = torch.ones(2, 1, *batch.image.shape[2:])
    field[:, :, :5] = 0
    image = batch.image.clone()
    image[:, :, :5] = 1e4  # padding that must not enter the statistics
    out = run(Augment(**{**NONE, "affine_probability": 1.0}), replace(batch, image=image, field=field))
    for i in range(2):
        seen = out.field[i, 0] > 0
        assert 0.1 < seen.float().mean() < 1
        inner = out.image[i, 0][seen]
        assert inner.mean().item() == pytest.approx(0, abs=1e-4)
        assert inner.std(correction=0).item() == pytest.approx(1, abs=1e-4)
        # Beyond the patch nothing was acquired, and nothing is annotated.
        assert ((out.field[i] > 0) <= (out.validity[i] > 0)).all()


def test_beside_a_soft_target_no_hidden_voxel_is_mixed_in():
    batch = a_batch(1, "soft", 20)
    validity = torch.ones(1, 1, *batch.image.shape[2:])
    validity[..., 10:] = 0
    target = batch.target.clone()
    target[..., 10:] = 1.0  # would leak
    clean = target.clone()
    clean[..., 10:] = 0.0
    results = [
        run(Augment(**{**NONE, "affine_probability": 1.0}), replace(batch, target=t, validity=validity))
        for t in (target, clean)
    ]
    seen = (results[0].validity > 0).expand_as(target)
    assert seen.float().mean() > 0.1
    torch.testing.assert_close(results[0].target[seen], results[1].target[seen], rtol=0, atol=2e-3)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_any_linear_scale_of_the_input_gives_the_same_result(backend):
    batch = a_batch(3, "soft")
    config = Augment(**ALL, backend=backend)
    other = replace(batch, image=batch.image * 250 + 1000)
    torch.testing.assert_close(run(config, other).image, run(config, batch).image, rtol=0, atol=5e-3)
    literal = LiteralAugment(**ALL, backend=backend)
    assert (run(literal, other).image - run(literal, batch).image).abs().max() > 0.05


def test_the_noise_is_relative_or_absolute():
    batch = a_batch(1, "soft", 32)
    quiet = {**NONE, "z_score": "off"}
    for config, unit in (
        (
            Augment(**{**quiet, "noise_probability": 1}, noise_std=(0.5, 0.5)),
            batch.image.std((2, 3, 4))[0].tolist(),
        ),
        (LiteralAugment(**{**quiet, "noise_probability": 1}, noise_std=(0.5, 0.5)), (1.0, 1.0)),
    ):
        added = (run(config, batch).image - batch.image)[0]
        for channel, u in zip(added, unit, strict=True):
            assert channel.mean().item() == pytest.approx(0, abs=0.03 * u)
            assert channel.std().item() == pytest.approx(0.5 * u, rel=0.05)


@pytest.mark.parametrize("config", [Augment(**ALL), Augment(**ALL, backend="torch"), BigAug()])
def test_slices(config):
    volume = a_batch(2, "soft")
    flat = Batch(
        volume.image[..., 5],
        volume.keys,
        volume.cases,
        volume.target[..., 5],
        spacing=tuple(s[:2] for s in volume.spacing),
    )
    out = run(config, flat)
    assert out.image.shape == flat.image.shape
    assert out.target.shape == flat.target.shape
    assert torch.isfinite(out.image).all()
    assert 0 <= out.target.min() <= out.target.max() <= 1
    check_augmenter(config, a_task("raw"), flat)


def test_the_compiled_back_end_says_why_it_cannot_be_had(monkeypatch):
    with pytest.raises(ExperimentError, match=r"(?s)compiled back end.*cuda.*on the CPU; or backend: auto"):
        fused.resample(Augment(backend="compiled"), torch.device("cuda"))
    assert fused.resample(Augment(), torch.device("cuda")) is resampled
    monkeypatch.setattr(fused, "has_numba", lambda: False)
    with pytest.raises(ExperimentError, match=r"(?s)not installed.*mriad-softseg\[fast\]"):
        Augment(backend="compiled").build(TASK)
    with pytest.raises(ExperimentError, match="not installed"):
        BigAug(backend="compiled").build(TASK)
    assert fused.resample(Augment(), torch.device("cpu")) is resampled


def test_auto_runs_where_numba_cannot_be_imported(monkeypatch):
    real = builtins.__import__

    def no_numba(name, *args, **kwargs):
        if name == "numba" or name.startswith("numba."):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(fused, "has_numba", lambda: False)
    monkeypatch.setattr(builtins, "__import__", no_numba)
    monkeypatch.delitem(sys.modules, "mriad_softseg.compiled", raising=False)
    batch = a_batch(1, "soft")
    assert torch.equal(run(Augment(**ALL), batch).image, run(Augment(**ALL, backend="torch"), batch).image)


def test_what_monais_chain_cannot_do_is_said():
    with pytest.raises(ExperimentError, match=r"(?s)softseg.monai_chain needs volumes.*2D.*softseg.augment"):
        MonaiChain().build(replace(TASK, dimensions=2))
    with pytest.raises(ExperimentError, match=r"(?s)from 0 upwards.*begin the range at 0"):
        MonaiChain(noise_std=(0.05, 0.1)).build(TASK)
    batch = a_batch(1, "soft")
    with pytest.raises(DataError, match=r"(?s)MONAI's chain.*case-0"):
        run(MonaiChain(**NONE), replace(batch, image=batch.image * float("inf")))


def cord(size=(24, 32, 40)):
    """A soft tube off the centre in a textured body on intensities of hundreds, nothing acquired beyond it."""
    rng = np.random.default_rng(0)
    x = np.indices(size) - (np.array(size)[:, None, None, None] - 1) / 2
    tube = np.clip(4.5 - np.hypot(x[0] - 2, x[1] + 4), 0, 1)
    body = (np.hypot(x[0] / 11, x[1] / 15) < 1) * (1 + ndimage.gaussian_filter(rng.standard_normal(size), 1))
    image = 200 * body + 150 * tube + rng.normal(0, 5, size)
    return (
        torch.from_numpy(image.astype(np.float32))[None],
        torch.from_numpy((tube * (np.abs(x[2]) < 14)).astype(np.float32))[None],
    )


def described(image, target):
    """What is compared between two chains."""
    image, target = image.double().numpy()[0], target.double().numpy()[0]
    mass = target.sum()
    place = [(np.indices(target.shape)[axis] * target).sum() / mass for axis in range(3)]
    spread = np.sqrt(
        sum(((np.indices(target.shape)[a] - place[a]) ** 2 * target).sum() / mass for a in (0, 1))
    )
    inside = (image * target).sum() / mass
    return {
        "mass": mass,
        **{f"place{axis}": p for axis, p in enumerate(place)},
        "spread": spread,
        "gradient": np.mean([np.abs(np.diff(image, axis=axis)).mean() for axis in range(3)]),
        "skewness": stats.skew(image.ravel()),
        "contrast": inside,
        "soft": ((target > 0.05) & (target < 0.95)).sum() / mass,
    }


@pytest.mark.slow
@pytest.mark.parametrize("elastic", [0.5, 0.0])
def test_the_fused_chain_and_monais_agree_in_distribution(elastic):
    image, target = cord()
    found = []
    for config, epoch in ((LiteralAugment, 0), (MonaiChain, 1), (Augment, 2)):
        built, rows = config(elastic_probability=elastic).build(a_task("raw", ("a",))), []
        for key in keys_of(90, epoch):
            batch = Batch(image[None], (key,), ("case",), target[None], spacing=((1.0, 1.0, 1.0),))
            out = built(batch, Draws(batch.keys, "augment"))
            rows.append(described(out.image[0], out.target[0]))
        found.append({name: np.array([row[name] for row in rows]) for name in rows[0]})
    fused_, monai, sound = found
    for name in fused_:
        if name in ("gradient", "soft") and elastic:
            continue
        assert stats.ks_2samp(fused_[name], monai[name]).pvalue > 0.005, name
    if elastic:
        # MONAI interpolates once more where it bends, which blurs image and soft target; that is what fusing spares.
        assert fused_["gradient"].mean() > 1.02 * monai["gradient"].mean()
        assert fused_["soft"].mean() < 0.95 * monai["soft"].mean()
    # The comparison can fail: the sound defaults really move along the last axis.
    assert stats.ks_2samp(sound["place2"], monai["place2"]).pvalue < 1e-4
