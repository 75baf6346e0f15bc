"""`softseg.soft_ground_truth`: one soft target for all contrasts of a person, as a data set of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from mriad.component import Config
from mriad.interfaces import Stage
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.stages.artefact import Artefact, ArtefactKind, StageContext

SOFT = "soft"
"""Name of the label that holds the shared soft target."""
SHARED_HARD = "shared_hard"
"""Name of the label that holds it cut at > .5 (a tie is background)."""


class Gate(Config):
    """What a person's masks must fulfil; a contrast that does not is named. 0 switches a test off."""

    shared: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Smallest share of mask slices that a contrast and the reference have in common, of those of "
        "the shorter mask.",
    )
    dice: float = Field(
        0.9, ge=0, le=1, description="Smallest Dice of a warped mask with the target, both cut at > .5."
    )
    shift_mm: float = Field(
        5.0,
        ge=0,
        description="Largest in-plane shift of a slice, mm: more is another person, or a scan moved.",
    )
    common_slices: int = Field(
        1, ge=0, description="Smallest number of reference slices that every contrast covers."
    )


class SoftGroundTruth(Stage):
    """Averages the hard masks of a person's contrasts, aligned slice by slice, and carries the mean back to each.

    Source: the spinal cord paper, figure 1 and preprocessing section; version 2.0 of its public script. A case is
    one contrast of a person; all contrasts of a session share one target. The data set that is made holds, for each
    case, the label "soft" (float32 in [0, 1]) and "shared_hard" (the same cut at > .5, ties are background), each
    with a validity mask: slices that the target does not cover, or on which this contrast has no mask, are not
    annotated. Disc labels travel by their centres. `report.csv` and `report.json` say what the target covers.

    Persons who train or validate contribute only cases on their own side (a held-out contrast stays out of
    training targets) and only `contrasts`; for all other persons, whom nothing learns from, all contrasts are
    averaged, so that variants are tested against one reference.

    Where it departs from the script: masks are interpolated once (the warp is composed with the change of grid);
    gaps are filled; fractional coverage below ½ counts as none; values near the end of the coverage are not diluted
    on the way back; a plane of a mask reaches beyond the sides of its image, since a rater looked at all of it.
    """

    type: Literal["softseg.soft_ground_truth"] = "softseg.soft_ground_truth"
    makes: ClassVar[ArtefactKind] = "dataset"
    references: ClassVar[tuple[str, ...]] = ("after",)
    reads_unlearned: ClassVar[bool] = True
    seeded: ClassVar[bool] = False

    reference: str | list[str] = Field(
        "T2w",
        description="Contrast in whose space the average is taken; of several, the first that the person has.",
    )
    contrasts: list[str] = Field(
        default_factory=list,
        description="Contrasts that enter the average, and get a target, of persons who train or validate; empty: "
        "all that they have.",
    )
    masks: str = Field("hard", description="Name of the label that holds the hard masks.")
    rotation: Literal["none", "pca"] = Field(
        "none",
        description="pca: also turn each slice so that principal axes agree, where the section is at least 1.1 "
        "times as long as wide; ill-posed on round cords.",
    )
    gaps: Literal["linear", "zero"] = Field(
        "linear",
        description="Motion of slices that lack a mask: interpolated between neighbours and held beyond the ends, or "
        "none (as the public script).",
    )
    trim_mm: float = Field(
        8.0,
        ge=0,
        description="Length taken from both ends of a warped mask and its coverage, mm; rounded to reference slices. "
        "The script takes 10 slices of 0.8 mm.",
    )
    trim_mm_of: dict[str, float] = Field(
        default_factory=lambda: {"T1w": 0.0, "T2w": 0.0},
        description="Contrast → its own trim, mm. The reference is never trimmed.",
    )
    weights: Literal["equal", "resolution"] = Field(
        "equal", description="Of contrasts in the mean; resolution: by the inverse of the voxel's volume."
    )
    slice_profile: bool = Field(
        False,
        description="On the way back, take the mean of the target over the thickness of each slice, as a rectangular "
        "slice profile sees it, instead of its value at the slice's centre.",
    )
    discs: str = Field(
        "discs", description="Annotation with disc labels of the reference to carry along; empty: none."
    )
    gate: Gate = Gate()
    faulty: Literal["refuse", "leave_out"] = Field(
        "refuse", description="Persons who fail the gate: an error that lists them, or no target for them."
    )
    program: Literal["mriad", "sct"] = Field(
        "mriad",
        description="sct: find the motion of slices with the Spinal Cord Toolbox's sct_register_multimodal, which "
        "must be installed.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        """Trims are lengths; the reference is among the contrasts; SCT does what SCT does."""
        bad = [f"{name}: {value:g}" for name, value in self.trim_mm_of.items() if not value >= 0]
        if bad:
            raise ValueError(f"trim_mm_of must hold lengths of 0 mm or more, not {', '.join(bad)}")
        if not self.preferred:
            raise ValueError("reference must name a contrast, such as T2w")
        if self.contrasts and not set(self.preferred) & set(self.contrasts):
            raise ValueError(
                f"the reference {' or '.join(self.preferred)} is not one of the contrasts {', '.join(self.contrasts)}"
            )
        if self.program == "sct" and (self.rotation != "none" or self.gaps != "zero"):
            raise ValueError(
                "`program: sct` translates slices and leaves gaps as they are: set rotation: none and gaps: zero"
            )
        return self

    @property
    def preferred(self) -> list[str]:
        """Reference contrasts in order of preference."""
        return [self.reference] if isinstance(self.reference, str) else list(self.reference)

    def trim_of(self, contrast: str) -> float:
        """Trim at each end in mm."""
        return self.trim_mm_of.get(contrast, self.trim_mm)

    def sections(self) -> tuple[str, ...]:
        """What decides, beside data and split, which cases there are."""
        return ("data.domains",)

    def run(self, context: StageContext) -> Artefact:
        """Make the targets of all persons, several at a time where the run has several CPUs.

        Raises:
            DataError: no case has a mask, or persons are faulty: each with its contrast and what is wrong.
            ExperimentError: SCT is asked for and not installed.
        """
        from mriad_softseg.persons import make_targets

        return make_targets(self, context)
