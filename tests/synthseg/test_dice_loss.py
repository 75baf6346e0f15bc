"""synthseg.dice and synthseg.logit_regression: analytic values, one-hot forms written out, gradients, memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from mriad.errors import DataError, ExperimentError, ShapeError
from mriad.testing import a_task, check_loss
from mriad.vocabulary import LabelSet, Task
from mriad_synthseg import loss_functions
from mriad_synthseg.losses import Dice, LogitRegression


def task_of(structures: int) -> Task:
    names = LabelSet.of({f"s{i}": i for i in range(1, structures + 1)})
    return Task(channels=("image",), label_sets={"": names}, link="softmax")


def example(seed: int = 0, soft: bool = False, dtype=torch.float64, space=(4, 3, 5)):
    """Logits of 5 labels, a target that lacks label 3, and a weight with zeros."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 5, *space), generator=g, dtype=dtype)
    index = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (2, 1, *space), generator=g)]
    weight = torch.rand((2, 1, *space), generator=g, dtype=dtype)
    weight[weight < 0.3] = 0
    target = index
    if soft:
        target = torch.rand((2, 4, *space), generator=g, dtype=dtype)
        target[:, 2] = 0
        target = target / target.sum(1, keepdim=True).clamp_min(1)
    return logits, target, weight


def one_hot(target: torch.Tensor, labels: int, dtype) -> torch.Tensor:
    if target.is_floating_point():
        return torch.cat([1 - target.sum(1, keepdim=True), target], 1)
    return F.one_hot(target[:, 0].long(), labels).movedim(-1, 1).to(dtype)


def plain_dice(logits, target, weight, mask, epsilon=1e-7):
    """The formula with everything written out."""
    p, g = logits.softmax(1), one_hot(target, logits.shape[1], logits.dtype)
    w = torch.ones_like(p[:, :1]) if weight is None else weight
    space = (2, 3, 4)
    dice = 2 * (w * p * g).sum(space) / ((w * p**2).sum(space) + (w * g**2).sum(space) + epsilon)
    present = (w * g**2).sum(space) > 0 if mask else torch.ones_like(dice, dtype=torch.bool)
    return torch.stack([1 - d[m].mean() for d, m in zip(dice, present, strict=True)]).mean()


@pytest.mark.parametrize("loss", [Dice(), Dice(absent="include"), LogitRegression()])
def test_contract(loss):
    check_loss(loss)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("absent", ["mask", "include"])
@pytest.mark.parametrize("part", [7, 1 << 16])
def test_value_and_gradient_are_the_one_hot_forms(monkeypatch, soft, weighted, absent, part):
    monkeypatch.setattr(loss_functions, "PART", part)
    logits, target, weight = example(soft=soft)
    weight = weight if weighted else None
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    found = Dice(absent=absent).build(task_of(4))(one, target, weight)
    expected = plain_dice(other, target, weight, absent == "mask")
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    (3 * found).backward()
    (3 * expected).backward()
    assert torch.allclose(one.grad, other.grad, atol=1e-12)


@pytest.mark.parametrize("soft", [False, True])
def test_gradient_by_differences(soft):
    logits, target, weight = example(soft=soft, space=(2, 2, 3))
    for loss in (Dice(), LogitRegression()):
        built = loss.build(task_of(4))
        assert torch.autograd.gradcheck(
            lambda x, f=built: f(x, target, weight), (logits.clone().requires_grad_(),), fast_mode=True
        )


