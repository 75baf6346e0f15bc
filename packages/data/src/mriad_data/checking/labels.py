"""Checks of label values: declared or not, whole numbers, within [0, 1], empty."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mriad.encoding import SOFT_TOLERANCE

from mriad_data.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad.experiment.model import Experiment
    from mriad.vocabulary import LabelSet

    from mriad_data.checking.reading import Seen, VolumeFacts

RARE = 0.05
"""Without a label set: a value in at most this fraction of the maps of a kind may be a slip."""
LEAST_MAPS = 10
"""Fewer maps of a kind say nothing about what is rare."""


def check_values(seen: Sequence[Seen], label_set: LabelSet | None) -> Iterator[Finding]:
    """Values that are outside the label set or, where there is none, that are odd among their like."""
    declared = label_set if label_set is not None and len(label_set) else None
    for one in seen:
        for v in one.of("label", "annotation", "confidence"):
            if v.drawn:
                yield from _drawn(one, v, declared if v.role == "label" else None)
            else:
                yield from _soft(one, v, declared)
    if declared is None:
        yield from _undeclared(seen)
    else:
        yield from _absent(seen, declared)


def _drawn(one: Seen, v: VolumeFacts, label_set: LabelSet | None) -> Iterator[Finding]:
    if v.fractions:
        yield Finding(
            "values",
            "error",
            "a label map holds values that are not whole numbers",
            one.case.id,
            v.place,
            f"{v.name}: {_some(v.fractions)}",
            "call the label soft if these are fractions; else make it anew, resampled as a label",
        )
    negative = [n for n in v.values if n < 0]
    if label_set is None:
        if negative:
            yield Finding(
                "values", "error", "a label map holds negative values", one.case.id, v.place, _some(negative)
            )
        return
    known = {
        0,
        *(s.value for s in label_set.structures),
        *label_set.ignore,
        *label_set.background,
        *dict(label_set.merged),
    }
    outside = [n for n in v.values if n not in known]
    if outside:
        names = ", ".join(f"{s.name} = {s.value}" for s in label_set.structures)
        yield Finding(
            "values",
            "error",
            "a label holds values outside the label set",
            one.case.id,
            v.place,
            f"{_some(outside)}; declared: {names}",
            "add them to `structures`, or to `ignore` where they mean: not annotated",
        )


def _soft(one: Seen, v: VolumeFacts, label_set: LabelSet | None) -> Iterator[Finding]:
    what = "soft label" if v.role == "label" else "confidence"
    if v.low < -SOFT_TOLERANCE or v.high > 1 + SOFT_TOLERANCE:
        scaled = v.low >= 0 and 1.5 < v.high <= 255
        yield Finding(
            "values",
            "error",
            f"a {what} holds values outside [0, 1]",
            one.case.id,
            v.place,
            f"{v.low:g} to {v.high:g}",
            "divide by 255" if scaled else "clip or rescale it",
        )
    if v.role == "label" and label_set is not None and v.structures != len(label_set):
        yield Finding(
            "values",
            "error",
            "a soft label has another number of structures than the label set",
            one.case.id,
            v.place,
            f"{v.structures} instead of {len(label_set)}",
            "store one map a structure along the fourth axis",
        )


def _undeclared(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Without a label set: what labels hold, by name, and values that hardly occur."""
    maps: dict[str, list[tuple[Seen, VolumeFacts]]] = defaultdict(list)
    for one in seen:
        for v in one.of("label"):
            if v.drawn:
                maps[v.name].append((one, v))
    for name, found in maps.items():
        counts = Counter(value for _, v in found for value in v.values if value)
        yield Finding(
            "values",
            "note",
            "no label set is declared: these values were found",
            detail=f"{name} {_ranges(counts)}",
            remedy="`mriad init` names them in a manifest",
        )
        few = [n for n, count in counts.items() if len(found) >= LEAST_MAPS and count <= RARE * len(found)]
        for one, v in found:
            odd = sorted(set(few) & set(v.values))
            if odd:
                yield Finding(
                    "values",
                    "warning",
                    "a label holds values that hardly any other holds",
                    one.case.id,
                    v.place,
                    f"{name}: {_some(odd)}",
                    "is it a slip of the pen?",
                )


def _absent(seen: Sequence[Seen], label_set: LabelSet) -> Iterator[Finding]:
    """Structures that are declared and never drawn, where any hard label could be read."""
    hard = [v for one in seen for v in one.of("label") if v.drawn]
    present = {value for v in hard for value in v.values}
    for structure in label_set.structures:
        if hard and structure.value not in present:
            yield Finding(
                "values",
                "warning",
                "a declared structure occurs in no label",
                detail=f"{structure.name} = {structure.value}",
                remedy="correct its value, or remove it",
            )


def check_target(seen: Sequence[Seen], experiment: Experiment) -> Iterator[Finding]:
    """Whether cases have the label that the experiment trains on; without it they are unlabelled."""
    wanted = experiment.data.labels
    if wanted.kind == "none" or wanted.from_:
        return
    name = wanted.name or wanted.kind
    lacking = [one.case.id for one in seen if name not in one.case.labels]
    if lacking and len(lacking) == len(seen):
        known = sorted({label for one in seen for label in one.case.labels})
        yield Finding(
            "values",
            "error",
            "no case has the label that the experiment trains on",
            detail=f"{name}; there are: {', '.join(known) or 'none'}",
            remedy="set data.labels to one of these: {kind: hard, name: NAME}",
        )
    elif lacking:
        more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
        yield Finding(
            "values",
            "note",
            "cases without the label that the experiment trains on",
            detail=f"{len(lacking)} of {len(seen)}, taken as unlabelled: {', '.join(lacking[:4])}{more}",
        )


def check_empty(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Labels without a marked voxel: right where there is nothing to find, else a failed export."""
    for one in seen:
        for v in one.of("label", "validity"):
            if v.nonzero == 0:
                what = "a label is empty" if v.role == "label" else "a mask says that nothing is annotated"
                yield Finding(
                    "empty",
                    "warning",
                    what,
                    one.case.id,
                    v.place,
                    v.name,
                    "look at it: is there nothing to mark?",
                )


def _some(values: Sequence[float], limit: int = 6) -> str:
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(f"{v:g}" for v in values[:limit]) + more


def _ranges(values: Counter[int]) -> str:
    """Numbers as text: `1, 2, 5–9`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    parts = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in runs]
    return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "") or "(all empty)"
