"""Sides of a split by case: does one person lie on two?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.errors import SplitError

from mriad_data.splits.persons import require_sides, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import CaseIndex


def check_sides(index: CaseIndex, sides: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split in which a person is on two sides, or a side is empty.

    Raises:
        SplitError: names the persons, the sides and the cases.
    """
    person = dict(zip(index.column("id"), index.column("person"), strict=True))
    seen: dict[str, dict[str, list[str]]] = {}
    for side, ids in sides.items():
        for case in ids:
            seen.setdefault(person[case], {}).setdefault(side, []).append(case)
    leaks = {p: by_side for p, by_side in seen.items() if len(by_side) > 1}
    if leaks:
        other = {united: old for old, united in index.aliases.items()}
        raise SplitError(
            f"{len(leaks)} person{'s are' if len(leaks) > 1 else ' is'} on two sides of the split",
            where={
                p + (f" (also called {other[p]})" if p in other else ""): "; ".join(
                    f"{side}: {some(ids)}" for side, ids in by_side.items()
                )
                for p, by_side in list(leaks.items())[:10]
            },
            remedy="put all cases of a person on one side",
        )
    require_sides(sides)
