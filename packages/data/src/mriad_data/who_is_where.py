"""Who is where: persons × folds of an experiment's split, counted by domain, checked for leaks between all stages."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mriad.experiment.model import Experiment
    from mriad.flow import Cases
    from mriad.vocabulary import CaseIndex

SIDES = ("train", "validation", "test")
SIGNS = {"train": "t", "validation": "v", "test": "T", "": "·"}


@dataclass(frozen=True)
class FoldReport:
    """One fold: persons by side, counts of persons and cases by side, cases by domain and stream."""

    fold: int
    sides: Mapping[str, str]
    """Person → side; persons on no side are absent."""
    persons: Mapping[str, int]
    cases: Mapping[str, int]
    domains: Mapping[str, Mapping[str, int]]
    """Side → domain → cases."""
    left_out: int
    """Cases on no side."""
    held_out: tuple[str, ...] = ()
    streams: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitReport:
    """Every fold that was asked for."""

    experiment: str
    split: str
    folds: int
    persons: Mapping[str, tuple[str, ...]]
    """Person → domains of his cases."""
    cases: int
    aliases: Mapping[str, str]
    stages: int
    """Stages that were checked for leaks; 0: not checked."""
    reports: tuple[FoldReport, ...]
    nobody: tuple[str, ...] = ()
    """Names in `data.same_person` that no case has: perhaps mistyped, perhaps of another stage's data set."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "experiment": self.experiment,
            "split": self.split,
            "folds": self.folds,
            "cases": self.cases,
            "stages_checked": self.stages,
            "aliases": dict(self.aliases),
            "same_person_unknown": list(self.nobody),
            "persons": {
                person: {
                    "domains": list(domains),
                    "sides": {str(r.fold): r.sides.get(person) for r in self.reports},
                }
                for person, domains in self.persons.items()
            },
            "by_fold": [
                {
                    "fold": r.fold,
                    "persons": dict(r.persons),
                    "cases": dict(r.cases),
                    "domains": {side: dict(found) for side, found in r.domains.items()},
                    "left_out": r.left_out,
                    "held_out": list(r.held_out),
                    "streams": dict(r.streams),
                }
                for r in self.reports
            ],
        }


def report_splits(
    experiment: Experiment, only: Sequence[int] = (), check_stages: bool = True
) -> Iterator[FoldReport | SplitReport]:
    """Yield a report of each fold, then that of all; so a caller can show progress.

    Args:
        experiment: its data set is indexed and its files are hashed, once.
        only: folds to look at; empty: all.
        check_stages: also look for persons, voxels and contrasts that a stage learns from and a table tests.

    Raises:
        SplitError: a fold cannot be made, or a person leaks.
        DataError: the data set cannot be read.
    """
    from mriad.flow import apply_domains, split_cases
    from mriad.stages.fingerprints import fingerprints
    from mriad.stages.graph import expand

    data = experiment.data
    named = apply_domains(data.dataset.build(), data.domains)
    index, _, _ = split_cases(experiment, named, only[0] if only else 0, experiment.seed)
    folds = data.split.folds_of(index)
    reports, stages = [], 0
    for fold in only or range(folds):
        at = experiment.model_copy(update={"fold": fold})
        if check_stages:
            stages = len(fingerprints(expand(at)))
        report = _fold(at, named)
        reports.append(report)
        yield report
    everybody = set(named.column("person"))
    domains: dict[str, dict[str, None]] = {}
    for person, domain in zip(index.column("person"), index.column("domain"), strict=True):
        domains.setdefault(person, {})[domain] = None
    yield SplitReport(
        experiment.name,
        data.split.type_name(),
        folds,
        {person: tuple(d for d in found if d) for person, found in domains.items()},
        len(index),
        index.aliases,
        stages,
        tuple(reports),
        tuple(name for group in data.same_person for name in group if name not in everybody),
    )


def _fold(experiment: Experiment, index: CaseIndex) -> FoldReport:
    from mriad.flow import split_cases

    united, split, held_out = split_cases(experiment, index, experiment.fold, experiment.seed)
    side_of = {case: side for side in SIDES for case in split[side]}
    sides: dict[str, str] = {}
    domains: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for case, person, domain in zip(
        united.column("id"), united.column("person"), united.column("domain"), strict=True
    ):
        side = side_of.get(case)
        if side is not None:
            sides[person] = side
            domains[side][domain] += 1
    persons = Counter(sides.values())
    return FoldReport(
        experiment.fold,
        sides,
        {side: persons[side] for side in SIDES},
        {side: len(split[side]) for side in SIDES},
        domains,
        len(united) - len(side_of),
        tuple(sorted(held_out)),
        _streams(experiment, united, split, held_out),
    )


def _streams(
    experiment: Experiment, index: CaseIndex, split: Any, held_out: frozenset[str]
) -> dict[str, int]:
    """Cases that each stream of the experiment draws from; nothing where a stage has yet to make the labels."""
    from mriad.flow import cases_of, cases_of_stream

    if experiment.data.labels.from_:
        return {}
    cases: Cases = cases_of(experiment, index, split, held_out)
    return {name: len(cases_of_stream(name, s, cases)) for name, s in experiment.streams.items()}


def table_lines(report: SplitReport, most: int = 60) -> Iterator[str]:
    """The report as text: counts by fold and side, then persons × folds.

    Args:
        report: of all folds.
        most: persons to list.
    """
    counts = f"{len(report.persons)} persons, {report.cases} cases, {report.folds} folds"
    yield f"{report.experiment}: {counts} by {report.split}"
    names = sorted({d for r in report.reports for found in r.domains.values() for d in found})
    shown = [d for d in names if d] if len(names) <= 8 else []
    rows = [["fold", "side", "persons", "cases", *shown]]
    for r in report.reports:
        for side in SIDES:
            counts = [str(r.domains[side].get(d, 0)) for d in shown]
            first = str(r.fold) if side == "train" else ""
            rows.append([first, side, str(r.persons[side]), str(r.cases[side]), *counts])
        if r.left_out:
            rows.append(["", "on no side", "", str(r.left_out)])
    yield ""
    yield from _aligned(rows)
    for r in report.reports:
        if r.held_out:
            yield f"fold {r.fold} learns nothing from {', '.join(r.held_out)}"
    if report.reports and report.reports[0].streams:
        parts = [f"{name} {n} cases" for name, n in report.reports[0].streams.items()]
        yield f"streams of fold {report.reports[0].fold}: {'; '.join(parts)}"
    yield ""
    rows = [["person", *(str(r.fold) for r in report.reports), "domains"]]
    for person in list(report.persons)[:most]:
        signs = [SIGNS[r.sides.get(person, "")] for r in report.reports]
        rows.append([person, *signs, ", ".join(report.persons[person])])
    yield from _aligned(rows)
    if len(report.persons) > most:
        yield f"… and {len(report.persons) - most} more persons: --all lists them"
    yield "t train, v validation, T test, · on no side"
    for other, person in sorted(report.aliases.items()):
        yield f"'{other}' is the same person as '{person}'"
    if report.nobody:
        yield f"data.same_person names nobody of this data set with {', '.join(report.nobody)}"
    if report.stages:
        yield f"no leak: {report.stages} stages, by person, by voxels of images and label maps"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    for row in rows:
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip()
