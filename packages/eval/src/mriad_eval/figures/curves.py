"""Training loss and validation metric against steps, from the `metrics.jsonl` of one or several runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError

from mriad_eval.figures.style import COLOURS, LINES, MARKERS, new_figure, pick, save, sign

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Series = dict[str, tuple["NDArray[np.float64]", "NDArray[np.float64]"]]
"""Key → steps, values."""

_WIDE_RANGE = 30.0  # a loss that falls by more than this factor is drawn on a logarithmic axis


def read_metrics(path: Path) -> Series:
    """Read `{"step": …, "values": {key: number}}`, one a line; of one step the last value counts.

    A last line that a killed run left half-written is passed over.

    Raises:
        DataError: not there, or another line is no such JSON.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "the metrics of a run cannot be read", where={"file": path, "reason": error}
        ) from error
    found: dict[str, dict[float, float]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step, values = float(record["step"]), dict(record["values"])
            numbers = {key: float("nan") if v is None else float(v) for key, v in values.items()}
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(
                "a line of metrics cannot be read",
                where={"file": f"{path}:{number}", "expected": '{"step": 10, "values": {"train/loss": 0.5}}'},
            ) from error
        for key, value in numbers.items():
            found.setdefault(key, {})[step] = value
    return {
        key: (np.array(sorted(points)), np.array([points[s] for s in sorted(points)]))
        for key, points in found.items()
    }


def draw_curves(
    path: Path,
    runs: Mapping[str, Path],
    *,
    metric: str = "",
    unit: str = "",
    title: str = "",
    cases: int = 0,
) -> Path:
    """Draw training loss (thin: as logged, thick: running mean) and validation values, and write a PNG.

    Args:
        path: the PNG.
        runs: name → `metrics.jsonl`; a colour and marker each.
        metric: key of the validation metric, such as "dice"; empty: the first that the runs logged.
        unit: of that metric, for the axis.
        title: of the figure.
        cases: validation cases behind each value; stated if given.

    Raises:
        DataError: no run, a file that cannot be read, or nothing to draw in it.
        StorageError: the place is full or cannot be written.
    """
    series = {name: read_metrics(file) for name, file in runs.items()}
    chosen = metric or _first_metric(series)
    keys = {name: _keys(found, chosen) for name, found in series.items()}
    if not any("train/loss" in found or keys[name] for name, found in series.items()):
        raise DataError(
            "no training loss and no validation value to draw",
            where={"files": ", ".join(str(file) for file in runs.values()) or "none"},
            remedy="train for at least one logged step",
        )
    panels = 2 if any(keys.values()) else 1
    with new_figure(4.2 * panels, 3.4) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _losses(axes[0], series)
        if panels == 2:
            _validations(axes[1], series, keys, chosen, unit, cases)
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        figure.suptitle(f"{title} ({count})" if title else f"training, {count}", fontsize=10)
        return save(figure, path)


def _first_metric(series: Mapping[str, Series]) -> str:
    for found in series.values():
        for key in found:
            parts = key.split("/")
            if parts[0] == "val" and len(parts) == 3:
                return parts[1]
    return ""


def _keys(found: Series, metric: str) -> list[str]:
    """Validation keys of a metric by structure; an average beside several structures says nothing new."""
    keys = [key for key in found if metric and key.startswith(f"val/{metric}/")]
    single = [key for key in keys if key.rsplit("/", 1)[1] != "mean"]
    return single or keys


def _losses(axes: Axes, series: Mapping[str, Series]) -> None:
    low, high = np.inf, 0.0
    for index, (name, found) in enumerate(series.items()):
        if "train/loss" not in found:
            continue
        steps, values = found["train/loss"]
        colour, line = pick(COLOURS, index), sign(LINES, index)
        smooth = _running_mean(values, max(1, len(values) // 20))
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(steps, smooth, color=colour, linewidth=1.8, linestyle=line, label=name)
        good = smooth[np.isfinite(smooth)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    if low > 0 and high / low > _WIDE_RANGE:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (1)")
    axes.set_title("training: thin as logged, thick running mean")


def _running_mean(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Mean over `half` values on each side, NaN left out."""
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    at = np.arange(len(values))
    start, stop = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    many = counts[stop] - counts[start]
    return np.where(many > 0, (sums[stop] - sums[start]) / np.maximum(many, 1), np.nan)


def _validations(
    axes: Axes,
    series: Mapping[str, Series],
    keys: Mapping[str, list[str]],
    metric: str,
    unit: str,
    cases: int,
) -> None:
    structures = list(dict.fromkeys(key.rsplit("/", 1)[1] for found in keys.values() for key in found))
    for index, (name, found) in enumerate(series.items()):
        for key in keys[name]:
            structure = key.rsplit("/", 1)[1]
            steps, values = found[key]
            # One structure: the line tells runs apart in grey print, as in the other panel; else structures.
            style = index if len(structures) == 1 else structures.index(structure)
            axes.plot(
                steps,
                values,
                color=pick(COLOURS, index),
                marker=sign(MARKERS, index),
                markersize=4,
                linestyle=sign(LINES, style),
                linewidth=1.4,
                label=name if len(structures) == 1 else f"{name}, {structure}",
            )
    of = f" of {structures[0]}" if len(structures) == 1 and structures[0] != "mean" else ""
    axes.set_xlabel("step")
    axes.set_ylabel(_quantity(f"{metric}{of}", unit))
    axes.set_title(f"validation, mean over n = {cases} cases" if cases else "validation, mean over cases")


def _quantity(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


__all__ = ["draw_curves", "read_metrics"]
