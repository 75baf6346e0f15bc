"""Check of a split: a person, or the voxels of one, on two sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.errors import MriadError
from mriad.same_person import renamed
from mriad.vocabulary import CaseIndex, LabelSet

from mriad_data.checking.duplicates import names_of
from mriad_data.checking.findings import Finding
from mriad_data.splits.file import named_sides
from mriad_data.splits.persons import some
from mriad_data.splits.split_files import read_folds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.experiment.model import Experiment

    from mriad_data.checking.reading import Seen

REMEDY = "put all cases of a person on one side"


def check_split_file(
    seen: Sequence[Seen], file: Path, told: Sequence[Sequence[str]] = ()
) -> Iterator[Finding]:
    """Every fold of a file: persons on two sides, entries that name nothing or are there twice, cases on no side.

    Persons with equal voxels count as one, whatever they are called.
    """
    index = _united(seen, told)
    try:
        folds = len(read_folds(file))
    except MriadError as error:
        yield Finding(
            "splits", "error", error.what, file=str(file), detail=_facts(error), remedy=error.remedy
        )
        return
    for fold in range(folds):
        sides, unknown, twice = named_sides(file, index, fold)
        called = f"fold {fold}: " if folds > 1 else ""
        yield from _leaks(index, sides, called, str(file))
        for entries, what in (
            (unknown, "a split names what is not there"),
            (twice, "a split names one twice"),
        ):
            if entries:
                yield Finding(
                    "splits",
                    "error",
                    what,
                    file=str(file),
                    detail=called + some(entries),
                    remedy="correct the file",
                )
        named = {case for cases in sides.values() for case in cases}
        left = [case for case in index.column("id") if case not in named]
        if left:
            yield Finding(
                "splits", "note", "cases are on no side", file=str(file), detail=called + some(left)
            )


def check_split(seen: Sequence[Seen], experiment: Experiment) -> Iterator[Finding]:
    """Every fold of an experiment's split, over the cases as their voxels unite them."""
    data = experiment.data
    index = _united(seen, data.same_person)
    try:
        folds = data.split.folds_of(index)
        for fold in range(folds):
            sides = data.split.build(index, fold, experiment.seed)
            yield from _leaks(index, sides, f"fold {fold}: " if folds > 1 else "", "")
    except MriadError as error:
        yield Finding("splits", "error", error.what, detail=_facts(error), remedy=error.remedy or REMEDY)


def _united(seen: Sequence[Seen], told: Sequence[Sequence[str]]) -> CaseIndex:
    index = CaseIndex([one.case for one in seen], LabelSet(()))
    return renamed(index, names_of(seen, told).aliases())


def _leaks(index: CaseIndex, sides: Mapping[str, Sequence[str]], fold: str, file: str) -> Iterator[Finding]:
    person = dict(zip(index.column("id"), index.column("person"), strict=True))
    on: dict[str, dict[str, list[str]]] = {}
    for side, cases in sides.items():
        for case in cases:
            on.setdefault(person[case], {}).setdefault(side, []).append(case)
    also: dict[str, list[str]] = {}
    for other, name in index.aliases.items():
        also.setdefault(name, []).append(other)
    for name, by_side in on.items():
        if len(by_side) > 1:
            called = name + (f" (also called {', '.join(also[name])})" if name in also else "")
            parts = "; ".join(f"{side} {some(cases, 3)}" for side, cases in by_side.items())
            yield Finding(
                "splits",
                "error",
                "a person is in two splits",
                file=file,
                detail=f"{fold}{called}: {parts}",
                remedy=REMEDY,
            )


def _facts(error: MriadError) -> str:
    return "; ".join(f"{key}: {value}" for key, value in error.where.items())
