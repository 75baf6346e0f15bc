"""Contracts of metrics: of a case, of its slices, and of a person."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mriad.case_table import Row
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad.testing.contract import check_config, finite, own_randomness, require, untouched

if TYPE_CHECKING:
    from collections.abc import Callable

    from mriad.metric import Metric, PersonMetric, SliceMetric

    Measure = Callable[[StructurePair], tuple[float, str]]

_GRID = Grid.of((14, 12, 10), np.diag([1.0, 1.0, 2.0, 1.0]))
_CONTRASTS = ("T1w", "T2w", "T2star", "MTon")


def check_metric(metric: Metric) -> None:
    """Measure perfect, slightly wrong, very wrong, empty and absent structures; or rows of a person.

    Raises:
        ContractError: a worse prediction scores better, a miss improves the value or differs from what is declared,
            inputs are written to, results depend on flips or on the order of rows, invalid voxels count, or unit,
            direction or best value are missing.
    """
    check_config(metric)
    name = metric.type_name()
    require(bool(metric.unit), f"{name} has no unit")
    require(metric.direction in ("higher", "lower", "toward", "none"), f"{name} has no direction")
    require(
        (metric.direction == "toward") == (metric.toward is not None),
        f"{name}: set `toward` with that direction",
    )
    require(" " not in metric.key(), f"{name}: the key '{metric.key()}' holds a space")
    if metric.level == "person":
        _check_person(metric, cast("PersonMetric", metric.build()))
        return
    if metric.literal:  # repeats faults too; it may still not write to its input
        _check_pure(metric)
        return
    measure = _of_slices(cast("SliceMetric", metric.build())) if metric.level == "slice" else metric.build()
    _check_case(metric, cast("Measure", measure))


def _of_slices(measure: SliceMetric) -> Measure:
    """The mean over slices as if it were a case metric; slices come in order, each once."""

    def mean(pair: StructurePair) -> tuple[float, str]:
        found = measure(pair)
        places = [index for index, _, _ in found]
        require(places == sorted(set(places)), f"slices are out of order or twice: {places}")
        values = [value for _, value, _ in found if not math.isnan(value)]
        notes = {note for _, _, note in found}
        note = notes.pop() if len(notes) == 1 else "" if found else "empty"
        return (sum(values) / len(values) if values else math.nan), note

    return mean


def _check_pure(metric: Metric) -> None:
    truth, measure = _box(3), cast("Measure", metric.build())
    with untouched(metric.type_name(), {"prediction": truth}), own_randomness(metric.type_name()):
        measure(_pair(truth, truth))


def _check_case(metric: Metric, measure: Measure) -> None:
    name = metric.type_name()
    truth = _box(3)
    with untouched(name, {"prediction": truth, "reference": truth}), own_randomness(name):
        perfect, _ = measure(_pair(truth, truth))
    near, _ = measure(_pair(_box(2), truth))
    far, _ = measure(_pair(_box(1), truth))
    if not metric.reads:  # without its annotations such a metric may have no value
        finite(f"{name} of a perfect prediction", perfect)
    if metric.direction != "none":
        _check_order(metric, measure, truth, (perfect, near, far))
    flipped, _ = measure(_pair(_box(2)[::-1], truth[::-1]))
    require(_same(flipped, near), f"{name} changes when both masks are flipped")
    validity = np.ones(_GRID.shape, bool)
    validity[..., :2] = False
    spoilt = truth.copy()
    spoilt[..., :2] = 1
    masked, _ = measure(_pair(spoilt, truth, validity))
    clean, _ = measure(_pair(truth, truth, validity))
    require(_same(masked, clean), f"{name} counts voxels that are not annotated")
    if metric.best is not None:
        require(
            math.isclose(perfect, metric.best, abs_tol=1e-9),
            f"{name} declares {metric.best:g} as best, a perfect prediction has {perfect:g}",
        )
    if metric.direction != "none":
        nothing = np.zeros_like(truth)
        missed, _ = measure(_pair(nothing, truth))
        _require_declared(f"{name} of a miss", missed, metric.if_missed)
        invented, _ = measure(_pair(truth, nothing))
        _require_declared(f"{name} of a false positive", invented, metric.if_false_positive)


def _check_order(metric: Metric, measure: Measure, truth: Any, values: tuple[float, float, float]) -> None:
    """Worse predictions cost more, and a miss costs most."""
    name, cost = metric.type_name(), _cost(metric)
    perfect, near, far = values
    require(
        not cost(perfect) > cost(near),
        f"{name} prefers a wrong prediction ({near:g}) to a perfect one ({perfect:g})",
    )
    require(
        not cost(near) > cost(far), f"{name} prefers a worse prediction ({far:g}) to a better one ({near:g})"
    )
    nothing = np.zeros_like(truth)
    missed, note = measure(_pair(nothing, truth))
    if math.isnan(missed):
        require(note == "miss", f"{name} gives NaN for a missed structure without the note 'miss'")
    else:
        require(
            not cost(missed) < cost(far),
            f"{name} scores a miss ({missed:g}) better than a bad prediction ({far:g})",
        )
    value, note = measure(_pair(nothing, nothing))
    require(
        math.isnan(value) and note != "miss",
        f"{name} must give NaN where there is nothing to find and nothing found",
    )


def _require_declared(what: str, value: float, declared: float | str | None) -> None:
    if isinstance(declared, str):  # "measured": it depends on the case
        return
    require(
        math.isnan(value) if declared is None else value == declared,
        f"{what} is {value:g}, declared is {'no value' if declared is None else format(declared, 'g')}",
    )


def _check_person(metric: Metric, compute: PersonMetric) -> None:
    """The order of rows means nothing, and a contrast without a value never makes the result better."""
    name, keys = metric.type_name(), metric.needs()
    require(bool(keys), f"{name} is of level person and needs no case metric")
    values = [100.0, 101.0, 102.0, 105.0]
    rows = [
        Row(f"p_{contrast}", "p", contrast, "", "cord", key, value, "mm3", "none", math.nan)
        for key in keys
        for contrast, value in zip(_CONTRASTS, values, strict=True)
    ]
    with own_randomness(name):
        whole, _ = compute(rows)
    turned, _ = compute(rows[::-1])
    require(_same(whole, turned), f"{name} depends on the order of rows")
    value, note = compute([])
    require(math.isnan(value) and bool(note), f"{name} gives a value or no note without any row")
    lost = [replace(row, value=math.nan, note="miss") if row.contrast == "MTon" else row for row in rows]
    found, note = compute(lost)
    if math.isnan(found):
        require(bool(note), f"{name} gives NaN without a note where a contrast is missed")
        stated = metric.worst is not None or metric.direction == "none"
        require(stated or note != "miss", f"{name} needs a worst value for a person with a miss")
    elif metric.direction != "none":
        require(
            not _cost(metric)(found) < _cost(metric)(whole), f"{name} is better where a contrast is missed"
        )


def _pair(prediction: Any, reference: Any, validity: Any = None) -> StructurePair:
    return StructurePair(prediction, reference, _GRID, validity, structure="box", case="case")


def _box(thickness: int) -> Any:
    """A box of 7 × 6 × `thickness` · 2 voxels, off the middle of the first axis, float32."""
    mask = np.zeros(_GRID.shape, np.float32)
    mask[3:10, 3:9, 5 - thickness : 5 + thickness] = 1
    return mask


def _same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _cost(metric: Metric) -> Any:
    if metric.direction == "higher":
        return lambda value: -value
    if metric.direction == "lower":
        return lambda value: value
    best = metric.toward or 0.0
    return lambda value: abs(value - best)
