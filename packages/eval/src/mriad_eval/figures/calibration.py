"""Calibration curve: the mean target in each bin of the prediction, near the boundary of the structure."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError

from mriad_eval.figures.points import plural
from mriad_eval.figures.style import (
    COLOURS,
    GREY,
    HATCHES,
    LINES,
    MARKERS,
    new_figure,
    pick,
    save_pair,
    sign,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.case_table import Row

    from mriad_eval.comparison.trials import Trial, TrialTable

QUANTITIES = ("calibration_predicted", "calibration_target", "calibration_voxels")
"""Metrics that the curve is made from, one row a bin (`eval.calibration_curve`)."""


@dataclass(frozen=True)
class PooledBins:
    """A variant's bins over all cases and seeds.

    predicted, target: (B,) means in each bin that holds voxels, weighted by voxels. voxels: (B,) counts. error: mean
    |predicted − target| weighted by voxels, of the pooled bins. cases, persons, misses: behind them.
    """

    predicted: np.ndarray
    target: np.ndarray
    voxels: np.ndarray
    error: float
    cases: int
    persons: int
    misses: int


def draw_calibration(
    stem: Path, table: TrialTable, *, structure: str = "", against: str = "", title: str = ""
) -> list[Path]:
    """Draw the calibration curve of each variant, and the share of voxels in each bin; write .png and .svg.

    Voxels within the metric's distance of the reference's boundary. Cases whose structure was missed are in the
    bins, since their voxels were predicted too low, and are counted.

    Raises:
        DataError: no trial has the three quantities of `eval.calibration_curve`, or several references.
        StorageError: the place is full or cannot be written.
    """
    pooled = {v: pooled_bins(table, v, structure, against) for v in table.variants}
    found = {v: bins for v, bins in pooled.items() if bins is not None}
    if not found:
        raise DataError(
            "no calibration curve was measured",
            where={"needed": ", ".join(QUANTITIES)},
            remedy="add eval.calibration_curve with quantity predicted, target and voxels to `evaluate.metrics`",
        )
    with new_figure(5.2, 6.9) as figure:
        axes, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, label="perfectly calibrated")
        for i, (variant, bins) in enumerate(found.items()):
            misses = f"{bins.misses} miss{'' if bins.misses == 1 else 'es'}"
            axes.plot(
                bins.predicted,
                bins.target,
                color=pick(COLOURS, i),
                marker=sign(MARKERS, i),
                linestyle=sign(LINES, i),
                markersize=5,
                label=f"{variant}: error of these bins {bins.error:.3f}, {plural(bins.cases, 'case')}, {misses}",
            )
            width = (
                0.8 / len(bins.voxels) / len(found)
            )  # at the mean prediction of each bin, variants side by side
            below.bar(
                bins.predicted + (i - (len(found) - 1) / 2) * width,
                bins.voxels / bins.voxels.sum(),
                width,
                color=pick(COLOURS, i),
                hatch=sign(HATCHES, i),
                edgecolor="white",
                linewidth=0.3,
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="mean target (1)")
        below.set(xlabel="mean prediction (1)", ylabel="share of\nvoxels (1)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1)
        persons = max(bins.persons for bins in found.values())
        what = f" of {structure}" if structure else ""
        figure.suptitle(
            f"{title or f'calibration{what} near the boundary'}\n"
            f"n = {plural(persons, 'person')}; misses are in the bins",
            fontsize=10,
        )
        return save_pair(figure, stem)


def pooled_bins(table: TrialTable, variant: str, structure: str = "", against: str = "") -> PooledBins | None:
    """Pool a variant's bins, each case and trial by its voxels; None where it has no such rows.

    Raises:
        DataError: measured against several references and none chosen.
    """
    cells: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    references = set()
    for trial in table.finished(variant):
        for row in _rows(trial, structure, against):
            references.add(row.reference)
            cells[trial.seed, trial.fold, row.case, row.structure, row.reference, row.part][row.metric] = row
    if len(references) > 1:
        raise DataError(
            "calibration was measured against several references",
            where={"references": ", ".join(sorted(references))},
            remedy="name one of them",
        )
    whole = {key: rows for key, rows in cells.items() if all(q in rows for q in QUANTITIES)}
    sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))
    for key, found in whole.items():
        p, g, count = (found[q].value for q in QUANTITIES)
        if all(map(math.isfinite, (p, g, count))):
            sums[int(key[-1])] += (p * count, g * count, count)
    if not sums:
        return None
    totals = np.stack([sums[b] for b in sorted(sums) if sums[b][2] > 0])
    voxels = totals[:, 2]
    predicted, target = totals[:, 0] / voxels, totals[:, 1] / voxels
    rows = [found[QUANTITIES[0]] for found in whole.values()]
    missed = {key[:4] for key, r in whole.items() if any(x.note == "miss" for x in r.values())}
    error = float((voxels * np.abs(predicted - target)).sum() / voxels.sum())
    persons = len({row.person or row.case for row in rows})
    return PooledBins(predicted, target, voxels, error, len({r.case for r in rows}), persons, len(missed))


def _rows(trial: Trial, structure: str, against: str) -> list[Row]:
    return [
        row
        for row in trial.rows
        if row.metric in QUANTITIES and structure in ("", row.structure) and against in ("", row.reference)
    ]
