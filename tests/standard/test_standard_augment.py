from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.batch import Batch, Draws, sample_key
from mriad.vocabulary import LabelSet, Task
from mriad_standard import Augment
from mriad_standard.augmentation import affine_theta

TASK = Task(("c",), {"": LabelSet.of({"a": 1, "b": 2})}, "softmax")
PARTS = ("image", "target", "validity", "field")
ALL = Augment(
    flip_probability=0.5,
    affine_probability=0.7,
    translation_mm=(2, 2, 2),
    gamma_probability=0.5,
    scaling_probability=0.5,
    noise_probability=0.5,
)


def batch_of(kind="soft", size=(8, 10, 6), samples=4, seed=0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    raw = torch.rand(samples, 3, *size, generator=g)
    soft = (raw / raw.sum(1, keepdim=True))[:, 1:]
    return Batch(
        image=torch.randn(samples, 1, *size, generator=g),
        keys=tuple(sample_key(seed, "labelled", 0, str(i)) for i in range(samples)),
        cases=tuple(f"case{i}" for i in range(samples)),
        target=soft if kind == "soft" else torch.randint(0, 3, (samples, 1, *size), generator=g),
        validity=(torch.rand(samples, 1, *size, generator=g) > 0.2).float(),
        field=torch.ones(samples, 1, *size),
        spacing=((1.0, 2.0, 3.0)[: len(size)],) * samples,
    ).to(device)


def apply(config, batch, tag="0"):
    return config.build(TASK)(batch, Draws(batch.keys, tag, batch.image.device))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_identity_by_default(kind):
    batch = batch_of(kind)
    out = apply(Augment(), batch)
    assert all(torch.equal(getattr(out, p), getattr(batch, p)) for p in PARTS)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("size", [(8, 10, 6), (8, 10)])
def test_result_does_not_depend_on_batch_mates_and_input_is_kept(kind, size):
    batch = batch_of(kind, size)
    before = {p: getattr(batch, p).clone() for p in PARTS}
    together = apply(ALL, batch)
    for i in range(len(batch)):
        row = {p: getattr(batch, p)[i : i + 1] for p in PARTS}
        alone = apply(
            ALL, replace(batch, **row, keys=batch.keys[i : i + 1], cases=("x",), spacing=batch.spacing[:1])
        )
        for p in PARTS:
            torch.testing.assert_close(getattr(alone, p)[0], getattr(together, p)[i], rtol=0, atol=0)
    assert all(torch.equal(getattr(batch, p), before[p]) for p in PARTS)
    assert together.target.dtype == batch.target.dtype
    assert all(torch.isfinite(getattr(together, p)).all() for p in PARTS)


def test_switching_one_step_on_keeps_the_draws_of_the_others():
    batch = batch_of()
    flipped = apply(Augment(flip_probability=0.5), batch)
    both = apply(Augment(flip_probability=0.5, noise_probability=0.3, gamma_probability=1), batch)
    assert torch.equal(flipped.target, both.target)
    assert not torch.equal(flipped.image, both.image)


def test_probabilities_are_kept():
    batch = batch_of(size=(4, 4, 4), samples=600)
    asym = torch.arange(64.0).reshape(1, 1, 4, 4, 4).repeat(600, 1, 1, 1, 1)
    out = apply(Augment(flip_probability=0.3, flip_axes=["x"]), replace(batch, image=asym))
    rate = (out.image != asym).flatten(1).any(1).float().mean().item()
    assert rate == pytest.approx(0.3, abs=0.06)  # three standard errors
    scaled = apply(Augment(scaling_probability=1, scaling=(2, 3)), replace(batch, image=asym + 1))
    factors = (scaled.image / (asym + 1))[:, 0, 0, 0, 0]
    assert 2 <= factors.min() <= 2.05 < 2.95 < factors.max() <= 3


def test_flips_are_exact():
    batch = batch_of("hard", samples=1)
    out = apply(Augment(flip_probability=1, flip_axes=["x", "z"]), batch)
    for p in PARTS:
        assert torch.equal(getattr(out, p), getattr(batch, p).flip(2, 4))


def theta_of(angles, scale, shift, spacing, size):
    as_tensor = [torch.tensor([v], dtype=torch.float32) for v in (angles, scale, shift, spacing)]
    return affine_theta(*as_tensor, size)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(-60, 60)] * 3),
    st.integers(70, 140),
    st.tuples(*[st.integers(-30, 30)] * 3),
    st.tuples(*[st.integers(5, 30)] * 3),
)
def test_affine_agrees_with_simpleitk(degrees, percent, shift, spacing):
    # Whole numbers: the oracle's own inverse fails on an angle of 1e-309.
    angles, scale = np.deg2rad(degrees).tolist(), percent / 100
    shift, spacing = (tuple(v / 10 for v in values) for values in (shift, spacing))
    size = (11, 9, 7)
    image = np.random.default_rng(0).random(size, dtype=np.float32)
    theta = theta_of(angles, scale, shift, spacing, size)
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    ours = F.grid_sample(
        torch.from_numpy(image)[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0, 0].numpy()

    # An image whose axes are the array's, in mm; the oracle resamples by the inverse of the anatomy's motion.
    itk = SimpleITK.GetImageFromArray(image.transpose(2, 1, 0))
    itk.SetSpacing([float(s) for s in spacing])
    motion = SimpleITK.Similarity3DTransform()
    turn = SimpleITK.Euler3DTransform()
    turn.SetComputeZYX(True)  # R = Rz·Ry·Rx
    turn.SetRotation(*[float(a) for a in angles])
    motion.SetMatrix((np.array(turn.GetMatrix()) * scale).tolist(), 1e-6)
    motion.SetCenter([float((n - 1) / 2 * s) for n, s in zip(size, spacing, strict=True)])
    motion.SetTranslation([float(t) for t in shift])
    oracle = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(itk, itk, motion.GetInverse(), SimpleITK.sitkLinear, 0.0)
    ).transpose(2, 1, 0)
    inside = F.grid_sample(torch.ones(1, 1, *size), grid, padding_mode="zeros", align_corners=False)[
        0, 0
    ].numpy()
    assert np.abs(ours - oracle)[inside > 0.9999].max(initial=0) < 2e-3


