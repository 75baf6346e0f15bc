"""The persons of an index as numbers, so that a million rows split in under a second."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from mriad.errors import SplitError
from mriad.interfaces import Split
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import CaseIndex
    from numpy.typing import NDArray

SIDES = ("train", "validation", "test")
NOWHERE, TRAIN, VALIDATION, TEST = 0, 1, 2, 3
"""A side as a number; NOWHERE: on none."""

Part = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""A number of persons, or a fraction of them."""


@dataclass(frozen=True, eq=False)
class Persons:
    """The columns of an index that splits need; no case is made.

    ids: of the cases, in order. of_case: (n,) person number of each case. names: of the persons, by number.
    """

    ids: list[str]
    of_case: NDArray[np.int64]
    names: list[str]
    index: CaseIndex

    @classmethod
    def of(cls, index: CaseIndex) -> Persons:
        """Read the columns."""
        of_case, names = index.codes("person")
        return cls(index.column("id"), of_case, names, index)

    def __len__(self) -> int:
        return len(self.names)

    def having(self, cases: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(persons,) whether a person has a case of these (n,)."""
        found = np.zeros(len(self.names), bool)
        found[self.of_case[cases]] = True
        return found

    def labelled(self) -> NDArray[np.bool_]:
        """(persons,) whether any case of a person has a label of any name; makes every case once."""
        return self.having(np.fromiter((bool(case.labels) for case in self.index), bool, len(self.ids)))

    def in_domains(self, values: Sequence[str]) -> NDArray[np.bool_]:
        """(persons,) whether all cases of a person are of these domains or contrasts.

        Raises:
            SplitError: no case has such a domain or contrast.
        """
        columns = [self.index.codes(name) for name in ("domain", "contrast")]
        known = {word for _, words in columns for word in words}
        missing = [v for v in values if v not in known]
        if missing:
            raise SplitError(
                f"`train_only` names {_quoted(missing)}, which no case has",
                where={"domains and contrasts": some(sorted(known - {""}))},
            )
        inside = np.zeros(len(self.ids), bool)
        for codes, words in columns:
            inside |= np.isin(codes, [i for i, word in enumerate(words) if word in values])
        return ~self.having(~inside)

    def strata(self, generator: np.random.Generator | None, keep: NDArray[np.bool_] | None = None) -> Strata:
        """Person numbers by the set of domains that a person has cases in.

        Strata are in the order of their domains' names. Within one, persons are sorted by name, so that the
        order of the index does not matter, and then shuffled (`generator` None: not).
        """
        rank = np.empty(len(self.names), np.int64)
        order = np.array(sorted(range(len(self.names)), key=self.names.__getitem__), np.int64)
        rank[order] = np.arange(len(order))
        strata: list[NDArray[np.int64]] = []
        for members in self._by_domains():
            # Permuted before it is filtered: a person's place does not depend on who is kept.
            ordered = members[np.argsort(rank[members], kind="stable")]
            if generator is not None:
                ordered = ordered[generator.permutation(len(ordered))]
            strata.append(ordered if keep is None else ordered[keep[ordered]])
        return [stratum for stratum in strata if len(stratum)]

    def _by_domains(self) -> Strata:
        """Persons of one set of domains together, in the order of the sets' sorted names."""
        codes, words = self.index.codes("domain")
        if len(words) < 2:
            return [np.arange(len(self.names))]
        order = sorted(range(len(words)), key=words.__getitem__)
        domains = np.empty(len(words), np.int64)
        domains[order] = np.arange(len(words))  # numbered by name
        pairs = np.sort(self.of_case * len(words) + domains[codes])
        pairs = pairs[np.r_[True, pairs[1:] != pairs[:-1]]]
        person, domain = pairs // len(words), pairs % len(words)
        first = np.flatnonzero(np.r_[True, person[1:] != person[:-1]])
        count = np.diff(np.r_[first, len(pairs)])
        sets: dict[tuple[int, ...], list[NDArray[np.int64]]] = {}
        for d in range(len(words)):
            alone = person[first[(count == 1) & (domain[first] == d)]]
            if len(alone):
                sets[d,] = [alone]
        for start, n in zip(first[count > 1].tolist(), count[count > 1].tolist(), strict=True):
            sets.setdefault(tuple(domain[start : start + n].tolist()), []).append(person[start : start + 1])
        return [np.concatenate(members) for _, members in sorted(sets.items())]

    def sides(
        self, of_person: NDArray[np.int8], cases: Mapping[int, NDArray[np.bool_]] | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Sides of persons → case ids by side, in the order of the index.

        Args:
            of_person: (persons,) TRAIN, VALIDATION, TEST or NOWHERE.
            cases: (n,) which cases of its persons a side takes; default: all.

        Raises:
            SplitError: a side is empty.
        """
        of_case = of_person[self.of_case]
        found: dict[str, tuple[str, ...]] = {}
        for number, side in enumerate(SIDES, TRAIN):
            chosen = of_case == number
            if cases is not None and number in cases:
                chosen &= cases[number]
            found[side] = tuple(compress(self.ids, chosen.tolist()))
        require_sides(found)
        return found


Strata = list["NDArray[np.int64]"]


class PersonSplit(Split):
    """What splits that deal persons to sides share: the seed, and who is dealt at all."""

    seed: int | None = Field(0, description="Seed of the assignment; null: the experiment's seed.")
    unlabelled: Literal["deal", "train"] = Field(
        "deal",
        description="Persons without any label: dealt like all others, or `train` in every fold (they can "
        "neither validate nor test).",
    )
    train_only: list[str] = Field(
        default_factory=list,
        description="Domains or contrasts: persons with no other case train in every fold.",
    )

    def dealt(self, persons: Persons) -> NDArray[np.bool_]:
        """(persons,) who is dealt to sides; the others train.

        Raises:
            SplitError: nobody is.
        """
        keep = np.ones(len(persons), bool)
        if self.unlabelled == "train":
            keep &= persons.labelled()
        if self.train_only:
            keep &= ~persons.in_domains(self.train_only)
        if not keep.any():
            raise SplitError(
                "nobody is left to validate and test",
                where={
                    "persons": len(persons),
                    "unlabelled": self.unlabelled,
                    "train_only": ", ".join(self.train_only) or "–",
                },
                remedy="the data set needs labelled persons outside `train_only`",
            )
        return keep

    def generator(self, seed: int) -> np.random.Generator:
        """Of the assignment; `seed` is the experiment's."""
        return np.random.Generator(np.random.Philox(seed if self.seed is None else self.seed))


def mixed(strata: Strata) -> NDArray[np.int64]:
    """An order whose every stretch has about the same mixture of strata: each is spread evenly over [0, 1)."""
    if not strata:
        return np.empty(0, np.int64)
    place = np.concatenate([(np.arange(len(s)) + 0.5) / len(s) for s in strata])
    stratum = np.repeat(np.arange(len(strata)), [len(s) for s in strata])
    return np.concatenate(strata)[np.lexsort((stratum, place))]


def count(part: float, persons: int) -> int:
    """A number of persons as it is; a fraction rounded, but at least one."""
    return part if isinstance(part, int) else max(1, round(part * persons))


def check_fold(fold: int, folds: int) -> None:
    """Refuse a fold that is not there.

    Raises:
        SplitError: names the folds.
    """
    if not 0 <= fold < folds:
        raise SplitError(
            f"there is no fold {fold}", where={"folds": folds}, remedy=f"folds count from 0 to {folds - 1}"
        )


def require_sides(sides: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split with an empty side.

    Raises:
        SplitError: names the sides.
    """
    empty = [side for side in SIDES if not sides.get(side)]
    if empty:
        raise SplitError(
            f"the split has no case for {' and '.join(empty)}",
            where={side: f"{len(sides.get(side, ()))} cases" for side in SIDES},
            remedy="every fold needs persons for all three: add some, or change the fractions",
        )


def some(names: Sequence[str], limit: int = 6) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
