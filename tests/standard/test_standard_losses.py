from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import ExperimentError, ShapeError
from mriad.vocabulary import LabelSet, Task
from mriad_standard import MSE, CrossEntropy, Dice, DiceCE

SPACE = (4, 3, 2)
CASES = [
    (DiceCE(), "softmax"),
    (DiceCE(link="sigmoid"), "sigmoid"),
    (DiceCE(form="squared", dice_weight=0.5, ce_weight=2), "softmax"),
    (Dice(), "softmax"),
    (Dice(form="squared", link="sigmoid"), "sigmoid"),
    (CrossEntropy(), "softmax"),
    (CrossEntropy(link="sigmoid"), "sigmoid"),
    (MSE(), "raw"),
    (MSE(link="sigmoid"), "sigmoid"),
]
IDS = [f"{config.type.split('.')[1]}-{link}-{i}" for i, (config, link) in enumerate(CASES)]
every_loss = pytest.mark.parametrize(("config", "link"), CASES, ids=IDS)
kinds = pytest.mark.parametrize("kind", ["hard", "soft"])


def task_of(link, structures=2):
    return Task(("c",), {"": LabelSet.of({f"s{i}": i + 1 for i in range(structures)})}, link)


def inputs(link, kind, seed=0, batch=2, structures=2, dtype=torch.float32, space=SPACE):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, structures + (link == "softmax"), *space, generator=g, dtype=dtype)
    if kind == "hard":
        return logits, torch.randint(0, structures + 1, (batch, 1, *space), generator=g)
    raw = torch.rand(batch, structures + 1, *space, generator=g, dtype=dtype)
    return logits, (raw / raw.sum(1, keepdim=True))[:, 1:].contiguous()


def one_hot(index, structures=2):
    return F.one_hot(index[:, 0].long(), structures + 1).movedim(-1, 1)[:, 1:].float()


def test_dice_ce_by_hand(make_task):
    # One structure, two voxels, softmax over two equal logits: p = 1/2 everywhere; target (1, 0).
    logits, target = torch.zeros(1, 2, 1, 1, 2), torch.tensor([1, 0]).reshape(1, 1, 1, 1, 2)
    task = make_task("softmax", 1)
    eps = 1e-5
    dice = (2 * 0.5 + eps) / (1.0 + 1.0 + eps)
    torch.testing.assert_close(Dice().build(task)(logits, target).item(), 1 - dice)
    torch.testing.assert_close(CrossEntropy().build(task)(logits, target).item(), math.log(2))
    torch.testing.assert_close(DiceCE().build(task)(logits, target).item(), 1 - dice + math.log(2))
    squared = (2 * 0.5 + eps) / (0.5 + 1.0 + eps)
    torch.testing.assert_close(Dice(form="squared").build(task)(logits, target).item(), 1 - squared)


def test_mse_by_hand(make_task):
    prediction = torch.tensor([0.0, 0.5, 2.0, 1.0]).reshape(1, 2, 1, 1, 2)
    soft = torch.tensor([0.5, 0.5, 1.0, 0.0]).reshape(1, 2, 1, 1, 2)
    loss = MSE().build(make_task("raw", 2))
    assert loss(prediction, soft).item() == pytest.approx((0.25 + 0 + 1 + 1) / 4)
    weight = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 1, 2)
    assert loss(prediction, soft, weight).item() == pytest.approx((0.25 + 1) / 2)
    hard = torch.tensor([2, 0]).reshape(1, 1, 1, 1, 2)  # structure 1 at the first voxel: (0, 1), then (0, 0)
    assert loss(prediction, hard).item() == pytest.approx((0 + 0.25 + 1 + 1) / 4)


def test_absent_structure_costs_false_positives_only(make_task):
    loss = Dice(link="sigmoid").build(make_task("sigmoid", 1))
    empty = torch.zeros(1, 1, *SPACE)
    nothing = torch.full((1, 1, *SPACE), -40.0)
    assert loss(nothing, empty).item() == pytest.approx(0, abs=1e-6)
    assert loss(torch.zeros(1, 1, *SPACE), empty).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("squared", [False, True])
