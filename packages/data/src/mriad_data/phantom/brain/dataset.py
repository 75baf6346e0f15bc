"""`data.phantom_brain`: the brain phantom as a data set. Light: voxels and numpy come with `build`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.interfaces import Dataset
from pydantic import Field, field_validator, model_validator

from mriad_data.phantom.brain.parameters import CONTRASTS, BrainParameters, Contrast, Triple

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex


class PhantomBrain(Dataset):
    """A digital brain, different for each person, in up to five contrasts; no files.

    Each case has one channel "image" and the labels "hard" (FreeSurfer's number of the largest share of each voxel)
    and "truth" (share of each voxel in each structure); 32 structures. Numbers hold the true volumes, such as
    `volume_mm3/left_thalamus`. With `contrasts: []` the cases are label maps without images, for a generator; with a
    head they hold extra-cerebral values too, and all are structures of the label set. Person n has the same voxels
    whatever the number of persons.
    """

    generated: ClassVar[bool] = True

    type: Literal["data.phantom_brain"] = "data.phantom_brain"
    persons: int = Field(12, ge=1, le=999, description="Number of persons.")
    seed: int = Field(0, ge=0, description="Of all draws.")
    contrasts: tuple[Contrast, ...] = Field(
        CONTRASTS, description="Contrasts of each person; none: label maps without images."
    )
    head: bool = Field(False, description="Skull, eyes, airways, muscle, skin and neck around the brain.")
    size_mm: Triple | None = Field(
        None,
        description="Field of view R-L, A-P, I-S in mm; default: 160, 192, 160, or 192, 240, 240 with a head.",
    )
    spacing_mm: Triple | float | None = Field(
        None, description="Voxel size in mm for every contrast; default: 1 mm."
    )
    noise: float = Field(1.0, ge=0, description="Factor on the noise; 1 is each contrast's usual level.")
    bias_field: float = Field(1.0, ge=0, description="Factor on the bias field's exponent.")
    texture: float = Field(1.0, ge=0, description="Factor on the texture within tissues.")
    motion_mm: float = Field(0.3, ge=0, le=10, description="Usual motion during a scan in mm.")
    distortion: float = Field(1.0, ge=0, le=4, description="Factor on the geometric distortion.")
    rescans: int = Field(0, ge=0, le=99, description="Further sessions: same anatomy, new pose and noise.")
    volumes: bool = Field(
        True,
        description="Count the true volumes when the index is built, about 12 s a person; else no numbers.",
    )

    @field_validator("contrasts")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("a value is listed twice")
        return values

    @field_validator("spacing_mm")
    @classmethod
    def _isotropic(cls, value: object) -> object:
        return (value, value, value) if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _parameters_hold(self) -> PhantomBrain:
        self.parameters()
        return self

    def parameters(self) -> BrainParameters:
        """What decides a person's voxels; hashed as one."""
        names = ("seed", "head", "size_mm", "spacing_mm", "noise", "bias_field", "texture", "motion_mm")
        return BrainParameters.model_validate({n: getattr(self, n) for n in (*names, "distortion")})

    def build(self) -> CaseIndex:
        """Return the cases, persons in order, then sessions, then contrasts; no voxel is made."""
        from mriad.vocabulary import CaseIndex, LabelSet, Structure

        from mriad_data.phantom.brain.regions import BRAIN, REGIONS
        from mriad_data.phantom.brain.sources import make_cases

        cases = make_cases(self.parameters(), self.persons, self.contrasts, self.rescans, self.volumes)
        around = [r for r in REGIONS if not r.brain and r.value] if self.head else []
        structures = [*BRAIN, *(around if not self.contrasts else [])]
        label_set = LabelSet(
            tuple(Structure(r.name, r.value) for r in structures),
            background=tuple(r.value for r in around) if self.contrasts else (),
        )
        return CaseIndex(cases, label_set)
