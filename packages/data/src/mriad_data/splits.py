"""Splits by person: k folds, fractions, or a file. Every fold has training, validation and test persons."""

from __future__ import annotations

import difflib
import json
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from mriad.errors import SplitError
from mriad.interfaces import Split
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import CaseIndex

SIDES = ("train", "validation", "test")
Part = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""A number of persons, or a fraction of them."""


class KFold(Split):
    """Each person tests in exactly one of k folds; validation persons are drawn from the rest.

    Persons are dealt to folds domain by domain, so that folds have like mixtures of domains. The
    assignment depends on `seed` and the persons alone: by default not on the experiment's seed, so that
    results of several seeds can be averaged within a person.
    """

    type: Literal["data.k_fold"] = "data.k_fold"
    k: int = Field(5, ge=2, description="Number of folds.")
    validation: Part = Field(
        0.2, description="Persons for validation, or fraction of those that do not test."
    )
    seed: int | None = Field(0, description="Seed of the assignment; null: the experiment's seed.")

    def folds(self) -> int:
        """k."""
        return self.k

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        _check_fold(fold, self.k)
        strata = _strata(index, seed if self.seed is None else self.seed)
        persons = [person for stratum in strata for person in stratum]
        if len(persons) < self.k:
            raise SplitError(
                f"{self.k} folds need {self.k} persons, but there are {len(persons)}",
                where={"persons": _some(persons)},
                remedy=f"set k to at most {len(persons)}, or add persons",
            )
        test = persons[fold :: self.k]  # dealt like cards, one stratum after the other
        rest = _mixed([[p for p in stratum if p not in set(test)] for stratum in strata])
        count = _count(self.validation, len(rest))
        turn = fold * count % len(rest)  # other validation persons in each fold
        rest = rest[turn:] + rest[:turn]
        return _sides(index, {"test": test, "validation": rest[:count], "train": rest[count:]})


class RandomSplit(Split):
    """One fold: persons for validation and test, the rest for training, like mixtures of domains on each
    side.
    """

    type: Literal["data.random_split"] = "data.random_split"
    validation: Part = Field(0.2, description="Persons, or fraction of all persons, for validation.")
    test: Part = Field(0.2, description="Persons, or fraction of all persons, for testing.")
    seed: int | None = Field(0, description="Seed of the assignment; null: the experiment's seed.")

    def folds(self) -> int:
        """One."""
        return 1

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        _check_fold(fold, 1)
        order = _mixed(_strata(index, seed if self.seed is None else self.seed))
        tests, validations = (_count(part, len(order)) for part in (self.test, self.validation))
        sides = {
            "test": order[:tests],
            "validation": order[tests : tests + validations],
            "train": order[tests + validations :],
        }
        return _sides(index, sides)


class FileSplit(Split):
    """A split from a JSON file: `{"train": [...], "validation": [...], "test": [...]}`, or a list of such
    folds.

    Entries are persons, or ids of cases. Two cases of one person on different sides are refused.
    """

    type: Literal["data.file"] = "data.file"
    path: Path = Field(description="JSON file.")
    others: Literal["refuse", "leave_out"] = Field(
        "refuse", description="What happens to cases that the file does not name."
    )

    def folds(self) -> int:
        """Number of folds in the file."""
        return len(self._read())

    def _read(self) -> list[dict[str, list[str]]]:
        where: dict[str, object] = {
            "file": self.path,
            "expected": '{"train": [...], "validation": [...], "test": [...]}',
        }
        try:
            found: Any = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SplitError("a split file cannot be read", where={**where, "reason": error}) from error
        folds = found if isinstance(found, list) else [found]
        for fold in folds:
            if not isinstance(fold, dict) or set(fold) != set(SIDES):
                keys = ", ".join(fold) if isinstance(fold, dict) else type(fold).__name__
                raise SplitError("a split file has other sides than expected", where={**where, "found": keys})
            if not all(isinstance(fold[side], list) for side in SIDES):
                raise SplitError("each side of a split file is a list of persons or case ids", where=where)
        if not folds:
            raise SplitError("a split file holds no fold", where=where)
        return [{side: [str(entry) for entry in fold[side]] for side in SIDES} for fold in folds]

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        folds = self._read()
        _check_fold(fold, len(folds))
        persons: dict[str, list[str]] = {}
        for case in index:
            persons.setdefault(case.person, []).append(case.id)
        cases = {case.id: case.person for case in index}
        sides: dict[str, list[str]] = {side: [] for side in SIDES}
        unknown = []
        for side, entries in folds[fold].items():
            for entry in entries:
                if entry in cases:
                    sides[side].append(entry)
                elif entry in persons:
                    sides[side].extend(persons[entry])
                else:
                    close = difflib.get_close_matches(entry, [*cases, *persons], n=1)
                    unknown.append(entry + (f" (did you mean {close[0]}?)" if close else ""))
        if unknown:
            raise SplitError(
                "a split file names persons or cases that the data set does not have",
                where={"file": self.path, "unknown": _some(unknown)},
            )
        named = {case for ids in sides.values() for case in ids}
        left = [case for case in cases if case not in named]
        if left and self.others == "refuse":
            raise SplitError(
                "a split file does not name every case",
                where={"file": self.path, "missing": _some(left)},
                remedy="add them to a side, or set others: leave_out",
            )
        check_sides(index, sides)
        return {side: tuple(c for c in cases if c in set(ids)) for side, ids in sides.items()}


def check_sides(index: CaseIndex, sides: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split in which a person is on two sides, or a side is empty.

    Raises:
        SplitError: names the persons, the sides and the cases.
    """
    person = {case.id: case.person for case in index}
    seen: dict[str, dict[str, list[str]]] = {}
    for side, ids in sides.items():
        for case in ids:
            seen.setdefault(person[case], {}).setdefault(side, []).append(case)
    leaks = {p: by_side for p, by_side in seen.items() if len(by_side) > 1}
    if leaks:
        raise SplitError(
            f"{len(leaks)} person{'s are' if len(leaks) > 1 else ' is'} on two sides of the split",
            where={
                p: "; ".join(f"{side}: {_some(ids)}" for side, ids in by_side.items())
                for p, by_side in list(leaks.items())[:10]
            },
            remedy="put all cases of a person on one side",
        )
    empty = [side for side in SIDES if not sides.get(side)]
    if empty:
        raise SplitError(
            f"the split has no case for {' and '.join(empty)}",
            where={side: f"{len(sides.get(side, ()))} cases" for side in SIDES},
            remedy="every fold needs persons for all three: add some, or change the fractions",
        )


