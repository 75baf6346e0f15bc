"""How far two series agree: scatters with the line of identity, one against the reference or a grid of all pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matplotlib.lines import Line2D
from mriad.errors import DataError

from mriad_eval.figures.points import by_person, counted, matched, plural, points_of, same_slot
from mriad_eval.figures.style import COLOURS, FAILURE, GREY, MARKERS, new_figure, pick, save_pair, sign
from mriad_eval.figures.value_axis import ValueAxis
from mriad_eval.statistics.agreement import intraclass_correlation, linear_fit

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Point, Points

Pairs = list[tuple["Point", "Point"]]


def draw_agreement(
    stem: Path, table: TrialTable, metric: str, reference: str = "", *, against: str = "", title: str = ""
) -> list[Path]:
    """Draw each variant's values against the reference variant's, a panel a variant; write `stem`.png and .svg.

    A point is one case and seed, its sign the contrast; a failure on either side is a cross at its worst value.
    The line is identity. Slope, r² and ICC(A,1) are over persons, pairs with a failure left out and counted.

    Raises:
        DataError: no other variant, no such reference, or no case has the metric.
        StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    chosen = reference or found.variants[0]
    others = [v for v in found.variants if v != chosen]
    if chosen not in found.variants or not others:
        raise DataError(
            "agreement needs a reference and another variant",
            where={"reference": chosen, "variants": ", ".join(found.variants)},
            remedy="name a variant with values as the reference",
        )
    axis = _axis_of(found.points)
    contrasts = found.names("contrast")
    with new_figure(max(3.5 * len(others) + 0.6, 4.4), 5.3) as figure:
        panels = figure.subplots(1, len(others), squeeze=False)[0]
        for axes, variant in zip(panels, others, strict=True):
            pairs = matched(found.of(chosen), found.of(variant), same_slot)
            _scatter(axes, pairs, axis, contrasts)
            axes.set_title(
                f"{variant} against {chosen}\n{agreement_text(pairs, found.unit_name, lines=2)}", fontsize=8
            )
            axes.set_xlabel(f"{chosen}: {found.measure.metric} ({found.measure.unit})")
            axes.set_ylabel(f"{variant}: {found.measure.metric} ({found.measure.unit})")
        figure.legend(handles=_handles(contrasts, found), loc="outside lower center", ncols=5)
        figure.suptitle(f"{title or found.label}\n{found.counts()}", fontsize=10)
        return save_pair(figure, stem)


