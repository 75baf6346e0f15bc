"""`data.leave_domain_out`: tests a contrast or domain that nothing was trained on, in persons who did not train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.errors import SplitError
from pydantic import Field

from mriad_data.splits.persons import (
    NOWHERE,
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
    from numpy.typing import NDArray


class LeaveDomainOut(PersonSplit):
    """Holds out contrast × persons (EVIDENCE section 3): one value of contrast or domain a fold.

    Test: cases of the held-out value of the test persons. Training and validation: all other cases of all
    other persons. What remains is on no side: cases of the held-out value of persons who train (their masks
    stay out of the training targets), and other cases of persons who test.

    Persons who have cases of the held-out value only (another site) can never train: without `k` they all
    test; of persons who have others too, `test` says how many do. With `k` each person tests once for each value
    that he has, in one of k folds a value: fold f holds out value f // k and tests part f % k.
    """

    type: Literal["data.leave_domain_out"] = "data.leave_domain_out"
    by: Literal["contrast", "domain"] = Field("contrast", description="What is held out.")
    values: list[str] = Field(
        default_factory=list,
        description="Values to hold out, one after the other; empty: every one, by name.",
    )
    k: int | None = Field(None, ge=2, description="Folds of the persons for each value; null: one.")
    test: Part = Field(
        0.2, description="Without k: persons, or fraction of those with other cases too, who test."
    )
    validation: Part = Field(
        0.2, description="Persons for validation, or fraction of those that do not test."
    )

    def folds(self) -> int:
        """Values × k; -1 where the values come from the data."""
        return len(self.values) * (self.k or 1) or -1

    def folds_of(self, index: CaseIndex) -> int:
        """Values × k."""
        return len(self._values(index)) * (self.k or 1)

    def held_out(self, index: CaseIndex, fold: int) -> frozenset[str]:
        """The value that this fold must not train on."""
        values = self._values(index)
        check_fold(fold, len(values) * (self.k or 1))
        return frozenset({values[fold // (self.k or 1)]})

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        (value,) = self.held_out(index, fold)
        persons = Persons.of(index)
        codes, words = index.codes(self.by)
        held = codes == words.index(value)
        here, elsewhere = persons.having(held), persons.having(~held)
        dealt = self.dealt(persons)
        generator = self.generator(seed)
        strata = persons.strata(generator)
        side = np.where(elsewhere, TRAIN, NOWHERE).astype(np.int8)
        side[self._tested(strata, here & dealt, elsewhere, fold)] = TEST
        rest = mixed(_of(strata, elsewhere & dealt & (side == TRAIN)))
        if not len(rest):
            raise SplitError(
                f"nobody is left to train when {self.by} '{value}' is held out",
                where={
                    "persons with other cases": some(
                        [n for n, e in zip(persons.names, elsewhere, strict=True) if e]
                    )
                },
                remedy="lower `test`, raise k, or hold out another value",
            )
        side[rest[: count(self.validation, len(rest))]] = VALIDATION
        return persons.sides(side, {TRAIN: ~held, VALIDATION: ~held, TEST: held})

    def _tested(
        self,
        strata: list[NDArray[np.int64]],
        here: NDArray[np.bool_],
        elsewhere: NDArray[np.bool_],
        fold: int,
    ) -> NDArray[np.int64]:
        """Who tests: a part of those with cases of the value."""
        if self.k is not None:
            having = _of(strata, here)
            found: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *having])
            return found[fold % self.k :: self.k]
        alone, both = np.concatenate(strata), mixed(_of(strata, here & elsewhere))
        alone = alone[(here & ~elsewhere)[alone]]
        return np.concatenate([alone, both[: count(self.test, len(both))]])

    def _values(self, index: CaseIndex) -> list[str]:
        known = sorted(set(index.codes(self.by)[1]) - {""})
        unknown = [v for v in self.values if v not in known]
        if unknown or len(known) < 2:
            what = (
                f"no case has the {self.by} {', '.join(unknown)}"
                if unknown
                else f"all cases have one {self.by}"
            )
            raise SplitError(
                f"{what}, so that it cannot be held out",
                where={f"{self.by} values": some(known, 20) or "none"},
                remedy="name values of the data set in `values`" if unknown else "use data.k_fold",
            )
        return list(self.values) or known


def _of(strata: list[NDArray[np.int64]], wanted: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    found = [stratum[wanted[stratum]] for stratum in strata]
    return [stratum for stratum in found if len(stratum)]
