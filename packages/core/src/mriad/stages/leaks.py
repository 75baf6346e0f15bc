"""No stage that leads to a table may learn from the persons whom the table tests, whatever data set it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad.errors import SplitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mriad.stages.graph import Graph
    from mriad.vocabulary import Case

LEARN = ("training", "validation")
"""Sides whose voxels a stage may learn or choose from."""


@dataclass(frozen=True)
class Seen:
    """A case as a leak is found by: its person and the fingerprints of its channels."""

    id: str
    person: str
    channels: tuple[str, ...] = ()

    @classmethod
    def of(cls, cases: Iterable[Case]) -> tuple[Seen, ...]:
        """Ask each channel's source for its fingerprint."""
        return tuple(cls(c.id, c.person, tuple(s.fingerprint for s in c.channels.values())) for c in cases)


def check_stages(graph: Graph, sides: Mapping[str, Mapping[str, tuple[Seen, ...]]]) -> None:
    """Refuse a graph in which a stage before a table learns from a person or a scan that the table tests.

    Args:
        graph: of one experiment.
        sides: by node, its cases under "training", "validation" and "test".

    Raises:
        SplitError: names both stages, both sides, persons and cases.
    """
    for table in graph:
        if table.kind != "table" or not sides[table.name].get("test"):
            continue
        tested = sides[table.name]["test"]
        by_person = {case.person: case for case in tested}
        by_voxels = {mark: case for case in tested for mark in case.channels}
        for name in sorted(graph.upstream(table.name)):
            if sides[name] is sides[table.name]:  # one split, which was checked when it was made
                continue
            for side in LEARN:
                for case in sides[name].get(side, ()):
                    if case.person in by_person:
                        _refuse(name, side, case, table.name, by_person[case.person], voxels=False)
                    same = next((by_voxels[mark] for mark in case.channels if mark in by_voxels), None)
                    if same is not None:
                        _refuse(name, side, case, table.name, same, voxels=True)


def _refuse(name: str, side: str, case: Seen, table: str, tested: Seen, *, voxels: bool) -> None:
    what = f"the voxels of person '{tested.person}'" if voxels else f"person '{case.person}'"
    raise SplitError(
        f"stage '{name}' learns from {what}, whom stage '{table}' tests",
        where={
            f"{side} of '{name}'": f"case {case.id} of person '{case.person}'",
            f"test of '{table}'": f"case {tested.id} of person '{tested.person}'",
        },
        remedy=f"leave the test persons out of the data of stage '{name}', or give both stages one split; "
        "different people need different names in the data sets",
    )