def test_dense_softmax_agrees_with_monai(squared):
    monai = pytest.importorskip("monai.losses")
    logits, index = inputs("softmax", "hard", batch=3)
    oracle = monai.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, squared_pred=squared,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    ours = DiceCE(form="squared" if squared else "linear").build(task_of("softmax"))
    torch.testing.assert_close(ours(logits, index), oracle(logits, index))


def test_dense_sigmoid_agrees_with_monai():
    monai = pytest.importorskip("monai.losses")
    logits, soft = inputs("sigmoid", "soft")
    oracle = monai.DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)
    ours = Dice(link="sigmoid").build(task_of("sigmoid"))
    torch.testing.assert_close(ours(logits, soft), oracle(logits, soft))


def test_dice_of_raw_outputs_takes_them_as_probabilities():
    monai = pytest.importorskip("monai.losses")
    _, p = inputs("sigmoid", "soft", seed=1)
    _, soft = inputs("sigmoid", "soft")
    ours = Dice(link="raw").build(task_of("raw"))
    torch.testing.assert_close(ours(p, soft), monai.DiceLoss(smooth_nr=1e-5, smooth_dr=1e-5)(p, soft))


def test_dense_entropy_and_mse_agree_with_torch():
    logits, index = inputs("softmax", "hard")
    ours = CrossEntropy().build(task_of("softmax"))
    torch.testing.assert_close(ours(logits, index), F.cross_entropy(logits, index[:, 0]))
    _, soft = inputs("softmax", "soft")
    full = torch.cat([1 - soft.sum(1, keepdim=True), soft], 1)
    torch.testing.assert_close(ours(logits, soft), F.cross_entropy(logits, full))
    logits, soft = inputs("sigmoid", "soft")
    ours = CrossEntropy(link="sigmoid").build(task_of("sigmoid"))
    torch.testing.assert_close(ours(logits, soft), F.binary_cross_entropy_with_logits(logits, soft))
    torch.testing.assert_close(MSE().build(task_of("raw"))(logits, soft), F.mse_loss(logits, soft))
    squashed = MSE(link="sigmoid").build(task_of("sigmoid"))(logits, soft)
    torch.testing.assert_close(squashed, F.mse_loss(logits.sigmoid(), soft))


@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_index_target_equals_its_one_hot(config, link, masked):
    logits, index = inputs(link, "hard")
    weight = torch.rand(2, 1, *SPACE).round() if masked else None
    loss = config.build(task_of(link))
    results = []
    for target in (index, index.to(torch.uint8), one_hot(index)):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target, weight)
        results.append((value, *torch.autograd.grad(value, leaf)))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)


@every_loss
@kinds
def test_gradient_in_float64(config, link, kind):
    logits, target = inputs(link, kind, dtype=torch.float64, space=(2, 2, 2))
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0] * 4, dtype=torch.float64).reshape(2, 1, 2, 2, 2)
    loss = config.build(task_of(link))
    assert loss(logits, target, weight).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, target, weight), logits.requires_grad_())


@every_loss
@kinds
def test_hidden_voxels_change_neither_value_nor_gradient(config, link, kind):
    logits, target = inputs(link, kind)
    weight = torch.ones(2, 1, *SPACE)
    weight[:, :, 0] = 0
    loss = config.build(task_of(link))

    def run(x, y):
        leaf = x.clone().requires_grad_()
        value = loss(leaf, y, weight)
        return value, torch.autograd.grad(value, leaf)[0]

    value, gradient = run(logits, target)
    assert (gradient[:, :, 0] == 0).all()
    assert (gradient[:, :, 1:] != 0).any()
    for junk in (3.0, float("nan"), float("inf")):
        other_logits, other_target = logits.clone(), target.clone()
        other_logits[:, :, 0] = junk
        other_target[:, :, 0] = 99 if kind == "hard" else junk
        again, other_gradient = run(other_logits, other_target)
        assert torch.equal(again, value)
        assert torch.equal(other_gradient, gradient)


