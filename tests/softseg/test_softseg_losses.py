from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mriad.errors import ExperimentError, ShapeError
from mriad.testing import a_task, check_loss
from mriad_softseg import AdaptiveWing, LiteralDeepSupervision, LiteralDiceCE, NormReLUInLoss
from mriad_softseg.loss_functions import adaptive_wing, edge_map
from mriad_standard import MSE, CrossEntropy, DeepSupervision, Dice, DiceCE
from scipy import ndimage

# specs/softseg.md section 6, six printed decimals: y, A, C, L(.1), L(θ), L(1).
TABLE = [
    (0.0, 6.355098, 1.500272, 0.063295, 1.677277, 4.854826),
    (0.25, 6.427793, 1.255330, 0.112212, 1.958566, 5.172463),
    (0.5, 6.350099, 0.894358, 0.198469, 2.280692, 5.455741),
    (0.75, 6.086014, 0.395396, 0.349596, 2.647611, 5.690618),
    (1.0, 5.598771, -0.263733, 0.611486, 3.063119, 5.862504),
]
SLOPES = [
    (0.0, 0.1, 1.323955),
    (0.0, 0.01, 0.105994),
    (0.5, 0.1, 3.136431),
    (1.0, 0.1, 6.475705),
    (1.0, 0.01, 5.517611),
    (1.0, 0.001, 4.408238),
]


def wing_by_hand(y, p, omega=8.0, epsilon=1.0, theta=0.5, alpha=2.1):
    """One voxel in plain floats, from the equations of the wing paper."""
    d, e = abs(y - p), alpha - y
    ratio = (theta / epsilon) ** e
    slope = omega * (1 / (1 + ratio)) * e * (theta / epsilon) ** (e - 1) / epsilon
    offset = theta * slope - omega * math.log(1 + ratio)
    return omega * math.log(1 + (d / epsilon) ** e) if d < theta else slope * d - offset


