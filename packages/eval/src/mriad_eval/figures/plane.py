"""The plane of two metrics, such as Dice and ASSD: values by case, the variant's mean in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from mriad.errors import DataError

from mriad_eval.figures.points import points_of, same_slot, text_of
from mriad_eval.figures.style import COLOURS, FAILURE, MARKERS, new_figure, pick, save_pair, sign
from mriad_eval.figures.value_axis import ValueAxis

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.study import VariantFigures
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Point, Points


def draw_plane(
    stem: Path,
    table: TrialTable,
    first: str = "dice",
    second: str = "assd",
    *,
    against: str = "",
    title: str = "",
) -> list[Path]:
    """Draw every case and seed in the plane of two metrics; write `stem`.png and .svg.

    A large sign is the variant's mean ± SD over persons of the values as measured, with n and misses in the legend. A
    case that failed in either is a cross at its worst values. Axes of errors are turned, so that better is always to
    the right and up.

    Raises:
        DataError: no case has one of the metrics, or no case has both. StorageError: the place is full or cannot be
            written.
    """
    x, y = points_of(table, first, against), points_of(table, second, against)
    pairs = _pairs(x, y)
    if not pairs:
        raise DataError(
            f"no case has both {first} and {second}",
            remedy="choose two metrics of the same cases and structures",
        )
    axes_of = [
        ValueAxis.of(
            [p[side].value for p in pairs if not p[side].failure],
            [p[side].value for p in pairs if p[side].failure],
        )
        for side in (0, 1)
    ]
    numbers = x.numbers(), y.numbers()
    with new_figure(6.2, 5.6) as figure:
        axes = figure.subplots()
        for v, variant in enumerate(x.variants):
            _variant(axes, [p for p in pairs if p[0].variant == variant], axes_of, v)
        for v, variant in enumerate(x.variants):
            if variant in numbers[1]:
                _mean(axes, numbers[0][variant], numbers[1][variant], v)
        axes.set_xlabel(x.label)
        axes.set_ylabel(y.label)
        axes_of[0].apply(axes, "x")
        axes_of[1].apply(axes, "y")
        if x.measure.direction == "lower":
            axes.invert_xaxis()
        if y.measure.direction == "lower":
            axes.invert_yaxis()
        axes.annotate(
            "better",
            (0.985, 0.985),
            xytext=(0.88, 0.88),
            xycoords="axes fraction",
            ha="center",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            arrowprops={"arrowstyle": "->", "color": "#444444"},
        )
        failed = any(a.failure or b.failure for a, b in pairs)
        figure.legend(handles=_handles(x, numbers, failed), loc="outside lower center", ncols=1)
        line = f"{x.counts()}"
        figure.suptitle(f"{title or f'{x.measure.metric} and {y.measure.metric}'}\n{line}", fontsize=10)
        return save_pair(figure, stem)


def _pairs(x: Points, y: Points) -> list[tuple[Point, Point]]:
    """Values of one case, trial and structure in both metrics; one structure is held against itself."""

    def key(point: Point) -> Hashable:
        return point.variant, point.seed, same_slot(point)

    by = {key(p): p for p in y.points}
    return [(p, by[key(p)]) for p in x.points if key(p) in by]


def _variant(axes: Axes, pairs: list[tuple[Point, Point]], axes_of: list[ValueAxis], number: int) -> None:
    good = [(a.value, b.value) for a, b in pairs if not a.failure and not b.failure]
    if good:
        axes.plot(
            *zip(*good, strict=True),
            linestyle="none",
            marker=sign(MARKERS, number),
            color=pick(COLOURS, number),
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.3,
            alpha=0.75,
            zorder=2,
        )
    bad = [(a, b) for a, b in pairs if a.failure or b.failure]
    for i, (a, b) in enumerate(bad):
        at = [axis.place(p.value, failed=bool(p.failure)) for axis, p in zip(axes_of, (a, b), strict=True)]
        # Failures of all variants share a place: set them a little apart, each in its variant's colour.
        shift = (0.02 * (number - 1) + 0.006 * i) * (axes_of[0].high - axes_of[0].low)
        style = {**FAILURE, "color": pick(COLOURS, number)}
        axes.plot(at[0] + shift, at[1], zorder=5, **style)


def _mean(axes: Axes, x: VariantFigures, y: VariantFigures, number: int) -> None:
    if not (math.isfinite(x.mean) and math.isfinite(y.mean)):
        return
    errors = [None if math.isnan(f.sd) else f.sd for f in (x, y)]
    axes.errorbar(
        x.mean,
        y.mean,
        xerr=errors[0],
        yerr=errors[1],
        marker=sign(MARKERS, number),
        markersize=10,
        markerfacecolor=pick(COLOURS, number),
        markeredgecolor="black",
        markeredgewidth=1.4,
        color="black",
        capsize=3,
        linewidth=1.1,
        zorder=4,
    )


def _handles(
    x: Points, numbers: tuple[dict[str, VariantFigures], dict[str, VariantFigures]], failed: bool
) -> list[Line2D]:
    handles = []
    for i, variant in enumerate(x.variants):
        text = variant
        for found in numbers:
            if variant in found:
                text += f";  {found[variant].measure.metric} {text_of(found[variant], lines=False)}"
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=sign(MARKERS, i),
                color=pick(COLOURS, i),
                markeredgecolor="black",
                label=text,
            )
        )
    if failed:
        handles.append(Line2D([], [], label="a failure in either, at its worst values", **FAILURE))
    return handles
