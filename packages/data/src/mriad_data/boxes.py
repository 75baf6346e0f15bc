"""Boxes of voxels cut out of a sample, padded where they reach beyond it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Sample
    from numpy.typing import NDArray


def cut_box(sample: Sample, start: Sequence[int], shape: Sequence[int], fill: float = 0.0) -> Sample:
    """The box of `shape` voxels that begins at voxel `start` (may be negative), with the grid that lies
    there.

    Where the box leaves the sample the image is `fill`, the target background, and field and validity are 0:
    nothing was acquired or annotated there. A box inside the sample is a view, not a copy.
    """
    whole = sample.grid.shape
    stop = [a + n for a, n in zip(start, shape, strict=True)]
    inside = all(a >= 0 and b <= n for a, b, n in zip(start, stop, whole, strict=True))
    source = tuple(
        slice(max(a, 0), max(min(b, n), max(a, 0))) for a, b, n in zip(start, stop, whole, strict=True)
    )
    there = tuple(
        slice(s.start - a, s.start - a + (s.stop - s.start)) for s, a in zip(source, start, strict=True)
    )

    def cut(array: NDArray[Any], value: float = 0.0) -> NDArray[Any]:
        if inside:
            return array[(slice(None), *source)]
        out = np.full((len(array), *shape), value, array.dtype)
        out[(slice(None), *there)] = array[(slice(None), *source)]
        return out

    def mask(array: NDArray[np.uint8] | None, wanted: bool) -> NDArray[np.uint8] | None:
        if array is None and (inside or not wanted):
            return None
        return cut(np.ones((1, *whole), np.uint8) if array is None else array)

    return replace(
        sample,
        image=cut(sample.image, fill),
        grid=sample.grid.crop(start, shape),
        target=None if sample.target is None else cut(sample.target),
        validity=mask(sample.validity, sample.target is not None),
        field=mask(sample.field, True),
    )
