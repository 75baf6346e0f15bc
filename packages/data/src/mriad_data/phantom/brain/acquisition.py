"""What a scanner adds that a label map lacks: texture, geometric distortion, motion.

Noise, bias field and point spread are those of both phantoms: `mriad_data.phantom.imaging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

F = np.float32
LATTICE_MM = 2.5
LATTICE = (104, 112, 120)  # nodes; reaches beyond the largest head
ORIGIN_MM = (-130.0, -150.0, -190.0)
SOURCES_MM = ((0, 42, -22, 26), (50, -22, -26, 20), (-50, -22, -26, 20))
"""Air near brain: over the sinuses and the ear canals; x, y, z in the person's frame, and reach in mm."""


def texture_field(grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth Gaussian field of mean 0 and standard deviation near 1 at the voxels of a grid, float32 (X, Y, Z).

    It is drawn on a lattice of 2.5 mm in the person's frame, smoothed (sd 1 node) and read linearly, so that the same
    texture shows at any resolution and pose. `grid`: voxel → the person's mm.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    field = rng.standard_normal(LATTICE, dtype=F)
    field = gaussian_filter(field, 1.0, mode="wrap", truncate=3.0)
    field /= field.std()
    matrix = grid.matrix[:3, :3] / LATTICE_MM
    offset = (grid.matrix[:3, 3] - np.array(ORIGIN_MM)) / LATTICE_MM
    out: NDArray[np.float32] = affine_transform(
        field, matrix, offset, output_shape=grid.shape, output=F, order=1, mode="nearest"
    )
    return out


def off_resonance(grid: Grid) -> NDArray[np.float32]:
    """Relative field error of air near brain, 1 at its largest: a sum of smooth bumps, float32 (X, Y, Z)."""
    matrix = grid.matrix
    i, j, k = np.ogrid[tuple(slice(n) for n in grid.shape)]
    total = np.zeros(grid.shape, F)
    for x, y, z, reach in SOURCES_MM:
        square = np.zeros(grid.shape, F)
        for row, middle in zip(matrix[:3], (x, y, z), strict=True):
            place = (row[0] * i).astype(F) + (row[1] * j).astype(F) + (row[2] * k + row[3] - middle).astype(F)
            square += place * place
        square *= F(-0.5 / reach**2)
        total += np.exp(square, out=square)
    return total


def distort(image: NDArray[np.float32], shift_voxels: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Move signal along one axis by a displacement in voxels; what is stretched darkens (Jacobian).

    Read at i + shift(i) linearly, times 1 + d shift / d i; edges repeat. The image moves, the labels do not: that is
    the fault of the scanner.
    """
    line = np.moveaxis(image, axis, 0)
    shift = np.moveaxis(shift_voxels, axis, 0)
    n = line.shape[0]
    place = np.arange(n, dtype=F).reshape(-1, 1, 1) + shift
    np.clip(place, 0, n - 1, out=place)
    low = np.minimum(place.astype(np.int32), n - 2)
    weight = place - low.astype(F)
    below = np.take_along_axis(line, low, 0)
    out = below + weight * (np.take_along_axis(line, low + 1, 0) - below)
    out *= F(1) + np.gradient(shift, axis=0)
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))


def trajectory(lines: int, usual_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Position of a head in mm for each phase-encoding line in time, (lines, 3); 0 at the middle of k-space.

    A slow drift plus a few sudden moves. The size of a scan's motion is log-normal around `usual_mm`, σ = ½.
    """
    size = usual_mm * float(np.exp(0.5 * rng.standard_normal()))
    drift = np.cumsum(rng.standard_normal((lines, 3)), 0) / np.sqrt(lines)
    jumps = np.zeros((lines, 3))
    for _ in range(int(rng.poisson(1.5))):
        jumps[int(rng.integers(lines)) :] += rng.standard_normal(3)
    path = drift + jumps
    out: NDArray[np.float64] = size * (path - path[lines // 2])
    return out


def move(
    image: NDArray[np.float32], path_mm: NDArray[np.float64], spacing: tuple[float, float, float], axis: int
) -> NDArray[np.float32]:
    """The magnitude image of a head that moved while the lines of k-space along `axis` were acquired in order.

    A translation t multiplies the sample at spatial frequency f by e^(−2πi f·t) (Fourier shift theorem); each line
    has the translation of its time. Rotations are not modelled.

    Args:
        image: (X, Y, Z) at rest.
        path_mm: (lines, 3), lines the length of `axis`, in order from the most negative frequency.
        spacing: voxel size in mm.
        axis: of phase encoding.
    """
    from scipy.fft import fftfreq, fftn, fftshift, ifftn

    space = fftn(image.astype(np.complex64), overwrite_x=True)
    n = image.shape[axis]
    time = np.argsort(fftshift(np.arange(n)))  # line of FFT order → its place in time
    path = path_mm[time]
    for other in range(3):
        frequency = fftfreq(image.shape[other], spacing[other])
        shape = [1, 1, 1]
        shape[axis] = n
        if other == axis:
            phase = frequency * path[:, other]
        else:
            shape[other] = len(frequency)
            phase = np.multiply.outer(frequency, path[:, other])
            phase = phase if other < axis else phase.T
        space *= np.exp(-2j * np.pi * phase).astype(np.complex64).reshape(shape)
    out: NDArray[np.float32] = np.abs(ifftn(space, overwrite_x=True)).astype(F, copy=False)
    return out
