"""Check of voxels that lie under two names, and of one person under two names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.same_person import LEAST_VOXELS, Names

from mriad_data.checking.findings import Finding, Level
from mriad_data.splits.persons import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad_data.checking.reading import Seen, VolumeFacts

Place = tuple["Seen", "VolumeFacts"]
UNITED = "training counts them as one person; remove one, or name both alike"


def same_voxels(seen: Sequence[Seen]) -> list[list[Place]]:
    """Images and label maps with equal shape and values, of two cases or two files at least.

    Constant volumes and label maps with few voxels coincide by chance and are left out, as in `mriad.same_person`.
    """
    groups: dict[str, list[Place]] = {}
    for one in seen:
        for v in one.of("channel", "label"):
            if v.low != v.high and (v.role == "channel" or v.nonzero >= LEAST_VOXELS):
                groups.setdefault(v.mark, []).append((one, v))
    return [g for g in groups.values() if len({(one.case.id, v.place) for one, v in g}) > 1]


def names_of(seen: Sequence[Seen], told: Sequence[Sequence[str]] = ()) -> Names:
    """Names of persons who are one, because somebody said so or because they share voxels."""
    names = Names(told)
    for group in same_voxels(seen):
        first = group[0][0].case.person
        for one, _ in group[1:]:
            if one.case.person != first:
                names.join(first, one.case.person)
    return names


def check_duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    """One finding a group of equal volumes; the first name is its case, the others are the detail."""
    for group in same_voxels(seen):
        (first, v), others = group[0], group[1:]
        persons = {one.case.person for one, _ in group}
        roles = {found.role for _, found in group}
        places = {found.place for _, found in group}
        shown = some(list(dict.fromkeys(_called(one, found, v.place) for one, found in others)), 4)
        if roles == {"channel", "label"}:
            what, remedy = "an image is a label map", "is a path wrong, or a label named as an image?"
        elif len(persons) > 1:
            kind = "image" if "channel" in roles else "label map"
            what, remedy = f"one {kind} under the names of {len(persons)} persons", UNITED
        elif len(places) == 1:
            continue  # one file on purpose: a mask that the contrasts of a person share
        elif "channel" in roles:
            what, remedy = "one image under two names of a person", "remove one, or it counts twice"
        else:
            what, remedy = "one label map under several names of a person", ""
        level: Level = "warning" if remedy else "note"
        yield Finding(
            "duplicates",
            level,
            what,
            first.case.id,
            v.place,
            f"same voxels: {shown}",
            remedy,
            others=tuple(sorted(places - {v.place})),
        )


def _called(one: Seen, v: VolumeFacts, place: str) -> str:
    """The case, and the volume where that says more."""
    return one.case.id if len(one.volumes) == 1 or v.place == place else f"{one.case.id} {v.name}"
