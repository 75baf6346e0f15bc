"""Voxels and grids of mriad as SimpleITK images and back; imports SimpleITK.

ITK's world is LPS+ (x to the left, y to the back), ours RAS+; its arrays are indexed (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its documentation uses)
from mriad.geometry import Grid
from mriad.vocabulary import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ mm → LPS+ mm, and its own inverse."""


def to_itk(data: NDArray[Any], grid: Grid) -> sitk.Image:
    """An image (X, Y, Z) on its grid.

    ITK keeps spacing and orthonormal directions apart. A sheared grid has none: its nearest rotation (of the
    singular value decomposition) stands in, so that only right-angled grids keep every voxel's place.
    """
    matrix = LPS @ grid.matrix
    spacing = np.array(grid.spacing)
    direction = matrix[:3, :3] / spacing
    left, _, right = np.linalg.svd(direction)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def from_itk(image: sitk.Image) -> Volume:
    """The voxels (X, Y, Z) and grid of an ITK image."""
    matrix = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    matrix[:3, :3] = direction * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    data = np.ascontiguousarray(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))
    return Volume(data, Grid.of(data.shape, LPS @ matrix))


def shrunk(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Whole blocks of voxels averaged, each axis to at most `spacing_mm` or as it is where that is wider.

    At least 8 voxels (or all there are) are left along each axis.
    """
    factors = [
        max(1, min(int(spacing_mm / s + 1e-6), n // 8))
        for s, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    return image if max(factors) == 1 else sitk.BinShrink(image, factors)


def affine_matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """A linear ITK transform (LPS) as a 4 × 4 matrix of world RAS mm."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    moved = np.array([transform.TransformPoint(point) for point in corners.tolist()])
    matrix = np.eye(4)
    matrix[:3, 3] = moved[0]
    matrix[:3, :3] = (moved[1:] - moved[0]).T
    out: NDArray[np.float64] = LPS @ matrix @ LPS
    return out
