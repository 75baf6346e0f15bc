"""`data.leave_one_out`: one person tests, another validates, all others train."""

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
    Persons,
    PersonSplit,
    Strata,
    check_fold,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import CaseIndex


class LeaveOneOut(PersonSplit):
    """Fold f tests person f, in the order of their names, and validates on the next.

    With `within: domain` all domains advance together, one test person and its validation persons each, as the
    multi-domain paper pairs its data sets (specs/multidomain.md, sections 2 and 6). There are as many folds
    as the largest domain has persons. In the folds that go beyond a smaller domain its list starts again, but
    its held-out person is on no side there: nobody tests twice, and the training set keeps its size.

    `seed` changes nothing here.
    """

    type: Literal["data.leave_one_out"] = "data.leave_one_out"
    within: Literal["all", "domain"] = Field(
        "all", description="One person of all, or one of each domain in every fold."
    )
    validation: int = Field(1, ge=1, description="Validation persons (in each domain).")

    def folds(self) -> int:
        """It depends on the persons: -1."""
        return -1

    def folds_of(self, index: CaseIndex) -> int:
        """As many as the largest domain has persons."""
        return max(map(len, self._lists(Persons.of(index))))

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        persons = Persons.of(index)
        lists = self._lists(persons)
        check_fold(fold, max(map(len, lists)))
        side = np.full(len(persons), TRAIN, np.int8)
        for members in lists:
            if len(members) < self.validation + 2:
                names = [persons.names[p] for p in members]
                raise SplitError(
                    f"leaving one out needs {self.validation + 2} persons{' a domain' * (len(lists) > 1)}, but "
                    f"there are {len(members)}",
                    where={"persons": some(names)},
                    remedy="add persons, set validation to fewer, or within: all",
                )
            place = np.arange(fold, fold + 1 + self.validation) % len(members)
            side[members[place[1:]]] = VALIDATION
            side[members[place[0]]] = TEST if fold < len(members) else NOWHERE
        return persons.sides(side)

    def _lists(self, persons: Persons) -> Strata:
        strata = persons.strata(None, self.dealt(persons))
        if self.within == "domain":
            return strata
        together = np.concatenate(strata)
        return [np.array(sorted(together.tolist(), key=persons.names.__getitem__), np.int64)]
