"""Config of `compare:` in an ablation file; the work is in `mriad_eval.comparison`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Any, Literal

from mriad.errors import ExperimentError
from mriad.interfaces import Comparison
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.ablation.study import Study

TestName = Literal[
    "wilcoxon_holm", "wilcoxon_bonferroni", "paired_t", "anova_rm", "friedman", "kolmogorov_smirnov"
]
_ANOVA = {"factor": "contrast", "within": "variant", "greenhouse_geisser": True}
"""What the paper's analysis of variance is; there is no other one."""


class CompareVariants(Comparison):
    """One primary metric with a verdict in words; all other metrics and tests are exploratory."""

    type: Literal["eval.comparison"] = "eval.comparison"
    primary: str = Field(
        "", description='The one metric of the verdict, "dice" or "dice/cord"; default: the first.'
    )
    reference: str = Field("", description="Variant that the others are held against; default: the first.")
    metrics: list[str] = Field(
        default_factory=list, description="Exploratory metrics; default: all that are measured."
    )
    against: str = Field("", description='Labels measured against, such as "truth", where there are several.')
    composites: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Name → contrast → variant: each contrast's cases from a model of its own, as one more variant.",
    )
    unit: Literal["person"] = Field(
        "person", description="What n counts: never images, slices, folds or seeds."
    )
    tests: list[TestName] = Field(
        ["wilcoxon_holm"],
        description="Wilcoxon's with Holm's or Bonferroni's correction; the others are exploratory.",
    )
    reported: Path | None = Field(
        None,
        description="CSV file of a publication's figures on its own data, shown in a table apart and never compared.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Of the corrected p; intervals have level 1 − alpha."
    )

    @field_validator("tests", mode="before")
    @classmethod
    def _options(cls, value: Any) -> Any:
        """`{anova_rm: {factor: contrast, within: variant, greenhouse_geisser: true}}` as `anova_rm`."""
        if not isinstance(value, list):
            return value
        names = []
        for item in value:
            if isinstance(item, dict) and list(item) == ["anova_rm"]:
                asked = {**_ANOVA, **(item["anova_rm"] or {})}
                if asked != _ANOVA:
                    raise ValueError(f"anova_rm has one form: {_ANOVA}")
                item = "anova_rm"
            names.append(item)
        return names

    @field_validator("tests")
    @classmethod
    def _one_correction(cls, value: list[TestName]) -> list[TestName]:
        if len([name for name in value if name.startswith("wilcoxon")]) > 1:
            raise ValueError("one correction is declared beforehand: wilcoxon_holm or wilcoxon_bonferroni")
        return value

    def needs(self) -> tuple[str, ...]:
        """The primary metric and the others that are named."""
        return tuple(dict.fromkeys(n.partition("/")[0] for n in (self.primary, *self.metrics) if n))

    def check(self, variants: Sequence[str]) -> None:
        """Refuse a reference that is no variant, composites of none, and an ablation with nothing to compare.

        Raises:
            ExperimentError: so.
            DataError: the table of reported figures cannot be read.
        """
        for name, of in self.composites.items():
            strange = [variant for variant in of.values() if variant not in variants]
            if name in variants or strange or not of:
                raise ExperimentError(
                    "a composite has the name of a variant"
                    if name in variants
                    else "a composite is made of variants",
                    where={
                        f"compare.composites.{name}": ", ".join(strange) or name,
                        "variants": ", ".join(variants),
                    },
                    remedy="give it a name of its own, and a variant of this ablation for each contrast",
                )
        if self.reference and self.reference not in (*variants, *self.composites):
            raise ExperimentError(
                "the reference is no variant",
                where={
                    "compare.reference": self.reference,
                    "variants": ", ".join((*variants, *self.composites)),
                },
                remedy="name one of them, with its values where a grid multiplies it",
            )
        if self.reported is not None:
            from mriad_eval.comparison.reported import read_reported

            read_reported(self.reported)
        if len(variants) < 2:
            raise ExperimentError(
                "one variant cannot be compared",
                where={"variants": ", ".join(variants) or "none"},
                remedy="add a variant, or use `mriad train`",
            )

    def conclude(self, study: Study, folder: Path) -> list[str]:
        """Write tables, figures and report.html into the folder; return verdicts and notes as lines.

        Raises:
            DataError: the tables cannot be compared; what is missing is named.
        """
        from mriad_eval.study_report import conclude

        return conclude(self, study, folder)