def test_affine_in_two_dimensions_turns_about_the_last_axis():
    theta = theta_of([0.3, 0.2, math.pi / 2], 1.0, [0, 0, 0], [1, 1], (5, 5))
    image = torch.arange(25.0).reshape(1, 1, 5, 5)
    out = F.grid_sample(image, F.affine_grid(theta, [1, 1, 5, 5], align_corners=False), align_corners=False)
    # Counter-clockwise from x to y: what was at (c + 1, c) is now at (c, c + 1).
    torch.testing.assert_close(out[0, 0, 2, 3], image[0, 0, 3, 2])
    torch.testing.assert_close(out[0, 0], torch.from_numpy(np.rot90(image[0, 0].numpy()).copy()))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_image_target_validity_and_field_move_together(kind):
    axes = torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij")
    ball = torch.sigmoid(5 - sum((a - c) ** 2 for a, c in zip(axes, (6, 9, 7), strict=True)).sqrt())[
        None, None
    ]
    batch = Batch(
        ball,
        (5,),
        ("a",),
        ball if kind == "soft" else (ball > 0.5).long(),
        (ball > 0.1).float(),
        spacing=((1.0,) * 3,),
    )
    out = apply(Augment(affine_probability=1, rotation_deg=(40, 40, 40)), batch)
    assert not torch.equal(out.image, batch.image)
    if kind == "soft":
        assert torch.equal(out.target, out.image)
    else:
        assert out.target.dtype == torch.int64
        far = (out.image - 0.5).abs() > 0.2
        assert torch.equal((out.image > 0.5)[far], (out.target == 1)[far])
    # Beside a soft target validity shrinks by the voxels that were mixed across its border.
    assert out.image[out.validity > 0].min() > 0.05
    assert out.validity[out.image > 0.6].float().mean() > 0.95


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_image_and_soft_target_are_interpolated_linearly(kind):
    plane = torch.arange(16.0)[:, None, None].expand(16, 16, 16)[None, None] / 16
    batch = Batch(
        plane, (3,), ("a",), plane if kind == "soft" else (16 * plane).long(), spacing=((1.0,) * 3,)
    )
    out = apply(Augment(affine_probability=1, rotation_deg=(20, 20, 20), scale=(1.1, 1.3)), batch)
    inner = (..., slice(5, 11), slice(5, 11), slice(5, 11))
    for part in ("image", "target") if kind == "soft" else ("image",):
        values = getattr(out, part)[inner]
        # A rotated ramp is a ramp: its second differences vanish, and its first do not.
        assert all(values.diff(n=2, dim=d).abs().max() < 1e-5 for d in (2, 3, 4))
        assert any(values.diff(dim=d).abs().min() > 1e-3 for d in (2, 3, 4))
    if kind == "hard":
        assert ((out.target - 16 * out.image)[inner].abs() <= 1).all()


