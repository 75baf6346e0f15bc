"""The last line of a command can be pasted: what the command was told, the next one needs too."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest
from mriad.cli import main
from mriad.cli.next_step import runs_flag, set_flags

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = "standard:quickstart"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    found = capsys.readouterr()
    assert not caught.value.code, found.err
    return found.err.rsplit("next: ", 1)[1].split("   (")[0]


@pytest.mark.parametrize(
    "value", ["budget.steps=3", "name=a b", "evaluate.metrics=['eval.dice', \"eval.rve\"]"]
)
def test_overrides_come_back_as_a_shell_reads_them(value: str) -> None:
    assert shlex.split(set_flags([value, "seed=1"])) == ["--set", value, "--set", "seed=1"]
    assert set_flags(None) == set_flags([]) == ""


def test_the_runs_root_comes_back_where_one_was_given(tmp_path: Path) -> None:
    assert shlex.split(runs_flag(tmp_path / "my runs")) == ["--runs", str(tmp_path / "my runs")]
    assert runs_flag(None) == ""


def test_config_show_names_the_dry_run_with_the_same_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "config", "show", SHOWN, "--set", "budget.steps=7", "--set", "description=a b")
    assert line == f"mriad train {SHOWN} --set budget.steps=7 --set 'description=a b' --dry-run"


def test_data_splits_names_the_training_with_the_same_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "data", "splits", SHOWN, "--set", "seed=5") == f"mriad train {SHOWN} --set seed=5"


def test_the_dry_run_names_the_run_that_it_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import mriad.launch.estimate as module

    asked: list[Any] = []

    def estimate(experiment: Any, store: Any, device: str) -> module.Estimate:
        asked.append(experiment.budget.steps)
        return module.Estimate(
            train_cases=6,
            validation_cases=2,
            test_cases=3,
            persons=11,
            parameters=1000,
            step_seconds=0.5,
            steps=600,
            steps_per_epoch=6,
            validations=10,
            validated_cases=3,
            validation_case_seconds=2.0,
            tested_cases=3,
            test_case_seconds=40.0,
            workers=2,
            peak_memory_bytes=2**30,
            prepared_bytes=0,
            shapes={"labelled": (2, 1, 8, 8, 8)},
        )

    monkeypatch.setattr(module, "estimate", estimate)
    words = ["train", SHOWN, "--dry-run", "--set", "budget.steps=600", "--runs", str(tmp_path / "r")]
    with pytest.raises(SystemExit):
        main(words)
    found = capsys.readouterr()
    assert asked == [600]
    lines = {line[:18].strip(): line[18:] for line in found.out.splitlines()}
    assert lines["training"] == "5 min"  # 600 × .5 s
    assert (
        lines["validation"] == "40 s (3 cases of 2 s)"
    )  # two workers: two of three cases in turn, ten times
    assert lines["test"] == "2 min (3 cases of 40 s)"
    assert lines["all of it"] == "8 min, and the figures"  # 460 s
    assert f"next: mriad train {SHOWN} --set budget.steps=600 --runs {tmp_path / 'r'}   (" in found.err
