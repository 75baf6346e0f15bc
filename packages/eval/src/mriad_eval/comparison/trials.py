"""What is compared: trials, each a variant trained with one seed and tested on one fold, with its table of values."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mriad.evaluation import Row
    from mriad.metric import Metric

Status = Literal["finished", "failed", "interrupted", "running", "absent"]
_SHOWN = 12


@dataclass(frozen=True)
class Trial:
    """One run.

    fold: "" where there are no folds. seed: "" for one fixed model, such as predictions made elsewhere. rows: its
    tidy table, empty unless finished. status, error: how it ended. name: where it is, for messages. study: what it
    was grouped under. compute: steps, samples, seconds, peak_memory_bytes, gpu_seconds, as far as known. tuning:
    trainings of the search that chose some of its values, in its fold; 0 without one.
    """

    variant: str
    fold: str = ""
    seed: str = ""
    rows: tuple[Row, ...] = ()
    status: Status = "finished"
    error: str = ""
    name: str = ""
    study: str = ""
    compute: Mapping[str, float] = field(default_factory=dict)
    tuning: int = 0

    def text(self) -> str:
        """`hard_all fold 1 seed 2`."""
        return (
            self.variant
            + (f" fold {self.fold}" if self.fold else "")
            + (f" seed {self.seed}" if self.seed else "")
        )


@dataclass(frozen=True)
class TrialTable:
    """All trials of a comparison.

    data: how a reader knows the data, such as "phantom". evidence: "E1" to "E4", "" where unknown. voxels:
    fingerprint of each case's voxels, as far as known; two persons with the same voxels are one person. spreads:
    `Metric.constant_wins` of the trials' metrics by key, as far as recorded. unknown: types of metrics whose plugin
    cannot be asked. metrics: those of the trials that can, as they were recorded.
    """

    trials: tuple[Trial, ...]
    data: str = ""
    evidence: str = ""
    voxels: Mapping[str, str] = field(default_factory=dict)
    spreads: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()

    @classmethod
    def of_rows(
        cls, rows: Iterable[tuple[str, str, str, Row]], *, data: str = "", evidence: str = ""
    ) -> TrialTable:
        """Make a table of (variant, fold, seed, row)."""
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for variant, fold, seed, row in rows:
            groups[variant, fold, seed].append(row)
        trials = tuple(Trial(*key, rows=tuple(found)) for key, found in groups.items())
        return cls(trials, data, evidence)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names in order of appearance, failed ones included."""
        return tuple(dict.fromkeys(trial.variant for trial in self.trials))

    def finished(self, variant: str) -> tuple[Trial, ...]:
        """Trials of a variant that have values."""
        return tuple(t for t in self.trials if t.variant == variant and t.status == "finished" and t.rows)

    def missing(self) -> tuple[Trial, ...]:
        """Trials that did not finish, and those of the grid of folds × seeds that are not there at all.

        The grid is what the trials themselves span; a fixed model (no seed) is expected in its own folds only.
        """
        known = {(t.variant, t.fold, t.seed) for t in self.trials}
        trained = [t for t in self.trials if t.seed]
        folds = list(dict.fromkeys(t.fold for t in trained))
        seeds = list(dict.fromkeys(t.seed for t in trained))
        absent = [
            Trial(variant, fold, seed, status="absent", error="no such run was given")
            for variant in dict.fromkeys(t.variant for t in trained)
            for fold in folds
            for seed in seeds
            if (variant, fold, seed) not in known
        ]
        unfinished = [t for t in self.trials if t.status != "finished" or not t.rows]
        return (*unfinished, *absent)


def require_comparable(table: TrialTable) -> None:
    """Check that trials can be held against each other, before any number is computed.

    Raises:
        DataError: two runs of one variant, fold and seed; or the test cases differ, and not because a trial is
            missing; it names the cases.
    """
    _require_single(table)
    _require_same_folds(table)
    _require_same_cases(table)


def _require_single(table: TrialTable) -> None:
    seen: dict[tuple[str, str, str], Trial] = {}
    for trial in table.trials:
        key = (trial.variant, trial.fold, trial.seed)
        if key in seen:
            raise DataError(
                "two runs stand for the same variant, fold and seed",
                where={"trial": trial.text(), "first": seen[key].name, "second": trial.name},
                remedy="give one of them, or tell them apart: NAME=RUNFOLDER",
            )
        seen[key] = trial


def _require_same_folds(table: TrialTable) -> None:
    first: dict[str, Trial] = {}
    for trial in table.trials:
        if trial.status != "finished" or not trial.rows or not trial.fold:
            continue
        other = first.setdefault(trial.fold, trial)
        mine, theirs = cases_of(trial), cases_of(other)
        if mine != theirs:
            raise DataError(
                "the test cases differ, so their figures cannot be compared",
                where={
                    f"only in {other.text()}": _listed(theirs - mine),
                    f"only in {trial.text()}": _listed(mine - theirs),
                },
                remedy="compare runs of one split: the same `data.split`, its seed and folds for every variant",
            )


def _require_same_cases(table: TrialTable) -> None:
    """Every variant and seed must have every case, unless a trial that would have it is missing."""
    holders: dict[str, set[str]] = defaultdict(set)  # case → folds that test it
    have: dict[tuple[str, str], set[str]] = defaultdict(set)
    folds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for variant in table.variants:
        for trial in table.finished(variant):
            for case in cases_of(trial):
                holders[case].add(trial.fold)
                have[variant, trial.seed].add(case)
            folds[variant, trial.seed].add(trial.fold)
    faults = {}
    for key, found in have.items():
        mine = folds[key]
        # A case of a fold that this variant and seed lacks is a missing trial's, and is told as such.
        lacking = {c for c in holders.keys() - found if holders[c] & mine or "" in mine or holders[c] == {""}}
        if lacking:
            faults[key[0] + (f" seed {key[1]}" if key[1] else "")] = _listed(lacking)
    if faults:
        raise DataError(
            "the test cases differ, so their figures cannot be compared",
            where={f"{who} lacks": cases for who, cases in faults.items()},
            remedy="score the same cases for all; `mriad evaluate --count-missing` counts an absent one as a miss",
        )


def cases_of(trial: Trial) -> set[str]:
    """Names of the cases (of the persons, in rows of persons) that a trial was tested on."""
    return {row.case for row in trial.rows if row.case} or {row.person for row in trial.rows}


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:_SHOWN]) or "none"
    return (
        shown + (f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else "") + f" ({len(ordered)})"
    )
