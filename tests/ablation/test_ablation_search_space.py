"""What a search draws, and which trainings it gives up."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from mriad.ablation.halving import Halving, goes_on, rungs
from mriad.ablation.space import Values, combinations, draws, to_check
from mriad.errors import StoppedEarlyError
from mriad.launch.relay import FileReporter, relay
from pydantic import ValidationError
from trial_setup import Log


class TestSpace:
    @pytest.mark.parametrize(
        ("written", "name", "bounds"),
        [
            ({"uniform": [2.0, 5.0]}, "uniform", (2.0, 5.0)),
            ({"loguniform": [1e-4, 1e-1]}, "loguniform", (1e-4, 1e-1)),
            ({"randint": [3, 9]}, "randint", (3, 9)),
        ],
    )
    def test_draws_have_the_distribution_of_ray_tune(self, written, name, bounds):
        from ray import tune
        from scipy.stats import ks_2samp

        ours = [values["x"] for values in draws({"x": Values(uniform=(0, 1))}, 2, 0)]
        assert ours[0] != ours[1]
        values = Values.model_validate(written)
        rng = np.random.default_rng(0)
        ours = [values.draw(rng) for _ in range(2000)]
        theirs = getattr(tune, name)(*bounds).sample(size=2000, random_state=np.random.RandomState(1))
        assert ks_2samp(ours, theirs).pvalue > 0.01
        assert min(ours) >= bounds[0]
        assert max(ours) <= bounds[1]
        assert isinstance(ours[0], int) == (name == "randint")

    def test_a_choice_gives_each_as_often(self):
        values = Values(choice=["a", [1, 2], {"type": "x"}])
        rng = np.random.default_rng(0)
        found = [json.dumps(values.draw(rng)) for _ in range(3000)]
        assert sorted(found.count(text) // 100 for text in set(found)) == pytest.approx([10, 10, 10], abs=1)

    def test_the_nth_draw_knows_nothing_of_how_many_there_are(self):
        space = {"a": Values(uniform=(0, 1)), "b": Values(choice=[1, 2, 3])}
        assert list(draws(space, 20, 5))[:8] == list(draws(space, 8, 5))
        assert list(draws(space, 8, 5)) != list(draws(space, 8, 6))

    def test_no_combination_twice(self):
        space = {"a": Values(choice=[1, 2]), "b": Values(randint=(0, 3))}
        assert combinations(space) == 6
        assert len({json.dumps(values) for values in draws(space, 6, 0)}) == 6
        assert combinations({**space, "c": Values(uniform=(0, 1))}) is None

    def test_every_end_is_checked(self):
        space = {"a": Values(choice=[1, 2, 3]), "b": Values(uniform=(0.5, 1.5))}
        found = list(to_check(space))
        assert {values["a"] for values in found} == {1, 2, 3}
        assert {values["b"] for values in found} == {0.5, 1.5}

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ({}, "takes one of uniform, loguniform, randint and choice"),
            ({"uniform": [0, 1], "choice": [1, 2]}, "takes one of"),
            ({"uniform": [1, 0]}, "the lower first"),
            ({"uniform": [1, 1]}, "the lower first"),
            ({"uniform": [0, math.inf]}, "two numbers"),
            ({"loguniform": [0, 1]}, "above 0"),
            ({"choice": [1]}, "two values or more"),
            ({"choice": [1, 1]}, "all different"),
            ({"normal": [0, 1]}, "Extra inputs"),
            ({"uniform": [0, 1, 2]}, "at most 2"),
        ],
    )
    def test_what_is_no_range(self, written, expected):
        with pytest.raises(ValidationError, match=expected):
            Values.model_validate(written)


class TestHalving:
    def test_rungs_are_a_ninth_and_a_third(self):
        assert rungs(90) == (10, 30)
        assert rungs(20000) == (2222, 6666)
        assert rungs(2) == (1,)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_it_decides_as_ray_tune_does(self, tmp_path, mode):
        """Against `AsyncHyperBandScheduler`: forty trainings report in a mixed order."""
        from ray.tune.schedulers import AsyncHyperBandScheduler

        higher = mode == "max"
        theirs = AsyncHyperBandScheduler(
            time_attr="step", metric="m", mode=mode, grace_period=10, max_t=90, reduction_factor=3
        )
        rng = np.random.default_rng(0)
        trials = [type("Trial", (), {"trial_id": str(n)})() for n in range(40)]
        ours = [Halving(tmp_path, n, "m", higher, (10, 30), 90) for n in range(40)]
        best = [-math.inf if higher else math.inf] * 40
        alive = list(range(40))
        for trial in trials:
            theirs.on_trial_add(None, trial)
        stopped = 0
        for step in (5, 10, 20, 30, 60):
            for n in rng.permutation(alive):
                value = float(rng.normal())
                best[n] = max(best[n], value) if higher else min(best[n], value)
                expected = theirs.on_trial_result(None, trials[n], {"step": step, "m": best[n]}) == "STOP"
                found = False
                try:
                    ours[n].log(step, {"m": value})
                except StoppedEarlyError:
                    found = True
                assert found == expected, (step, n)
                if found:
                    alive.remove(n)
                    stopped += 1
        assert 20 < stopped < 40

    def test_what_was_decided_stays_decided(self, tmp_path):
        """A training that was killed and goes on is not judged anew by those that came after it."""
        Halving(tmp_path, 0, "m", True, (10,), 90).log(10, {"m": 0.1})
        Halving(tmp_path, 1, "m", True, (10,), 90).log(10, {"m": 0.9})
        Halving(tmp_path, 0, "m", True, (10,), 90).log(12, {"m": 0.1})
        for _ in range(2):
            with pytest.raises(StoppedEarlyError, match="not in the best third"):
                Halving(tmp_path, 2, "m", True, (10,), 90).log(10, {"m": 0.5})

    def test_nothing_is_given_up_at_its_end(self, tmp_path):
        Halving(tmp_path, 0, "m", True, (10,), 20).log(20, {"m": 0.9})
        Halving(tmp_path, 1, "m", True, (10,), 20).log(20, {"m": 0.1})

    def test_no_number_is_no_reason_to_go_on(self):
        assert goes_on(math.nan, [], True)
        assert goes_on(0.1, [math.nan], True)
        assert not goes_on(math.nan, [0.2], True)


def test_the_driver_ends_a_worker_that_reports_through_files(tmp_path):
    """Where a search gives up a training that runs in other processes."""

    class Stops(Log):
        def log(self, step: int, values: Any) -> None:
            raise StoppedEarlyError("enough")

    steps = 0

    def train() -> None:
        nonlocal steps
        with relay(tmp_path, Stops()):
            worker = FileReporter(tmp_path)
            for steps in range(2000):
                worker.log(steps, {"m": 1.0})
                time.sleep(0.01)

    with pytest.raises(StoppedEarlyError, match="enough"):
        train()
    assert 0 < steps < 1999
