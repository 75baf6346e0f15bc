"""The search for a rigid or affine transform: SimpleITK's mutual information on a pyramid; imports SimpleITK.

Source: D. Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE Transactions
on Medical Imaging 22 (2003) 120-128. One thread and fixed sampling points, so that results repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its documentation uses)

from mriad_data.itk_images import LPS, affine_matrix, shrunk
from mriad_data.registration.transform import Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mriad_data.registration.settings import Registration

LEVELS = (4, 2, 1)
"""Spacing of the levels in units of `working_mm`."""
_BINS = 32
_SEED = 1


def search(
    fixed: sitk.Image, moving: sitk.Image, settings: Registration, centres: tuple[NDArray[np.float64], ...]
) -> Transform | None:
    """The transform with the largest mutual information that is found, or None where the images do not meet.

    Args:
        fixed: float32, intensities without outliers (the histogram spans their range).
        moving: the same.
        settings: kind, start, spacing and number of points.
        centres: centre of mass of fixed and moving, world RAS mm.
    """
    spacings = [settings.working_mm * level for level in LEVELS]
    pyramid = [(level(fixed, s), level(moving, s)) for s in spacings]
    starts = _starts(settings, centres)
    best = _coarse(*pyramid[0], settings, starts)
    if best is None:
        return None
    rigid = best
    for pair, spacing in zip(pyramid[1:], spacings[1:], strict=True):
        found = _climb(*pair, rigid, settings.samples, spacing)
        rigid = rigid if found is None else found[0]
    if settings.kind == "rigid":
        return Transform.of(affine_matrix(rigid))
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    # Size and shear are found on the coarsest level too: a rigid start leaves them too far off for the finer ones.
    for number, (pair, spacing) in enumerate(zip(pyramid, spacings, strict=True)):
        how: Literal["directions", "gradient"] = "gradient" if number else "directions"
        found = _climb(*pair, affine, settings.samples, spacing, how)
        affine = affine if found is None else sitk.AffineTransform(found[0])
    return Transform.of(affine_matrix(affine))


def level(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Blocks averaged to about `spacing_mm`, then a Gaussian of half of it."""
    small = shrunk(image, spacing_mm)
    return sitk.SmoothingRecursiveGaussian(small, spacing_mm / 2)


def _starts(settings: Registration, centres: Sequence[NDArray[np.float64]]) -> list[sitk.Euler3DTransform]:
    """Transforms to begin with, turning about the fixed image's centre of mass."""
    fixed, moving = ((LPS[:3, :3] @ centre).tolist() for centre in centres)
    shifts = [np.subtract(moving, fixed).tolist()]
    if settings.start == "header":
        shifts.insert(0, [0.0, 0.0, 0.0])
    starts = []
    for shift in shifts:
        start = sitk.Euler3DTransform()
        start.SetCenter(fixed)
        start.SetTranslation(shift)
        starts.append(start)
    return starts


def _coarse(
    fixed: sitk.Image, moving: sitk.Image, settings: Registration, starts: Sequence[sitk.Euler3DTransform]
) -> sitk.Euler3DTransform | None:
    """The best of what is reached on the coarsest level from each start."""
    spacing = settings.working_mm * LEVELS[0]
    ways = [_climb(fixed, moving, start, settings.samples, spacing, "directions") for start in starts]
    reached = [found for found in ways if found is not None]
    return min(reached, key=lambda pair: pair[1])[0] if reached else None


def _climb(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    samples: int,
    spacing_mm: float,
    how: Literal["directions", "gradient"] = "gradient",
) -> tuple[sitk.Transform, float] | None:
    """Improve a start; the transform and its negative mutual information, or None if the images are apart."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # sums over points depend on how they are shared out
    method.SetMetricAsMattesMutualInformation(_BINS)
    # Random points between the voxels: a regular set on two grids alike favours whole voxels.
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, samples / fixed.GetNumberOfPixels()), _SEED)
    # Gradients at the points alone; by default they are computed for the whole moving image.
    method.MetricUseMovingImageGradientFilterOff()
    method.MetricUseFixedImageGradientFilterOff()
    method.SetInterpolator(sitk.sitkLinear)
    _set_optimiser(method, spacing_mm, how)
    method.SetOptimizerScalesFromPhysicalShift()
    kind = type(start)
    method.SetInitialTransform(kind(start), inPlace=False)
    try:
        found = method.Execute(fixed, moving)
    except RuntimeError:  # ITK's way to say that too few points lie in the moving image
        return None
    while isinstance(found, sitk.CompositeTransform) or found.GetName() == "CompositeTransform":
        found = sitk.CompositeTransform(found).GetNthTransform(0)
    return kind(found), method.GetMetricValue()


def _set_optimiser(
    method: sitk.ImageRegistrationMethod, spacing_mm: float, how: Literal["directions", "gradient"]
) -> None:
    """Powell's directions where a voxel is cheap and the way far; else the gradient, in steps that shrink slowly.

    Heads are nearly round, so that turning them is a narrow valley in which steps that halve at every turn of
    the gradient stop half-way.
    """
    if how == "directions":
        method.SetOptimizerAsPowell(
            numberOfIterations=30,
            maximumLineIterations=20,
            stepLength=spacing_mm / 2,
            stepTolerance=spacing_mm / 100,
            valueTolerance=1e-6,
        )
        return
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=spacing_mm / 2,
        minStep=spacing_mm / 250,
        numberOfIterations=400,
        relaxationFactor=0.85,
        gradientMagnitudeTolerance=1e-8,
    )
