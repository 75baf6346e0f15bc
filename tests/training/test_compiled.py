"""`budget.compile`: the same training by other machine code, under the same names, resumed bit for bit."""

from __future__ import annotations

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from mriad.errors import ExperimentError
from mriad.experiment.model import BudgetSection
from mriad.training.compiling import as_written, compiled
from mriad.training.protocols import Shard
from mriad.training.worker import setup_of
from shapes_setup import KilledError, Memory, build, close, equal, train
from torch import nn

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")


def test_a_missing_compiler_is_named_at_once(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ExperimentError) as caught:
        build("supervised", 2, Shard(), compile=True)
    message = str(caught.value)
    assert "compiling a network needs a C++ compiler" in message
    assert "no-such-compiler" in message
    assert "budget.compile: false" in message


def test_the_budget_decides_and_the_default_is_off():
    for budget in (BudgetSection(), BudgetSection(compile=True)):
        parts = dict.fromkeys(("model", "loss", "optimiser", "schedule"))
        setup = setup_of(SimpleNamespace(budget=budget, **parts), SimpleNamespace(task=None), None, 0)
        assert setup.compile is budget.compile
    assert not BudgetSection().compile


@needs_compiler
def test_names_and_values_stay_and_a_copy_is_plain():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.InstanceNorm3d(4, affine=True))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert compiled(network, 3) is network
    equal(before, network.state_dict())
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert network[0].weight.abs().max() > 0
    x = torch.ones(1, 2, 4, 4, 4)
    with torch.no_grad(), as_written():
        assert torch.equal(copy.deepcopy(network)(x), network(x))


@needs_compiler
@pytest.mark.slow
def test_training_compiled_is_training_and_resumes_bit_for_bit():
    """Compiling takes 20 to 60 s. The network has batch norm, so its buffers are in the compiled code too."""
    plain, plain_log = train("supervised", 5)
    whole, log = train("supervised", 5, compile=True)
    close(plain, whole, 1e-4)
    for (step, values), (other_step, others) in zip(plain_log.rows, log.rows, strict=True):
        assert step == other_step
        assert values["train/loss"] == pytest.approx(others["train/loss"], rel=1e-4)

    memory = Memory()
    with pytest.raises(KilledError):
        train("supervised", 5, die_at=3, memory=memory, compile=True)
    resumed, _ = train("supervised", 5, memory=memory, compile=True)
    equal(whole, resumed)
    assert any(not torch.equal(plain[name], whole[name]) for name in plain)  # it was compiled


@needs_compiler
@pytest.mark.slow
def test_validation_runs_compiled_networks_as_they_are_written():
    run, algorithm, streams = build("supervised", 2, Shard(), compile=True)
    batches = next(streams.batches(1))
    run.begin(0, batches)
    algorithm.train()
    algorithm.step(batches, run)
    network = algorithm.network.eval()
    image = torch.randn(1, 1, 6, 10, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), as_written():
        found = network(image)
    with torch.inference_mode():
        assert torch.equal(found, copy.deepcopy(network)(image))
