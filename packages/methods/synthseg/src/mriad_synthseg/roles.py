"""What each structure of a label map is to the generator: its class, its partner, what it is segmented as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad.errors import ExperimentError
from mriad.sides import mirror_order
from mriad.vocabulary import LabelSet, Structure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad_synthseg.generate import Generate

EXTRACEREBRAL = range(500, 600)
"""SynthSeg's numbers of what lies outside the brain."""
BACKGROUND_PART = "background_part_"
"""Structures of this name are parts of an unlabelled background: painted, each by its own Gaussian, not segmented."""


@dataclass(frozen=True)
class Roles:
    """Arrays over indices of a stored target: 0 background, s + 1 structure s.

    classes: Gaussian of each; 0 is the background's. class_names: by class, of its first structure. partners: index
    of the same structure on the other side, or its own. outputs: index in `segmented`, 0 where nothing is segmented.
    stripped: whether skull stripping removes it.
    """

    names: tuple[str, ...]
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    partners: tuple[int, ...]
    outputs: tuple[int, ...]
    stripped: tuple[bool, ...]
    segmented: LabelSet

    @property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """Names of the structures of each class, background's first."""
        return tuple(
            tuple(n for n, c in zip(self.names, self.classes, strict=True) if c == k)
            for k in range(len(self.class_names))
        )


def roles_of(config: Generate, given: LabelSet) -> Roles:
    """Lay a generator's table or lists over the label set of its maps.

    Raises:
        ExperimentError: a structure has no class; a name is unknown; a side does not pair.
    """
    names = ("background", *given.names)
    parts = tuple(s for s in given.structures if s.name.startswith(BACKGROUND_PART))
    listed = LabelSet(tuple(s for s in given.structures if s not in parts))
    if config.table is not None:
        classes, partners, outputs = _from_table(config, listed)
    else:
        classes, partners = _from_lists(config, listed)
        outputs = {s.value: s.value for s in listed.structures}
    outputs |= {part.value: 0 for part in parts}
    classes |= {part.name: max(classes.values(), default=0) + n for n, part in enumerate(parts, 1)}
    if config.sides_share:
        classes = {n: min(c, classes[partners.get(n, n)]) for n, c in classes.items()}
    # Classes are numbered in order of appearance, from 1: the background's own is 0.
    order: dict[int, int] = {}
    for name in given.names:
        order.setdefault(classes[name], len(order) + 1)
    first = {order[classes[name]]: name for name in reversed(given.names)}
    segmented = _segmented(config, given, outputs)
    place = {s.value: i + 1 for i, s in enumerate(segmented.structures)}
    index = {name: i for i, name in enumerate(names)}
    outside = _outside(config, given)
    return Roles(
        names=names,
        classes=(0, *(order[classes[n]] for n in given.names)),
        class_names=("background", *(first[k] for k in range(1, len(order) + 1))),
        partners=(0, *(index[partners.get(n, n)] for n in given.names)),
        outputs=(0, *(place.get(outputs.get(s.value, 0), 0) for s in given.structures)),
        stripped=(False, *(n in outside for n in given.names)),
        segmented=segmented,
    )


def _from_table(config: Generate, given: LabelSet) -> tuple[dict[str, int], dict[str, str], dict[int, int]]:
    """Classes and partners by name, segmented value by value."""
    from mriad_data.label_table import read_label_table

    assert config.table is not None
    table = read_label_table(config.table)
    rows = {row.value: row for row in table.rows}
    lacking = [s for s in given.structures if s.value not in rows]
    if lacking:
        raise ExperimentError(
            "the generation table lacks structures of the label maps",
            where={
                "table": str(config.table),
                "missing": _some([f"{s.value} {s.name}" for s in lacking]),
            },
            remedy="add their rows, or name those values in `ignore` of the data set",
        )
    sides = {side: [r.value for r in table.rows if r.side == side] for side in ("left", "right")}
    if len(sides["left"]) != len(sides["right"]):
        raise ExperimentError(
            "left and right structures of the generation table do not pair",
            where={
                "table": str(config.table),
                "left": f"{len(sides['left'])} ({_some(sides['left'])})",
                "right": f"{len(sides['right'])} ({_some(sides['right'])})",
            },
            remedy="each row on the left needs one on the right, in the same order",
        )
    name_of = {s.value: s.name for s in given.structures}
    partners: dict[str, str] = {}
    for one, other in zip(sides["left"], sides["right"], strict=True):
        if (one in name_of) != (other in name_of):
            raise ExperimentError(
                "a structure of the label maps has no partner on the other side there",
                where={
                    "structure": f"{one if one in name_of else other}",
                    "partner": f"{other if one in name_of else one}",
                },
                remedy="add the partner to the label set of the data set",
            )
        if one in name_of:
            partners[name_of[one]], partners[name_of[other]] = name_of[other], name_of[one]
    classes = {s.name: rows[s.value].generation_class for s in given.structures}
    return classes, partners, {s.value: rows[s.value].segmentation_label for s in given.structures}


