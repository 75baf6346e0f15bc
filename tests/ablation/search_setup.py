"""Ablations with a search, planned and run in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ablation_setup import write
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import Plan, make_plan
from mriad.ablation.run import AblationOptions, run_ablation
from mriad.errors import MriadError

if TYPE_CHECKING:
    from pathlib import Path

RATES = {"optimiser.lr": {"loguniform": [1e-4, 1e-1]}}
SEARCH = {"for": "plain", "space": RATES, "trials": 3}


def planned(folder: Path, search: Any = SEARCH, **over: Any) -> Plan:
    return make_plan(load_ablation(write(folder, search=search, **over)))


def refused(folder: Path, search: Any, **over: Any) -> str:
    with pytest.raises(MriadError) as caught:
        planned(folder, search, **over)
    return str(caught.value)


def run(plan: Plan, runs: Path, **over: Any):
    return run_ablation(
        plan, AblationOptions(**{"launcher": "inline", "runs": runs, "tracking": "off", **over})
    )


def records(runs: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("runs/*/run.json"))]
    return [record for record in found if record["kind"] == kind]


def notes(runs: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in runs.glob("searches/*/search.json")]
    return sorted(found, key=lambda note: note["fold"])
