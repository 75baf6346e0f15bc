"""Box plots per structure, variants beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mriad_eval.figures.points import failures_text, points_of
from mriad_eval.figures.style import COLOURS, FAILURE, GREY, HATCHES, new_figure, pick, save_pair, sign
from mriad_eval.figures.value_axis import ValueAxis
from mriad_eval.figures.violin import spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.figures.points import Point, Points


def draw_boxes(
    stem: Path, table: TrialTable, metric: str, *, against: str = "", title: str = ""
) -> list[Path]:
    """Draw one metric by structure and variant; write `stem`.png and .svg.

    Boxes: quartiles of cases and seeds, failures at their worst value included; whiskers: the outermost values within
    1.5 box lengths; beyond them each value is a dot. A failure is a cross at its worst.

    Raises:
        DataError: no case has the metric. StorageError: the place is full or cannot be written.
    """
    found = points_of(table, metric, against)
    structures = found.names("structure")
    axis = ValueAxis.of(
        [p.value for p in found.points if not p.failure], [p.value for p in found.points if p.failure]
    )
    count = len(found.variants)
    with new_figure(min(max(0.75 * (count + 1) * len(structures) + 1.2, 4.2), 16), 4.8) as figure:
        axes = figure.subplots()
        labels = []
        for s, structure in enumerate(structures):
            counts = []
            for v in range(count):
                mine = found.of(found.variants[v], "structure", structure)
                _box(axes, s * (count + 0.9) + v, mine, axis, v)
                kinds = [p.failure for p in mine]
                failed = failures_text(*(kinds.count(k) for k in ("miss", "false positive", "undefined")))
                counts.append(f"{found.variants[v]}: n {len(mine)}, {failed or '0 misses'}")
            labels.append("\n".join([structure or "–", *counts]))
        axes.set_xticks([s * (count + 0.9) + (count - 1) / 2 for s in range(len(structures))], labels)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(found.label)
        axis.apply(axes)
        figure.legend(handles=_handles(found), loc="outside lower center", ncols=4)
        line = f"{found.counts()}\nboxes over cases and seeds, failures at their worst included"
        figure.suptitle(f"{title or found.measure.metric} by structure\n{line}", fontsize=10)
        return save_pair(figure, stem)


def _box(axes: Axes, x: float, points: Sequence[Point], axis: ValueAxis, number: int) -> None:
    if not points:
        return
    values = [axis.place(p.value, failed=bool(p.failure)) for p in points]
    drawn = axes.boxplot(
        [values],
        positions=[x],
        widths=0.7,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": "black", "linewidth": 1.8},
        whiskerprops={"color": GREY},
        capprops={"color": GREY},
        manage_ticks=False,
        zorder=2,
    )
    (box,) = drawn["boxes"]
    box.set(facecolor=_pale(pick(COLOURS, number)), edgecolor="#333333", hatch=sign(HATCHES, number))
    low, high = (w.get_ydata()[1] for w in drawn["whiskers"])
    beyond = [y for y, p in zip(values, points, strict=True) if not p.failure and not low <= y <= high]
    style: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 3,
        "color": pick(COLOURS, number),
        "zorder": 3,
    }
    axes.plot(x + spread(len(beyond), 0.1), beyond, **style)
    failed = [y for y, p in zip(values, points, strict=True) if p.failure]
    axes.plot(x + spread(len(failed)), failed, zorder=5, **FAILURE)


def _pale(colour: str) -> tuple[float, float, float]:
    """Half way to white, so that hatch and median stay visible."""
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return (1 + r) / 2, (1 + g) / 2, (1 + b) / 2


def _handles(found: Points) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=_pale(pick(COLOURS, i)), edgecolor="#333333", hatch=sign(HATCHES, i), label=name)
        for i, name in enumerate(found.variants)
    ]
    if any(p.failure for p in found.points):
        handles.append(Line2D([], [], label="miss or other failure", **FAILURE))
    return handles
