"""What the metrics of area compute: from a pair of masks, and from a person's rows."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriad_eval.masks import THRESHOLD, situation
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.levels import (
    LevelMean,
    LevelSet,
    disc_points,
    level_mean,
    levels_from_discs,
    levels_from_map,
    missing_discs,
)
from mriad_eval.morphometry.literal_sct import literal_area, literal_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.case_table import Row
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

    from mriad_eval.morphometry.settings import CsaSettings, Values

EVERYWHERE = LevelSet(())
"""No levels named: the mean is taken over the whole structure."""


@dataclass(frozen=True)
class AreaOf:
    """`eval.csa`: the prediction's area in mm² over the pair's levels."""

    settings: CsaSettings

    def __call__(self, pair: StructurePair) -> tuple[float, str]:
        """NaN with a note where it is not defined; see `mriad_eval.csa_metrics`."""
        found = areas_of(pair, self.settings)
        note = situation(found.predicted, found.present)
        if note:
            return math.nan, note
        why = found.prediction.note
        if why and not found.reference.note:
            return math.nan, "miss"  # the reference has these levels, the prediction does not reach them
        return found.prediction.mean, f"incomplete: {why}" if why else ""


@dataclass(frozen=True)
class ErrorOf:
    """`eval.csa_abs_error`; `quantity`: name of the case's number, or "" for the reference mask."""

    settings: CsaSettings
    quantity: str

    def __call__(self, pair: StructurePair) -> tuple[float, str]:
        """The error, with what was not found measured as 0 mm²."""
        found = areas_of(pair, self.settings)
        note = situation(found.predicted, found.present)
        if note == "empty":
            return math.nan, note
        if note == "false positive":
            return found.prediction.mean, note
        truth, why = found.reference.mean, found.reference.note
        if self.quantity:
            name = f"{self.quantity}/{_levels_of(pair).name}"
            truth = float(pair.numbers.get(name, math.nan))
            why = "" if math.isfinite(truth) else f"the case has no number {name}"
        if why:
            return math.nan, f"incomplete: {why}"
        if note == "miss" or math.isnan(found.prediction.mean):
            if note != "miss" and self.quantity and found.reference.note:
                return math.nan, f"incomplete: {found.prediction.note}"
            return truth, "miss"
        return abs(found.prediction.mean - truth), ""


@dataclass(frozen=True)
class LiteralAreaOf:
    """`eval.csa_sct6_literal`: the mean over slices as SCT 6.0 has it; levels from a map of levels only."""

    values: Values

    def __call__(self, pair: StructurePair) -> tuple[float, str]:
        """NaN where no slice of the levels has an area."""
        wanted = _levels_of(pair)
        if wanted != EVERYWHERE and "levels" not in pair.annotations:
            return math.nan, "incomplete: the case has no levels"
        sides = []
        for values in (pair.prediction, pair.reference):
            kept = values if self.values == "soft" else (values > THRESHOLD).astype(np.float32)
            sides.append(np.where(pair.validity, kept, 0) if pair.validity is not None else kept)
        note = situation(bool(sides[0].any()), bool(sides[1].any()))
        if note:
            return math.nan, note
        areas = literal_area(sides[0], pair.grid).area_mm2
        use = np.isfinite(areas)
        if wanted != EVERYWHERE:
            use &= np.isin(literal_levels(pair.annotations["levels"], pair.grid), wanted.numbers)
        return (
            (float(areas[use].mean()), "")
            if use.any()
            else (math.nan, f"incomplete: no slices of {wanted.name}")
        )


@dataclass(frozen=True)
class Areas:
    """Level means of both masks, and whether there is anything in them at all."""

    prediction: LevelMean
    reference: LevelMean
    predicted: bool
    present: bool


def areas_of(pair: StructurePair, settings: CsaSettings) -> Areas:
    """Measure both masks of a pair, once for all metrics with these settings."""

    def make(pair: StructurePair) -> Areas:
        sides = [_mean_of(pair, values, settings) for values in (pair.prediction, pair.reference)]
        return Areas(sides[0][0], sides[1][0], sides[0][1], sides[1][1])

    return pair.shared(f"eval.csa {settings}", make)


def _mean_of(
    pair: StructurePair, values: NDArray[np.float32], settings: CsaSettings
) -> tuple[LevelMean, bool]:
    tube = measure_tube(values, pair.grid, settings.tube, pair.validity)
    wanted = _levels_of(pair)
    if not len(tube):
        return LevelMean(wanted, math.nan, math.nan, 0, "the structure is in no slice"), False
    if tube.line is None:
        return LevelMean(wanted, math.nan, math.nan, 0, "too few slices for a direction"), True
    if wanted == EVERYWHERE:
        everywhere = LevelSet((1,))
        mean = level_mean(tube, np.ones(len(tube), np.int64), everywhere, tube.area_mm2, settings.min_slices)
        return LevelMean(wanted, mean.mean, mean.sd, mean.n, mean.note and "too few slices"), True
    labels = pair.annotations
    if "levels" in labels:
        levels = levels_from_map(tube, values, labels["levels"])
    elif "discs" in labels:
        points = disc_points(labels["discs"], pair.grid, file=f"discs of {pair.case}")
        if lacking := missing_discs(points, wanted):
            return LevelMean(wanted, math.nan, math.nan, 0, f"no disc {', '.join(map(str, lacking))}"), True
        levels = levels_from_discs(tube, points)
    else:
        return LevelMean(wanted, math.nan, math.nan, 0, "the case has no levels or discs"), True
    return level_mean(tube, levels, wanted, tube.area_mm2, settings.min_slices), True


def _levels_of(pair: StructurePair) -> LevelSet:
    return LevelSet.parse(",".join(pair.at_levels)) if pair.at_levels else EVERYWHERE


@dataclass(frozen=True)
class SpreadOf:
    """`eval.csa_std` from a person's rows of one metric of area; `contrasts`: those that must be there, () all."""

    contrasts: tuple[str, ...]

    def __call__(self, rows: Sequence[Row]) -> tuple[float, str]:
        """The SD over contrasts, or NaN with how many there are."""
        by_contrast: dict[str, list[Row]] = {name: [] for name in self.contrasts}
        for row in rows:
            if not self.contrasts or row.contrast in by_contrast:
                by_contrast.setdefault(row.contrast, []).append(row)
        if any(row.note == "miss" for found in by_contrast.values() for row in found):
            return math.nan, "miss"
        means = [
            statistics.fmean(row.value for row in found)
            for found in by_contrast.values()
            if found and all(math.isfinite(row.value) for row in found)
        ]
        if len(means) < len(by_contrast):
            return math.nan, f"incomplete: {len(means)} of {len(by_contrast)} contrasts"
        if len(means) < 2:
            return math.nan, "incomplete: one contrast has no spread"
        return statistics.stdev(means), ""
