"""A plugin's spread over contrasts is treated as ours are: it says of itself that a constant wins it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pytest
from comparison_tables import table
from mriad.case_table import write_rows
from mriad.launch.files import runs_root
from mriad.metric import Direction, Level, Metric
from mriad.registry import copy_of, registry, using
from mriad_eval.comparison import Question, TrialTable, compare
from mriad_eval.comparison.run_folders import read_table
from mriad_eval.comparison.spread import declared, spread_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LengthRange(Metric):
    """Range of a person's lengths over contrasts; a plugin's own."""

    type: Literal["guest.length_range"] = "guest.length_range"
    level: ClassVar[Level] = "person"
    unit: ClassVar[str] = "mm"
    direction: ClassVar[Direction] = "lower"
    worst: ClassVar[float | None] = 100.0
    coarse: bool = False

    def constant_wins(self) -> tuple[str, str]:
        return "length", "length_error"

    def key(self) -> str:
        return "length_range_coarse" if self.coarse else "length_range"


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    replacement = copy_of(registry())
    replacement.add(LengthRange, "guest", "mriad-guest")
    with using(replacement):
        yield


def lengths(key: str = "length_range") -> TrialTable:
    """`new` ranges less than `base` in every person; true lengths are 90 mm and one more for each person."""

    def length(r):
        return replace(
            r, metric="length", unit="mm", direction="none", worst=float("nan"), value=100 * r.value
        )

    def error(r):
        true = 90 + int(r.person[1:])
        kind = {"metric": "length_error", "unit": "mm", "direction": "lower", "worst": float(true)}
        return replace(r, value=abs(100 * r.value - true), **kind)

    def span(r):
        return replace(r, case="", metric=key, unit="mm", direction="lower", worst=100.0, value=5 * r.value)

    return table({"base": 0.0, "new": -0.05}, also=[length, error, span])


def test_a_plugin_s_spread_is_never_claimed_and_has_its_agreement() -> None:
    whole = lengths()
    found = compare(whole, Question("length_range", "base"))
    assert found.differences[0].p_adjusted < 0.05  # what it would have been claimed by
    assert found.verdicts[0].outcome == "spread alone"
    assert not found.verdicts[0].claim
    seen = [
        np.mean([r.value for t in whole.finished("new") for r in t.rows if (r.metric, r.person) == key])
        for key in [("length", f"p{p:02d}") for p in range(12)]
    ]
    by = {a.variant: a for a in found.agreements}
    assert by["new"].quantity == "length"
    assert by["new"].slope == pytest.approx(np.polyfit(90 + np.arange(12), seen, 1)[0])


def test_ours_declare_the_metrics_of_the_table_in_the_documentation() -> None:
    plain = TrialTable(())
    assert {name: spread_of(name, plain) for name in ("csa_std", "csa_std_binary", "volume_cv", "dice")} == {
        "csa_std": ("csa", "csa_abs_error"),
        "csa_std_binary": ("csa_binary", "csa_abs_error_binary"),
        "volume_cv": ("volume", "rve"),
        "dice": None,
    }
    assert (
        spread_of("soft_volume_sd", plain)
        == spread_of("soft_volume_cv", plain)
        == ("soft_volume", "soft_rve")
    )


def test_the_settings_that_a_run_recorded_tell_the_key(tmp_path: Path) -> None:
    """`length_range_coarse` is not the key of the type's defaults: the run's own config knows it."""
    for trial in lengths("length_range_coarse").trials:
        folder = tmp_path / "runs" / trial.name
        folder.mkdir(parents=True)
        metrics = [{"type": "guest.length_range", "coarse": True}, {"type": "absent.spread"}]
        experiment = {"evaluate": {"metrics": metrics}}
        tags = {"variant": trial.variant, "fold": trial.fold, "seed": trial.seed}
        record = {"id": trial.name, "kind": "run", "name": trial.variant, "study": "s", "status": "finished"}
        (folder / "run.json").write_text(json.dumps({**record, "tags": tags, "experiment": experiment}))
        write_rows(folder / "cases.csv", trial.rows)
    read = read_table([str(tmp_path / "runs")], runs_root(tmp_path))
    assert read.spreads == {"length_range_coarse": ("length", "length_error")}
    assert read.unknown == ("absent.spread",)
    found = compare(read, Question("length_range_coarse", "base"))
    assert found.verdicts[0].outcome == "spread alone"
    assert any("absent.spread is not known here" in note for note in found.notes)


def test_what_cannot_be_asked_is_named() -> None:
    misspelt = {"type": "eval.csa_std", "no": 1}
    found = declared([{"type": "eval.csa_std", "mask": "binary"}, {"type": "eval.dice"}, misspelt])
    assert found == ({"csa_std_binary": ("csa_binary", "csa_abs_error_binary")}, ("eval.csa_std",))
