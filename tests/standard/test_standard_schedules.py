from __future__ import annotations

import math

import pytest
import torch
from mriad_standard import SGD, Adam, AdamW, Constant, Cosine, Polynomial


def rates_of_torch(make, steps):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40)),
        (Cosine(final=0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.1)),
        (Polynomial(), lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 40, power=0.9)),
        (Polynomial(power=2), lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 40, power=2)),
        (Constant(), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
    ],
)
def test_agrees_with_torch(schedule, make):
    assert [schedule.factor(i, 40) for i in range(40)] == pytest.approx(rates_of_torch(make, 40), abs=1e-9)


@pytest.mark.parametrize("kind", [Cosine, Polynomial, Constant])
def test_warm_up_then_the_curve_over_the_rest(kind):
    factors = [kind(warmup=4).factor(i, 24) for i in range(24)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:] == [kind().factor(i, 20) for i in range(20)]


def test_nnunet_numbers():
    rates = [0.01 * Polynomial().factor(epoch, 1000) for epoch in (0, 500, 999)]
    assert rates == pytest.approx([0.01, 0.005359, 1.995e-5], rel=1e-3)


@pytest.mark.parametrize("kind", [Cosine, Polynomial, Constant])
def test_edges(kind):
    for warmup, steps in ((0, 1), (5, 5), (9, 5)):
        factors = [kind(warmup=warmup).factor(i, steps) for i in range(steps + 3)]
        assert all(math.isfinite(f) and 0 <= f <= 1 for f in factors)
    assert kind(warmup=5).factor(4, 5) == 1.0


def test_optimisers_pass_every_setting_on():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    adam = Adam(lr=2e-3, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.1).build(parameters)
    assert type(adam) is torch.optim.Adam
    assert {k: adam.defaults[k] for k in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 2e-3, "betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.1,
    }  # fmt: skip
    assert type(AdamW().build(parameters)) is torch.optim.AdamW
    assert AdamW().build(parameters).defaults["weight_decay"] == 0.01
    sgd = SGD().build(iter(parameters))
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["weight_decay"]) == (
        0.99,
        True,
        3e-5,
    )


def test_settings_are_checked():
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        SGD(momentum=0)
    with pytest.raises(ValueError, match="lr"):
        Adam(lr=0)
    with pytest.raises(ValueError, match="betas"):
        Adam(betas=(0.9, 1.0))
