"""`data.file`: a split that somebody fixed."""

from __future__ import annotations

import difflib
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.errors import SplitError
from mriad.interfaces import Split
from pydantic import Field

from mriad_data.splits.persons import SIDES, Part, Persons, check_fold, count, mixed, require_sides, some
from mriad_data.splits.sides import check_sides
from mriad_data.splits.split_files import read_folds, read_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import CaseIndex
    from numpy.typing import NDArray

    from mriad_data.splits.split_files import Fold

_COMPARED = 20_000


class FileSplit(Split):
    """A split from a file: JSON, YAML or joblib, one fold or a list of them; see `mriad_data.splits.split_files`.

    Entries are persons (with or without `sub-`), ids of cases, or image files, which stand for the case of that
    name. Two cases of one person on different sides are refused, and so is
    a person who is listed twice.
    """

    type: Literal["data.file"] = "data.file"
    path: Path = Field(description="The file.")
    test: list[str] | Path | None = Field(
        None,
        description="Persons or cases that test in every fold, or a file that lists them; for files without "
        "test, such as nnU-Net's splits_final.json.",
    )
    val: Literal["validation", "test"] = Field(
        "validation",
        description="What the file's `val` is: `test` where the published scores are those of its folds; "
        "validation persons are then drawn from its `train`.",
    )
    validation: Part = Field(
        0.2, description="With `val: test`: persons, or fraction of the file's `train`, who validate."
    )
    others: Literal["refuse", "leave_out", "test"] = Field(
        "refuse",
        description="What happens to cases that the fold does not name; `test`: they test (nnU-Net's imagesTs).",
    )

    def folds(self) -> int:
        """Number of folds in the file."""
        return len(read_folds(self.path))

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test"."""
        folds = read_folds(self.path)
        check_fold(fold, len(folds))
        names = self._with_test(folds[fold])
        persons = Persons.of(index)
        lookup = _Lookup(persons, self.path)
        # One row a side: a case that is on two of them is a leak, which is reported as such.
        on = np.stack([lookup.cases(names.get(side, [])) for side in SIDES])
        lookup.refuse_faults()
        if self.val == "test":
            on[0], on[1] = self._drawn(persons, on[0], fold)
        left = ~on.any(axis=0)
        if left.any() and self.others == "refuse":
            missing = [persons.ids[i] for i in np.flatnonzero(left)[:7]]
            raise SplitError(
                "a split file does not name every case",
                where={"file": self.path, "missing": some(missing)},
                remedy="add them to a side, or set others: leave_out",
            )
        if self.others == "test":
            on[2] |= left
        sides = {
            side: tuple(compress(persons.ids, row.tolist())) for side, row in zip(SIDES, on, strict=True)
        }
        several = np.stack([persons.having(row) for row in on]).sum(axis=0) > 1
        if several.any():
            check_sides(index, sides)
        require_sides(sides)
        return sides

    def _with_test(self, fold: Fold) -> Fold:
        names = dict(fold)
        given = self.val == "test" or self.test is not None
        if given and "test" in names:
            raise SplitError(
                "a split file has a test side, and so has the experiment",
                where={"file": self.path, "its test": some(names["test"])},
                remedy="remove `test` and `val` from data.split",
            )
        if self.val == "test":
            names["test"] = names.pop("validation")
            extra = [] if self.test is None else self._listed(self.test)
            names["test"] += extra
        elif self.test is not None:
            names["test"] = self._listed(self.test)
        elif "test" not in names and self.others != "test":
            raise SplitError(
                "a split file has other sides than expected",
                where={"file": self.path, "found": ", ".join(fold), "missing": "test"},
                remedy="name who tests: data.split.test: [..], or others: test; or val: test, where the "
                "file's `val` is what is scored",
            )
        return names

    def _listed(self, test: Sequence[str] | Path) -> list[str]:
        return read_names(test) if isinstance(test, Path) else list(test)

    def _drawn(
        self, persons: Persons, train: NDArray[np.bool_], fold: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The file's training cases (n,) → those that train, and those of persons who validate."""
        strata = persons.strata(np.random.Generator(np.random.Philox(fold)), persons.having(train))
        order = mixed(strata)
        chosen = np.zeros(len(persons), bool)
        chosen[order[: count(self.validation, len(order))]] = True
        validates = chosen[persons.of_case]
        return train & ~validates, train & validates


def named_sides(path: Path, index: CaseIndex, fold: int) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Case ids by side of a fold as the file names them, whether or not that leaks; for reports.

    Returns sides, entries that name nothing, and entries that are there twice.

    Raises:
        SplitError: the file cannot be read.
    """
    lookup = _Lookup(Persons.of(index), path)
    sides = {
        side: list(compress(lookup.ids, lookup.cases(names).tolist()))
        for side, names in read_folds(path)[fold].items()
    }
    return sides, lookup.unknown, lookup.twice


class _Lookup:
    """Entries of a split file → cases; faults are collected and reported together."""

    def __init__(self, persons: Persons, path: Path) -> None:
        self.path = path
        self.ids, self.names, self.of_case = persons.ids, persons.names, persons.of_case
        # Names that are a person's and a case's: looked at one by one.
        self.both = set(persons.names).intersection(persons.ids)
        self.person = {name: i for i, name in enumerate(persons.names)}
        order = np.argsort(persons.of_case, kind="stable")
        ends = np.cumsum(np.bincount(persons.of_case, minlength=len(persons)))
        self.of_person = (order, np.r_[0, ends])
        self.alias = dict(persons.index.aliases)
        self._place: dict[str, int] = {}
        self.unknown: list[str] = []
        self.twice: list[str] = []

    @property
    def place(self) -> dict[str, int]:
        """Position by case id; not needed where a file names persons alone."""
        if not self._place:
            self._place = {case: i for i, case in enumerate(self.ids)}
        return self._place

    def cases(self, entries: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) the cases of one side."""
        numbers = [-1 if entry in self.both else self.person.get(entry, -1) for entry in entries]
        named = np.bincount([n for n in numbers if n >= 0], minlength=len(self.names))
        self.twice += [self.names[n] for n in np.flatnonzero(named > 1)]
        found = named[self.of_case] > 0
        for entry in (e for e, number in zip(entries, numbers, strict=True) if number < 0):
            places = self._meant(entry)
            if places is None:
                self.unknown.append(entry + self._hint(entry))
                continue
            if found[places].any():
                self.twice.append(entry)
            found[places] = True
        return found

    def _meant(self, entry: str) -> NDArray[np.int64] | list[int] | None:
        for name in (entry, entry.removeprefix("sub-"), f"sub-{entry}"):
            number = self.person.get(self.alias.get(name, name))
            # A case's own name comes first, where a person is called like one of several cases.
            if number is not None:
                order, ends = self.of_person
                own = order[ends[number] : ends[number + 1]]
                if name != entry or len(own) == 1 or entry not in self.place:
                    return own
        if entry in self.place:
            return [self.place[entry]]
        return self._of_file(entry) if entry.endswith((".nii", ".nii.gz")) or "/" in entry else None

    def _of_file(self, entry: str) -> list[int] | None:
        """`…/sub-a01_T2w.nii.gz`: the case of that name; nnU-Net's `…_0000.nii.gz`: the case without it."""
        stem = Path(entry).name.removesuffix(".gz").removesuffix(".nii")
        for name in (stem, stem[:-5] if stem[-5:-4] == "_" and stem[-4:].isdigit() else stem):
            if name in self.place:
                return [self.place[name]]
        return None

    def _hint(self, entry: str) -> str:
        known = [*self.place, *self.person]
        # Comparing with a million names would take minutes.
        close = difflib.get_close_matches(entry, known, n=1) if len(known) < _COMPARED else []
        return f" (did you mean {close[0]}?)" if close else ""

    def refuse_faults(self) -> None:
        """Report what was not found, or found twice.

        Raises:
            SplitError: there was such an entry.
        """
        if self.unknown:
            raise SplitError(
                "a split file names persons or cases that the data set does not have",
                where={"file": self.path, "unknown": some(self.unknown)},
            )
        if self.twice:
            raise SplitError(
                "a split file lists a person or case twice on one side",
                where={"file": self.path, "twice": some(self.twice)},
                remedy="remove one of the entries; a person's name stands for all of his cases",
            )