def value(y, d):
    return adaptive_wing(
        torch.tensor(y + d, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    ).item()


@pytest.mark.parametrize(("y", "slope", "offset", "small", "at_theta", "at_one"), TABLE)
def test_table_of_the_specification(y, slope, offset, small, at_theta, at_one):
    assert value(y, -0.1) == pytest.approx(small, abs=5e-7)
    assert value(y, 0.5) == pytest.approx(at_theta, abs=5e-7)
    assert value(y, 1.0) == pytest.approx(at_one, abs=5e-7)
    # Beyond θ the loss is A·d − C.
    assert value(y, 3.0) - value(y, 2.0) == pytest.approx(slope, abs=5e-7)
    assert 2 * slope - value(y, 2.0) == pytest.approx(offset, abs=2e-6)


@pytest.mark.parametrize(("y", "d", "slope"), SLOPES)
def test_gradients_of_the_specification(y, d, slope):
    for sign in (1, -1):
        p = torch.tensor(y + sign * d, dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(adaptive_wing(p, torch.tensor(y, dtype=torch.float64)), p)
        assert g.item() == pytest.approx(sign * slope, abs=5e-7)


def test_branches_meet_in_value_and_slope():
    y = torch.linspace(0, 1, 101, dtype=torch.float64)
    step = 1e-9
    sides = []
    for side in (-step, step):
        p = (y + 0.5 + side).requires_grad_()
        loss = adaptive_wing(p, y)
        sides.append((loss.detach(), torch.autograd.grad(loss.sum(), p)[0]))
    torch.testing.assert_close(sides[0][0], sides[1][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(sides[0][1], sides[1][1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("parameters", [{}, {"omega": 12.0, "epsilon": 0.5}, {"theta": 0.3, "alpha": 2.5}])
def test_agrees_with_plain_floats(parameters):
    rng = np.random.default_rng(0)
    y, p = rng.random(200), rng.normal(0.5, 1.2, 200)
    ours = adaptive_wing(torch.from_numpy(p), torch.from_numpy(y), **parameters)
    np.testing.assert_allclose(ours, [wing_by_hand(a, b, **parameters) for a, b in zip(y, p, strict=True)])


def test_zero_only_at_no_error_even_and_rising():
    d = torch.linspace(0, 2, 401, dtype=torch.float64)
    for y in (0.0, 0.3, 1.0):
        goal = torch.full_like(d, y)
        above, below = adaptive_wing(goal + d, goal), adaptive_wing(goal - d, goal)
        torch.testing.assert_close(above, below)
        assert above[0] == 0
        assert (above.diff() > 0).all()


def test_gradcheck_away_from_the_kinks():
    y = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0, 0.4], dtype=torch.float64)
    d = torch.tensor([0.1, -0.3, 0.7, -1.5, 0.05, 0.45], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: adaptive_wing(p, y), (y + d).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_everywhere_and_no_gradient_to_targets(dtype):
    y = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0, 0.3, 1.0], dtype=dtype, requires_grad=True)
    p = torch.tensor([0.0, 1e30, 0.5, 1.0, -1e30, 0.8, 1 - 1e-7], dtype=dtype, requires_grad=True)
    loss = adaptive_wing(p, y)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(p.grad).all()
    assert y.grad is None
    assert p.grad[[0, 2, 3]].tolist() == [0, 0, 0]  # no error, no slope, at any target


def test_reduction_weight_and_hard_targets(make_task):
    rng = torch.Generator().manual_seed(1)
    p, y = torch.randn(2, 2, 3, 4, 5, generator=rng), torch.rand(2, 2, 3, 4, 5, generator=rng)
    weight = (torch.rand(2, 1, 3, 4, 5, generator=rng) > 0.4).float()
    task = make_task(structures=2)
    voxels = adaptive_wing(p, y)
    mean = AdaptiveWing().build(task)
    torch.testing.assert_close(mean(p, y), voxels.mean())
    seen = (voxels * weight).sum((1, 2, 3, 4)) / (2 * weight.sum((1, 2, 3, 4)))
    torch.testing.assert_close(mean(p, y, weight), seen.mean())
    total = AdaptiveWing(reduction="sum").build(task)
    torch.testing.assert_close(total(p, y), voxels.sum() / 2)
    torch.testing.assert_close(total(p, y, weight), (voxels * weight).sum() / 2)
    hard = torch.randint(0, 3, (2, 1, 3, 4, 5), generator=rng)
    maps = torch.cat([hard == 1, hard == 2], 1).float()
    torch.testing.assert_close(mean(p, hard, weight), mean(p, maps, weight))
    with pytest.raises(ShapeError, match="soft targets have one channel a structure"):
        mean(p, y[:, :1])


def literal_weight_map(target):
    """The public code's map, in plain SciPy: an opening where a dilation is meant, and 0.2 in units of 255."""
    opened = ndimage.binary_opening(target, structure=np.ones((3, 3, 3)))
    return np.where(opened >= 0.2 * 255, 1 + 10 * opened, 1)


def test_the_weight_map_of_the_public_code_does_nothing():
    rng = np.random.default_rng(0)
    for threshold in (0.0, 0.5, 0.9):
        target = rng.random((8, 9, 10)) * (rng.random((8, 9, 10)) > threshold)
        assert (literal_weight_map(target) == 1).all()


def test_edge_weight_is_the_map_that_was_meant():
    target = np.zeros((9, 9, 9), np.float32)
    target[3:6, 3:6, 2:7] = 0.7
    target[8, 8, 8] = 0.1  # below 0.2: no edge
    shell = ndimage.grey_dilation(target, size=(3, 3, 3), mode="constant") > 0.2
    found = edge_map(torch.from_numpy(target)[None, None], 10)[0, 0].numpy()
    np.testing.assert_array_equal(found, np.where(shell, 11, 1))
    assert shell.sum() == 5 * 5 * 7
    y, p = torch.from_numpy(target)[None, None], torch.zeros(1, 1, 9, 9, 9) + 0.2
    expected = (adaptive_wing(p, y) * torch.from_numpy(np.where(shell, 11.0, 1.0))).mean()
    task = a_task("raw", ("a",))
    # a_task has two structures: give both the same maps.
    both = AdaptiveWing(edge_weight=10).build(task)(p.repeat(1, 2, 1, 1, 1), y.repeat(1, 2, 1, 1, 1))
    assert both.item() == pytest.approx(expected.item(), rel=1e-6)


def test_softmax_over_one_channel_costs_nothing():
    """Item 4 of the specification: why the paper's DiceCE rows are Dice rows."""
    logits = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.rand(2, 1, 4, 4, 4)
    assert F.cross_entropy(logits, target).item() == 0


def test_literal_dice_ce_is_dice_of_the_batch_maximum(make_task):
    rng = torch.Generator().manual_seed(0)
    raw, y = torch.randn(2, 1, 4, 5, 6, generator=rng), torch.rand(2, 1, 4, 5, 6, generator=rng)
    p = raw.clamp(min=0).numpy() / raw.max().item()
    dice = [(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, y.numpy(), strict=True)]
    found = LiteralDiceCE().build(make_task())(raw, y)
    assert found.item() == pytest.approx(1 - np.mean(dice), abs=1e-6)


def test_norm_relu_in_loss(make_task):
    rng = torch.Generator().manual_seed(0)
    raw, y = torch.randn(2, 2, 4, 5, 6, generator=rng), torch.rand(2, 2, 4, 5, 6, generator=rng)
    task = make_task(structures=2)
    p = raw.clamp(min=0) / raw.clamp(min=0).flatten(2).max(2).values[:, :, None, None, None]
    loss = NormReLUInLoss(loss=MSE()).build(task)
    torch.testing.assert_close(loss(raw, y), (p - y).square().mean())
    torch.testing.assert_close(loss(7 * raw, y), loss(raw, y))
    nothing = -torch.rand(2, 2, 4, 5, 6, generator=rng)
    leaf = nothing.requires_grad_()
    value = loss(leaf, y)
    value.backward()
    torch.testing.assert_close(value, y.square().mean())
    assert torch.isfinite(leaf.grad).all()
    with pytest.raises(ValueError, match=r"standard.dice_ce reads outputs as softmax.*link: raw"):
        NormReLUInLoss(loss=DiceCE())


@pytest.mark.parametrize("wrapper", [DeepSupervision, LiteralDeepSupervision])
def test_deep_supervision_of_a_constant_target(make_task, wrapper):
    """Check 7 of the specification: every shrunken target is the constant, so no error anywhere."""
    outputs = [torch.full((1, 1, n, n, n), 0.3) for n in (32, 16, 8, 4, 2)]
    target = torch.full((1, 1, 32, 32, 32), 0.3)
    loss = wrapper(loss=AdaptiveWing()).build(make_task())
    assert loss(outputs, target).item() == pytest.approx(0, abs=1e-6)
    # An error whose square is 1 makes a loss of 1 at each of the five outputs.
    expected = 1.0 if wrapper is DeepSupervision else 0.3875
    found = wrapper(loss=MSE()).build(make_task())([o + 1 for o in outputs], target)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_literal_deep_supervision_shrinks_as_interpolate_does(make_task):
    rng = torch.Generator().manual_seed(0)
    outputs = [torch.randn(1, 1, n, n, n, generator=rng) for n in (8, 4, 2)]
    hard = torch.randint(0, 2, (1, 1, 8, 8, 8), generator=rng)
    loss = LiteralDeepSupervision(loss=MSE()).build(make_task())
    halved = F.avg_pool3d(hard.float(), 2)  # trilinear at half size is the mean of eight voxels
    # At a quarter the eight voxels around each centre: 1 and 2 of 0..3, 5 and 6 of 4..7.
    inner = hard.float()[..., [1, 2, 5, 6]][..., [1, 2, 5, 6], :][..., [1, 2, 5, 6], :, :]
    quartered = F.avg_pool3d(inner, 2)
    expected = (
        F.mse_loss(outputs[0], hard.float())
        + F.mse_loss(outputs[1], halved) / 2
        + F.mse_loss(outputs[2], quartered) / 4
    ) / 3
    torch.testing.assert_close(loss(outputs, hard), expected)
    torch.testing.assert_close(loss(outputs[0], hard), F.mse_loss(outputs[0], hard.float()))
    weight = torch.ones(1, 1, 8, 8, 8)
    weight[..., :4] = 0
    right = loss([o[..., o.shape[-1] // 2 :] for o in outputs], hard[..., 4:], weight[..., 4:])
    changed = hard.clone()
    changed[..., :4] = 1 - changed[..., :4]
    # Shrinking to a quarter mixes no voxel from beyond the middle.
    torch.testing.assert_close(loss(outputs, changed, weight), right)


@pytest.mark.parametrize(
    "loss",
    [
        AdaptiveWing(),
        AdaptiveWing(omega=12, epsilon=0.5),
        AdaptiveWing(reduction="sum"),
        NormReLUInLoss(loss=AdaptiveWing()),
        NormReLUInLoss(loss=Dice(link="raw")),
        DeepSupervision(loss=AdaptiveWing()),
        LiteralDeepSupervision(loss=AdaptiveWing()),
        # What the factorial {soft, hard} × {AWing, MSE, BCE, DiceCE} needs beside AWing.
        MSE(),
        CrossEntropy(link="sigmoid"),
        DiceCE(link="sigmoid"),
    ],
    ids=lambda loss: f"{loss.type_name()}-{loss.link}",
)
def test_contract(loss):
    check_loss(loss)


def test_link_must_fit_the_head(make_task):
    with pytest.raises(
        ExperimentError, match=r"(?s)softseg.adaptive_wing.*does not fit the head.*raw.*sigmoid"
    ):
        AdaptiveWing().build(make_task("sigmoid"))
