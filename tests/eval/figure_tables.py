"""A table like a phantom's: 3 variants × 2 seeds × 12 persons × 6 contrasts, two metrics, misses."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import numpy as np
from mriad.case_table import Row
from mriad_eval.comparison import Trial, TrialTable

if TYPE_CHECKING:
    from mriad_eval.figures.embedding import Embeddings

CONTRASTS = ("DWI", "GRE-T1w", "MTon", "T1w", "T2star", "T2w")
VARIANTS = {"soft_all": 0.02, "hard_all": 0.0, "dice_ce": -0.015}
AREA = 70.0  # mm²


def phantom_table(
    variants: dict[str, float] = VARIANTS,
    persons: int = 12,
    seeds: int = 2,
    contrasts: tuple[str, ...] = CONTRASTS,
    structures: tuple[str, ...] = ("cord", "canal"),
    misses: bool = True,
) -> TrialTable:
    """dice, assd (worst 70 mm), rve, csa and calibration bins; a few misses and one false positive."""
    rng = np.random.default_rng(15)
    of_person = rng.normal(0, 0.02, persons)
    area = AREA + rng.normal(0, 6, persons)
    trials = []
    for variant, gain in variants.items():
        for seed in range(seeds):
            rows: list[Row] = []
            for p in range(persons):
                for c, contrast in enumerate(contrasts):
                    for s, structure in enumerate(structures):
                        base = 0.9 + gain - 0.012 * c - 0.05 * s + of_person[p]
                        dice = float(np.clip(base + rng.normal(0, 0.012), 0, 1))
                        missed = misses and (variant, p, c, s) in (
                            ("hard_all", 3, len(contrasts) - 1, 0),
                            ("dice_ce", 7, 0, 0),
                            ("dice_ce", 8, 0, seed),
                        )
                        where = (f"p{p:02d}_{contrast}", f"p{p:02d}", contrast, f"site{p % 3}", structure)
                        note = "miss" if missed else ""

                        def row(
                            metric: str, value: float, unit: str, way: str, worst: float, part: str = ""
                        ) -> Row:
                            return Row(*where, metric, value, unit, way, worst, note, "truth", part)  # noqa: B023

                        rows.append(row("dice", 0.0 if missed else dice, "1", "higher", 0.0))
                        away = math.nan if missed else float(2.2 * (1 - dice) + rng.gamma(4, 0.03))
                        rows.append(row("assd", away, "mm", "lower", 70.0))
                        bias = float(100 * (0.05 - 2 * gain) + rng.normal(0, 4))
                        rows.append(row("rve", -100.0 if missed else bias, "%", "toward 0", -100.0))
                        found = 0.0 if missed else float(area[p] * (1 + gain) - c + rng.normal(0, 1))
                        rows.append(row("csa", found, "mm²", "none", math.nan))
                        for b in range(10):
                            x = (b + 0.5) / 10
                            true = float(np.clip(x + 4 * gain * x * (1 - x) * 4 + rng.normal(0, 0.01), 0, 1))
                            voxels = float(int(400 * (x - 0.5) ** 2 + 20))
                            rows.append(row("calibration_predicted", x, "1", "none", math.nan, str(b)))
                            rows.append(row("calibration_target", true, "1", "none", math.nan, str(b)))
                            rows.append(row("calibration_voxels", voxels, "1", "none", math.nan, str(b)))
            compute = {
                "steps": 2000.0,
                "samples": 4000.0,
                "seconds": 130.0 + seed,
                "peak_memory_bytes": 1.5e9,
            }
            trials.append(
                Trial(variant, "0", str(seed), tuple(rows), name=f"{variant}-{seed}", compute=compute)
            )
    return TrialTable(tuple(trials), "phantom", "E2")


def features(persons: int = 12, epochs: tuple[int, ...] = (1, 10, 50)) -> Embeddings:
    """Domains that are apart in the first epoch and mixed in the last."""
    from mriad_eval.figures.embedding import Embeddings

    rng = np.random.default_rng(3)
    centres = rng.normal(0, 1, (len(CONTRASTS), 64))
    vectors, cases, domains, at = [], [], [], []
    for e, epoch in enumerate(epochs):
        for p in range(persons):
            for c, contrast in enumerate(CONTRASTS):
                vectors.append(centres[c] * 0.9 * (1 - e / (len(epochs) - 1)) + rng.normal(0, 0.5, 64))
                cases.append(f"p{p:02d}_{contrast}")
                domains.append(contrast)
                at.append(str(epoch))
    return Embeddings(np.array(vectors), tuple(cases), tuple(domains), tuple(at))


def rows_of(table: TrialTable, variant: str, metric: str, **where: str):
    return [
        row
        for trial in table.trials
        for row in trial.rows
        if trial.variant == variant
        and row.metric == metric
        and all(getattr(row, k) == v for k, v in where.items())
    ]


def by_hand(table: TrialTable, variant: str, metric: str, **where: str) -> tuple[float, float]:
    """Mean and SD over persons, seeds averaged within each; computed without the comparison's code."""
    persons = sorted({r.person for r in rows_of(table, variant, metric, **where)})
    means = []
    for person in persons:
        of_seeds = []
        for trial in table.trials:
            if trial.variant == variant:
                values = [
                    r.value
                    for r in trial.rows
                    if r.metric == metric
                    and r.person == person
                    and not math.isnan(r.value)
                    and all(getattr(r, k) == v for k, v in where.items())
                ]
                if values:
                    of_seeds.append(statistics.fmean(values))
        if of_seeds:
            means.append(statistics.fmean(of_seeds))
    return statistics.fmean(means), statistics.stdev(means)