@every_loss
@kinds
def test_mask_equals_cutting_the_hidden_part_off(config, link, kind):
    logits, target = inputs(link, kind)
    weight = torch.ones(2, 1, *SPACE)
    weight[:, :, 2:] = 0
    loss = config.build(task_of(link))
    torch.testing.assert_close(loss(logits, target, weight), loss(logits[:, :, :2], target[:, :, :2]))


@every_loss
@kinds
def test_batch_is_the_mean_of_its_samples(config, link, kind):
    logits, target = inputs(link, kind, batch=3)
    weight = torch.ones(3, 1, *SPACE)
    weight[1, :, 1:] = 0  # samples differ in how much is visible, and still count the same
    loss = config.build(task_of(link))
    single = [loss(logits[i : i + 1], target[i : i + 1], weight[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, target, weight), torch.stack(single).mean())


@every_loss
@kinds
def test_nothing_visible_costs_nothing(config, link, kind):
    logits, target = inputs(link, kind)
    value = config.build(task_of(link))(logits.requires_grad_(), target, torch.zeros(2, 1, *SPACE))
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert (torch.autograd.grad(value, logits)[0] == 0).all()


@every_loss
def test_two_dimensions(config, link):
    logits, target = inputs(link, "hard", space=(4, 5))
    flat = config.build(task_of(link))(logits, target)
    torch.testing.assert_close(flat, config.build(task_of(link))(logits[..., None], target[..., None]))


@every_loss
@kinds
def test_float32_inside_autocast(config, link, kind):
    logits, target = inputs(link, kind)
    loss = config.build(task_of(link))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.bfloat16().float(), target), rtol=0, atol=0)


@pytest.mark.parametrize("config", [Dice(form="squared", link="sigmoid"), MSE(link="sigmoid")])
def test_exact_for_soft_targets(config, make_task):
    soft = torch.rand(2, 2, *SPACE, generator=torch.Generator().manual_seed(3)).clamp(0.01, 0.99)
    assert config.build(make_task("sigmoid"))(soft.logit(), soft).item() == pytest.approx(0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-8, 8), st.sampled_from(["linear", "squared"]))
def test_dice_lies_in_zero_one(seed, scale, form):
    logits, target = inputs("softmax", "soft", seed)
    value = Dice(form=form).build(task_of("softmax"))(logits * scale, target).item()
    assert -1e-6 <= value <= 1 + 1e-6


def test_wrong_shapes_are_named(make_task):
    loss = DiceCE().build(make_task("softmax", 2))
    logits, index = inputs("softmax", "hard")
    with pytest.raises(
        ShapeError, match=r"(?s)prediction and target do not fit.*\(2, 3, 4, 3, 2\).*\(2, 1, 4, 3, 2\)"
    ):
        loss(logits, index[..., :1])
    with pytest.raises(ShapeError, match=r"(?s)float32.*expected.*\(2, 2, 4, 3, 2\) for link softmax"):
        loss(logits, index.float())
    with pytest.raises(ShapeError, match="the weight does not fit"):
        loss(logits, index, torch.ones(2, 2, *SPACE))
    with pytest.raises(ShapeError, match=r"(?s)2 outputs.*standard.deep_supervision"):
        loss([logits, logits], index)


def test_link_must_fit_the_head(make_task):
    with pytest.raises(
        ExperimentError, match=r"(?s)'standard.dice_ce' does not fit the head.*softmax.*sigmoid"
    ):
        DiceCE().build(make_task("sigmoid"))
    assert (DiceCE().link, DiceCE(link="sigmoid").link, MSE().link) == ("softmax", "sigmoid", "raw")
    assert DiceCE(link="sigmoid").model_dump()["link"] == "sigmoid"


def test_two_zero_factors_are_refused():
    with pytest.raises(ValueError, match="dice_weight and ce_weight are both 0"):
        DiceCE(dice_weight=0, ce_weight=0)
