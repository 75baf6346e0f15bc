"""Statistics over persons, on scipy and statsmodels; every result is a frozen record that says its n and method.

The unit is the person: average slices, cases and seeds first. NaN and infinity are refused, never skipped.

>>> from mriad_eval.statistics import wilcoxon_signed_rank
>>> wilcoxon_signed_rank([1, 2, 3, 4, 5, 6]).p
0.03125
"""

from mriad_eval.statistics.agreement import (
    BlandAltman,
    IntraclassCorrelation,
    LinearFit,
    bland_altman,
    intraclass_correlation,
    linear_fit,
)
from mriad_eval.statistics.anova import (
    PostHocPair,
    RepeatedMeasuresAnova,
    greenhouse_geisser_epsilon,
    repeated_measures_anova,
)
from mriad_eval.statistics.bootstrap import bca_interval, mean_interval, t_interval
from mriad_eval.statistics.corrections import Corrected, Correction, correct, smallest_attainable
from mriad_eval.statistics.effect_sizes import EffectSize, rank_biserial, standardised_mean_difference
from mriad_eval.statistics.paired import (
    PairedTResult,
    WilcoxonResult,
    paired_t,
    smallest_wilcoxon_p,
    wilcoxon_signed_rank,
)
from mriad_eval.statistics.random_effects import CrossedEffects, crossed_effects
from mriad_eval.statistics.ranks import (
    FriedmanNemenyi,
    NemenyiPair,
    RankStability,
    friedman_nemenyi,
    rank_stability,
)
from mriad_eval.statistics.series import Interval
from mriad_eval.statistics.two_samples import KolmogorovSmirnovResult, kolmogorov_smirnov

__all__ = [
    "BlandAltman",
    "Corrected",
    "Correction",
    "CrossedEffects",
    "EffectSize",
    "FriedmanNemenyi",
    "Interval",
    "IntraclassCorrelation",
    "KolmogorovSmirnovResult",
    "LinearFit",
    "NemenyiPair",
    "PairedTResult",
    "PostHocPair",
    "RankStability",
    "RepeatedMeasuresAnova",
    "WilcoxonResult",
    "bca_interval",
    "bland_altman",
    "correct",
    "crossed_effects",
    "friedman_nemenyi",
    "greenhouse_geisser_epsilon",
    "intraclass_correlation",
    "kolmogorov_smirnov",
    "linear_fit",
    "mean_interval",
    "paired_t",
    "rank_biserial",
    "rank_stability",
    "repeated_measures_anova",
    "smallest_attainable",
    "smallest_wilcoxon_p",
    "standardised_mean_difference",
    "t_interval",
    "wilcoxon_signed_rank",
]
