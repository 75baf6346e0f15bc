"""`data.n4`: the slow intensity bias of receive coils estimated and divided out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep
from pydantic import Field

from mriad_data.counted import counted_voxels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.geometry import Grid
    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

_FEWEST = 64  # voxels on the coarse grid below which a histogram of 200 bins says nothing


class N4(PreprocessingStep):
    """Divides each channel by its bias field, as ITK's N4 estimates it on a coarser grid.

    Voxels of the acquired field of view that are above 0 count: the model is multiplicative, so the logarithm
    is taken. (An Otsu mask found known fields less well, see docs/reference/preprocessing.md: a strong bias
    moves its threshold.) The field has mean logarithm 0 over the voxels that count, so the overall level
    stays. Padding stays as it is.

    Source: N. J. Tustison et al., "N4ITK: improved N3 bias correction", IEEE Transactions on Medical Imaging 29
    (2010) 1310-1320; the implementation is SimpleITK's, on one thread, so that results repeat.

    Raises:
        DataError: an image is constant, holds NaN, or has too few voxels above 0.
    """

    type: Literal["data.n4"] = "data.n4"
    working_mm: float = Field(
        4.0,
        gt=0,
        description="Spacing of the grid on which the field is estimated, in mm; blocks are averaged.",
    )
    iterations: list[int] = Field(
        default_factory=lambda: [50, 50, 50, 50],
        min_length=1,
        max_length=8,
        description="Most iterations a level; each level halves the spline's mesh.",
    )
    convergence: float = Field(
        1e-3,
        gt=0,
        description="A level ends when the field changes by less than this (coefficient of variation).",
    )
    mesh_mm: float = Field(
        200.0, gt=0, description="Distance of the cubic spline's control points at the first level, in mm."
    )

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with corrected channels; labels and geometry stay."""
        counts = counted_voxels(sample, "field")
        image = np.array(sample.image, np.float32)
        for c, channel in enumerate(sample.image):
            log_field = self.log_bias(channel, counts[c], sample.grid, c)
            image[c] = np.where(counts[c], channel / np.exp(log_field), channel)
        return replace(sample, image=image)

    def log_bias(
        self, image: NDArray[np.float32], counts: NDArray[np.bool_], grid: Grid, channel: int = 0
    ) -> NDArray[np.float32]:
        """The natural logarithm of the bias field (X, Y, Z) of an image (X, Y, Z).

        Args:
            image: intensities; those at or below 0 do not count.
            counts: where the image was acquired.
            grid: of both.
            channel: its number, for messages.

        Raises:
            DataError: constant, or too few voxels above 0.
        """
        import SimpleITK as sitk  # noqa: N813 (the name its documentation uses)

        from mriad_data.itk_images import shrunk, to_itk

        inside = image[counts]
        if not inside.size or float(inside.min()) == float(inside.max()):
            raise DataError(
                "an image is constant where its bias field is estimated",
                where={"channel": channel, "voxels": inside.size},
                remedy="look at the file and at the crop before this step",
            )
        full = to_itk(image, grid)
        mask = counts & (image > 0)
        coarse_mask = shrunk(to_itk(mask.astype(np.float32), grid), self.working_mm)
        coarse = shrunk(to_itk(np.where(mask, image, 0), grid), self.working_mm)
        # Averages of the counted voxels of a block alone: a block at the border is not darker.
        share = sitk.GetArrayViewFromImage(coarse_mask)
        used = share > 0.5
        if int(used.sum()) < _FEWEST:
            raise DataError(
                "too few voxels are above 0 to estimate a bias field",
                where={
                    "channel": channel,
                    "voxels": int(mask.sum()),
                    "working grid": "×".join(map(str, coarse.GetSize()))
                    + f" at about {self.working_mm:g} mm",
                    "of it used": int(used.sum()),
                },
                remedy="correct the bias before intensities are centred on 0 and before crops, or lower working_mm",
            )
        mean = sitk.GetImageFromArray(
            np.where(used, sitk.GetArrayViewFromImage(coarse) / np.maximum(share, 1e-6), 0).astype(np.float32)
        )
        mean.CopyInformation(coarse)
        chosen = sitk.GetImageFromArray(used.astype(np.uint8))
        chosen.CopyInformation(coarse)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(self.iterations)
        n4.SetConvergenceThreshold(self.convergence)
        extent = [n * s for n, s in zip(coarse.GetSize(), coarse.GetSpacing(), strict=True)]
        # A cubic spline with m spans has m + 3 control points.
        n4.SetNumberOfControlPoints([max(1, round(e / self.mesh_mm)) + 3 for e in extent])
        n4.SetNumberOfThreads(1)
        n4.SetNumberOfWorkUnits(1)
        n4.Execute(mean, chosen)
        field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(full)).transpose(2, 1, 0)
        out: NDArray[np.float32] = (field - field[mask].mean(dtype=np.float64)).astype(np.float32)
        return out
