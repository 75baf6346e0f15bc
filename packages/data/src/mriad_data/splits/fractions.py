"""`data.k_fold` and `data.random_split`: persons dealt to sides, like mixtures of domains on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.errors import SplitError
from pydantic import Field

from mriad_data.splits.persons import (
    TEST,
    TRAIN,
    VALIDATION,
    Part,
    Persons,
    PersonSplit,
    check_fold,
    count,
    mixed,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import CaseIndex


class KFold(PersonSplit):
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

    def folds(self) -> int:
        """k."""
        return self.k

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        check_fold(fold, self.k)
        persons = Persons.of(index)
        keep = self.dealt(persons)
        strata = persons.strata(self.generator(seed), keep)
        dealt = np.concatenate(strata)
        if len(dealt) < self.k:
            names = [persons.names[p] for p in dealt]
            raise SplitError(
                f"{self.k} folds need {self.k} persons, but there are {len(dealt)}",
                where={"persons": some(names)},
                remedy=f"set k to at most {len(dealt)}, or add persons",
            )
        side = np.full(len(persons), TRAIN, np.int8)
        side[dealt[fold :: self.k]] = TEST  # dealt like cards, one stratum after the other
        rest = mixed([stratum[side[stratum] != TEST] for stratum in strata])
        wanted = count(self.validation, len(rest))
        turn = fold * wanted % len(rest)  # other validation persons in each fold
        side[np.roll(rest, -turn)[:wanted]] = VALIDATION
        return persons.sides(side)


class RandomSplit(PersonSplit):
    """One fold: persons for validation and test, the rest for training, like mixtures of domains on each
    side.
    """

    type: Literal["data.random_split"] = "data.random_split"
    validation: Part = Field(0.2, description="Persons, or fraction of those dealt, for validation.")
    test: Part = Field(0.2, description="Persons, or fraction of those dealt, for testing.")

    def folds(self) -> int:
        """One."""
        return 1

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        check_fold(fold, 1)
        persons = Persons.of(index)
        order = mixed(persons.strata(self.generator(seed), self.dealt(persons)))
        tests, validations = (count(part, len(order)) for part in (self.test, self.validation))
        side = np.full(len(persons), TRAIN, np.int8)
        side[order[:tests]] = TEST
        side[order[tests : tests + validations]] = VALIDATION
        return persons.sides(side)
