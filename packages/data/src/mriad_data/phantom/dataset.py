"""`data.phantom_spine`: the spine phantom as a data set. Light: voxels and numpy come with `build`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.interfaces import Dataset
from pydantic import Field, field_validator, model_validator

from mriad_data.phantom.parameters import CONTRASTS, BiasMode, Contrast, SpineParameters

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex


class PhantomSpine(Dataset):
    """A digital cervical spine, different for each person, in up to six contrasts; no files.

    Each case has one channel "image" and the labels "hard" (as drawn on that contrast), "soft" (the target that the
    person's contrasts share) and "truth" (share of each voxel in the cord); one structure, cord = 1. Numbers hold
    the true mean area per vertebral level and the disc positions: see `mriad_data.phantom.scan.Scan.numbers`.
    Annotations are "levels" (vertebral level of each voxel near the cord) and "discs" (a voxel with its number each).
    Person n has the same voxels whatever the number of persons.
    """

    generated: ClassVar[bool] = True

    type: Literal["data.phantom_spine"] = "data.phantom_spine"
    persons: int = Field(12, ge=1, le=999, description="Number of persons.")
    seed: int = Field(0, ge=0, description="Of all draws.")
    contrasts: tuple[Contrast, ...] = Field(CONTRASTS, min_length=1, description="Contrasts of each person.")
    size_mm: tuple[float, float, float] = Field(
        (64.0, 192.0, 192.0), description="Field of view R-L, A-P, I-S in mm; at least 32, 40, 40."
    )
    spacing_mm: tuple[float, float, float] | float | None = Field(
        None,
        description="Voxel size in mm for every contrast; default: each contrast's own, as in the paper.",
    )
    mode: BiasMode = Field(
        "published", description="Boundary bias between contrasts; a control experiment changes this alone."
    )
    soft_contrasts: tuple[Contrast, ...] = Field(
        CONTRASTS, min_length=1, description="Contrasts whose masks make the soft label."
    )
    noise: float = Field(1.0, ge=0, description="Factor on the noise; 1 is each contrast's usual level.")
    bias_field: float = Field(1.0, ge=0, description="Factor on the bias field's exponent.")
    rescans: int = Field(0, ge=0, le=99, description="Further sessions: same anatomy, new pose and noise.")
    atrophy_percent: tuple[float, ...] = Field(
        (),
        description="Further sessions, one a value: every cord section loses this share of its area, in %.",
    )
    disc_labels: bool = Field(False, description='Add the label "discs": a voxel with its number per disc.')

    @field_validator("contrasts", "soft_contrasts", "atrophy_percent")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("a value is listed twice")
        return values

    @field_validator("atrophy_percent")
    @classmethod
    def _losses(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 0 < value <= 50 or abs(10 * value - round(10 * value)) > 1e-9:
                raise ValueError(f"{value:g} is not a loss between 0.1 and 50 % in steps of 0.1")
        return values

    @field_validator("spacing_mm")
    @classmethod
    def _isotropic(cls, value: object) -> object:
        return (value, value, value) if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _parameters_hold(self) -> PhantomSpine:
        self.parameters()
        return self

    def parameters(self) -> SpineParameters:
        """What decides a person's voxels; hashed as one."""
        names = ("seed", "size_mm", "spacing_mm", "mode", "soft_contrasts", "noise", "bias_field")
        return SpineParameters.model_validate({name: getattr(self, name) for name in names})

    def build(self) -> CaseIndex:
        """Return the cases, persons in order, then sessions, then contrasts; no voxel is made."""
        from mriad.vocabulary import CaseIndex, LabelSet

        from mriad_data.phantom.sources import make_cases

        cases = make_cases(
            self.parameters(),
            self.persons,
            self.contrasts,
            self.rescans,
            self.atrophy_percent,
            self.disc_labels,
        )
        return CaseIndex(cases, LabelSet.of({"cord": 1}))
