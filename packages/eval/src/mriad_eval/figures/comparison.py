"""Variants side by side: every case as a point, the same case joined by a line, mean ± SD beside them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from mriad.case_table import FAILURES, summarise
from mriad.errors import DataError

from mriad_eval.figures.style import COLOURS, MARKERS, new_figure, pick, save, sign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from mriad.case_table import Row, Summary

Rows = list["Row"]

_SPREAD = 0.16  # half the width over which contrasts are set apart within a variant
_MEAN_AT = 0.3  # the mean's place, right of the points


def draw_comparison(
    path: Path,
    variants: Mapping[str, Sequence[Row]],
    *,
    metric: str,
    structures: Sequence[str] = (),
    title: str = "",
) -> Path:
    """Draw one metric of several variants from their tracked rows, a panel a structure, and write a PNG.

    Means and spreads are those of `summarise`, so they equal the printed table. A failure without a value
    is a cross at the bad end of the axis.

    Args:
        path: the PNG.
        variants: name → rows of its `cases.csv`.
        metric: key, such as "dice".
        structures: which, in order; empty: all that the rows name.
        title: of the figure.

    Raises:
        DataError: no row of that metric in a variant, or rows of one variant measured against several
        references. StorageError: the place is full or cannot be written.
    """
    chosen = {name: [row for row in rows if row.metric == metric] for name, rows in variants.items()}
    _require(chosen, metric)
    found = list(dict.fromkeys(row.structure for rows in chosen.values() for row in rows))
    names = list(structures) or found
    contrasts = sorted({row.contrast for rows in chosen.values() for row in rows})
    width = max(1.5 * len(chosen) + 0.9, 3.0)
    with new_figure(width * len(names) + 0.2, 4.2) as figure:
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, structure in zip(panels, names, strict=True):
            part = {n: [row for row in rows if row.structure == structure] for n, rows in chosen.items()}
            _panel(axes, part, contrasts)
            axes.set_title(structure, pad=14)  # leaves room for the crosses of failures
        panels[0].set_ylabel(_axis_label(next(iter(chosen.values()))[0]))
        figure.legend(handles=_handles(contrasts), loc="outside lower center", ncols=3)
        figure.suptitle(f"{title or metric}\n{_counts(chosen)}", fontsize=10)
        return save(figure, path)


def _require(variants: Mapping[str, Rows], metric: str) -> None:
    for name, rows in variants.items():
        references = sorted({row.reference for row in rows})
        if not rows:
            raise DataError(
                f"variant '{name}' has no value of '{metric}'",
                remedy="add the metric to `evaluate: {metrics: …}` and run it again",
            )
        if len(references) > 1:
            raise DataError(
                f"variant '{name}' is measured against several references",
                where={"references": ", ".join(references)},
                remedy="choose the rows of one reference",
            )
    if not variants:
        raise DataError("nothing to compare: no variant is given")


def _panel(axes: Axes, variants: Mapping[str, Rows], contrasts: Sequence[str]) -> None:
    places = {
        contrast: 0.0 if len(contrasts) == 1 else _SPREAD * (2 * i / (len(contrasts) - 1) - 1)
        for i, contrast in enumerate(contrasts)
    }
    positions: dict[str, list[tuple[float, float]]] = {}
    labels = []
    for x, (name, rows) in enumerate(variants.items()):
        for row in rows:
            at = x + places[row.contrast] - 0.1
            if not math.isnan(row.value):
                positions.setdefault(row.case, []).append((at, row.value))
                i = contrasts.index(row.contrast)
                axes.plot(
                    at,
                    row.value,
                    linestyle="none",
                    marker=sign(MARKERS, i),
                    color=pick(COLOURS, i),
                    markersize=4.5,
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                    zorder=3,
                )
        (summary,) = summarise(rows) or (None,)
        failed = sum(1 for row in rows if row.note in FAILURES and math.isnan(row.value))
        if failed:
            _failures(axes, x - 0.1, rows[0].direction, failed)
        if summary is not None and not math.isnan(summary.mean):
            _mean(axes, x + _MEAN_AT, summary)
        labels.append(_label(name, summary))
    for points in positions.values():
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), color="#999999", linewidth=0.6, zorder=1)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.3)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.1)


def _failures(axes: Axes, x: float, direction: str, count: int) -> None:
    """A cross at the bad end, outside the scale: a failure has no value that could be drawn to scale."""
    y = -0.0 if direction == "higher" else 1.0
    axes.plot(
        x,
        y,
        transform=axes.get_xaxis_transform(),
        marker="x",
        color="black",
        markersize=7,
        markeredgewidth=1.6,
        clip_on=False,
        zorder=4,
    )
    axes.annotate(
        f"{count} failed",
        (x, y),
        xycoords=axes.get_xaxis_transform(),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )


def _mean(axes: Axes, x: float, summary: Summary) -> None:
    spread = None if math.isnan(summary.sd) else summary.sd
    axes.errorbar(
        x,
        summary.mean,
        yerr=spread,
        marker="D",
        markersize=6,
        markerfacecolor="white",
        markeredgecolor="black",
        color="black",
        capsize=3,
        linewidth=1.2,
        zorder=4,
    )


def _label(name: str, summary: Summary | None) -> str:
    if summary is None:
        return f"{name}\nno case"
    versus = f"\nvs {summary.reference}" if summary.reference else ""
    text, counts = summary.text().split(" (", 1)
    return f"{name}{versus}\n{text}\n{counts.rstrip(')')}"


def _axis_label(row: Row) -> str:
    better = {"higher": "higher is better", "lower": "lower is better"}
    hint = better.get(row.direction, f"best at {row.direction.removeprefix('toward ')}")
    return f"{row.metric} ({row.unit}), {hint}"


def _handles(contrasts: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=sign(MARKERS, i),
            color=pick(COLOURS, i),
            label=contrast or "case",
        )
        for i, contrast in enumerate(contrasts)
    ]
    handles.append(Line2D([], [], color="#999999", linewidth=0.8, label="same case"))
    handles.append(
        Line2D(
            [],
            [],
            color="black",
            marker="D",
            markerfacecolor="white",
            linewidth=1.2,
            label="mean ± SD over cases",
        )
    )
    return handles


def _counts(variants: Mapping[str, Rows]) -> str:
    rows = [row for found in variants.values() for row in found]
    cases, persons = len({row.case for row in rows}), len({row.person or row.case for row in rows})
    return f"n = {cases} cases of {persons} person{'s' if persons != 1 else ''}"
