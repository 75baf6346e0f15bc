"""The resampling of `mriad_softseg.resampling`, compiled for CPUs by numba: the same numbers up to rounding.

Rows of the output along Z are done one after the other, each step of a row in a loop of its own, so that the
compiler can use vector instructions. Threads share the rows; the kernel holds no lock of Python's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch

from mriad_softseg.resampling import Parts, combined, spline_coefficients

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mriad_softseg.coordinates import Coordinates
    from mriad_softseg.resampling import Beyond

_jit = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, cache=True, boundscheck=False)


@_jit
def _fold(x: Any, n: int, mirror: bool) -> None:
    """Bring places (Z,) into the patch: to the border [0, n − 1], or mirrored at its faces −½ and n − ½."""
    top = np.float32(n - 1)
    if mirror:
        period = np.float32(2 * n)
        half = np.float32(0.5)
        for k in range(x.size):
            y = x[k] + half
            y -= np.floor(y / period) * period
            x[k] = min(y, period - y) - half
    else:
        for k in range(x.size):
            x[k] = min(max(x[k], np.float32(0)), top)


@_jit
def _corners(x: Any, n: int, stride: int, low: Any, high: Any, part: Any) -> None:
    """Flat offsets of the two voxels around each place, and how far it lies towards the second."""
    top = np.float32(n - 1)
    for k in range(x.size):
        y = min(max(x[k], np.float32(0)), top)
        i = np.int32(y)
        part[k] = y - np.float32(i)
        low[k] = i * stride
        high[k] = min(i + 1, n - 1) * stride


@_jit
def _taps(x: Any, n: int, stride: int, index: Any, weight: Any) -> None:
    """Flat offsets and quadratic B-spline weights of the three coefficients around each place, (3, Z)."""
    half = np.float32(0.5)
    for k in range(x.size):
        middle = np.floor(x[k] + half)
        t = x[k] - middle
        i = np.int32(middle)
        index[0, k] = min(max(i - 1, 0), n - 1) * stride
        index[1, k] = min(max(i, 0), n - 1) * stride
        index[2, k] = min(max(i + 1, 0), n - 1) * stride
        weight[0, k] = half * (half - t) * (half - t)
        weight[1, k] = np.float32(0.75) - t * t
        weight[2, k] = half * (half + t) * (half + t)


@_jit
def _linear(source: Any, low: Any, high: Any, part: Any, out: Any) -> None:
    """Trilinear values of a flat volume for a row."""
    for k in range(out.size):
        a, b, c = part[0, k], part[1, k], part[2, k]
        x0, x1, y0, y1, z0, z1 = low[0, k], high[0, k], low[1, k], high[1, k], low[2, k], high[2, k]
        p00 = source[x0 + y0 + z0] + c * (source[x0 + y0 + z1] - source[x0 + y0 + z0])
        p01 = source[x0 + y1 + z0] + c * (source[x0 + y1 + z1] - source[x0 + y1 + z0])
        p10 = source[x1 + y0 + z0] + c * (source[x1 + y0 + z1] - source[x1 + y0 + z0])
        p11 = source[x1 + y1 + z0] + c * (source[x1 + y1 + z1] - source[x1 + y1 + z0])
        p0 = p00 + b * (p01 - p00)
        p1 = p10 + b * (p11 - p10)
        out[k] = p0 + a * (p1 - p0)


@_jit
def _quadratic(source: Any, index: Any, weight: Any, out: Any) -> None:
    """Spline values of flat coefficients for a row."""
    for k in range(out.size):
        out[k] = 0
    z0, z1, z2 = index[2]
    c0, c1, c2 = weight[2]
    for p in range(3):
        for q in range(3):
            x, y, a, b = index[0, p], index[1, q], weight[0, p], weight[1, q]
            for k in range(out.size):
                at = x[k] + y[k]
                line = c0[k] * source[at + z0[k]] + c1[k] * source[at + z1[k]] + c2[k] * source[at + z2[k]]
                out[k] += a[k] * b[k] * line


@_jit
def _resample(
    image: Any,
    soft: Any,
    blocky: Any,
    linear: Any,
    offset: Any,
    along_x: Any,
    bend: Any,
    box: Any,
    order: int,
    mirror: bool,
    start: int,
    stop: int,
    out_image: Any,
    out_soft: Any,
    out_blocky: Any,
    inside: Any,
) -> None:
    """Fill the rows j of start:stop of every output plane.

    image (C, N) flat voxels or spline coefficients; soft (S, N) read linearly; blocky (B, N) read at the nearest
    voxel; linear (3, 3) and offset (3,) from output voxel numbers to places counted from the first voxel; along_x
    (X, K) and bend (Y, K, 3, Z), K = 0 without a displacement; box (3, 2) around what is not 0 in soft.
    """
    nx, ny, nz = out_image.shape[1:]
    size = (nx, ny, nz)
    stride = (ny * nz, nz, 1)
    place = np.empty((3, nz), np.float32)
    low, high = np.empty((3, nz), np.int32), np.empty((3, nz), np.int32)
    part = np.empty((3, nz), np.float32)
    index, weight = np.empty((3, 3, nz), np.int32), np.empty((3, 3, nz), np.float32)
    near = np.empty(nz, np.int32)
    for j in range(start, stop):
        for i in range(nx):
            for r in range(3):
                row = place[r]
                first = linear[r, 0] * i + linear[r, 1] * j + offset[r]
                step = linear[r, 2]
                for k in range(nz):
                    row[k] = np.float32(first + step * k)
                for node in range(along_x.shape[1]):
                    w = along_x[i, node]
                    if w > 0:
                        shift = bend[j, node, r]
                        for k in range(nz):
                            row[k] += w * shift[k]
            if inside.shape[0]:
                seen = inside[0, i, j]
                for k in range(nz):
                    seen[k] = 1
                for r in range(3):
                    row = place[r]
                    edge = np.float32(size[r] - 0.5)
                    for k in range(nz):
                        if row[k] < np.float32(-0.5) or row[k] > edge:
                            seen[k] = 0
            for r in range(3):
                _fold(place[r], size[r], mirror)
            if order == 1 or soft.shape[0]:
                for r in range(3):
                    _corners(place[r], size[r], stride[r], low[r], high[r], part[r])
            if order == 1:
                for c in range(image.shape[0]):
                    _linear(image[c], low, high, part, out_image[c, i, j])
            else:
                for r in range(3):
                    _taps(place[r], size[r], stride[r], index[r], weight[r])
                for c in range(image.shape[0]):
                    _quadratic(image[c], index, weight, out_image[c, i, j])
            if soft.shape[0]:
                hit = True
                for r in range(3):
                    row = place[r]
                    least, most = row[0], row[0]
                    for k in range(nz):
                        least, most = min(least, row[k]), max(most, row[k])
                    hit = hit and most >= box[r, 0] - 1 and least <= box[r, 1] + 1
                for c in range(soft.shape[0]):
                    if hit:
                        _linear(soft[c], low, high, part, out_soft[c, i, j])
                    else:
                        out_soft[c, i, j] = 0
            if blocky.shape[0]:
                for k in range(nz):
                    near[k] = 0
                for r in range(3):
                    row = place[r]
                    for k in range(nz):
                        near[k] += min(max(np.int32(np.rint(row[k])), 0), size[r] - 1) * stride[r]
                for c in range(blocky.shape[0]):
                    values, out = blocky[c], out_blocky[c, i, j]
                    for k in range(nz):
                        out[k] = values[near[k]]


def resampled(parts: Parts, where: Coordinates, order: int, beyond: Beyond) -> Parts:
    """As `mriad_softseg.resampling.resampled`, for tensors on the CPU."""
    image, target = parts.image, parts.target
    hard = target is not None and not parts.soft
    smooth = [target] if target is not None and not hard else []
    if smooth and parts.validity is not None:
        smooth.append((parts.validity != 0).float())
    blocky = [x for x in (parts.validity, parts.field) if x is not None]
    if hard and target is not None:
        blocky.append(target.float())

    size = np.array(where.size)
    flips = np.where(where.flip, -1.0, 1.0)
    middle = (size - 1) / 2
    linear = where.linear.numpy()
    # From voxel numbers: x = m + L·(F·(y − m) + u) + o.
    straight = linear * flips[None, :]
    offset = middle + where.offset.numpy() - straight @ middle
    along_x, bend = np.zeros((size[0], 0), np.float32), np.zeros((size[1], 0, 3, size[2]), np.float32)
    if where.bend is not None:
        along_x = where.bend.along_x.numpy()
        bend = torch.einsum("rc,ckyz->ykrz", where.linear.float(), where.bend.rest).contiguous().numpy()
    box = _box(target) if smooth and len(smooth) == 1 else np.stack([np.zeros(3), size - 1], 1)
    sources = [_flat([spline_coefficients(image) if order == 2 else image], size)]
    sources += [_flat(smooth, size), _flat(blocky, size)]
    outs = [np.empty((len(s), *where.size), np.float32) for s in sources]
    inside = np.empty((int(beyond == "border"), *where.size), np.float32)

    def rows(start: int, stop: int) -> None:
        _resample(
            *sources,
            straight,
            offset,
            along_x,
            bend,
            box,
            order,
            beyond == "mirror",
            start,
            stop,
            *outs,
            inside,
        )

    threads = min(torch.get_num_threads(), where.size[1])
    if threads == 1:
        rows(0, where.size[1])
    else:
        edges = np.linspace(0, where.size[1], threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(rows, edges[:-1], edges[1:]))

    new_image, new_soft, new_blocky = (torch.from_numpy(o) for o in outs)
    linear_parts = list(new_soft.split([x.shape[0] for x in smooth])) if smooth else []
    nearest = list(new_blocky.split([x.shape[0] for x in blocky])) if blocky else []
    seen = torch.from_numpy(inside) if beyond == "border" else None
    return combined(parts, new_image, linear_parts, nearest, seen)


def _flat(volumes: list[Tensor], size: NDArray[Any]) -> NDArray[np.float32]:
    """Volumes as rows (K, X·Y·Z) float32; one that is there already is not copied."""
    if not volumes:
        return np.zeros((0, int(size.prod())), np.float32)
    joined = volumes[0] if len(volumes) == 1 else torch.cat(volumes)
    return joined.float().contiguous().flatten(1).numpy()


def _box(target: Tensor | None) -> NDArray[np.float64]:
    """First and last place along each axis of what is not 0, (3, 2); an empty one beyond all places if nothing is."""
    assert target is not None
    box = np.full((3, 2), -(10.0**6))
    plane = target.amax((0, 3)) > 0
    lines = [plane.amax(1), plane.amax(0), target.amax((0, 1, 2)) > 0]
    for axis, line in enumerate(lines):
        found = line.nonzero()[:, 0]
        if len(found):
            box[axis] = float(found[0]), float(found[-1])
    return box
