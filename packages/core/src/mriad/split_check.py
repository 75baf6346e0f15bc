"""One person is on one side of a split: by name, and by the voxels of images and label maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.errors import SplitError
from mriad.same_person import tells_a_person, voxels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.vocabulary import Case, CaseIndex

SIDES = ("train", "validation", "test")


def check_split(index: CaseIndex, split: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split that leaks.

    Raises:
        SplitError: a person is on two sides, or the same voxels are under two persons' names; a case is unknown, or
            training has none.
    """
    ids = index.column("id")
    person = dict(zip(ids, index.column("person"), strict=True))
    unknown = [c for side in SIDES for c in split.get(side, ()) if c not in person]
    if unknown:
        raise SplitError(
            "the split names cases that the data set lacks", where={"cases": ", ".join(unknown[:8])}
        )
    side_of: dict[str, tuple[str, str]] = {}
    for side in SIDES:
        for case in split.get(side, ()):
            first, other = side_of.setdefault(person[case], (side, case))
            if first != side:
                raise SplitError(
                    f"person '{person[case]}' is in two splits",
                    where={first: f"case {other}", side: f"case {case}"},
                    remedy="split by person: data.split {type: data.k_fold} does, or correct the split file",
                )
    if not split.get("train"):
        raise SplitError("no case is left for training", where={s: len(split.get(s, ())) for s in SIDES})
    on = {case: side for side in SIDES for case in split.get(side, ())}
    by_side: dict[str, list[Case]] = {side: [] for side in SIDES}
    for made in index:  # in one go: a columnar index makes single cases slowly
        if made.id in on:
            by_side[on[made.id]].append(made)
    check_voxels(by_side)


def check_voxels(sides: Mapping[str, Iterable[Case]]) -> None:
    """Refuse one scan or label map on two sides, whatever the persons are called: they are one person.

    Raises:
        SplitError: an image or label map of a case has the fingerprint of one on another side; empty label maps
            are alike and do not count.
    """
    seen: dict[str, tuple[str, Case]] = {}
    tells: dict[str, bool] = {}
    for side, cases in sides.items():
        for case in cases:
            for mark, source in voxels_of(case):
                where, other = seen.setdefault(mark, (side, case))
                if where != side and mark not in tells:
                    tells[mark] = tells_a_person(case, source)
                if where != side and tells[mark]:
                    raise SplitError(
                        "the same voxels under two names are in two splits",
                        where={
                            where: f"case {other.id} of person '{other.person}'",
                            side: f"case {case.id} of person '{case.person}'",
                            "file": source.location,
                        },
                        remedy="give both cases one person in the data set, or remove one of them",
                    )
