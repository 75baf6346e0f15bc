"""Members of an ensemble by fold: parts of the *training* persons, so that no member sees a test person."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mriad.errors import SplitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mriad.vocabulary import Case


def inner_parts(cases: Iterable[Case], n: int, seed: int) -> dict[str, int]:
    """Return person → part (0 … n − 1), even in size and even within each domain.

    Args:
        cases: the *training* cases of the experiment's fold, as its data set has them. Cases that stages
            derive from them (translated, pseudo-labelled) follow their person, who keeps one part.
        n: number of parts.
        seed: the experiment's seed; not that of a round or member.

    Raises:
        SplitError: there are fewer persons than parts.
    """
    domain: dict[str, str] = {}
    for case in cases:
        domain.setdefault(case.person, case.domain)
    if len(domain) < n:
        raise SplitError(
            f"{len(domain)} training persons cannot be cut into {n} parts",
            where={"persons": ", ".join(sorted(domain)) or "none"},
            remedy="ask for fewer `members: {folds: …}`, or use `members: {seeds: [..]}`",
        )

    def place(person: str) -> tuple[str, bytes]:
        return domain[person], hashlib.sha256(f"{seed}\x1f{person}".encode()).digest()

    return {person: i % n for i, person in enumerate(sorted(domain, key=place))}


def inner_split(
    cases: Iterable[Case], inner: tuple[int, int], seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (training ids, validation ids) of member `inner` = (k, n), in the order of `cases`.

    Raises:
        SplitError: there are fewer persons than parts.
    """
    known = list(cases)
    part = inner_parts(known, inner[1], seed)
    training = tuple(c.id for c in known if part[c.person] != inner[0])
    return training, tuple(c.id for c in known if part[c.person] == inner[0])
