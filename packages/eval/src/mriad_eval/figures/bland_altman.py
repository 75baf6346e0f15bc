"""Bland–Altman: difference of a variant and the reference against their mean, a point a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from mriad.errors import DataError

from mriad_eval.figures.points import by_person, matched, plural, points_of, same_slot
from mriad_eval.figures.style import COLOURS, FAILURE, GREY, new_figure, pick, save_pair
from mriad_eval.figures.value_axis import ValueAxis
from mriad_eval.statistics.agreement import bland_altman

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Point
    from mriad_eval.statistics.agreement import BlandAltman


def draw_bland_altman(
    stem: Path, table: TrialTable, metric: str, reference: str = "", *, against: str = "", title: str = ""
) -> list[Path]:
    """Draw variant − reference of each person, bias and limits of agreement with intervals; write .png and .svg.

    Cases and seeds are averaged within the person over pairs without a failure; pairs with one are crosses, with the
    failure at its worst value, and are left out of bias and limits, which have no meaning with them.

    Raises:
        DataError: no other variant, no such reference, no case has the metric, or fewer than three persons have a
            value on both sides. StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    chosen = reference or found.variants[0]
    others = [v for v in found.variants if v != chosen]
    if chosen not in found.variants or not others:
        raise DataError(
            "Bland–Altman needs a reference and another variant",
            where={"reference": chosen, "variants": ", ".join(found.variants)},
            remedy="name a variant with values as the reference",
        )
    pairs = {v: matched(found.of(v), found.of(chosen), same_slot) for v in others}
    means = {v: by_person(pairs[v]) for v in others}
    limits = {
        v: bland_altman([a for a, _ in means[v].values()], [b for _, b in means[v].values()]) for v in others
    }
    failed = {v: [(a, b) for a, b in pairs[v] if a.failure or b.failure] for v in others}
    ordinary = [a - b for v in others for a, b in means[v].values()]
    ends = [e for b in limits.values() for e in (b.low_interval.low, b.high_interval.high)]
    axis = ValueAxis.of([*ordinary, *ends], [a.value - b.value for v in others for a, b in failed[v]])
    unit = found.measure.unit
    with new_figure(max(3.6 * len(others) + 0.8, 4.6), 4.6) as figure:
        panels = figure.subplots(1, len(others), squeeze=False, sharey=True)[0]
        for i, (axes, variant) in enumerate(zip(panels, others, strict=True)):
            xs = [(a + b) / 2 for a, b in means[variant].values()]
            ys = [a - b for a, b in means[variant].values()]
            _lines(axes, limits[variant])
            axes.plot(xs, ys, linestyle="none", marker="o", color=pick(COLOURS, i), markersize=5, zorder=5)
            _failures(axes, failed[variant], axis, xs)
            bad = f", {plural(len(failed[variant]), 'pair')} failed (×)" if failed[variant] else ""
            n = f"n = {plural(limits[variant].n, found.unit_name)}{bad}"
            axes.set_title(f"{variant} − {chosen}\n{n}", fontsize=8)
            axes.set_xlabel(f"mean of both ({unit})")
        panels[0].set_ylabel(f"difference in {found.measure.metric} ({unit})")
        for axes in panels:
            axis.apply(axes)
        figure.legend(
            handles=_handles(any(failed.values()), found.unit_name), loc="outside lower center", ncols=4
        )
        figure.suptitle(f"{title or f'Bland–Altman: {found.measure.metric}'}\n{found.counts()}", fontsize=10)
        return save_pair(figure, stem)


def _lines(axes: Axes, found: BlandAltman) -> None:
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    for value, interval, style, name in (
        (found.bias, found.bias_interval, "-", "bias"),
        (found.low, found.low_interval, "--", "−1.96 SD"),
        (found.high, found.high_interval, "--", "+1.96 SD"),
    ):
        axes.axhspan(interval.low, interval.high, color="#BBBBBB", alpha=0.35, linewidth=0, zorder=0)
        axes.axhline(value, color="black", linewidth=1.2, linestyle=style, zorder=2)
        axes.annotate(
            f"{name}: {value:+.3g}".replace("-", "−"),
            (1, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            zorder=4,
        )


def _failures(axes: Axes, pairs: Sequence[tuple[Point, Point]], axis: ValueAxis, xs: Sequence[float]) -> None:
    """Crosses along the width, at their difference or in the strip: their mean lies off the scale."""
    if not pairs:
        return
    low, high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    for i, (a, b) in enumerate(pairs):
        x = low + (high - low) * (i + 0.5) / len(pairs)
        axes.plot(x, axis.place(a.value - b.value, failed=True), zorder=5, **FAILURE)


def _handles(failed: bool, unit: str) -> list[Line2D]:
    style: dict[str, Any] = {"color": "black", "linewidth": 1.2}
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=COLOURS[0], label=unit),
        Line2D([], [], label="bias", **style),
        Line2D([], [], label="limits of agreement", linestyle="--", **style),
        Line2D([], [], color="#BBBBBB", linewidth=6, alpha=0.6, label="95 % intervals"),
    ]
    if failed:
        handles.append(Line2D([], [], label="pair with a failure, at its worst", **FAILURE))
    return handles