def draw_agreement_grid(
    stem: Path,
    table: TrialTable,
    metric: str,
    *,
    across: Literal["contrast", "variant"] = "contrast",
    variant: str = "",
    against: str = "",
    title: str = "",
) -> list[Path]:
    """Draw all pairs of contrasts of one variant (or of variants) as a grid; write `stem`.png and .svg.

    Below the diagonal: a point a person and seed with the line of identity, failures at their worst. Above it:
    mean difference (row − column), r² and ICC(A,1) over persons, n and failures.

    Raises:
        DataError: fewer than two contrasts or variants, or no case has the metric.
        StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    own = variant or found.variants[0]
    names = found.names("contrast") if across == "contrast" else list(found.variants)
    if len(names) < 2 or own not in found.variants:
        raise DataError(
            f"a grid of agreement needs two {across}s or more",
            where={f"{across}s": ", ".join(names), "variants": ", ".join(found.variants)},
            remedy="draw the values of one as violins",
        )
    points = found.of(own) if across == "contrast" else list(found.points)
    by = {name: [p for p in points if getattr(p, across) == name] for name in names}
    axis = _axis_of(points)
    k = len(names)
    side = 1.45 if k > 3 else 1.8
    with new_figure(side * k + 0.8, side * k + 1.2) as figure:
        panels = figure.subplots(k, k, squeeze=False)
        for i, row in enumerate(names):
            for j, column in enumerate(names):
                axes = panels[i][j]
                pairs = matched(by[column], by[row], _person_slot if across == "contrast" else same_slot)
                if i > j:
                    _scatter(axes, pairs, axis, [""], size=2.6)
                    axes.tick_params(labelsize=6, labelleft=j == 0, labelbottom=i == k - 1)
                    if i == k - 1:
                        axes.set_xlabel(column, fontsize=8)
                    if j == 0:
                        axes.set_ylabel(row, fontsize=8)
                    continue
                axes.set_axis_off()
                if i == j:
                    text, size, weight = row, 9.5, "bold"
                else:
                    text, size, weight = agreement_text(pairs, found.unit_name, lines=4), 7, "normal"
                axes.text(
                    0.5, 0.5, text, ha="center", va="center", fontsize=size, weight=weight, linespacing=1.3
                )
        which = f"{own}: {found.label}" if across == "contrast" else found.label
        line = counted(points, found.measure, unit=found.unit_name)
        figure.suptitle(f"{title or which}\n{line}\ndifferences are row − column", fontsize=9)
        return save_pair(figure, stem)


def agreement_text(pairs: Pairs, unit: str = "person", *, lines: int = 1) -> str:
    """`difference +0.2, slope 0.98, r² 0.91, ICC 0.90, n = 12 persons, 2 failed (×)` in 1, 2 or 4 lines.

    Over persons, pairs with a failure left out; second − first.
    """
    means = by_person(pairs)
    a, b = ([pair[side] for pair in means.values()] for side in (0, 1))
    failed = sum(1 for one, other in pairs if one.failure or other.failure)
    parts = [f"difference {sum(b) / len(b) - sum(a) / len(a):+.3g}"] if a else ["no pair without a failure"]
    try:
        fit = linear_fit(a, b)
        icc = intraclass_correlation(list(zip(a, b, strict=True)))
        parts += [f"slope {fit.slope:.2f}, r² {fit.r2:.2f}", f"ICC {icc.value:.2f}"]
    except DataError:
        parts += ["too few, or constant", "no ICC"]
    parts.append(f"n = {plural(len(a), unit)}" + (f", {failed} failed (×)" if failed else ""))
    if lines == 2:
        parts = [", ".join(parts[:2]), ", ".join(parts[2:])]
    return (", " if lines == 1 else "\n").join(parts).replace("-", "−")


def _axis_of(points: Sequence[Point]) -> ValueAxis:
    return ValueAxis.of([p.value for p in points if not p.failure], [p.value for p in points if p.failure])


def _person_slot(point: Point) -> Hashable:
    """What two contrasts of one person are compared on; several cases of a contrast are averaged elsewhere."""
    return point.person, point.structure, point.part


def _scatter(axes: Axes, pairs: Pairs, axis: ValueAxis, contrasts: Sequence[str], size: float = 3.8) -> None:
    axes.axline((0, 0), slope=1, color=GREY, linewidth=1.0, zorder=1)
    for i, contrast in enumerate(contrasts):
        good = [
            (a.value, b.value)
            for a, b in pairs
            if not a.failure and not b.failure and (len(contrasts) == 1 or a.contrast == contrast)
        ]
        if good:
            axes.plot(
                *zip(*good, strict=True),
                linestyle="none",
                marker=sign(MARKERS, i),
                color=pick(COLOURS, i),
                markersize=size,
                markeredgecolor="white",
                markeredgewidth=0.3,
                zorder=3,
            )
    for a, b in pairs:
        if a.failure or b.failure:
            x = axis.place(a.value, failed=bool(a.failure))
            y = axis.place(b.value, failed=bool(b.failure))
            axes.plot(x, y, zorder=5, clip_on=False, **{**FAILURE, "markersize": size + 2})
    axis.apply(axes, "y")
    axis.apply(axes, "x")
    axes.set_box_aspect(1)  # both axes have the same limits


def _handles(contrasts: Sequence[str], found: Points) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], linestyle="none", marker=sign(MARKERS, i), color=pick(COLOURS, i), label=name or "case"
        )
        for i, name in enumerate(contrasts)
    ]
    handles.append(Line2D([], [], color=GREY, linewidth=1.0, label="identity"))
    if any(p.failure for p in found.points):
        handles.append(Line2D([], [], label="miss or other failure, at its worst", **FAILURE))
    return handles


__all__ = ["agreement_text", "draw_agreement", "draw_agreement_grid"]
