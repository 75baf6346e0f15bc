"""What the plugin offers, through the hooks that a stranger's has; and `mriad preview` end to end."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mriad.experiment.load
import torch
import typer
from mriad.batch import Batch
from mriad.interfaces import Metric
from mriad.plugins import Candidate, discover
from mriad.vocabulary import LabelSet
from mriad_eval.preview import preview
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def offers() -> Any:
    module = importlib.import_module("mriad_eval.plugin")
    entry = SimpleNamespace(load=lambda: module)
    plugins = discover([Candidate("eval", "mriad-eval", "0", entry)])
    assert plugins.broken == []
    return plugins.registry


def test_metrics_and_commands() -> None:
    found = offers()
    assert {"eval.dice", "eval.assd", "eval.hd95", "eval.lesion_f1", "eval.volume_cv"} <= set(
        found.names("metric")
    )
    for entry in found.commands.values():
        module, attribute = entry.target.split(":")
        assert callable(getattr(importlib.import_module(module), attribute))
        assert entry.help
    assert {"preview", "evaluate"} <= set(found.commands)


def test_metrics_have_distinct_keys_and_come_from_yaml() -> None:
    variants = [
        {"type": "eval.soft_dice", "form": "squared"},
        {"type": "eval.asd", "start": "reference"},
        {"type": "eval.assd", "form": "mean_of_two"},
        {"type": "eval.rve", "volume": "soft"},
        {"type": "eval.ravd", "volume": "soft"},
        {"type": "eval.hd95", "form": "pooled"},
        {"type": "eval.nsd", "tolerance_mm": 2},
        {"type": "eval.volume", "of": "reference"},
        {"type": "eval.soft_volume", "of": "reference"},
        {"type": "eval.volume_cv", "volume": "soft"},
        {"type": "eval.lesion_load", "of": "reference"},
        {"type": "eval.slices", "metric": "eval.assd"},
    ]
    names = offers().names("metric")
    keys = [Metric.resolve(value).key() for value in [*names, *variants]]
    assert len(set(keys)) == len(keys)
    assert not any(" " in key or "/" in key for key in keys)


def test_preview_writes_below_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(source: str, overrides: Any) -> Any:
        asked.append((source, list(overrides)))
        dataset = SimpleNamespace(build=lambda: SimpleNamespace(label_set=LabelSet.of({"cord": 1})))
        learner = SimpleNamespace(streams=lambda: ())  # nothing here changes what is segmented
        return SimpleNamespace(
            name="mine", data=SimpleNamespace(dataset=dataset), learner=learner, streams={}
        )

    def preview_batches(experiment: Any, count: int) -> list[tuple[str, Batch]]:
        asked.append(count)
        target = torch.zeros(3, 1, 8, 8, 4, dtype=torch.int64)
        target[:, :, 2:6, 2:6] = 1
        return [("labelled", Batch(torch.rand(3, 1, 8, 8, 4), (1, 2, 3), ("a", "b", "c"), target=target))]

    monkeypatch.setattr(mriad.experiment.load, "load", load)
    monkeypatch.setitem(sys.modules, "mriad.launch.api", SimpleNamespace(preview_batches=preview_batches))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)
    app = typer.Typer()
    app.command()(preview)
    result = CliRunner().invoke(app, ["my.yaml", "--count", "2", "--set", "seed=1"])
    assert result.exit_code == 0, result.output
    assert asked == [("my.yaml", ["seed=1"]), 2]
    assert (tmp_path / "mriad-runs" / "previews" / "mine.png").stat().st_size > 1000
    assert "(2 samples)" in result.output
    assert "next: mriad train my.yaml --set seed=1 --dry-run" in result.output
