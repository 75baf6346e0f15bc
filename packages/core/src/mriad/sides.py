"""Left and right: which structure of a label set is which other's mirror image, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mriad.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = {"left": "right", "right": "left", "lh": "rh", "rh": "lh"}
_SIDE = re.compile(r"(?<![a-z])(left|right|lh|rh)(?![a-z])", re.IGNORECASE)


def side_of(name: str) -> str:
    """`left`, `right`, or "" for a structure of the middle or of both sides."""
    found = _SIDE.search(name)
    if found is None:
        return ""
    return "left" if found[1].lower() in ("left", "lh") else "right"


def without_side(name: str) -> str:
    """The name of a structure without its side: "left thalamus" and "Thalamus-Right" lose the word."""
    return re.sub(r"[\s_-]{2,}", " ", _SIDE.sub("", name)).strip(" -_") or name


def mirrored(name: str) -> str:
    """The name with its side exchanged; capitals and separators stay."""

    def other(match: re.Match[str]) -> str:
        word = _WORDS[match[1].lower()]
        return word.upper() if match[1].isupper() else word.capitalize() if match[1][0].isupper() else word

    return _SIDE.sub(other, name)


def mirror_order(names: Sequence[str]) -> tuple[int, ...]:
    """For each structure the place of its mirror image: its own, or that of the same name on the other side.

    `values[list(mirror_order(names))]` exchanges the sides of an array with one row a structure.

    Raises:
        ExperimentError: a structure of one side has no partner on the other.
    """
    place = {name: i for i, name in enumerate(names)}
    alone = [name for name in names if mirrored(name) not in place]
    if alone:
        raise ExperimentError(
            "a structure has no partner on the other side, so that left and right cannot be exchanged",
            where={
                "structures": ", ".join(alone[:6]),
                "expected": ", ".join(mirrored(n) for n in alone[:6]),
            },
            remedy="leave the left–right axis out of the flips, or name both sides",
        )
    return tuple(place[mirrored(name)] for name in names)
