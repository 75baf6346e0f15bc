"""Each person under the reference and under a variant, joined by a line: who gained, who lost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from mriad.errors import DataError

from mriad_eval.comparison.differences import difference
from mriad_eval.comparison.persons import person_values
from mriad_eval.figures.points import points_of
from mriad_eval.figures.style import COLOURS, FAILURE, GREY, new_figure, save_pair
from mriad_eval.figures.value_axis import ValueAxis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.persons import PersonValues
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Points

_BETTER: dict[str, Any] = {"color": COLOURS[0], "linestyle": "-", "linewidth": 1.1}
_WORSE: dict[str, Any] = {"color": COLOURS[5], "linestyle": (0, (4, 2)), "linewidth": 1.3}
_EQUAL: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.0}


def draw_paired(
    stem: Path, table: TrialTable, metric: str, reference: str = "", *, against: str = "", title: str = ""
) -> list[Path]:
    """Draw counted values over persons, a panel a variant; write `stem`.png and .svg.

    Values are those that tests use: cases and seeds averaged within the person, failures at their worst; for a
    metric with a best value, sizes of errors. A cross marks a person with a failure in some case or seed. The
    difference in the panel's title is the comparison's own.

    Raises:
        DataError: no other variant than the reference, no such reference, or no case has the metric, or it is a
            measurement. StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    chosen = reference or found.variants[0]
    others = [v for v in found.variants if v != chosen]
    if chosen not in found.variants or not others or found.measure.direction == "none":
        raise DataError(
            "paired lines need a reference and another variant, with a metric that is better or worse",
            where={"reference": chosen, "variants": ", ".join(found.variants), "metric": found.label},
            remedy="name a variant with values as the reference",
        )
    values = person_values(found.table, found.measure, found.variants, {})
    failed = {v: {p.person for p in found.of(v) if p.failure} for v in found.variants}
    axis = _axis(values, failed)
    columns = min(len(others), 4)
    rows = math.ceil(len(others) / columns)
    with new_figure(max(3.0 * columns + 0.4, 3.8), 3.9 * rows + 0.6) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(others) :]:
            axes.set_visible(False)
        for axes, variant in zip(panels.flat, others, strict=False):
            _panel(axes, found, values[chosen], values[variant], axis, failed)
        for axes in panels[:, 0]:
            unit = f" ({found.measure.unit})"
            better = "higher" if found.measure.higher_is_better else "lower"
            axes.set_ylabel(f"{found.measure.name}{unit}, {better} is better")
        figure.legend(handles=_handles(found), loc="outside lower center", ncols=4 if columns > 1 else 2)
        figure.suptitle(
            f"{title or found.measure.name}: each {found.unit_name}\n{found.counts()}", fontsize=10
        )
        return save_pair(figure, stem)


def _axis(values: Mapping[str, PersonValues], failed: Mapping[str, set[str]]) -> ValueAxis:
    """Persons with a failure have their own strip where they are far from the others."""
    apart: dict[bool, list[float]] = {False: [], True: []}
    for name, of_variant in values.items():
        for person, value in zip(of_variant.persons, over_seeds(of_variant.counted), strict=True):
            apart[person in failed[name]].append(float(value))
    return ValueAxis.of(apart[False], apart[True], "with a failure")


def _panel(
    axes: Axes,
    found: Points,
    reference: PersonValues,
    variant: PersonValues,
    axis: ValueAxis,
    failed: Mapping[str, set[str]],
) -> None:
    left, right = over_seeds(reference.counted), over_seeds(variant.counted)
    sign = 1 if found.measure.higher_is_better else -1
    gained, lost = 0, 0
    for i, person in enumerate(reference.persons):
        change = sign * (right[i] - left[i])
        if not math.isfinite(change):
            continue
        gained, lost = gained + int(change > 0), lost + int(change < 0)
        style = _BETTER if change > 0 else _WORSE if change < 0 else _EQUAL
        bad = [person in failed[side.variant] for side in (reference, variant)]
        ends = [axis.place(float(y), failed=f) for y, f in zip((left[i], right[i]), bad, strict=True)]
        axes.plot([0, 1], ends, zorder=2 + (change < 0), **style)
        for x, y, is_bad in zip((0, 1), ends, bad, strict=True):
            signs = FAILURE if is_bad else {"marker": "o", "color": style["color"], "markersize": 3.6}
            axes.plot(x, y, zorder=5 if is_bad else 4, **signs)
    both = np.isfinite(left) & np.isfinite(right)
    labels = []
    for at, side, name in ((-0.14, left, reference.variant), (1.14, right, variant.variant)):
        mean = float(side[both].mean()) if both.any() else math.nan
        labels.append(f"{name}\nmean {mean:.3g}".replace("mean -", "mean −"))
        if axis.holds(mean):
            axes.plot(at, mean, marker="^", color="black", markersize=7, linestyle="none", zorder=6)
    d = difference(variant, reference, found.measure)
    size = "–" if d.effects is None else f"{d.effects.estimate:+.3g}".replace("-", "−")
    axes.set_title(
        f"{variant.variant} − {reference.variant}: {size}\n{gained} better, {lost} worse of {both.sum()}"
    )
    axes.set_xticks([0, 1], labels)
    axes.set_xlim(-0.32, 1.32)
    axes.grid(visible=False, axis="x")
    axis.apply(axes)


def over_seeds(values: np.ndarray) -> np.ndarray:
    """(P, S) to (P,): mean over the seeds that a person has, NaN for none."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    return np.where(counts > 0, np.where(finite, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _handles(found: Points) -> Sequence[Line2D]:
    handles = [
        Line2D([], [], label="better", **_BETTER),
        Line2D([], [], label="worse", **_WORSE),
        Line2D([], [], marker="^", color="black", linestyle="none", markersize=7, label="mean"),
    ]
    if any(p.failure for p in found.points):
        handles.append(Line2D([], [], label="with a failure in some case or seed", **FAILURE))
    return handles
