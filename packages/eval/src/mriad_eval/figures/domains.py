"""Heat map of domains by variants, each variant's worst domain marked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Rectangle
from mriad.errors import DataError

from mriad_eval.figures.points import failures_text, points_of
from mriad_eval.figures.style import new_figure, save_pair

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.comparison.study import VariantFigures
    from mriad_eval.comparison.trials import TrialTable


def draw_domains(
    stem: Path,
    table: TrialTable,
    metric: str,
    *,
    by: Literal["domain", "contrast"] = "domain",
    against: str = "",
    title: str = "",
) -> list[Path]:
    """Draw mean counted values over persons in each domain (or contrast); write `stem`.png and .svg.

    Failures count at their worst value, as in tests; n, misses and the mean of ordinary values stand in each cell.
    The darker, the worse; the worst domain of a variant has a frame and a mark.

    Raises:
        DataError: no case has the metric, or it is a measurement. StorageError: the place is full or cannot be
            written.
    """
    found = points_of(table, metric, against)
    measure = found.measure
    if measure.direction == "none":
        raise DataError(
            f"'{metric}' is a measurement: no domain is the worst",
            where={"unit": measure.unit},
            remedy="draw its error, or its values as violins",
        )
    names = found.names(by)
    numbers = {name: found.numbers(by, name) for name in names}
    values = np.array(
        [[numbers[n][v].counted if v in numbers[n] else math.nan for v in found.variants] for n in names]
    )
    height = 0.62 * len(names) + 1.9
    with new_figure(max(1.75 * len(found.variants) + 2.6, 4.6), height) as figure:
        axes = figure.subplots()
        shade = -values if measure.higher_is_better else values
        # From pale to dark blue: lightness alone tells the order, in grey print too.
        shown = np.ma.masked_invalid(shade)
        norm = mpl.colors.LogNorm() if _wide(shown) else mpl.colors.Normalize()
        image = axes.pcolormesh(shown, cmap=_ramp(), norm=norm, edgecolors="white", linewidth=1.5)
        for column, variant in enumerate(found.variants):
            worst = _worst(values[:, column], measure.higher_is_better)
            for row, name in enumerate(names):
                _cell(axes, row, column, numbers[name].get(variant), image, worst == row and len(names) > 1)
        axes.set_xticks(np.arange(len(found.variants)) + 0.5, found.variants)
        axes.set_yticks(np.arange(len(names)) + 0.5, [name or "–" for name in names])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
        bar.outline.set_visible(False)
        if _wide(shown):
            ticks = np.geomspace(float(shown.min()), float(shown.max()), 4)
            bar.set_ticks(ticks.tolist(), labels=[f"{t:.2g}" for t in ticks])
            bar.minorticks_off()
        elif measure.higher_is_better:
            bar.ax.yaxis.set_major_formatter(lambda x, _: f"{-x:.3g}")
        bar.set_label(f"{measure.name} ({measure.unit}), darker is worse", fontsize=8)
        subtitle = (
            f"mean over {found.unit_name}s, failures at their worst; ▼ and frame: the variant's worst {by}"
        )
        figure.suptitle(f"{title or measure.name} by {by}\n{found.counts()}\n{subtitle}", fontsize=9.5)
        return save_pair(figure, stem)


def _ramp() -> mpl.colors.Colormap:
    return mpl.colors.LinearSegmentedColormap.from_list(
        "pale to dark", ["#F4F8FC", "#86B6DC", "#2A6FA8", "#0A2F55"]
    )


def _wide(shown: np.ma.MaskedArray) -> bool:
    """Whether one bad cell would make all others look alike: then colours follow the logarithm."""
    return bool(shown.count() and shown.min() > 0 and shown.max() > 4 * shown.min())


def _worst(values: np.ndarray, higher_is_better: bool) -> int | None:
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmin(values) if higher_is_better else np.nanargmax(values))


def _cell(
    axes: Axes, row: int, column: int, numbers: VariantFigures | None, image: object, worst: bool
) -> None:
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    if numbers is None or math.isnan(numbers.counted):
        axes.text(column + 0.5, row + 0.5, "no value", fontsize=7.5, color="#555555", **middle)
        return
    sign = -1 if numbers.measure.higher_is_better else 1
    norm = image.norm(sign * numbers.counted)  # type: ignore[attr-defined]
    colour = "white" if norm > 0.55 else "black"
    failed = failures_text(numbers.misses, numbers.false_positives, numbers.undefined)
    mark = "▼ " if worst else ""
    axes.text(
        column + 0.5,
        row + 0.36,
        f"{mark}{numbers.counted:.3f}",
        fontsize=9.5,
        weight="bold" if worst else "normal",
        color=colour,
        **middle,
    )
    axes.text(
        column + 0.5,
        row + 0.73,
        f"n {numbers.n}/{numbers.total}, {failed or '0 misses'}",
        fontsize=6.8,
        color=colour,
        **middle,
    )
    if worst:
        box: dict[str, Any] = {"fill": False, "clip_on": False}
        axes.add_patch(Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, edgecolor="black", lw=2.6, **box))
        axes.add_patch(Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, edgecolor="#E69F00", lw=1.1, **box))
