"""`run.update` and the loop: votes, clipping, precision, schedules, stopping, errors that name cases."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from mriad.errors import CheckpointError, DataError, ExperimentError, NonFiniteError
from mriad.training.algorithm import Optimised
from mriad.training.loop import Plan, Progress, fit
from mriad.training.protocols import Shard
from mriad.training.run import Run
from mriad.training.streams import Chain, Stream, StreamSet, collate, crop_margin
from shapes_setup import Log, Memory, build, equal, train
from torch import nn


def a_run(precision="fp32", steps=4) -> Run:
    return Run(
        device=torch.device("cpu"), shard=Shard(), steps=steps, steps_per_epoch=2, seed=0, precision=precision
    )


def sgd(module: nn.Module, lr=0.1, **more) -> Optimised:
    return Optimised(torch.optim.SGD(module.parameters(), lr=lr), more.pop("schedule", None), 10, **more)


def line() -> nn.Linear:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
    return module


def test_an_update_is_one_gradient_step():
    module, run = line(), a_run()
    x = torch.tensor([[3.0, 4.0]])
    run.update(sgd(module), module(x).sum())  # the gradient is x
    torch.testing.assert_close(module.weight, torch.tensor([[0.7, 1.6]]))
    assert module.weight.grad is None


def test_clipping_limits_the_norm_of_the_step():
    module = line()
    a_run().update(sgd(module, clip_norm=1.0), module(torch.tensor([[3.0, 4.0]])).sum())
    step = torch.tensor([[1.0, 2.0]]) - module.weight.detach()
    assert step.norm().item() == pytest.approx(0.1, rel=1e-5)
    torch.testing.assert_close(step / step.norm(), torch.tensor([[0.6, 0.8]]))


def test_accumulating_equals_the_mean_of_the_losses():
    whole, parts, run = line(), line(), a_run()
    xs = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    run.update(sgd(whole), whole(xs).mean())
    optimised = sgd(parts, accumulate=2)
    assert not run.update(optimised, parts(xs[:1]).mean())
    assert run.update(optimised, parts(xs[1:]).mean())
    torch.testing.assert_close(whole.weight, parts.weight)


class Halving:
    def factor(self, step, steps):
        return 0.5**step


def test_the_schedule_counts_updates_not_losses():
    module, run = line(), a_run()
    optimised = sgd(module, lr=1.0, schedule=Halving(), accumulate=2)
    rates = []
    for _ in range(6):
        if run.update(optimised, module(torch.ones(1, 2)).sum()):
            rates.append(optimised.optimiser.param_groups[0]["lr"])
    assert rates == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_loss_changes_nothing_and_names_the_cases(bad):
    run, algorithm, streams = build("supervised", 4, Shard())
    batches = next(streams.batches(1))
    run.begin(2, batches)
    loss = algorithm.network(batches["labelled"].image).mean() * bad
    before = copy.deepcopy(algorithm.network.state_dict())
    with pytest.raises(NonFiniteError) as caught:
        run.update(algorithm.optimised, loss)
    message = str(caught.value)
    assert "the loss is not finite in step 2; the weights were not changed" in message
    assert all(case in message for case in batches["labelled"].cases)
    assert "mriad preview" in message
    for name, value in before.items():
        assert torch.equal(value, algorithm.network.state_dict()[name])


def test_a_non_finite_gradient_of_a_finite_loss_is_refused():
    module, run = line(), a_run()
    before = module.weight.detach().clone()
    loss = torch.sqrt(module(torch.zeros(1, 2)).sum())  # value 0, slope infinite (times 0: NaN)
    with pytest.raises(NonFiniteError, match="the gradient is not finite"):
        run.update(sgd(module), loss)
    assert torch.equal(module.weight, before)


def test_fp16_skips_a_step_that_overflows_and_lowers_the_scale():
    module, run = line(), a_run("fp16")
    before, scale = module.weight.detach().clone(), run.scaler.get_scale()
    optimised = sgd(module)
    assert not run.update(optimised, module(torch.full((1, 2), 1e37)).sum())
    assert torch.equal(module.weight, before)
    assert run.scaler.get_scale() < scale
    assert optimised.done == 0
    assert run.update(optimised, module(torch.ones(1, 2)).sum())


def test_bf16_autocast_computes_in_bf16_and_keeps_weights_in_float32():
    module, run = line(), a_run("bf16")
    with run.autocast():
        out = module(torch.ones(1, 2))
    assert out.dtype == torch.bfloat16
    assert module.weight.dtype == torch.float32
    assert a_run("auto").dtype is None  # a CPU


class TestLoop:
    def fit(self, plan, values=(), memory=None):
        run, algorithm, streams = build("supervised", plan.steps, Shard())
        log, scores = Log(), iter(values)
        validate = (lambda a: {"score": next(scores)}) if values else None
        return fit(run, algorithm, streams, plan, log, memory or Memory(), validate), log

    def test_early_stopping_keeps_the_best(self):
        plan = Plan(steps=12, validate_every=2, checkpoint_every=2, patience=2, stop_on="val/score")
        memory = Memory()
        progress, log = self.fit(plan, [0.1, 0.5, math.nan, 0.4, 0.9, 0.9], memory)
        assert (progress.step, progress.best, progress.best_step) == (8, 0.5, 4)
        assert memory.load("best")["progress"]["step"] == 4
        assert "stopped at step 8: no better val/score in 2 validations (best at step 4)" in log.lines[-1]
        again, _ = self.fit(plan, [1.0], memory)
        assert again.step == 8  # a stopped run stays stopped

    def test_the_best_value_may_be_low(self):
        low = Plan(4, 1, 1, higher_is_better=False)
        assert low.better(1.0, 2.0)
        assert not low.better(math.nan, None)
        assert not low.better(3.0, 2.0)

    def test_reports_hold_means_learning_rate_and_waiting(self):
        _, log = self.fit(Plan(steps=4, validate_every=2, checkpoint_every=4))
        assert [s for s, _ in log.rows] == [2, 4]
        assert set(log.rows[0][1]) == {
            "train/loss",
            "train/learning_rate/optimised",
            "compute/seconds",
            "compute/waiting_fraction",
        }

    def test_a_checkpoint_of_another_architecture_is_refused(self):
        memory = Memory()
        train("supervised", steps=2, memory=memory)
        with pytest.raises(CheckpointError) as caught:
            train("supervised", steps=2, memory=memory, width=6)
        assert "another architecture than network 'network'" in str(caught.value)
        assert "first.weight (4, 1, 3, 3, 3) ≠ (6, 1, 3, 3, 3)" in str(caught.value)
        with pytest.raises(CheckpointError, match="another learner"):
            train("cross_pseudo", steps=2, memory=memory)

    def test_progress_round_trips(self):
        progress = Progress(step=3, best=0.5, sums={"loss": 1.0}, counts={"loss": 2})
        assert Progress(**progress.state_dict()) == progress


class TestStreams:
    def test_a_batch_that_ranks_cannot_share_is_an_error(self):
        with pytest.raises(ExperimentError, match=r"streams.labelled.batch 2 cannot be shared by 3 workers"):
            build("supervised", 2, Shard(0, 3))

    def test_an_empty_stream_is_an_error(self):
        with pytest.raises(ExperimentError, match="stream 'labelled' has no case"):
            Stream("labelled", (), lambda _: None, 2, 0)

    def test_draws_do_not_depend_on_batch_size_or_rank(self):
        _, _, two = build("supervised", 4, Shard())
        _, _, four = build("supervised", 4, Shard())
        four.streams["labelled"].batch = 4
        first = [b["labelled"] for _, b in zip(range(2), two.batches(2), strict=False)]
        both = next(four.batches(1))["labelled"]
        torch.testing.assert_close(torch.cat([b.image for b in first]), both.image, rtol=0, atol=0)
        _, _, second_rank = build("supervised", 4, Shard(1, 2))
        part = next(second_rank.batches(1))["labelled"]
        assert torch.equal(part.image, first[0].image[1:])

    def test_loader_processes_give_the_same_batches(self):
        _, _, plain = build("supervised", 4, Shard())
        _, _, loaded = build("supervised", 4, Shard())
        loaded.loaders = 1
        for a, b in zip(plain.batches(3), loaded.batches(3), strict=True):
            assert torch.equal(a["labelled"].image, b["labelled"].image)
        assert plain.state_dict() == loaded.state_dict() == {"labelled": 3}

    def test_another_seed_draws_other_things(self):
        one, _ = train("supervised", steps=1)
        same, _ = train("supervised", steps=1)
        other, _ = train("supervised", steps=1, seed=4)
        equal(one, same)
        assert not torch.equal(one["network.first.weight"], other["network.first.weight"])

    def test_samples_of_different_shape_are_named(self):
        from shapes_setup import samples

        big, small = samples(size=8, persons=1)["a00"], samples(size=6, persons=1)["a00"]
        with pytest.raises(DataError, match="samples of one batch differ in shape"):
            collate([big, dataclasses.replace(small, case="b")], [1, 2])
        with pytest.raises(DataError, match="with and without a target"):
            collate([big, dataclasses.replace(big, target=None)], [1, 2])

    def test_the_margin_is_cut_from_image_and_target(self):
        from shapes_setup import samples

        batch = crop_margin(collate([samples(size=8, persons=1)["a00"]], [1]), 2)
        assert batch.image.shape == (1, 1, 4, 4, 4)
        assert batch.target.shape == (1, 1, 4, 4, 4)
        assert Chain().margin == 0
        assert isinstance(StreamSet, type)


class TestReviewed:
    """Cases that a reader of the code found."""

    def batches(self):
        from shapes_setup import samples

        inside, padded = samples(size=8, persons=2).values()
        mask = padded.target * 0
        padded = dataclasses.replace(padded, validity=mask, field=mask)
        return collate([inside], [1]), collate([padded], [2])

    @pytest.mark.parametrize("order", [1, -1])
    def test_joining_keeps_masks_that_only_some_samples_have(self, order):
        from mriad.training.streams import join

        parts = self.batches()[::order]
        whole = join(parts)
        for name in ("validity", "field"):
            mask = getattr(whole, name)
            assert mask.shape == (2, 1, 8, 8, 8)
            means = [float(m.mean()) for m in mask]
            assert means == ([1.0, 0.0] if order == 1 else [0.0, 1.0])

    def test_joining_refuses_a_mixed_target(self):
        from mriad.training.streams import join

        a, b = self.batches()
        with pytest.raises(DataError, match="with and without a target"):
            join([a, dataclasses.replace(b, target=None)])

    @pytest.mark.parametrize("key", ["val/dcie", "train/loss"])
    def test_stopping_on_what_is_not_measured_is_an_error(self, key):
        from types import SimpleNamespace

        from mriad.training.worker import plan_of
        from mriad_shapes.configs import Overlap

        budget = SimpleNamespace(validate_every=0, steps=4, checkpoint_every=0, patience=1)
        experiment = SimpleNamespace(budget=budget, evaluate=SimpleNamespace(stop_on=key))
        with pytest.raises(ExperimentError, match="is no metric of this experiment"):
            plan_of(experiment, 2, [Overlap()])
        experiment.evaluate.stop_on = "overlap/box"
        assert plan_of(experiment, 2, [Overlap()]).stop_on == "val/overlap/box"

    @pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\\b"])
    def test_a_case_id_cannot_lead_out_of_a_folder(self, name):
        from mriad.vocabulary import Case

        with pytest.raises(DataError, match="cannot be the id of a case"):
            Case(name, "p", {})
