"""What every metric does first: cut to the valid voxels, binarise, and name the empty situations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 0.5  # a mask is > .5: ties go to the background (EVIDENCE.md section 2)


def mask_of(values: NDArray[np.float32], validity: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return the binary mask (X, Y, Z) of values in [0, 1], false where invalid."""
    mask = np.asarray(values) > THRESHOLD
    return mask if validity is None else mask & validity


def valid_values(values: NDArray[np.float32], validity: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the valid values as one float64 row, so that sums over millions of voxels stay exact."""
    kept = values if validity is None else values[validity]
    return np.asarray(kept, dtype=np.float64).ravel()


def situation(prediction_found: bool, reference_present: bool) -> str:
    """Return the note: "", "miss", "empty" or "false positive"."""
    if prediction_found:
        return "" if reference_present else "false positive"
    return "miss" if reference_present else "empty"
