"""Compiled loops (numba) for one core of a CPU; `mriad_synthseg.compiled` calls them, the maths is that of `fields`
and `painting`.

Arrays are C-contiguous float32 unless said otherwise; axis order X, Y, Z. Averages are added in the order of
`fields.doubled`, so that both back ends round to the same voxel.
"""

from __future__ import annotations

import numba
import numpy as np

from mriad_synthseg.vector_cell import add_cell

EXACT = {"nnan", "ninf", "nsz"}
"""What may be assumed where rounding must stay as written."""
HALF = np.float32(0.5)
ONE = np.float32(1)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def square(u, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """One squaring: out(x) = u(x) + u(x + u(x)), trilinear, border repeated; (X, Y, Z, 4), the last unused."""
    nx, ny, nz, _ = u.shape
    top_x, top_y, top_z = np.float32(nx - 1), np.float32(ny - 1), np.float32(nz - 1)
    zero = np.float32(0)
    # Unsigned offsets into flat arrays: signed indices would be checked for being negative.
    values, made = u.ravel(), out.ravel()
    along_x, along_y, along_z = np.uint64(4 * ny * nz), np.uint64(4 * nz), np.uint64(4)
    here = np.uint64(0)
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                x = min(max(np.float32(i) + values[here], zero), top_x)
                y = min(max(np.float32(j) + values[here + np.uint64(1)], zero), top_y)
                z = min(max(np.float32(k) + values[here + np.uint64(2)], zero), top_z)
                # The last cell also holds its end, so that no neighbour lies outside.
                a, b, c = min(np.int32(x), nx - 2), min(np.int32(y), ny - 2), min(np.int32(z), nz - 2)
                fx, fy, fz = x - np.float32(a), y - np.float32(b), z - np.float32(c)
                gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
                w00, w01, w10, w11 = gx * gy, gx * fy, fx * gy, fx * fy
                near = np.uint64(a) * along_x + np.uint64(b) * along_y + np.uint64(c) * along_z
                weights = (w00 * gz, w01 * gz, w10 * gz, w11 * gz, w00 * fz, w01 * fz, w10 * fz, w11 * fz)
                add_cell(values, made, here, near, (along_x, along_y, along_z), weights)
                here += along_z


@numba.njit(cache=True, error_model="numpy")
def place(u, matrix, offset, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Where nodes are read: out (3, X, Y, Z) = A·(2·x + u) + b, u (X, Y, Z, 4) in full-resolution voxels."""
    nx, ny, nz, _ = u.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                x = np.float32(2 * i) + u[i, j, k, 0]
                y = np.float32(2 * j) + u[i, j, k, 1]
                z = np.float32(2 * k) + u[i, j, k, 2]
                for d in range(3):
                    out[d, i, j, k] = matrix[d, 0] * x + matrix[d, 1] * y + matrix[d, 2] * z + offset[d]


@numba.njit(cache=True, error_model="numpy")
def _row(at, i, j, row, beside):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Nodes (Z,) along z of the full-resolution column (i, j) of one coordinate (X, Y, Z)."""
    a, b = i >> 1, j >> 1
    _between(at[a, b], at[a + 1, b] if i & 1 else at[a, b], i & 1, row)
    if j & 1:
        _between(at[a, b + 1], at[a + 1, b + 1] if i & 1 else at[a, b + 1], i & 1, beside)
        for k in range(row.shape[0]):
            row[k] = (row[k] + beside[k]) * HALF


@numba.njit(cache=True, error_model="numpy")
def _between(one, other, odd, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    if odd:
        for k in range(out.shape[0]):
            out[k] = (one[k] + other[k]) * HALF
    else:
        for k in range(out.shape[0]):
            out[k] = one[k]


@numba.njit(cache=True, error_model="numpy", fastmath=EXACT)
def _to_voxels(row, high, factor, even, odd):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """index ← (index + nearest voxel in the shelled map)·factor, for the even and the odd voxels of a column."""
    low, top, one = np.float32(-1), np.float32(high), np.int32(1)
    for k in range(even.shape[0]):
        even[k] = (even[k] + np.int32(np.rint(min(max(row[k], low), top))) + one) * factor
    later = row[1:]
    for k in range(odd.shape[0]):
        middle = (row[k] + later[k]) * HALF
        odd[k] = (odd[k] + np.int32(np.rint(min(max(middle, low), top))) + one) * factor


@numba.njit(cache=True, error_model="numpy")
def look_up(volume, at, output_of, label, output):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Nearest labels at coordinates, and what they are segmented as.

    volume: (X + 2, Y + 2, Z + 2) integers, the map in a shell of background. at: (3, *half(size)). output_of: by
    label. label, output: (*size), written.
    """
    nx, ny, nz = label.shape
    px, py, pz = volume.shape
    flat, labels, outputs = volume.ravel(), label.ravel(), output.ravel()
    row = np.empty(at.shape[3], np.float32)
    beside = np.empty(at.shape[3], np.float32)
    even = np.empty((nz + 1) // 2, np.int32)
    odd = np.empty(nz // 2, np.int32)
    for i in range(nx):
        for j in range(ny):
            even[:] = 0
            odd[:] = 0
            _row(at[0], i, j, row, beside)
            _to_voxels(row, px - 2, np.int32(py), even, odd)
            _row(at[1], i, j, row, beside)
            _to_voxels(row, py - 2, np.int32(pz), even, odd)
            _row(at[2], i, j, row, beside)
            _to_voxels(row, pz - 2, np.int32(1), even, odd)
            here = np.uint64((i * ny + j) * nz)
            for k in range(odd.shape[0]):
                found, next_one = flat[np.uint64(even[k])], flat[np.uint64(odd[k])]
                labels[here] = found
                outputs[here] = output_of[found]
                labels[here + np.uint64(1)] = next_one
                outputs[here + np.uint64(1)] = output_of[next_one]
                here += np.uint64(2)
            if nz & 1:
                found = flat[np.uint64(even[nz // 2])]
                labels[here] = found
                outputs[here] = output_of[found]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _blur_plane(plane, weights, between, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Blur (Y, Z) along both axes, the border repeated; `between` is as large."""
    ny, nz = plane.shape
    r = weights.shape[0] // 2
    for j in range(ny):
        row, made = plane[j], between[j]
        for k in range(nz):
            made[k] = weights[r] * row[k]
        for t in range(1, r + 1):
            w = weights[r + t]
            if nz > 2 * t:
                inner, before, after = made[t : nz - t], row[: nz - 2 * t], row[2 * t :]
                for k in range(inner.shape[0]):
                    inner[k] += w * (before[k] + after[k])
            for k in range(min(t, nz)):
                made[k] += w * (row[0] + row[min(k + t, nz - 1)])
            for k in range(max(nz - t, t), nz):
                made[k] += w * (row[k - t] + row[nz - 1])
    for j in range(ny):
        made = out[j]
        for k in range(nz):
            made[k] = weights[r] * between[j, k]
        for t in range(1, r + 1):
            w = weights[r + t]
            before, after = between[max(j - t, 0)], between[min(j + t, ny - 1)]
            for k in range(nz):
                made[k] += w * (before[k] + after[k])


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def paint(image, label, mean, std, weights, bias, clip):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Mixture, blur, bias and clip in one pass over x; returns the least and the greatest value.

    image: (*size) standard normal noise, overwritten. mean, std: by label. weights: of the blur, (2r + 1,). bias:
    (b, b, b) float64 nodes of the log-field, or (0, 0, 0) where there is none.
    """
    nx, ny, nz = image.shape
    taps = weights.shape[0]
    r = taps // 2
    ring = np.empty((taps, ny, nz), np.float32)
    plane = np.empty((ny, nz), np.float32)
    between = np.empty((ny, nz), np.float32)
    line = np.empty(bias.shape[2], np.float64)
    low, high = clip, np.float32(0)
    for i in range(nx + r):
        if i < nx:
            target = ring[i % taps] if r == 0 else plane
            for j in range(ny):
                for k in range(nz):
                    found = label[i, j, k]
                    target[j, k] = mean[found] + std[found] * image[i, j, k]
            if r > 0:
                _blur_plane(plane, weights, between, ring[i % taps])
        done = i - r
        if done < 0:
            continue
        _across(ring, done, nx, weights, plane if r > 0 else between)
        made = plane if r > 0 else between
        for j in range(ny):
            if bias.shape[0] > 0:
                _line(bias, done, j, nx, ny, line)
                _multiply(made[j], line)
            for k in range(nz):
                value = min(max(made[j, k], np.float32(0)), clip)
                image[done, j, k] = value
                low, high = min(low, value), max(high, value)
    return low, high


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _across(ring, i, nx, weights, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The plane i, blurred across planes."""
    taps = weights.shape[0]
    r = taps // 2
    middle = ring[i % taps]
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[j, k] = weights[r] * middle[j, k]
    for t in range(1, r + 1):
        w = weights[r + t]
        before, after = ring[max(i - t, 0) % taps], ring[min(i + t, nx - 1) % taps]
        for j in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[j, k] += w * (before[j, k] + after[j, k])


@numba.njit(cache=True, error_model="numpy")
def _line(bias, i, j, nx, ny, line):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Log-field at the nodes along z of the column (i, j)."""
    b = bias.shape[0]
    x, y = i * (b - 1) / max(nx - 1, 1), j * (b - 1) / max(ny - 1, 1)
    p, q = min(int(x), b - 2), min(int(y), b - 2)
    f, g = x - p, y - q
    for k in range(b):
        line[k] = (1 - f) * ((1 - g) * bias[p, q, k] + g * bias[p, q + 1, k]) + f * (
            (1 - g) * bias[p + 1, q, k] + g * bias[p + 1, q + 1, k]
        )


@numba.njit(cache=True, error_model="numpy")
def _multiply(row, line):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """row ← row · exp(linear between nodes): between two nodes that is a geometric progression, two exps a piece."""
    nz, b = row.shape[0], line.shape[0]
    step = (b - 1) / max(nz - 1, 1)
    k = 0
    for cell in range(b - 1):
        slope = line[cell + 1] - line[cell]
        last = nz if cell == b - 2 else int(np.ceil((cell + 1) / step - 1e-9))
        value = np.exp(line[cell] + (k * step - cell) * slope)
        ratio = np.exp(step * slope)
        while k < last:
            row[k] *= np.float32(value)
            value *= ratio
            k += 1


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def curve(image, low, span, exponent):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """image ← ((image − low) / span) ^ exponent, flat; values in [0, 1], 0 stays 0 and 1 stays 1.

    2^(exponent·log₂ x), with log₂ of the mantissa by atanh's series and 2^f by Taylor's: relative error below 1e-6.
    Parts fit the cache; each loop is plain enough for vector instructions.
    """
    part = 1024
    value = np.empty(part, np.float32)
    bits = value.view(np.int32)
    mantissa_bits = np.empty(part, np.int32)
    mantissa = mantissa_bits.view(np.float32)
    power_bits = np.empty(part, np.int32)
    power = power_bits.view(np.float32)
    whole = np.empty(part, np.float32)
    one, half = np.float32(1), np.float32(0.5)
    root = np.float32(1.41421356)
    to_log2 = np.float32(2.8853900817779268)  # 2 / ln 2
    for start in range(0, image.shape[0], part):
        count = min(part, image.shape[0] - start)
        for n in range(count):
            above = image[start + n] - low
            value[n] = above / span if above < span else one  # rounding must not pass 1
        for n in range(count):
            b = bits[n]
            whole[n] = np.float32((b >> 23) - np.int32(127))
            mantissa_bits[n] = (b & np.int32(0x7FFFFF)) | np.int32(0x3F800000)
        for n in range(count):
            m, e = mantissa[n], whole[n]
            large = m > root
            m = m * half if large else m
            e = e + one if large else e
            t = (m - one) / (m + one)
            s = t * t
            series = one + s * (
                np.float32(1 / 3)
                + s
                * (
                    np.float32(1 / 5)
                    + s * (np.float32(1 / 7) + s * (np.float32(1 / 9) + s * np.float32(1 / 11)))
                )
            )
            y = max(exponent * (e + to_log2 * t * series), np.float32(-126))
            nearest = np.rint(y)
            f = (y - nearest) * np.float32(0.6931471805599453)
            taylor = one + f * (
                one
                + f
                * (
                    half
                    + f
                    * (
                        np.float32(1 / 6)
                        + f * (np.float32(1 / 24) + f * (np.float32(1 / 120) + f * np.float32(1 / 720)))
                    )
                )
            )
            power_bits[n] = (np.int32(nearest) + np.int32(127)) << 23
            mantissa[n] = taylor
        for n in range(count):
            made = mantissa[n] * power[n]
            image[start + n] = made if value[n] > np.float32(0) else np.float32(0)
