"""Violins with every value as a point and the mean as a triangle, by variant, or by contrast and variant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from mriad_eval.figures.points import Group, points_of, text_of
from mriad_eval.figures.style import (
    COLOURS,
    FAILURE,
    GREY,
    HATCHES,
    MARKERS,
    new_figure,
    pick,
    save_pair,
    sign,
)
from mriad_eval.figures.value_axis import ValueAxis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.study import VariantFigures
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Point, Points

_TABLE_TOP, _ROW_GAP, _HALF_LINE = 14.0, 4.0, 4.4
"""Of the table under the groups, in points."""
_LEAST = 4  # fewer distinct values have no shape worth drawing


def draw_violins(
    stem: Path, table: TrialTable, metric: str, *, by: Group | None = None, against: str = "", title: str = ""
) -> list[Path]:
    """Draw the values of every variant; write `stem`.png and .svg.

    Points are cases and seeds; means, SD and n are over persons, seeds averaged within each, as in the tables. A
    failure is a cross at its worst value. Filled triangle: mean as measured; hollow: with failures at their worst,
    where that is another number.

    Args:
        stem: the files' path without ending.
        table: trials of one or several variants.
        metric: "dice", or "dice/cord" for one structure.
        by: "contrast", "domain" or "structure": groups beside each other, variants within.
        against: labels measured against, where there are several.
        title: of the figure; default: the metric.

    Raises:
        DataError: no case has the metric. StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    groups: list[str] = found.names(by) if by else [""]
    numbers = {name: found.numbers(by if by else None, name) for name in groups}
    axis = _axis(found, [f for column in numbers.values() for f in column.values()])
    count = len(found.variants)
    width = max(1.0 * count + 0.6, 2.4) if by else 1.7 * count + 1.4
    height = 5.2
    if by:  # the plot keeps its size above a table and a legend of many variants
        below = _table_points(numbers.values(), found.variants) / 72 + 0.18 * (count // 4 + 1)
        height = max(height, 4.2 + below)
    with new_figure(min(width * len(groups) + 1.5, 16) if by else max(width, 3.8), height) as figure:
        axes = figure.subplots()
        hollow = False
        for g, name in enumerate(groups):
            for v, variant in enumerate(found.variants):
                x = g * (count + 0.9) + v
                _violin(
                    axes, x, found.of(variant, by if by else None, name), axis, found.variants.index(variant)
                )
                if variant in numbers[name]:
                    hollow |= _means(axes, x, numbers[name][variant], axis)
        if by:
            centres = [g * (count + 0.9) + (count - 1) / 2 for g in range(len(groups))]
            axes.set_xticks(centres, [name or "–" for name in groups], fontsize=9)
            axes.tick_params(axis="x", length=0)
            _grid_of_numbers(axes, centres, [numbers[name] for name in groups], found.variants)
        else:
            labels = [f"{v}\n{text_of(numbers[''][v])}" for v in found.variants]
            axes.set_xticks(range(count), labels)
        axes.grid(visible=False, axis="x")
        _best_line(axes, found)
        axes.set_ylabel(found.label)
        axis.apply(axes)
        figure.legend(handles=_handles(found, hollow), loc="outside lower center", ncols=4)
        figure.suptitle(f"{title or found.measure.metric}\n{found.counts()}", fontsize=10)
        return save_pair(figure, stem)


def _violin(axes: Axes, x: float, points: Sequence[Point], axis: ValueAxis, number: int) -> None:
    colour = pick(COLOURS, number)
    good = sorted((p for p in points if not p.failure), key=lambda p: p.value)
    values = np.array([p.value for p in good])
    if len(set(values.tolist())) >= _LEAST:
        for face, alpha, hatch in ((colour, 0.28, ""), ("none", 0.55, sign(HATCHES, number))):
            drawn: Any = axes.violinplot([values], [x], widths=0.86, showextrema=False)
            drawn["bodies"][0].set(facecolor=face, edgecolor=colour, alpha=alpha, hatch=hatch, linewidth=0.8)
    axes.plot(
        x + spread(len(values)),
        values,
        linestyle="none",
        marker=sign(MARKERS, number),
        color=colour,
        markersize=3.4,
        markeredgecolor="white",
        markeredgewidth=0.35,
        zorder=3,
    )
    bad = [p for p in points if p.failure]
    if bad:
        at = [axis.place(p.value, failed=True) for p in bad]
        axes.plot(x + spread(len(bad)), at, zorder=5, **FAILURE)


def spread(count: int, half: float = 0.28) -> np.ndarray:
    """(count,) places around 0 that fill evenly whatever their number (van der Corput), the same each time."""
    out = np.zeros(count)
    for i in range(count):
        n, digit = i + 1, 0.5
        while n:
            out[i] += digit * (n & 1)
            n, digit = n >> 1, digit / 2
    return half * (2 * out - 1)


def _axis(found: Points, numbers: Sequence[VariantFigures]) -> ValueAxis:
    """An axis that holds every mean as measured, and counted means unless they are far away."""
    good = [p.value for p in found.points if not p.failure]
    bad = [p.value for p in found.points if p.failure]
    low, high = (min(good), max(good)) if good else (0.0, 0.0)
    near = [f.counted for f in numbers if _has_counted(f) and 2 * low - high <= f.counted <= 2 * high - low]
    return ValueAxis.of([*good, *(f.mean for f in numbers if good), *near], bad)


def _has_counted(numbers: VariantFigures) -> bool:
    toward = numbers.measure.direction.startswith("toward ")
    return not toward and math.isfinite(numbers.counted) and numbers.counted != numbers.mean


def _means(axes: Axes, x: float, numbers: VariantFigures, axis: ValueAxis) -> bool:
    """Draw the mean as measured, and the counted one where it is another and on the axis; return whether it was."""
    style: dict[str, Any] = {"marker": "^", "linestyle": "none", "zorder": 6}
    if math.isfinite(numbers.mean):
        axes.plot(x, numbers.mean, color="black", markersize=9, markeredgecolor="white", **style)
    apart = abs(numbers.counted - numbers.mean) > 0.005 * (axis.high - axis.low)
    if not (_has_counted(numbers) and apart and axis.holds(numbers.counted)):
        return False
    axes.plot(
        x, numbers.counted, color="white", markersize=8, markeredgecolor="black", markeredgewidth=1.4, **style
    )
    return True


def _grid_of_numbers(
    axes: Axes,
    centres: Sequence[float],
    columns: Sequence[dict[str, VariantFigures]],
    variants: Sequence[str],
) -> None:
    """Rows of variants under the groups: mean ± SD, n and misses."""
    texts = _texts(columns, variants)
    y = -_TABLE_TOP
    for variant in variants:
        lines = _lines(texts[variant])
        y -= _ROW_GAP + _HALF_LINE * lines
        axes.annotate(
            variant,
            (0, 0),
            xycoords="axes fraction",
            xytext=(-6, y),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7.5,
            weight="bold",
        )
        for x, text in zip(centres, texts[variant], strict=True):
            axes.annotate(
                text,
                (x, 0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, y),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=6.8,
                linespacing=1.15,
            )
        y -= _HALF_LINE * lines


def _texts(columns: Iterable[dict[str, VariantFigures]], variants: Sequence[str]) -> dict[str, list[str]]:
    columns = list(columns)
    return {v: [text_of(found[v]) if v in found else "–" for found in columns] for v in variants}


def _lines(texts: Iterable[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def _table_points(columns: Iterable[dict[str, VariantFigures]], variants: Sequence[str]) -> float:
    """Height of the table of numbers in points."""
    rows = _texts(columns, variants).values()
    return _TABLE_TOP + sum(_ROW_GAP + 2 * _HALF_LINE * _lines(texts) for texts in rows)


def _best_line(axes: Axes, found: Points) -> None:
    if found.measure.direction.startswith("toward "):
        best = float(found.measure.direction.removeprefix("toward "))
        axes.axhline(best, color=GREY, linewidth=1.0, zorder=1)


def _handles(found: Points, hollow: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="none", marker=sign(MARKERS, i), color=pick(COLOURS, i), label=variant)
        for i, variant in enumerate(found.variants)
    ]
    mean: dict[str, Any] = {"marker": "^", "markeredgecolor": "black", "linestyle": "none"}
    unit = found.unit_name
    handles.append(Line2D([], [], color="black", markersize=7, label=f"mean over {unit}s", **mean))
    if hollow:
        handles.append(
            Line2D([], [], color="white", markersize=7, label="counted: failures at their worst", **mean)
        )
    if any(p.failure for p in found.points):
        handles.append(Line2D([], [], label="miss or other failure", **FAILURE))
    return handles
