from __future__ import annotations

import pytest
import torch
from mriad.batch import Batch
from mriad.errors import DataError, ExperimentError
from mriad.training.algorithm import LearnerSetup
from mriad.training.protocols import Shard
from mriad.training.run import Run
from mriad_standard import SGD, DeepSupervision, DiceCE, PlainUNet, Supervised

MODEL = PlainUNet(features=[4, 6], norm="batch", deep_supervision=True)


def setup_of(task, **changes):
    values = {
        "task": task,
        "model": MODEL,
        "loss": DeepSupervision(loss=DiceCE()),
        "optimiser": SGD(lr=0.05, momentum=0.9),
        "schedule": None,
        "device": torch.device("cpu"),
        "seed": 3,
        "updates": 10,
    }
    return LearnerSetup(**{**values, **changes})


def run_of():
    return Run(device=torch.device("cpu"), shard=Shard(), steps=10, steps_per_epoch=5, seed=3)


def batch_of(generator, **changes):
    image = torch.randn(2, 1, 4, 4, 4, generator=generator)
    values = {"image": image, "keys": (1, 2), "cases": ("a", "b"), "target": (image > 0).long()}
    return Batch(**{**values, **changes})


def step(algorithm, run, batch, number=0):
    run.begin(number, {"labelled": batch})
    return algorithm.step({"labelled": batch}, run)


def test_streams():
    assert Supervised().streams() == ("labelled",)


def test_loss_falls_and_only_numbers_to_log_come_back(make_task, generator):
    task = make_task(structures=1)
    algorithm, run, batch = Supervised().build(setup_of(task)), run_of(), batch_of(generator)
    losses = [step(algorithm, run, batch, i)["loss"] for i in range(10)]
    assert losses[-1] < 0.8 * losses[0]
    assert not losses[0].requires_grad
    assert list(algorithm.networks()) == ["network"]
    assert algorithm.predicts() is algorithm.network


def test_one_step_by_hand(make_task, generator):
    task = make_task(structures=1)
    algorithm, batch = (
        Supervised().build(setup_of(task, optimiser=SGD(lr=0.1, momentum=0, nesterov=False, weight_decay=0))),
        batch_of(generator),
    )
    before = [p.detach().clone() for p in algorithm.network.parameters()]
    loss = DeepSupervision(loss=DiceCE()).build(task)(algorithm.network(batch.image), batch.target)
    gradients = torch.autograd.grad(loss, list(algorithm.network.parameters()))
    reported = step(algorithm, run_of(), batch)["loss"]
    torch.testing.assert_close(reported, loss.detach())
    for old, gradient, new in zip(before, gradients, algorithm.network.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * gradient)


def test_outputs_that_are_not_used_do_not_stop_the_update(make_task, generator):
    algorithm = Supervised().build(
        setup_of(make_task(structures=1), model=PlainUNet(features=[4, 6, 8]), loss=DiceCE())
    )
    batch = batch_of(
        generator, image=torch.randn(2, 1, 8, 8, 8), target=torch.zeros(2, 1, 8, 8, 8, dtype=torch.long)
    )
    step(algorithm, run_of(), batch)


def test_validity_reaches_the_loss(make_task, generator):
    task, batch = make_task(structures=1), batch_of(generator)
    validity = torch.ones(2, 1, 4, 4, 4)
    validity[..., :2] = 0
    values = []
    for target in (batch.target, torch.where(validity > 0, batch.target, 1)):
        algorithm = Supervised().build(setup_of(task, model=PlainUNet(features=[4, 6]), loss=DiceCE()))
        values.append(
            step(
                algorithm, run_of(), batch_of(generator, image=batch.image, target=target, validity=validity)
            )
        )
    assert torch.equal(values[0]["loss"], values[1]["loss"])


def test_average_of_weights_by_hand(make_task, generator):
    algorithm = Supervised(ema_decay=0.25).build(setup_of(make_task(structures=1)))
    assert set(algorithm.networks()) == {"network", "average"}
    assert algorithm.predicts() is algorithm.average
    assert not any(p.requires_grad for p in algorithm.average.parameters())
    run, batch = run_of(), batch_of(generator)
    expected = [p.detach().clone() for p in algorithm.network.parameters()]
    for i, decay in enumerate([2 / 11, 3 / 12, 0.25]):
        step(algorithm, run, batch, i)
        now = list(algorithm.network.parameters())
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, now, strict=True)]
    for e, p in zip(expected, algorithm.average.parameters(), strict=True):
        torch.testing.assert_close(p, e)
    for mean, buffer in zip(algorithm.average.buffers(), algorithm.network.buffers(), strict=True):
        assert torch.equal(mean, buffer)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_resumes_bit_for_bit(make_task, generator, decay):
    task, batch = make_task(structures=1), batch_of(generator)
    straight, run = Supervised(ema_decay=decay).build(setup_of(task)), run_of()
    for i in range(2):
        step(straight, run, batch, i)
    state = straight.state_dict()
    state = torch.load(_saved(state), weights_only=True)
    resumed = Supervised(ema_decay=decay).build(setup_of(task, seed=99))
    resumed.load_state_dict(state)
    for algorithm in (straight, resumed):
        step(algorithm, run, batch, 2)
    for a, b in zip(straight.predicts().parameters(), resumed.predicts().parameters(), strict=True):
        assert torch.equal(a, b)


def _saved(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_missing_loss_and_missing_target(make_task, generator):
    with pytest.raises(ExperimentError, match=r"(?s)needs a loss.*standard.dice_ce"):
        Supervised().build(setup_of(make_task(structures=1), loss=None))
    algorithm = Supervised().build(setup_of(make_task(structures=1)))
    with pytest.raises(DataError, match=r"(?s)no target.*a, b.*labelled: true"):
        step(algorithm, run_of(), batch_of(generator, target=None))
