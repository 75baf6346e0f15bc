"""One variant against the reference: paired person values, intervals, tests and effect sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mriad_eval.statistics.corrections import correct, smallest_attainable
from mriad_eval.statistics.effect_sizes import rank_biserial, standardised_mean_difference
from mriad_eval.statistics.paired import wilcoxon_signed_rank
from mriad_eval.statistics.random_effects import crossed_effects
from mriad_eval.statistics.series import is_constant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad_eval.comparison.persons import Measure, PersonValues
    from mriad_eval.statistics.corrections import Correction
    from mriad_eval.statistics.effect_sizes import EffectSize
    from mriad_eval.statistics.paired import WilcoxonResult
    from mriad_eval.statistics.random_effects import CrossedEffects
    from mriad_eval.statistics.series import Floats


@dataclass(frozen=True)
class Difference:
    """Counted values of a variant minus the reference's, over persons that both have.

    effects, wilcoxon, effect sizes: None where fewer than two persons are left, or all differ by the same. p: the
    larger of Wilcoxon's and `effects.p_claim`, since a claim needs both; p_adjusted: corrected over the m
    comparisons of the primary metric, None for an exploratory one. wilcoxon_adjusted: Wilcoxon's alone, corrected.
    attainable: the smallest corrected p that so many persons can give. left_out: persons without a value on one side.
    seeds: those that were used; a missing trial takes its seed out. all_seeds: False where no seed was whole and each
    person keeps the seeds that are left (then only the interval of these trained models exists).
    """

    variant: str
    reference: str
    measure: Measure
    n: int
    left_out: int
    seeds: tuple[str, ...]
    all_seeds: bool
    effects: CrossedEffects | None
    wilcoxon: WilcoxonResult | None
    rank_biserial: EffectSize | None
    standardised: EffectSize | None
    p: float = 1.0
    p_adjusted: float | None = None
    wilcoxon_adjusted: float | None = None
    m: int = 1
    attainable: float = 1.0
    correction: Correction = "holm"

    @property
    def better(self) -> bool | None:
        """Whether the variant is better than the reference by its estimate; None where they are equal."""
        if self.effects is None or self.effects.estimate == 0:
            return None
        return (self.effects.estimate > 0) == self.measure.higher_is_better

    @property
    def agree(self) -> bool:
        """Whether mean and ranks point the same way."""
        if self.effects is None or self.rank_biserial is None:
            return False
        return self.effects.estimate * self.rank_biserial.value > 0


def difference(
    variant: PersonValues, reference: PersonValues, measure: Measure, *, level: float = 0.95
) -> Difference:
    """Hold a variant against the reference, seed by seed and person by person."""
    seeds, d, whole = _paired(variant, reference)
    keep = np.asarray(np.isfinite(d).all(axis=1))
    d = d[keep]
    n = len(d)
    persons = d.mean(axis=1) if n else np.zeros(0)
    enough = n >= 2 and d.shape[1] > 0
    effects = crossed_effects(d, level=level) if enough else None
    wilcoxon = wilcoxon_signed_rank(_without_rounding(persons, variant, reference)) if enough else None
    p = max(effects.p_claim, wilcoxon.p) if effects is not None and wilcoxon is not None else 1.0
    return Difference(
        variant=variant.variant,
        reference=reference.variant,
        measure=measure,
        n=n,
        left_out=len(keep) - n,
        seeds=seeds,
        all_seeds=whole,
        effects=effects,
        wilcoxon=wilcoxon,
        rank_biserial=rank_biserial(persons, level=level) if enough else None,
        standardised=standardised_mean_difference(persons, level=level)
        if enough and not is_constant(persons)
        else None,
        p=p,
        attainable=wilcoxon.attainable if wilcoxon is not None else 1.0,
    )


def correct_all(found: Sequence[Difference], correction: Correction) -> list[Difference]:
    """Correct the comparisons of the primary metric together; m is their number."""
    if not found:
        return []
    both = correct([d.p for d in found], correction)
    ranks = correct([d.wilcoxon.p if d.wilcoxon is not None else 1.0 for d in found], correction)
    return [
        replace(
            d,
            p_adjusted=adjusted,
            wilcoxon_adjusted=rank,
            m=both.m,
            correction=correction,
            attainable=smallest_attainable(d.attainable, both.m),
        )
        for d, adjusted, rank in zip(found, both.p, ranks.p, strict=True)
    ]


def _paired(variant: PersonValues, reference: PersonValues) -> tuple[tuple[str, ...], Floats, bool]:
    """Seeds by name, (P, S) differences, and whether those seeds are whole.

    Variants share seeds by rule, and a difference is taken seed by seed. Where they share none, as when one variant
    runs under two names with other seeds, models are independent and are paired in the order given.
    """
    mine, theirs = variant.seeds, reference.seeds
    if mine == ("",) or theirs == ("",):
        left = right = theirs if mine == ("",) else mine
    else:
        left = right = tuple(seed for seed in mine if seed in theirs)
        if not left:
            left, right = (seeds[: min(len(mine), len(theirs))] for seeds in (mine, theirs))
    names = tuple(a if a == b else f"{a} with {b}" for a, b in zip(left, right, strict=True))
    d = variant.of_seeds(left) - reference.of_seeds(right)
    finite = np.isfinite(d)
    # A person without any value (nothing of it was tested on one side) does not tell whether a seed is whole.
    rows = finite.any(axis=1)
    whole = [s for s in range(len(names)) if rows.any() and finite[rows, s].all()]
    if whole:
        return tuple(names[s] for s in whole), d[:, whole], True
    counts = finite.sum(axis=1)
    means = np.where(finite, d, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return names, np.where(counts > 0, means, np.nan)[:, None], False


def _without_rounding(d: Floats, variant: PersonValues, reference: PersonValues) -> Floats:
    """Set differences of the size of rounding to zero: to ranks they would be differences like any other."""
    scale = max(1e-300, *(float(np.nanmax(np.abs(v.counted), initial=0.0)) for v in (variant, reference)))
    return np.where(np.abs(d) < 1e-12 * scale, 0.0, d)
