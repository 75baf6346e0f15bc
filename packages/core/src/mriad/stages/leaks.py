"""No stage that leads to a table may learn from the persons whom the table tests, whatever data set it names.

A person is found by any of his names, by the voxels of an image, and by those of a label map. Where the table's
fold holds out a contrast or domain, nothing before it may learn from that either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mriad.errors import SplitError
from mriad.same_person import Names, tells_a_person, voxel_mark, voxels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mriad.stages.graph import Graph
    from mriad.vocabulary import Case

LEARN = ("training", "validation")
"""Sides whose voxels a stage may learn or choose from."""


@dataclass(frozen=True)
class Seen:
    """A case as a leak is found by: its person, and the identities of its images and label maps."""

    id: str
    person: str
    channels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """Its contrast and domain."""
    case: Case | None = field(default=None, compare=False, repr=False)
    """To look at a label map that two persons share: empty ones are alike."""

    @classmethod
    def of(cls, cases: Iterable[Case]) -> tuple[Seen, ...]:
        """Ask each source for the identity of its voxels."""
        return tuple(
            cls(
                c.id,
                c.person,
                tuple(voxel_mark(s) for s in c.channels.values()),
                tuple(voxel_mark(label.source) for label in c.labels.values()),
                tuple(value for value in (c.contrast, c.domain) if value),
                c,
            )
            for c in cases
        )

    def shares(self, mark: str) -> bool:
        """Whether equal voxels of this image or label map mean the same person."""
        if mark in self.channels or self.case is None:
            return True
        return any(m == mark and tells_a_person(self.case, source) for m, source in voxels_of(self.case))


class Identity(Protocol):
    """What a stage's `data` section leads to; see `mriad.stages.fingerprints.DataIdentity`."""

    @property
    def cases(self) -> Mapping[str, tuple[Seen, ...]]:
        """Under "training", "validation" and "test"."""
        ...

    @property
    def held_out(self) -> frozenset[str]:
        """Contrasts and domains that nothing may learn from."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of persons."""
        ...


def check_stages(graph: Graph, data: Mapping[str, Identity]) -> None:
    """Refuse a graph in which a stage before a table learns from a person, scan or contrast that the table tests.

    Args:
        graph: of one experiment.
        data: what each node reads, by its name.

    Raises:
        SplitError: names both stages, both sides, persons and cases.
    """
    names = Names((to, old) for identity in data.values() for old, to in identity.aliases.items())
    for table in graph:
        own = data[table.name]
        if table.kind != "table" or not own.cases.get("test"):
            continue
        tested = own.cases["test"]
        by_person = {names.of(case.person): case for case in tested}
        by_voxels = {mark: case for case in tested for mark in (*case.channels, *case.labels)}
        for name in sorted(graph.upstream(table.name)):
            if data[name] is own:  # one split, which was checked when it was made
                continue
            for side in LEARN:
                for case in data[name].cases.get(side, ()):
                    here = f"{side} of '{name}'"
                    if names.of(case.person) in by_person:
                        _refuse(name, here, case, table.name, by_person[names.of(case.person)], "")
                    for mark in (*case.channels, *case.labels):
                        if mark in by_voxels and case.shares(mark):
                            _refuse(name, here, case, table.name, by_voxels[mark], mark)
                    kept = own.held_out.intersection(case.values)
                    if kept:
                        _refuse_held_out(name, here, case, table.name, min(kept))


def _refuse(name: str, here: str, case: Seen, table: str, tested: Seen, mark: str) -> None:
    what = f"the voxels of person '{tested.person}'" if mark else f"person '{case.person}'"
    raise SplitError(
        f"stage '{name}' learns from {what}, whom stage '{table}' tests",
        where={
            here: f"case {case.id} of person '{case.person}'",
            f"test of '{table}'": f"case {tested.id} of person '{tested.person}'",
        },
        remedy=f"leave the test persons out of the data of stage '{name}', or give both stages one split; "
        "different people need different names in the data sets",
    )


def _refuse_held_out(name: str, here: str, case: Seen, table: str, value: str) -> None:
    raise SplitError(
        f"stage '{name}' learns from '{value}', which the split of stage '{table}' holds out",
        where={here: f"case {case.id} of person '{case.person}'"},
        remedy=f"leave '{value}' out of the data of stage '{name}', or give both stages one split",
    )