def test_what_comes_from_outside_is_hidden():
    batch = replace(batch_of(size=(8, 8, 8), samples=1), validity=None, spacing=((1.0,) * 3,))
    config = Augment(affine_probability=1, rotation_deg=(0, 0, 0), scale=(0.5, 0.5))
    out = apply(config, batch)
    inner = torch.zeros(1, 1, 8, 8, 8)
    inner[:, :, 2:6, 2:6, 2:6] = 1
    assert torch.equal(out.validity, inner)
    assert torch.equal(out.field, inner)
    assert out.image.abs().min() > 0  # the border repeats; no made-up zeros


def test_soft_target_beside_hidden_voxels_is_hidden():
    soft = torch.zeros(1, 1, 8, 8)
    soft[..., 4:, :] = 1
    validity = torch.ones(1, 1, 8, 8)
    validity[..., 4:, :] = 0
    batch = Batch(soft.clone(), (1,), ("a",), soft, validity, spacing=((1.0, 1.0),))
    config = Augment(affine_probability=1, rotation_deg=(0, 0, 45), scale=(1.3, 1.3))
    out = apply(config, batch)
    assert (out.validity == 1).any()
    assert (out.target[out.validity > 0] < 0.01).all()


def test_gamma_keeps_range_and_order():
    batch = batch_of(samples=3)
    constant = batch.image.clone()
    constant[1] = 4.0
    out = apply(Augment(gamma_probability=1, gamma=(2, 2)), replace(batch, image=constant)).image
    x = constant[0].numpy()
    expected = ((x - x.min()) / (x.max() - x.min())) ** 2 * (x.max() - x.min()) + x.min()
    np.testing.assert_allclose(out[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out[1], constant[1])


def test_noise_has_the_asked_standard_deviation():
    batch = batch_of(size=(24, 24, 24), samples=2)
    noise = apply(Augment(noise_probability=1, noise_std=(0.3, 0.3)), batch).image - batch.image
    assert noise.std().item() == pytest.approx(0.3, rel=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_settings_are_checked():
    assert Augment(margin_voxels=6).margin() == 6
    with pytest.raises(ValueError, match="from low to high, not from 2"):
        Augment(scale=(2, 1))
    with pytest.raises(ValueError, match="affine_probability"):
        Augment(affine_probability=1.5)
    with pytest.raises(ValueError, match=r"gamma\.0"):
        Augment(gamma=(0, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_device_and_cpu_agree(kind):
    config = ALL.model_copy(update={"noise_probability": 0.0})  # dense noise is drawn on the device
    torch.testing.assert_close(
        *[apply(config, batch_of(kind, device=d)).to("cpu").image for d in ("cpu", "cuda")],
        rtol=1e-4,
        atol=1e-4,
    )
