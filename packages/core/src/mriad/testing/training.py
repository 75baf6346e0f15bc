"""Contracts of models, losses and learners."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import torch

from mriad.testing.contract import ContractError, check_config, finite, own_randomness, require, untouched
from mriad.testing.samples import a_batch, a_task
from mriad.training.algorithm import LearnerSetup, seeded
from mriad.training.protocols import Shard
from mriad.training.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from mriad.batch import Batch
    from mriad.interfaces import Learner, Loss, Model
    from mriad.training.algorithm import Algorithm
    from mriad.vocabulary import Task


def check_model(model: Model, task: Task | None = None, voxels: int = 16) -> None:
    """Build twice with one seed, run forward and backward on a small input.

    Raises:
        ContractError: weights depend on more than the seed, outputs have the wrong channels or size, NaN appears,
            evaluation mode is not deterministic, or no gradient reaches the weights.
    """
    check_config(model)
    name, task = model.type_name(), task or a_task()
    with seeded(1, name):
        first = model.build(task)
    with seeded(1, name):
        second = model.build(task)
    for (key, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        require(torch.equal(a, b), f"{name} initialises '{key}' from something else than torch's generator")
    size = -(-voxels // model.divisor()) * model.divisor()
    x = torch.randn(
        (2, len(task.channels), *[size] * task.dimensions), generator=torch.Generator().manual_seed(0)
    )
    expected = (2, task.outputs(), *x.shape[2:])
    first.train()
    with untouched(name, {"image": x}):
        out = first(x)
    for level in out if isinstance(out, (list, tuple)) else [out]:
        finite(f"an output of {name}", level)
        require(
            level.shape[:2] == expected[:2], f"{name} gives {tuple(level.shape[:2])}, expected {expected[:2]}"
        )
    finest = out[0] if isinstance(out, (list, tuple)) else out
    require(tuple(finest.shape) == expected, f"{name} gives {tuple(finest.shape)}, expected {expected}")
    torch.stack(
        [level.square().mean() for level in (out if isinstance(out, (list, tuple)) else [out])]
    ).sum().backward()  # type: ignore[no-untyped-call]
    require(any(p.grad is not None for p in first.parameters()), f"{name} has no parameter with a gradient")
    first.eval()
    with torch.no_grad():
        one, two = first(x), first(x)
    require(
        isinstance(one, torch.Tensor),
        f"{name} must give one tensor in evaluation mode, not {type(one).__name__}",
    )
    require(torch.equal(one, two), f"{name} is random in evaluation mode")
    require(
        tuple(one.shape) == expected,
        f"{name} gives {tuple(one.shape)} in evaluation mode, expected {expected}",
    )


def perfect(target: Tensor, task: Task) -> Tensor:
    """Raw outputs (B, O, *D) that mean a target exactly (raw), or nearly (±8 logits)."""
    structures = task.outputs() - (task.link == "softmax")
    if target.dtype.is_floating_point:
        maps = target
    else:
        maps = torch.cat([(target == s + 1).float() for s in range(structures)], 1)
    if task.link == "raw":
        return maps.clone()
    if task.link == "sigmoid":
        return (maps * 2 - 1) * 8
    return torch.cat([1 - maps.sum(1, keepdim=True), maps], 1) * 16 - 8


def check_loss(loss: Loss, task: Task | None = None) -> None:
    """Compare right and wrong predictions, mask voxels, split a batch.

    Raises:
        ContractError: channels are taken in another order than the label set's, a masked voxel counts, the value is
            not the mean over samples, inputs are written to, or value or gradient is not finite.
    """
    check_config(loss)
    name = loss.type_name()
    require(loss.link is not None, f"{name} has no link; check_loss is for losses of predictions")
    task = task or a_task(loss.link or "softmax")
    built = loss.build(task)
    kinds: tuple[Literal["hard", "soft"], ...] = ("hard", "soft")
    for kind in kinds:
        batch = a_batch(2, kind)
        target = batch.target
        assert target is not None
        right = perfect(target, task)
        wrong = right.flip(1)  # structures in the opposite order, background last
        with untouched(name, {"prediction": right, "target": target}), own_randomness(name):
            good, bad = built(right, target), built(wrong, target)
        require(good.ndim == 0, f"{name} gives shape {tuple(good.shape)}, not a scalar")
        finite(f"{name} of a perfect prediction ({kind} target)", good)
        require(
            bool(good < bad),
            f"{name} prefers structures in the wrong channel order ({kind}: {good:g} ≥ {bad:g})",
        )
        _check_mean(name, built, wrong, target)
        _check_weight(name, built, wrong, target)


def _check_mean(name: str, built: Callable[..., Tensor], prediction: Tensor, target: Tensor) -> None:
    noisy = prediction + torch.randn(prediction.shape, generator=torch.Generator().manual_seed(1))
    whole = built(noisy, target)
    parts = torch.stack([built(noisy[i : i + 1], target[i : i + 1]) for i in range(len(target))]).mean()
    require(
        torch.allclose(whole, parts, rtol=1e-4, atol=1e-6),
        f"{name} of a batch ({whole:g}) is not the mean over its samples ({parts:g}): ranks would not agree",
    )


def _check_weight(name: str, built: Callable[..., Tensor], prediction: Tensor, target: Tensor) -> None:
    weight = torch.ones((len(target), 1, *target.shape[2:]))
    weight[..., : target.shape[-1] // 2] = 0
    changed = prediction.clone()
    changed[..., : target.shape[-1] // 2] += 3
    changed.requires_grad_()
    hidden = built(changed, target, weight)
    require(
        torch.allclose(hidden, built(prediction, target, weight), rtol=1e-5, atol=1e-6),
        f"{name} depends on voxels whose weight is 0",
    )
    hidden.backward()  # type: ignore[no-untyped-call]
    gradient = changed.grad
    assert gradient is not None
    finite(f"the gradient of {name}", gradient)
    require(
        bool((gradient[..., : target.shape[-1] // 2] == 0).all()),
        f"{name} has a gradient where the weight is 0",
    )


def check_learner(
    learner: Learner,
    setup: LearnerSetup,
    batches: Callable[[int], Mapping[str, Batch]] | None = None,
) -> None:
    """Take steps, stop in between, go on from the saved state, and compare bit for bit.

    Args:
        learner: the config.
        setup: with the model, loss and optimiser that it needs.
        batches: step → batches by stream; default: labelled samples for every stream that it names.

    Raises:
        ContractError: weights do not move or become NaN, state is lost or holds code, or steps are not reproducible.
    """
    check_config(learner)
    name = learner.type_name()
    draw = batches or (lambda step: dict.fromkeys(learner.streams(), a_batch(2)))

    def train(algorithm: Algorithm, first: int, last: int) -> None:
        run = Run(device=setup.device, shard=Shard(), steps=4, steps_per_epoch=2, seed=setup.seed)
        algorithm.train()
        for step in range(first, last):
            given = draw(step)
            run.begin(step, given)
            torch.manual_seed(step)
            report = algorithm.step(given, run)
            for key, value in report.items():
                finite(f"'{key}' reported by {name}", torch.as_tensor(value))

    straight = learner.build(setup)
    before = {k: v.clone() for k, v in _weights(straight).items()}
    train(straight, 0, 4)
    moved = _weights(straight)
    require(any(not torch.equal(before[k], v) for k, v in moved.items()), f"{name} changes no weight")
    halfway = learner.build(setup)
    train(halfway, 0, 2)
    buffer = io.BytesIO()
    torch.save(halfway.state_dict(), buffer)
    buffer.seek(0)
    try:
        state = torch.load(buffer, weights_only=True)
    except Exception as error:  # unpicklers raise many kinds
        raise ContractError(
            f"the state of {name} cannot be loaded without executing code: {error}"
        ) from error
    resumed = learner.build(setup)
    resumed.load_state_dict(state)
    train(resumed, 2, 4)
    for key, value in _weights(resumed).items():
        finite(f"'{key}' of {name}", value)
        require(torch.equal(value, moved[key]), f"{name} resumed in mid-way ends with another '{key}'")
    require(isinstance(straight.predicts(), torch.nn.Module), f"{name}.predicts() must give a network")


def _weights(algorithm: Algorithm) -> dict[str, Any]:
    networks: dict[str, nn.Module] = algorithm.networks()
    return {f"{n}.{k}": v for n, network in networks.items() for k, v in network.state_dict().items()}
