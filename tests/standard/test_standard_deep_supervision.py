from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mriad.errors import ShapeError
from mriad_standard import CrossEntropy, DeepSupervision, DiceCE, PlainUNet
from mriad_standard.deep_supervision import downscale_target, downscale_weight

SIZES = [(8, 8, 4), (4, 4, 4), (2, 2, 2)]


def outputs(generator):
    return [torch.randn(2, 3, *size, generator=generator) for size in SIZES]


def test_weights_halve_and_sum_to_one(make_task, generator):
    soft = torch.rand(2, 2, 8, 8, 4, generator=generator) / 2
    inner = CrossEntropy().build(make_task())
    levels = outputs(generator)
    manual = (
        4 * inner(levels[0], soft)
        + 2 * inner(levels[1], F.avg_pool3d(soft, (2, 2, 1)))
        + 1 * inner(levels[2], F.avg_pool3d(soft, (4, 4, 2)))
    ) / 7
    wrapped = DeepSupervision(loss={"type": "standard.cross_entropy"}).build(make_task())
    torch.testing.assert_close(wrapped(levels, soft), manual)


def test_single_output_goes_to_the_loss(make_task, generator):
    logits = outputs(generator)[0]
    target = torch.randint(0, 3, (2, 1, 8, 8, 4), generator=generator)
    loss = DiceCE().build(make_task())
    torch.testing.assert_close(
        DeepSupervision(loss=DiceCE()).build(make_task())(logits, target), loss(logits, target)
    )


def test_soft_target_keeps_its_mean_and_sum_of_structures(generator):
    raw = torch.rand(1, 3, 8, 8, 4, generator=generator)
    soft = (raw / raw.sum(1, keepdim=True))[:, 1:]
    small = downscale_target(soft, (4, 4, 2))
    torch.testing.assert_close(small.mean((2, 3, 4)), soft.mean((2, 3, 4)))
    assert small.sum(1).max() <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_hard_target_takes_a_voxel_that_it_covers(dtype):
    index = torch.arange(8).reshape(1, 1, 8, 1, 1).to(dtype)
    small = downscale_target(index, (4, 1, 1))
    assert small.dtype == dtype
    assert small.flatten().tolist() == [1, 3, 5, 7]
    assert downscale_target(index[:, :, :6], (2, 1, 1)).flatten().tolist() == [1, 4]


def test_coarse_voxel_is_visible_only_if_all_of_it_was():
    weight = torch.ones(1, 1, 4, 4)
    weight[..., 1, 2] = 0
    assert downscale_weight(weight, (2, 2)).flatten().tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_hidden_voxels_change_nothing(make_task, generator, kind):
    levels = outputs(generator)
    target = (
        torch.randint(0, 3, (2, 1, 8, 8, 4), generator=generator)
        if kind == "hard"
        else torch.rand(2, 2, 8, 8, 4, generator=generator) / 2
    )
    weight = torch.ones(2, 1, 8, 8, 4)
    weight[:, :, :3] = 0
    loss = DeepSupervision(loss=DiceCE()).build(make_task())
    changed = target.clone()
    changed[:, :, :3] = 0
    assert torch.equal(loss(levels, target, weight), loss(levels, changed, weight))


def test_link_passes_through_nested_wrappers():
    inner = {"type": "standard.dice_ce", "link": "sigmoid"}
    assert DeepSupervision(loss=inner).link == "sigmoid"
    twice = DeepSupervision(loss={"type": "standard.deep_supervision", "loss": inner})
    assert twice.link == "sigmoid"
    assert DeepSupervision.model_validate(twice.model_dump()) == twice


def test_order_of_outputs(make_task, generator):
    target = torch.zeros(2, 1, 8, 8, 4, dtype=torch.long)
    with pytest.raises(ShapeError, match=r"(?s)from fine to coarse.*return the finest output first"):
        DeepSupervision(loss=DiceCE()).build(make_task())(outputs(generator)[::-1], target)


def test_with_a_network(make_task, generator):
    task = make_task(structures=2)
    network = PlainUNet(features=[2, 3, 4], deep_supervision=True).build(task)
    image = torch.randn(1, 1, 8, 8, 8, generator=generator)
    target = torch.randint(0, 3, (1, 1, 8, 8, 8), generator=generator)
    DeepSupervision(loss=DiceCE()).build(task)(network(image), target).backward()
    assert all(p.grad is not None for p in network.parameters())
