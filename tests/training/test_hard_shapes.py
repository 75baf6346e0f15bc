"""A small learner for each hard shape: resuming, joint batches over ranks, and the routing of gradients."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mriad.training.protocols import Shard
from mriad.training.streams import Chain, augment, collate
from mriad.vocabulary import Task
from mriad_shapes.configs import Blobs, Jitter
from mriad_shapes.learners import cross_pseudo_losses
from mriad_shapes.parts import contrastive
from shapes_setup import SHAPES, KilledError, Memory, build, close, equal, free_port, samples, train

TASK = Task(("image",), {"": Blobs().build().label_set}, "softmax")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("die_at", [1, 3])
def test_resuming_in_mid_epoch_is_bit_for_bit(shape, die_at):
    straight, log = train(shape, dropout=0.3)
    memory = Memory()
    with pytest.raises(KilledError):
        train(shape, die_at=die_at, memory=memory, dropout=0.3)
    resumed, resumed_log = train(shape, memory=memory, dropout=0.3)
    equal(straight, resumed)
    train_rows = [{k: v for k, v in r.items() if k.startswith("train/")} for s, r in log.rows if s > die_at]
    assert train_rows == [
        {k: v for k, v in r.items() if k.startswith("train/")} for s, r in resumed_log.rows if s > die_at
    ]


def test_resuming_keeps_accumulated_gradients():
    straight, _ = train("supervised", steps=6, accumulate=3)
    memory = Memory()
    with pytest.raises(KilledError):
        train("supervised", steps=6, die_at=5, memory=memory, accumulate=3)
    resumed, _ = train("supervised", steps=6, memory=memory, accumulate=3)
    equal(straight, resumed)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_gloo_workers_match_the_joint_batch(shape, tmp_path):
    path = tmp_path / "weights.pt"
    port = free_port()
    script = (
        "import sys; sys.path.insert(0, sys.argv[5]); import conftest; "
        "sys.path.insert(0, sys.argv[6]); from shapes_setup import gloo_worker; "
        "gloo_worker(int(sys.argv[1]), 2, int(sys.argv[2]), sys.argv[3], sys.argv[4])"
    )
    here = Path(__file__).parent
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(r), str(port), shape, str(path), str(here.parent), str(here)]
        )
        for r in range(2)
    ]
    assert [w.wait(timeout=120) for w in workers] == [0, 0]
    alone, _ = train(shape, steps=3)
    close(alone, torch.load(path, weights_only=True), 1e-5)


def _batches(shape):
    run, algorithm, streams = build(shape, 4, Shard())
    batches = next(streams.batches(1))
    run.begin(0, batches)
    return run, algorithm, batches


class TestAlternating:
    """Routing checks of the COSMOS specification, section 8, items 1 and 2."""

    def test_segmentation_reaches_encoder_and_segmenter_but_not_the_other_translator(self):
        _, a, batches = _batches("alternating")
        _, segmentation, _ = a.losses(batches)
        segmentation.backward()

        def touched(module):
            return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())

        assert touched(a.source_to_target.encoder)
        assert touched(a.source_to_target.segment)
        assert touched(a.target_to_source.encoder)
        assert touched(a.target_to_source.segment)
        assert not touched(a.target_to_source.translate)
        assert touched(a.source_to_target.translate)  # through the fake
        assert not touched(a.discriminator)

    def test_each_update_leaves_the_others_bit_identical(self):
        run, a, batches = _batches("alternating")
        before = copy.deepcopy(a.discriminator.state_dict())
        generators = copy.deepcopy([a.source_to_target.state_dict(), a.target_to_source.state_dict()])
        adversarial, segmentation, fake = a.losses(batches)
        run.update(a.generators, 0.1 * adversarial + segmentation)
        assert all(torch.equal(before[k], v) for k, v in a.discriminator.state_dict().items())
        assert all(p.grad is None for p in a.discriminator.parameters())
        changed = [a.source_to_target.state_dict(), a.target_to_source.state_dict()]
        assert any(not torch.equal(g[k], c[k]) for g, c in zip(generators, changed, strict=True) for k in g)

        settled = copy.deepcopy(changed)
        score = a.discriminator(fake)  # not detached: the routing alone must keep the generators out
        run.update(
            a.judge, F.binary_cross_entropy_with_logits(score, torch.zeros_like(score)), retain_graph=True
        )
        now = [a.source_to_target.state_dict(), a.target_to_source.state_dict()]
        assert all(torch.equal(s[k], n[k]) for s, n in zip(settled, now, strict=True) for k in s)
        assert all(p.grad is None for p in a.source_to_target.parameters())
        assert any(not torch.equal(before[k], v) for k, v in a.discriminator.state_dict().items())


class TestTeachers:
    """SSL² specification, section 8, items 2 and 3."""

    def test_cross_pseudo_losses_have_the_worked_values_and_no_cross_gradient(self):
        # Two classes, one voxel each: logits (2, 0) and (0, 1).
        one = torch.tensor([[2.0, 0.0]], requires_grad=True)
        two = torch.tensor([[0.0, 1.0]], requires_grad=True)
        first, second = cross_pseudo_losses(one, two)
        assert first.item() == pytest.approx(2.126928, abs=1e-6)
        assert second.item() == pytest.approx(1.313262, abs=1e-6)
        assert torch.autograd.grad(first, two, allow_unused=True)[0] is None
        assert torch.autograd.grad(second, one, allow_unused=True)[0] is None

    def test_two_networks_start_apart(self):
        _, a, _ = _batches("cross_pseudo")
        assert not torch.equal(a.one.first.weight, a.two.first.weight)

    def test_teacher_is_the_student_after_one_step_and_has_no_gradient(self):
        run, a, batches = _batches("mean_teacher")
        start = copy.deepcopy(a.student.state_dict())
        a.step(batches, run)
        for name, value in a.student.state_dict().items():
            torch.testing.assert_close(a.teacher.state_dict()[name], value)
        assert any(not torch.equal(start[k], v) for k, v in a.student.state_dict().items())
        assert all(p.grad is None and not p.requires_grad for p in a.teacher.parameters())

    def test_moving_average_follows_its_formula_and_a_constant_student_is_a_fixed_point(self):
        _, a, _ = _batches("mean_teacher")
        start = [p.clone() for p in a.teacher.parameters()]
        a.optimised.done = 1
        a.optimised.average()
        for t, s in zip(a.teacher.parameters(), start, strict=True):
            assert torch.equal(t, s)
        with torch.no_grad():
            for p in a.student.parameters():
                p += 1
        a.optimised.done = 4  # decay min(1 - 1/4, .99)
        a.optimised.average()
        for t, s in zip(a.teacher.parameters(), start, strict=True):
            torch.testing.assert_close(t, 0.75 * s + 0.25 * (s + 1))


class TestDomainNorms:
    """Multi-domain specification, section 5."""

    @pytest.mark.parametrize(
        ("z", "tau", "value"),
        [
            ([(1, 0), (1, 0), (0, 1), (0, 1)], 0.1, math.log(1 + 2 * math.exp(-10))),
            ([(1, 0), (1, 0), (0, 1), (0, 1)], 1.0, 0.551445),
            ([(1, 0), (0, 1), (1, 0), (0, 1)], 0.1, 10.0000908),
            ([(1, 0), (1, 0), (1, 0), (1, 0)], 0.3, math.log(3)),
            ([(1, 0), (1, 1), (0, 1), (-1, 1)], 0.1, 0.347211),
            ([(1, 0), (1, 1), (0, 1), (-1, 1)], 0.5, 0.535969),
        ],
    )
    def test_contrastive_loss_has_the_worked_values(self, z, tau, value):
        points = torch.tensor(z, dtype=torch.float64)
        group = torch.tensor([0, 0, 1, 1])
        assert contrastive(points, group, tau).item() == pytest.approx(value, abs=1e-5)
        assert contrastive(points * 7, group, tau).item() == pytest.approx(value, abs=1e-5)

    def test_contrastive_gradient_reaches_the_encoder_only(self):
        _, a, batches = _batches("domain_norms")
        z = [a.network.encode(batches[n].image, d).flatten(2).amax(2) for d, n in enumerate("ab")]
        groups = torch.tensor([0] * len(z[0]) + [1] * len(z[1]))
        contrastive(torch.cat(z), groups, 0.1).backward()
        assert a.network.first.weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in a.network.heads.parameters())

    def test_a_step_on_one_domain_leaves_the_other_bit_identical(self):
        run, a, batches = _batches("domain_norms")
        for _ in range(2):  # Adam has momentum after the first joint step
            a.step(batches, run)
        other = copy.deepcopy(a.network.norm.norms[1].state_dict())
        head = copy.deepcopy(a.network.heads[1].state_dict())
        loss = a.loss(a.network(batches["a"].image, 0), batches["a"].target)
        run.update(a.optimised, loss)
        assert all(torch.equal(other[k], v) for k, v in a.network.norm.norms[1].state_dict().items())
        assert all(torch.equal(head[k], v) for k, v in a.network.heads[1].state_dict().items())


def test_streams_of_different_length_step_together():
    _, _, streams = build("mean_teacher", 4, Shard())
    assert streams.steps_per_epoch == 2  # unlabelled: 7 cases by 4; labelled: 3 by 2
    seen = [b for _, b in zip(range(4), streams.batches(4), strict=False)]
    assert [len(b["unlabelled.weak"]) for b in seen] == [4] * 4
    drawn = [c for b in seen for c in b["labelled"].cases]
    assert sorted(drawn[:3]) == sorted(drawn[3:6])  # every case once before any comes again
    for b in seen:
        assert b["unlabelled.weak"].cases == b["unlabelled.strong"].cases
        assert not torch.equal(b["unlabelled.weak"].image, b["unlabelled.strong"].image)


def test_views_share_what_they_are_told_to_share():
    chain = Chain.of([], TASK, "strong", [Jitter()])
    other = Chain.of([], TASK, "weak", [Jitter()])
    alone = Chain.of([Jitter()], TASK, "weak")
    batch = collate([samples(persons=1)["a00"]], [5])
    shared = [augment(batch, c.device).image for c in (chain, other)]
    assert torch.equal(*shared)
    assert not torch.equal(shared[0], augment(batch, alone.device).image)
