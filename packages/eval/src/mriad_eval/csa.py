"""What the metrics of area compute: from a pair of masks, and from a person's rows."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
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

    from mriad_eval.morphometry.area import Tube
    from mriad_eval.morphometry.settings import CsaSettings, Values

EVERYWHERE = LevelSet(())
"""No levels named: the mean is taken over the whole structure."""


@dataclass(frozen=True)
class AreaOf:
    """`eval.csa`: the prediction's area in mm² over the pair's levels."""

    settings: CsaSettings

    def __call__(self, pair: StructurePair) -> tuple[float, str]:
        """NaN with a note where it is not defined; see `mriad_eval.csa_metrics`.

        Slices that the reference has at these levels and the prediction lacks count as 0 mm².
        """
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
        truth, why = self._truth(pair, found)
        if why:
            return math.nan, f"incomplete: {why}"
        if note == "miss" or math.isnan(found.prediction.mean):
            return truth, "miss"
        return abs(found.prediction.mean - truth), ""

    def worst_in(self, pair: StructurePair) -> float | None:
        """What a miss counts as in this case, its true area: no error counts worse. None: the metric's own worst."""
        found = areas_of(pair, self.settings)
        if not found.present:  # a false positive counts as what was found, however large
            size = found.prediction.mean
            return size if math.isfinite(size) else None
        truth, why = self._truth(pair, found)
        return None if why else truth

    def _truth(self, pair: StructurePair, found: Areas) -> tuple[float, str]:
        """The true area, or why there is none; it depends on the reference alone, never on the prediction."""
        if not self.quantity or found.reference.note:
            return found.reference.mean, found.reference.note
        name = f"{self.quantity}/{_levels_of(pair).name}"
        truth = float(pair.numbers.get(name, math.nan))
        return truth, "" if math.isfinite(truth) else f"the case has no number {name}"


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
    """Measure both masks of a pair, once for all metrics with these settings.

    The reference alone decides which slices are left out (on both sides) and which are expected, so that no
    prediction can choose what it is measured on.
    """

    def make(pair: StructurePair) -> Areas:
        truth = measure_tube(pair.reference, pair.grid, settings.tube, pair.validity)
        tube = measure_tube(pair.prediction, pair.grid, settings.tube, pair.validity, truth.left_out)
        reference = _mean_of(pair, truth, pair.reference, settings)
        prediction = _mean_of(pair, tube, pair.prediction, settings, reference.slices)
        predicted, present = (len(t) + len(t.left_out) > 0 for t in (tube, truth))
        return Areas(prediction, reference, predicted, present)

    return pair.shared(f"eval.csa {settings}", make)


def _mean_of(
    pair: StructurePair,
    tube: Tube,
    values: NDArray[np.float32],
    settings: CsaSettings,
    expected: Sequence[int] = (),
) -> LevelMean:
    """The mean of a tube over the pair's levels; `expected`: see `level_mean`."""
    wanted = _levels_of(pair)
    levels, why = _slice_levels(pair, tube, values, wanted)
    if why:
        found = LevelMean(wanted, math.nan, math.nan, 0, why)
    elif wanted == EVERYWHERE:
        found = level_mean(tube, levels, LevelSet((1,)), tube.area_mm2, settings.min_slices, expected)
        found = replace(found, levels=wanted, note=found.note and "too few slices")
    else:
        found = level_mean(tube, levels, wanted, tube.area_mm2, settings.min_slices, expected)
    if found.note and len(tube.left_out):
        return replace(found, note=f"{found.note} ({len(tube.left_out)} left out, not annotated)")
    return found


def _slice_levels(
    pair: StructurePair, tube: Tube, values: NDArray[np.float32], wanted: LevelSet
) -> tuple[NDArray[np.int64], str]:
    """The level of every slice of a tube (1 where no levels are named), or why there are none."""
    none = np.zeros(len(tube), np.int64)
    if not len(tube):
        return none, "too few slices" if len(tube.left_out) else "the structure is in no slice"
    if tube.line is None:
        return none, "too few slices for a direction"
    labels = pair.annotations
    if wanted == EVERYWHERE:
        return none + 1, ""
    if "levels" in labels:
        known = values if pair.validity is None else np.where(pair.validity, values, np.float32(0))
        return levels_from_map(tube, known, labels["levels"]), ""
    if "discs" in labels:
        points = disc_points(labels["discs"], pair.grid, file=f"discs of {pair.case}")
        lacking = missing_discs(points, wanted)
        if lacking:
            return none, f"no disc {', '.join(map(str, lacking))}"
        return levels_from_discs(tube, points), ""
    return none, "the case has no levels or discs"


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