def _strata(index: CaseIndex, seed: int) -> list[list[str]]:
    """Persons by the domains that they have cases in, shuffled within each."""
    domains: dict[str, set[str]] = {}
    for case in index:
        domains.setdefault(case.person, set()).add(case.domain)
    strata: dict[tuple[str, ...], list[str]] = {}
    for person in sorted(domains):  # by name, so that the order of the manifest does not matter
        strata.setdefault(tuple(sorted(domains[person])), []).append(person)
    generator = np.random.Generator(np.random.Philox(seed))
    return [
        [persons[i] for i in generator.permutation(len(persons))] for _, persons in sorted(strata.items())
    ]


def _mixed(strata: Sequence[Sequence[str]]) -> list[str]:
    """An order whose every stretch has about the same mixture of strata: each is spread evenly over [0,
    1).
    """
    placed = [((i + 0.5) / len(s), n, person) for n, s in enumerate(strata) for i, person in enumerate(s)]
    return [person for *_, person in sorted(placed)]


def _count(part: float, persons: int) -> int:
    """A number of persons as it is; a fraction rounded, but at least one."""
    return part if isinstance(part, int) else max(1, round(part * persons))


def _sides(index: CaseIndex, persons: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Persons by side → case ids by side, in the order of the index, checked."""
    side_of = {person: side for side, names in persons.items() for person in names}
    sides = {side: tuple(case.id for case in index if side_of[case.person] == side) for side in SIDES}
    check_sides(index, sides)
    return sides


def _check_fold(fold: int, folds: int) -> None:
    if not 0 <= fold < folds:
        raise SplitError(
            f"there is no fold {fold}", where={"folds": folds}, remedy=f"folds count from 0 to {folds - 1}"
        )


def _some(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
