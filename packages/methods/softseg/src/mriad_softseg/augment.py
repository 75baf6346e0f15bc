"""The augmentation of the soft segmentation paper (section 2.3.2), fused; what is computed: `mriad_softseg.fused`.

Every range is a field. `softseg.augment` has sound defaults, `softseg.literal_augment` the public code's, and
`softseg.monai_chain` runs the public code's chain through MONAI's own transforms. docs/reference/softseg.md lists
what differs and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from mriad.interfaces import Augmenter
from pydantic import AfterValidator, Field

if TYPE_CHECKING:
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import Task


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, not from {value[0]} to {value[1]}")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
PerAxis = tuple[NotNegative, NotNegative, NotNegative]
Zoom = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_ordered)
]


class Engine(Augmenter):
    """How a fused augmenter resamples, whatever it draws."""

    where: ClassVar[Literal["device", "worker"]] = "device"
    image_order: Literal[1, 2] = Field(
        1,
        description="Interpolation of the image: 1 linear, 2 quadratic spline. Soft targets are always linear.",
    )
    beyond: Literal["border", "mirror"] = Field(
        "border",
        description="What lies outside of the patch: its border repeated and hidden by validity and field; or its "
        "mirror image, target and all, as MONAI does by default (whose blur then fades to 0 at the border).",
    )
    backend: Literal["auto", "torch", "compiled"] = Field(
        "auto",
        description="torch: everywhere. compiled: numba, on the CPU only. auto: compiled where numba is installed "
        "and the batch is on the CPU. Their numbers differ by rounding.",
    )


class Ranges(Augmenter):
    """The steps of the paper in the order of the public code; the defaults are the published ranges.

    Every step is drawn for each sample on its own, and a step that is switched on or off leaves the draws of the
    others as they are. Lengths are in voxels of the working grid, which the paper makes 1 mm.
    """

    affine_probability: Probability = Field(0.9, description="Of rotating, scaling and moving. Public code.")
    rotation_deg: PerAxis = Field(
        (20.0, 20.0, 20.0), description="Largest angle about each axis in degrees, either way. Paper: 20."
    )
    scale: PerAxis = Field(
        (0.2, 0.2, 0.2),
        description="s: the sampling step along each axis is 1 + U(−s, s), so anatomy shrinks where it is above 1. "
        "Paper: ±20 %.",
    )
    translation: PerAxis = Field(
        (0.1, 0.1, 0.1),
        description="Largest shift along each axis, either way, in `translation_unit`. Paper: ±10 %.",
    )
    translation_unit: Literal["extent", "voxel"] = Field(
        "extent",
        description="extent: share of the patch's size; voxel: what the public code's 0.1 means to MONAI.",
    )
    elastic_probability: Probability = Field(0.5, description="Of deforming. Public code.")
    elastic_sigma: PositiveRange = Field(
        (3.5, 5.5), description="σ of the Gaussian that smooths the displacements, in voxels. Public code."
    )
    elastic_magnitude: NotNegativeRange = Field(
        (25.0, 35.0),
        description="Factor on uniform noise in (−1, 1) after smoothing, in voxels; the displacement's standard "
        "deviation is magnitude/√3·(2√π·σ)^(−D/2), 0.17 to 0.46 voxels here. Public code.",
    )
    low_resolution_probability: Probability = Field(0.25, description="Of losing resolution. Public code.")
    low_resolution_zoom: Zoom = Field(
        (0.5, 1.0), description="Factor on the number of voxels along every axis. Public code."
    )
    gamma_probability: Probability = Field(0.5, description="Of changing the contrast curve. Public code.")
    gamma: PositiveRange = Field(
        (0.5, 3.0), description="γ: x ↦ x^γ on the image's own range. Paper: 0.5 to 3."
    )
    bias_probability: Probability = Field(0.3, description="Of multiplying by a bias field. Public code.")
    bias_coefficient: Range = Field(
        (0.0, 0.5),
        description="Coefficients of Legendre polynomials up to total degree 3, whose sum is the field's natural "
        "logarithm. Public code.",
    )
    noise_probability: Probability = Field(0.1, description="Of adding Gaussian noise. Public code.")
    noise_std: NotNegativeRange = Field(
        (0.0, 0.1), description="Standard deviation of the noise; unit: see `intensities`. Public code."
    )
    blur_probability: Probability = Field(0.3, description="Of blurring. Public code.")
    blur_sigma: NotNegativeRange = Field(
        (0.0, 2.0), description="σ along each axis, drawn apart, in voxels. Public code."
    )
    scaling_probability: Probability = Field(0.15, description="Of multiplying the intensities. Public code.")
    scaling: Range = Field(
        (-0.25, 1.0),
        description="f: intensities are multiplied by 1 + f. No effect where `z_score` follows. Public code.",
    )
    flip_probability: Probability = Field(0.5, description="Of flipping: each axis, or all together.")
    flip: Literal["each", "together"] = Field(
        "each",
        description="each axis for itself; or all three together, a point reflection, as the public code.",
    )


class Chain(Ranges, Engine):
    """The fused chain: what is drawn, and how it is applied."""

    low_resolution_pick: Literal["nearest", "floor"] = Field(
        "nearest",
        description="Which voxel a coarse one takes: the one nearest to its centre; or floor(i / zoom) as MONAI "
        "does, which moves the image against its target by up to half a voxel.",
    )
    intensities: Literal["relative", "absolute"] = Field(
        "relative",
        description="relative: noise in units of the image's standard deviation, bias on what lies above the "
        "minimum, so that any linear scale of the input gives the same result. absolute: both on the numbers as "
        "they come, where noise of 0.1 on intensities of hundreds is nil (public code).",
    )
    z_score: Literal["field", "all", "off"] = Field(
        "field",
        description="Last step, per channel: (x − mean)/standard deviation over the acquired field of view; over "
        "all voxels, padding included (public code); or not at all.",
    )


class Augment(Chain):
    """Affine, elastic, low resolution, gamma, bias, noise, blur, scaling, flip, z-score, with sound defaults.

    The geometric steps are one resampling of image, target, validity and field, composed as
    x = c + R·(S·(F·y + u(F·y)) + t) from an output voxel y to an input place x, both from the patch's centre c:
    F flips, u is the elastic displacement, S scales, t moves, R rotates in mm.
    Soft targets are interpolated linearly and clamped to [0, 1]; integer ones take the nearest voxel; beside a
    soft target a voxel stays valid only if all that were mixed into it were. The steps on intensities see the
    image only. Steps that a sample did not draw cost it nothing.

    Raises:
        ExperimentError: `backend: compiled` without numba (`build`), or with a batch that is not on the CPU.
    """

    type: Literal["softseg.augment"] = "softseg.augment"

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_softseg.fused import FusedChain

        return FusedChain(self)


class _AsInTheCode(Ranges):
    """What the numbers of the public code mean to MONAI, to which it hands them as one flat pair for all axes."""

    rotation_deg: PerAxis = Field(
        (20.0, 20.0, 0.0), description="As in softseg.augment; none about the last axis."
    )
    scale: PerAxis = Field((0.2, 0.2, 0.0), description="As in softseg.augment; none along the last axis.")
    translation: PerAxis = Field(
        (0.1, 0.1, 0.0), description="As in softseg.augment; in effect none, with voxels as unit."
    )
    translation_unit: Literal["extent", "voxel"] = Field("voxel", description="As in softseg.augment.")
    flip_probability: Probability = Field(0.3, description="As in softseg.augment.")
    flip: Literal["each", "together"] = Field("together", description="As in softseg.augment.")


class LiteralAugment(_AsInTheCode, Chain):
    """`softseg.augment` with the public code's choices, quirks included, still as one resampling.

    Nothing is hidden: beyond the patch lies its mirror image, target and all; noise and bias act on intensities as
    they come; the z-score counts padding. Not kept: two resamplings in a row, for which see `softseg.monai_chain`.
    """

    type: Literal["softseg.literal_augment"] = "softseg.literal_augment"
    image_order: Literal[1, 2] = Field(2, description="As in softseg.augment.")
    beyond: Literal["border", "mirror"] = Field("mirror", description="As in softseg.augment.")
    low_resolution_pick: Literal["nearest", "floor"] = Field("floor", description="As in softseg.augment.")
    intensities: Literal["relative", "absolute"] = Field("absolute", description="As in softseg.augment.")
    z_score: Literal["field", "all", "off"] = Field("all", description="As in softseg.augment.")

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_softseg.fused import FusedChain

        return FusedChain(self)


class MonaiChain(_AsInTheCode):
    """The public code's chain through MONAI's own transforms, sample by sample on the CPU.

    To compare with, in values and in speed; the defaults are the public code's. Soft targets move linearly and are
    clamped to [0, 1]; integer targets, validity and field take the nearest voxel. Randomness follows from the
    sample's key alone.

    Raises:
        ExperimentError: a 2D task (`build`): MONAI's elastic step of this chain is 3D.
        DataError: MONAI fails on a sample; the case is named.
    """

    type: Literal["softseg.monai_chain"] = "softseg.monai_chain"
    where: ClassVar[Literal["device", "worker"]] = "worker"

    def build(self, task: Task) -> BatchFunction:
        """Return the callable; imports MONAI."""
        from mriad_softseg.monai_chain import MonaiChainAugmenter

        return MonaiChainAugmenter(self, task)
