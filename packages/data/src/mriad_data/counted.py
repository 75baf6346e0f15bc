"""Which voxels count when an intensity step takes its statistics, and the checks that all such steps share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError

if TYPE_CHECKING:
    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

Over = Literal["field", "nonzero"]
OVER = "Voxels that count: the acquired field of view, or those of it that are not 0 (skull-stripped images)."
PER_CHANNEL = "Each channel by itself; false: all channels share one scale, which keeps them comparable."


def counted_voxels(sample: Sample, over: Over) -> NDArray[np.bool_]:
    """A mask (C, X, Y, Z) of the voxels that count; padding (where `field` is 0) never does.

    Raises:
        DataError: an image holds NaN or infinite values; the channel is named.
    """
    finite = np.isfinite(sample.image)
    if not finite.all():
        bad = [c for c in range(len(finite)) if not finite[c].all()]
        raise DataError(
            "an image holds NaN or infinite values",
            where={
                "channel": ", ".join(map(str, bad)),
                "voxels": f"{int(np.count_nonzero(~finite))} of {finite.size}",
                "image": sample.grid.describe(),
            },
            remedy="repair or mask the file; mriad does not guess what belongs there",
        )
    counts = np.ones(sample.image.shape, bool)
    if sample.field is not None:
        counts &= sample.field.astype(bool)
    if over == "nonzero":
        counts &= sample.image != 0
    return counts


def channel_groups(sample: Sample, per_channel: bool) -> list[list[int]]:
    """Channels that share one scale: each alone, or all together; no group is empty."""
    channels = list(range(len(sample.image)))
    if per_channel or not channels:
        return [[c] for c in channels]
    return [channels]


def is_constant(low: float, high: float) -> bool:
    """Whether two float32 intensities are the same number as far as float32 can tell."""
    return not high - low > 1e-6 * max(abs(low), abs(high), 1e-30)


def constant_image(what: str, group: list[int], voxels: int, **where: Any) -> DataError:
    """The error for a channel without contrast; `what` says where it has none ("between two percentiles")."""
    facts = {"channel": ", ".join(map(str, group)), "voxels": voxels, **where}
    return DataError(
        f"an image is constant {what}",
        where=facts,
        remedy="look at the file and at the crop before this step",
    )