def test_analytic_values():
    """Prediction = target gives 0; a uniform prediction the value worked out by hand."""
    labels, voxels = 4, 8 * 8 * 8
    index = torch.arange(voxels).remainder(labels).reshape(1, 1, 8, 8, 8)
    built = Dice().build(task_of(labels - 1))
    perfect = one_hot(index, labels, torch.float32) * 60
    assert float(built(perfect, index)) == pytest.approx(0, abs=1e-6)
    uniform = torch.zeros(1, labels, 8, 8, 8)
    n = voxels / labels
    expected = 1 - (2 * n / labels) / (voxels / labels**2 + n)
    assert float(built(uniform, index)) == pytest.approx(expected, rel=1e-6)
    # Half of one label's voxels given to another: two Dices of 2/3 and 4/5, all others 1.
    wrong = index.clone()
    half = (index == 1).nonzero()[: int(n) // 2]
    wrong[tuple(half.T)] = 2
    value = float(built(one_hot(wrong, labels, torch.float32) * 60, index))
    assert value == pytest.approx(1 - (2 + 2 / 3 + 2 * n / (2.5 * n)) / 4, rel=1e-5)


def test_an_absent_label():
    """Masked, it is not in the mean; included, it adds a Dice of about 0: 1 of 5 labels."""
    logits, target, _ = example()
    masked, included = (Dice(absent=a).build(task_of(4))(logits, target) for a in ("mask", "include"))
    assert float(1 - included) == pytest.approx(float(1 - masked) * 4 / 5, rel=1e-6)


def test_hidden_voxels_may_hold_anything():
    logits, target, weight = example(dtype=torch.float32)
    broken, strange = logits.clone(), target.clone()
    broken.masked_fill_((weight == 0).expand_as(broken), math.nan)
    strange[weight == 0] = 200
    for loss in (Dice(), LogitRegression()):
        built = loss.build(task_of(4))
        leaf = broken.clone().requires_grad_()
        value = built(leaf, strange, weight)
        assert value.item() == pytest.approx(built(logits, target, weight).item(), rel=1e-6)
        value.backward()
        assert torch.isfinite(leaf.grad).all()
        nothing = built(logits, target, torch.zeros_like(weight))
        assert float(nothing) == 0


def test_regression_is_the_weighted_squared_error():
    for soft in (False, True):
        logits, target, weight = example(soft=soft)
        g = one_hot(target, 5, logits.dtype)
        per_voxel = (logits - (10 * g - 5)).square().sum(1)
        for w in (None, weight):
            seen = (1 - g[:, 0] + 1e-4) * (1 if w is None else w[:, 0])
            expected = ((seen * per_voxel).sum((1, 2, 3)) / (5 * seen.sum((1, 2, 3)))).mean()
            found = LogitRegression().build(task_of(4))(logits, target, w)
            assert float(found) == pytest.approx(float(expected), rel=1e-10)
    exact = one_hot(target.argmax(1, keepdim=True), 5, logits.dtype) * 10 - 5
    assert float(LogitRegression().build(task_of(4))(exact, target.argmax(1, keepdim=True))) == pytest.approx(
        0, abs=1e-12
    )


def test_dice_trains():
    """From nothing to the target in a few steps, with all labels at once."""
    _, target, _ = example(dtype=torch.float32)
    logits = torch.zeros(2, 5, 4, 3, 5, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=1)
    built = Dice().build(task_of(4))
    for _ in range(40):
        optimiser.zero_grad()
        loss = built(logits, target)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01
    assert torch.equal(logits.argmax(1, keepdim=True), target)


def test_bad_input():
    built = Dice().build(task_of(4))
    logits, target, weight = example()
    with pytest.raises(ShapeError, match="do not fit") as found:
        built(logits, target[:, :, 1:])
    assert "(2, 1, 4, 3, 5)" in str(found.value)
    with pytest.raises(ShapeError, match="the weight does not fit"):
        built(logits, target, weight[:1])
    with pytest.raises(DataError, match="labels that the network does not have") as found:
        built(logits[:, :4], target)
    assert "0 to 3" in str(found.value)
    with pytest.raises(ExperimentError, match="does not fit the head"):
        Dice().build(a_task("sigmoid"))


def test_nothing_of_labels_times_voxels_is_kept():
    """Saved for the gradient: the logits themselves, the target and numbers by label."""
    kept = []

    def pack(x):
        kept.append(x)
        return x

    logits = torch.randn(1, 30, 24, 24, 24, requires_grad=True)
    target = torch.randint(0, 30, (1, 1, 24, 24, 24), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        Dice().build(task_of(29))(logits, target)
    large = {x.untyped_storage().data_ptr() for x in kept if x.numel() >= logits.numel()}
    assert large == {logits.untyped_storage().data_ptr()}