def _from_lists(config: Generate, given: LabelSet) -> tuple[dict[str, int], dict[str, str]]:
    names = set(given.names)
    labels = config.labels or list(given.names)
    for field, listed in (("labels", labels), ("left", config.left), ("right", config.right)):
        _known(field, listed, names)
        _once(field, listed)
    lacking = [n for n in given.names if n not in set(labels)]
    if lacking:
        raise ExperimentError(
            "`labels` of the generator lacks structures of the label maps",
            where={"missing": _some(lacking), "labels": _some(labels)},
            remedy="list every structure that a map may hold, with its class",
        )
    both = set(config.left) & set(config.right)
    if both:
        raise ExperimentError("a structure is on both sides", where={"structures": _some(sorted(both))})
    given_classes = config.classes or list(range(1, len(labels) + 1))
    pairs = list(zip(config.left, config.right, strict=True)) or _pairs_by_name(given.names)
    partners = {a: b for one, other in pairs for a, b in ((one, other), (other, one))}
    return dict(zip(labels, given_classes, strict=True)), partners


def _pairs_by_name(names: Sequence[str]) -> list[tuple[str, str]]:
    """Structures whose names differ in the side alone, as `mriad.sides` reads them; a lone one is an error."""
    try:
        order = mirror_order(names)
    except ExperimentError as error:
        raise ExperimentError(
            "structures of one side have no partner on the other",
            where=error.where,
            remedy="name the pairs in `left` and `right`, or complete the label set",
        ) from error
    return [(names[i], names[j]) for i, j in enumerate(order) if i < j]


def _segmented(config: Generate, given: LabelSet, outputs: Mapping[int, int]) -> LabelSet:
    """The network's label set: every other value of the maps belongs to one of its structures or is background."""
    name_of = {s.value: s.name for s in given.structures}
    wanted = [v for v in dict.fromkeys(outputs.values()) if v]
    # A table may segment several values as one that no map holds by itself.
    found = {name_of.get(v, f"structure_{v}"): v for v in wanted}
    if config.structures:
        _known("structures", config.structures, set(found))
        _once("structures", config.structures)
        found = {name: found[name] for name in config.structures}
    kept = set(found.values())
    merged = {v: to for v, to in outputs.items() if to in kept and v != to}
    background = tuple(v for v, to in outputs.items() if to not in kept and v not in kept)
    return LabelSet(
        tuple(Structure(name, value) for name, value in found.items()),
        given.ignore,
        (*given.background, *background),
        tuple(merged.items()),
    )


def _outside(config: Generate, given: LabelSet) -> set[str]:
    if config.extracerebral is not None:
        _known("extracerebral", config.extracerebral, set(given.names))
        return set(config.extracerebral)
    if config.table is None:
        return set()
    return {s.name for s in given.structures if s.value in EXTRACEREBRAL}


def _known(field: str, names: Sequence[str], known: set[str]) -> None:
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ExperimentError(
            f"`{field}` of the generator names structures that are not there",
            where={"unknown": _some(unknown), "known": _some(sorted(known))},
            remedy="names are those of the data set's label set (mriad data check shows them)",
        )


def _once(field: str, names: Sequence[str]) -> None:
    twice = sorted({n for n in names if list(names).count(n) > 1})
    if twice:
        raise ExperimentError(
            f"`{field}` of the generator names a structure twice", where={"twice": _some(twice)}
        )


def _some(items: Sequence[object], limit: int = 12) -> str:
    shown = ", ".join(map(str, items[:limit]))
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")
