"""`mriad train --dry-run`: real steps, one validation case, one test case; nothing of a run is left behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from mriad.launch import estimate as module
from mriad.launch.estimate import estimate

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_tried_and_what_is_counted(tmp_path: Path) -> None:
    given = setup.experiment(steps=20)
    found = estimate(given, tmp_path / "store")
    assert (found.train_cases, found.validation_cases, found.test_cases, found.persons) == (3, 3, 3, 9)
    assert (found.steps, found.validations, found.validated_cases, found.tested_cases) == (20, 10, 3, 3)
    assert found.shapes == {"labelled": (2, 1, 8, 8, 8)}
    assert min(found.step_seconds, found.validation_case_seconds, found.test_case_seconds) > 0
    assert found.peak_memory_bytes > 2**20
    assert found.training_seconds == 20 * found.step_seconds
    assert found.validation_seconds == pytest.approx(30 * found.validation_case_seconds)
    assert found.seconds == found.training_seconds + found.validation_seconds + found.test_seconds
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.rglob("predictor.json"))


def test_slow_validation_and_slow_tests_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slower(function: Any, seconds: float) -> Any:
        def call(*arguments: Any) -> Any:
            time.sleep(seconds)
            return function(*arguments)

        return call

    monkeypatch.setattr(module, "validate_case", slower(module.validate_case, 0.3))
    monkeypatch.setattr(module, "measure_case", slower(module.measure_case, 0.5))
    found = estimate(setup.experiment(steps=4), tmp_path / "store")
    assert found.validation_case_seconds > 0.3
    assert found.validation_seconds > 2 * 3 * 0.3
    assert found.test_seconds > 3 * 0.5


def test_what_is_not_evaluated_costs_nothing(tmp_path: Path) -> None:
    given = setup.experiment(steps=4, evaluate={}, stages={"train": {"type": "core.train"}})
    found = estimate(given, tmp_path / "store")
    assert (found.validated_cases, found.validation_seconds) == (0, 0)
    assert (found.tested_cases, found.test_seconds) == (0, 0)
    translating = estimate(setup.experiment("alternating", steps=2), tmp_path / "store")
    assert translating.tested_cases == 0
