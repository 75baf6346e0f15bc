"""Learning curves of an ablation: a thin line a trial, a thick one a variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError

from mriad_eval.figures.curves import read_metrics
from mriad_eval.figures.points import plural
from mriad_eval.figures.style import COLOURS, LINES, MARKERS, new_figure, pick, save_pair, sign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mriad_eval.figures.curves import Series

_WIDE_RANGE = 30.0  # a loss that falls by more than this factor is drawn on a logarithmic axis


def draw_learning_curves(
    stem: Path,
    runs: Mapping[str, Sequence[Path]],
    *,
    metric: str = "",
    units: Mapping[str, str] | None = None,
    title: str = "",
) -> list[Path]:
    """Draw training loss and validation metric against steps; write `stem`.png and .svg.

    Thin: one trial (fold and seed). Thick: mean over the variant's trials, at steps that all of them have; the
    training loss is averaged over twentieths of the run first. Validation is against each variant's own labels and
    losses have their own scale, so neither decides between variants.

    Args:
        stem: the files' path without ending.
        runs: variant → `metrics.jsonl` of its trials.
        metric: key of the validation metric; "" is the first that was logged.
        units: of metrics by key, as far as known.
        title: of the figure.

    Raises:
        DataError: no trial has anything to draw, or a file cannot be read. StorageError: the place is full or cannot
            be written.
    """
    series = {name: [read_metrics(file) for file in files] for name, files in runs.items()}
    chosen = metric or _first(series)
    losses = {v: [s["train/loss"] for s in found if "train/loss" in s] for v, found in series.items()}
    scores = {v: [c for c in (_score(s, chosen) for s in found) if c] for v, found in series.items()}
    if not any(losses.values()) and not any(scores.values()):
        raise DataError(
            "no training loss and no validation value to draw",
            where={"variants": ", ".join(runs) or "none"},
            remedy="train for at least one logged step",
        )
    panels = 2 if any(scores.values()) else 1
    with new_figure(4.4 * panels, 3.8) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        for i, name in enumerate(runs):
            _lines(
                axes[0], [_smooth(*line) for line in losses[name]], i, _label(name, len(series[name])), False
            )
            if panels == 2:
                _lines(axes[1], scores[name], i, _label(name, len(series[name])), True)
        axes[0].set(xlabel="step", ylabel="training loss (1)", title="training, running mean")
        drawn = np.concatenate([values for lines in losses.values() for _, values in lines] or [np.zeros(0)])
        good = drawn[np.isfinite(drawn)]
        if good.size and good.min() > 0 and good.max() / good.min() > _WIDE_RANGE:
            axes[0].set_yscale("log")
        if panels == 2:
            unit = (units or {}).get(chosen, "")
            axes[1].set(xlabel="step", ylabel=f"{chosen} ({unit})" if unit else chosen)
            axes[1].set_title("validation, mean over cases (own labels)")
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        count = plural(sum(len(found) for found in series.values()), "trial")
        line = "thin: a trial, thick: mean of the variant's trials"
        figure.suptitle(f"{title or 'learning curves'}, {count}\n{line}", fontsize=10)
        return save_pair(figure, stem)


def _label(name: str, trials: int) -> str:
    return f"{name} ({plural(trials, 'trial')})"


def _first(series: Mapping[str, Sequence[Series]]) -> str:
    for found in series.values():
        for one in found:
            for key in one:
                parts = key.split("/")
                if parts[0] == "val" and len(parts) == 3:
                    return parts[1]
    return ""


def _score(found: Series, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and the mean over structures of a validation metric."""
    keys = [key for key in found if metric and key.startswith(f"val/{metric}/")]
    keys = [key for key in keys if key.endswith("/mean")] or keys
    if not keys:
        return None
    steps = sorted(set.intersection(*(set(found[key][0].tolist()) for key in keys)))
    at = [dict(zip(*(side.tolist() for side in found[key]), strict=True)) for key in keys]
    return np.array(steps), np.array([np.mean([values[s] for values in at]) for s in steps])


def _smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over windows of a twentieth of the run, NaN left out; as many values as before."""
    half = max(1, len(values) // 40)
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    at = np.arange(len(values))
    start, stop = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    many = counts[stop] - counts[start]
    return steps, np.where(many > 0, (sums[stop] - sums[start]) / np.maximum(many, 1), np.nan)


def _lines(
    axes: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]], number: int, label: str, marked: bool
) -> None:
    if not lines:
        return
    colour, style = pick(COLOURS, number), sign(LINES, number)
    for steps, values in lines:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.4)
    common = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in lines)))
    if not common:
        return
    at = [dict(zip(steps.tolist(), values.tolist(), strict=True)) for steps, values in lines]
    mean = [float(np.mean([values[s] for values in at])) for s in common]
    marker = sign(MARKERS, number) if marked else ""
    every = max(1, len(common) // 12)
    axes.plot(
        common,
        mean,
        color=colour,
        linewidth=2.0,
        linestyle=style,
        marker=marker,
        markevery=every,
        markersize=4.5,
        label=label,
    )
