"""`synthseg.generate`: an image and its target, painted from a label map."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from mriad.interfaces import Augmenter
from pydantic import AfterValidator, Field, model_validator

from mriad_synthseg.presets import PRESETS, Preset, Settings

if TYPE_CHECKING:
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import LabelSet, Task

    from mriad_synthseg.roles import Roles


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, not from {value[0]} to {value[1]}")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]
_PRESET = "Null: the preset's."


class Generate(Augmenter):
    """Deforms a label map, paints it with a random Gaussian mixture, degrades the image; maps the target.

    Billot et al., MIDL 2020, section 2.2, in this order: crop; stationary velocity field, then affine, composed into
    one lookup (nearest for hard labels, linear for soft ones); left–right flip with swapped labels; extra-cerebral
    labels to background; one Gaussian a class; blur; bias field; clip; [0, 1]; exponent. A coarser acquisition, where
    one is simulated, comes at the end instead of the blur, and [0, 1] again after it.

    Takes a batch whose target holds everything visible: integer (B, 1, X, Y, Z), 0 background and s + 1 structure s
    of the stored label set, or float (B, S, X, Y, Z) in [0, 1], fractions of tissue. Any image is replaced. Gives an
    image (B, C, *size) float32 in [0, 1] with least 0 and greatest 1, C the task's channels, each with Gaussians and
    a bias field of its own, and the target of the structures that are segmented, of the same kind. Soft maps: a
    voxel's mean is Σ f·μ and its variance Σ f·σ² (partial volume; Van Leemput et al., TMI 2003, equation 2).

    Everything is drawn for every sample, used or not, so that switching a step off leaves the others' draws.

    Raises:
        ExperimentError: structures without a class, lists that do not pair or differ in length, unknown names,
            a 2D task, priors that lack a class (`build`).
        DataError: a target with values outside the label set, or with another number of channels; no target.
    """

    type: Literal["synthseg.generate"] = "synthseg.generate"
    version: ClassVar[int] = 2  # 2: one blur where there is an acquisition
    where: ClassVar[Literal["device", "worker"]] = "device"
    references: ClassVar[tuple[str, ...]] = ("priors",)
    files: ClassVar[tuple[str, ...]] = ("table", "priors_file")

    preset: Preset = Field(
        "paper", description="Where null fields take their values: paper, code2020 or head."
    )
    size: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="Voxels of what is made, cut at random from the deformed map; empty: as large as the map.",
    )

    # What the labels mean
    table: Path | None = Field(
        None, description="SynthSeg's table or folder of arrays: classes, sides, what is segmented."
    )
    labels: list[str] = Field(
        default_factory=list, description="Instead of `table`: structures, in the order of `classes`."
    )
    classes: list[int] = Field(
        default_factory=list,
        description="Class of each of `labels`; one class, one Gaussian. Empty: one a structure.",
    )
    left: list[str] = Field(
        default_factory=list,
        description="Structures on the left, in the order of `right`; both empty: by their names, "
        "as left_x and right_x or Left-x and Right-x.",
    )
    right: list[str] = Field(default_factory=list, description="Their partners on the right.")
    share_sides: bool | None = Field(
        None,
        description="Left and right partners are painted by one Gaussian. Null: true, but in preset head false.",
    )
    structures: list[str] = Field(
        default_factory=list, description="What is segmented; empty: what the table says, or all."
    )
    extracerebral: list[str] | None = Field(
        None,
        description="What skull stripping removes; null: structures of the values 500 to 599 of a table.",
    )

    # Geometry
    rotation_deg: NotNegative | None = Field(None, description=f"Largest angle about each axis. {_PRESET}")
    scaling: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description=f"Largest relative change of each axis. {_PRESET}"
    )
    shear: NotNegative | None = Field(None, description=f"Largest off-diagonal entry. {_PRESET}")
    translation_voxels: NotNegative | None = Field(
        None, description=f"Largest shift along each axis. {_PRESET}"
    )
    velocity_std: Range | None = Field(
        None, description=f"Range of the velocity's σ, in voxels of the map. {_PRESET}"
    )
    velocity_nodes: Annotated[int, Field(ge=2)] | None = Field(
        None, description=f"Nodes of the coarse velocity grid an axis. {_PRESET}"
    )
    velocity_doubled: bool | None = Field(
        None,
        description="Vectors are doubled from half to full resolution; false is literally the public code. "
        + _PRESET,
    )
    flip_probability: Probability | None = Field(None, description=f"Of mirroring the first axis. {_PRESET}")

    # Intensity
    mean: Range | None = Field(None, description=f"Range of each class's mean. {_PRESET}")
    std: Range | None = Field(None, description=f"Range of each class's standard deviation. {_PRESET}")
    priors: str = Field(
        "", description="Stage that fitted intensity priors (synthseg.fit_priors), drawn from instead."
    )
    priors_file: Path | None = Field(None, description="Instead: a table that `mriad synthseg priors` wrote.")
    priors_absent: Literal["error", "uniform"] = Field(
        "error", description="Classes that the priors lack: refuse, or draw them from `mean` and `std`."
    )
    background_zero_probability: Probability | None = Field(
        None, description=f"Of a background of 0. {_PRESET}"
    )
    background_low_probability: Probability | None = Field(
        None, description=f"Of a dark background, mean below 15, σ below 5. {_PRESET}"
    )
    background_shapes: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="Unlabelled background is cut into this many smooth random shapes; 0: one class."
    )
    background_shape_nodes: Annotated[int, Field(ge=2)] = Field(
        6, description="Nodes of the random fields of these shapes an axis."
    )
    strip_probability: Probability | None = Field(
        None, description=f"Of removing what is no brain. {_PRESET}"
    )
    blur_voxels: NotNegative | None = Field(
        None, description=f"σ of the blur; in an acquisition, along axes that are not coarser. {_PRESET}"
    )
    blur_factor: Annotated[float, Field(ge=1)] | None = Field(
        None, description=f"The σ is multiplied by f^u, u ~ U(−1, 1). {_PRESET}"
    )
    bias_std: Range | None = Field(None, description=f"Range of σ of the log bias field's nodes. {_PRESET}")
    bias_nodes: Annotated[int, Field(ge=2)] | None = Field(None, description=f"Its nodes an axis. {_PRESET}")
    bias_probability: Probability | None = Field(None, description=f"Of a bias field. {_PRESET}")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description=f"Greatest intensity before scaling. {_PRESET}"
    )
    gamma: NotNegative | None = Field(
        None, description=f"Width of γ; the image is raised to exp(γ). {_PRESET}"
    )
    gamma_draw: Literal["uniform", "normal"] | None = Field(
        None, description=f"γ ~ U(−g, g), or N(0, g²). {_PRESET}"
    )
    resolution_probability: Probability | None = Field(
        None, description=f"Of simulating a coarser acquisition. {_PRESET}"
    )
    resolution_isotropic_probability: Probability | None = Field(
        None, description=f"Of that being coarser in all axes, rather than in one. {_PRESET}"
    )
    resolution_isotropic_mm: Annotated[float, Field(gt=0)] | None = Field(
        None, description=f"Largest spacing then. {_PRESET}"
    )
    resolution_anisotropic_mm: Annotated[float, Field(gt=0)] | None = Field(
        None, description=f"Largest slice spacing. {_PRESET}"
    )
    backend: Literal["auto", "torch", "numba"] = Field(
        "auto",
        description="What computes: torch anywhere; numba's compiled kernels on a CPU (auto, where installed).",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.size and len(self.size) != 3:
            raise ValueError(f"size has {len(self.size)} numbers; a volume has 3 axes")
        if self.table is not None and (self.labels or self.classes or self.left or self.right):
            raise ValueError("give `table`, or `labels`, `classes`, `left` and `right`; not both")
        if self.priors and self.priors_file is not None:
            raise ValueError("give one of `priors` and `priors_file`")
        if self.classes and len(self.classes) != len(self.labels):
            longer, name = max((self.labels, "labels"), (self.classes, "classes"), key=lambda x: len(x[0]))
            surplus = ", ".join(map(str, longer[min(len(self.labels), len(self.classes)) :][:6]))
            raise ValueError(
                f"labels has {len(self.labels)} entries and classes has {len(self.classes)}: one class a label; "
                f"{name} goes on with {surplus}"
            )
        if len(self.left) != len(self.right):
            longer, name = max((self.left, "left"), (self.right, "right"), key=lambda x: len(x[0]))
            surplus = ", ".join(longer[min(len(self.left), len(self.right)) :][:6])
            raise ValueError(
                f"left has {len(self.left)} structures and right has {len(self.right)}: "
                f"{surplus} of {name} has no partner"
            )
        return self

    @property
    def settings(self) -> Settings:
        """The preset with the fields that are set laid over it."""
        base = vars(PRESETS[self.preset])
        return Settings(**{n: v if getattr(self, n) is None else getattr(self, n) for n, v in base.items()})

    @property
    def sides_share(self) -> bool:
        """Whether partners on two sides are painted by one Gaussian."""
        return self.preset != "head" if self.share_sides is None else self.share_sides

    def channels(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """One image is painted for each channel that real scans have, or one named "image"."""
        return given or ("image",)

    def label_set(self, given: LabelSet) -> LabelSet:
        """The structures that are segmented; other values of label files belong to them, or are background."""
        return self.roles(given).segmented

    def roles(self, given: LabelSet) -> Roles:
        """What each structure of the maps is to the generator.

        Raises:
            ExperimentError: see the class.
        """
        from mriad_synthseg.roles import roles_of

        return roles_of(self, given)

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_synthseg.generator import Generator

        return Generator(self, task)
