"""One person under several names: told by the experiment, or found by equal voxels, and kept together.

A scan that two names share is one person's. So is a label map that two names share, unless it has few voxels: all
empty maps of one size are alike, and small masks coincide by chance. What is resampled or drawn anew has other
voxels; `data.same_person` tells of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mriad.file_content import content_hint, content_mark
from mriad.images import FileSource
from mriad.vocabulary import CaseIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mriad.vocabulary import Case, Source

LEAST_VOXELS = 100
"""A label map with fewer voxels says nothing about whose it is."""


class Names:
    """Names that mean one person, joined pair by pair; the name that was there first stands for all."""

    def __init__(self, groups: Iterable[Sequence[str]] = ()) -> None:
        self._parent: dict[str, str] = {}
        self._rank: dict[str, int] = {}
        for group in groups:
            for name in group:
                self.join(group[0], name)

    def of(self, name: str) -> str:
        """The name that stands for this one."""
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def join(self, first: str, other: str) -> None:
        """Both mean one person from now on."""
        for name in (first, other):
            self._parent.setdefault(name, name)
            self._rank.setdefault(name, len(self._rank))
        one, two = sorted((self.of(first), self.of(other)), key=self._rank.__getitem__)
        self._parent[two] = one

    def aliases(self) -> dict[str, str]:
        """Every name that another stands for."""
        return {name: self.of(name) for name in self._parent if self.of(name) != name}


def unite_persons(index: CaseIndex, told: Iterable[Sequence[str]] = ()) -> CaseIndex:
    """The index with one name a person; `aliases` of the result holds the others.

    Of each file a few bytes are read; only those that may have equal voxels are hashed.

    Args:
        index: as its data set gives it, or with domains named.
        told: names that mean one person; the first of each group stands for it.

    Raises:
        DataError: a file cannot be read.
    """
    names = Names(told)
    for first, other, _ in shared_voxels(index):
        if names.of(first) != names.of(other):
            names.join(first, other)
    return renamed(index, names.aliases())


def renamed(index: CaseIndex, aliases: Mapping[str, str]) -> CaseIndex:
    """The index in which each person has the name that stands for it."""
    if not aliases:
        return index
    if not aliases.keys() & set(index.column("person")):
        made = index.select(lambda case: True)
    else:
        cases = [
            replace(case, person=aliases[case.person]) if case.person in aliases else case for case in index
        ]
        made = CaseIndex(cases, index.label_set)
    made.aliases = {**index.aliases, **aliases}
    return made


def shared_voxels(index: Iterable[Case]) -> Iterator[tuple[str, str, Source]]:
    """Pairs of persons, in order of appearance, that share an image or a label map, with its source."""
    cases = list(index)
    common = _common_hints(cases)
    holder: dict[str, str] = {}
    tells: dict[str, bool] = {}  # a thousand persons may share one empty map, which is read once
    for case in cases:
        for source in sources_of(case):
            if voxel_hint(source) not in common:
                continue
            mark = voxel_mark(source)
            first = holder.setdefault(mark, case.person)
            if first == case.person:
                continue
            if mark not in tells:
                tells[mark] = tells_a_person(case, source)
            if tells[mark]:
                yield first, case.person, source


def _common_hints(cases: Iterable[Case]) -> set[bytes]:
    """Hints that sources of two persons have."""
    holder: dict[bytes, str] = {}
    common = set()
    for case in cases:
        for source in sources_of(case):
            hint = voxel_hint(source)
            if holder.setdefault(hint, case.person) != case.person:
                common.add(hint)
    return common


def sources_of(case: Case) -> Iterator[Source]:
    """Every image and label map of a case."""
    yield from case.channels.values()
    for label in case.labels.values():
        yield label.source


def voxels_of(case: Case) -> Iterator[tuple[str, Source]]:
    """Identity and source of every image and label map of a case."""
    for source in sources_of(case):
        yield voxel_mark(source), source


def voxel_hint(source: Source) -> bytes:
    """Equal for sources of equal `voxel_mark`; of a file without reading the whole of it."""
    return content_hint(source.path) if isinstance(source, FileSource) else source.fingerprint.encode()


def voxel_mark(source: Source) -> str:
    """Identity of a source's voxels: its fingerprint, but one for all copies of a file that were compressed anew."""
    return content_mark(source.path) if isinstance(source, FileSource) else source.fingerprint


def tells_a_person(case: Case, source: Source) -> bool:
    """Whether equal voxels mean the same person: always for an image, for a label map with enough of them."""
    if any(source is channel for channel in case.channels.values()):
        return True
    return int((source.read().data != 0).sum()) >= LEAST_VOXELS
