"""Labels as targets: values of a label file → channel indices or soft channels, and what is annotated.

A hard target is integer (1, X, Y, Z): 0 background, s + 1 structure s of the label set. A soft target is
float32 (S, X, Y, Z) in [0, 1]. Validity is uint8 (1, X, Y, Z), 0 where nothing is known, or float32 in [0, 1]
where a pseudo-label has a confidence; None where all is annotated.

Where only some of the wanted structures were looked for, a voxel of those is known, and what is none of them is
not: it may hold a structure that nobody annotated there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mriad.vocabulary import LabelKind, LabelSet

SOFT_TOLERANCE = 1e-3
"""Soft values may leave [0, 1] by this much (rounding of scaled integers); they are clipped."""

Encoded = tuple["NDArray[Any]", "NDArray[Any] | None"]


def encode_label(
    data: NDArray[Any],
    stored: LabelKind,
    wanted: LabelKind,
    label_set: LabelSet,
    validity: NDArray[Any] | None = None,
    file: str = "",
    *,
    confidence: NDArray[Any] | None = None,
    annotated: Sequence[str] | None = None,
    whole: LabelSet | None = None,
) -> Encoded:
    """Return target and validity of one label.

    Args:
        data: (X, Y, Z) label values, or soft values (X, Y, Z) or (S, X, Y, Z).
        stored: the kind of `data`. hard, sparse and pseudo hold values of the label set.
        wanted: "soft" gives float channels, every other kind indices. Hard labels become 0/1 channels;
            soft ones the largest of background and structures (one structure: > .5), ties going to
            background.
        validity: (X, Y, Z), non-zero where annotated.
        file: where the label is from, for messages.
        confidence: (X, Y, Z) in [0, 1]: how far the loss may trust a voxel; becomes part of the validity.
        annotated: names of the structures that were looked for; None: all.
        whole: label set of the stored label, where `label_set` is only a part of it; default: `label_set`.

    Raises:
        DataError: a value outside the label set, soft values or confidence outside [0, 1], another number of
            structures, or a sparse label with nothing that says where it is annotated.
    """
    if stored == "sparse" and validity is None and not label_set.ignore:
        raise DataError(
            "a sparse label does not say where it is annotated",
            where={"file": file, "expected": "a validity mask, or `ignore` values in the label set"},
            remedy="add a `validity:<name>` column to the manifest; if all is annotated, call the label hard",
        )
    valid = None if validity is None else (validity != 0)
    unseen = annotated is not None and not set(label_set.names) <= set(annotated)
    target: NDArray[Any]
    if stored == "soft":
        target = _soft(data, label_set if whole is None else whole, file)
        if unseen:
            valid = _and(valid, target.sum(axis=0) > 1 - SOFT_TOLERANCE)
        if whole is not None:
            target = target[[whole.names.index(name) for name in label_set.names]]
        if wanted != "soft":
            target = _harden(target)
    else:
        target, known = _indices(data, label_set, file)
        if known is not None:
            valid = _and(valid, known)
        if unseen:
            valid = _and(valid, data != 0)
        if wanted == "soft":
            target = one_hot(target, len(label_set))
    if confidence is None:
        return target, None if valid is None else valid[None].astype(np.uint8)
    trust = _confidence(confidence, file)
    return target, (trust if valid is None else trust * valid)[None]


def _and(mask: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if mask is None else mask & other


def _confidence(values: NDArray[Any], file: str) -> NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    if low < -SOFT_TOLERANCE or high > 1 + SOFT_TOLERANCE:
        raise DataError(
            "the confidence of a label lies outside [0, 1]",
            where={"file": file, "values": f"{low:g} to {high:g}"},
            remedy="store a probability",
        )
    trust: NDArray[np.float32] = np.clip(values, 0, 1).astype(np.float32)
    return trust


def one_hot(target: NDArray[Any], structures: int) -> NDArray[np.float32]:
    """Indices (1, X, Y, Z) → float32 (S, X, Y, Z) of zeros and ones, background dropped."""
    return np.stack([(target[0] == s + 1) for s in range(structures)]).astype(np.float32)


def _soft(data: NDArray[Any], label_set: LabelSet, file: str) -> NDArray[np.float32]:
    channels = data[None] if data.ndim == 3 else data
    if channels.ndim != 4 or len(channels) != len(label_set):
        raise DataError(
            "a soft label has another number of structures than the label set",
            where={"file": file, "structures": len(channels), "label set": _names(label_set)},
            remedy="store one 3D map a structure along the fourth axis, in the order of the label set",
        )
    low, high = float(channels.min()), float(channels.max())
    if low < -SOFT_TOLERANCE or high > 1 + SOFT_TOLERANCE:
        scaled = low >= 0 and 1.5 < high <= 255
        raise DataError(
            "a soft label holds values outside [0, 1]",
            where={"file": file, "values": f"{low:g} to {high:g}", "expected": "0 to 1"},
            remedy="this looks like 0–255 scaling: divide by 255, or set scl_slope to 1/255"
            if scaled
            else "clip or rescale it, or call the label hard if these are label values",
        )
    clipped: NDArray[np.float32] = np.clip(channels, 0, 1).astype(np.float32)
    return clipped


def _harden(soft: NDArray[np.float32]) -> NDArray[Any]:
    background = np.maximum(1 - soft.sum(axis=0, keepdims=True), 0)
    # argmax takes the first of equals, and background comes first: ties go to it.
    index: NDArray[Any] = np.concatenate([background, soft]).argmax(axis=0)[None]
    hard: NDArray[Any] = index.astype(_index_type(len(soft)))
    return hard


def _indices(
    data: NDArray[Any], label_set: LabelSet, file: str
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Label values (X, Y, Z) → indices (1, X, Y, Z) and, where `ignore` values occur, a mask of the
    others.
    """
    if data.ndim != 3:
        raise DataError(
            "a hard label is one 3D volume",
            where={"file": file, "shape": "×".join(map(str, data.shape))},
            remedy="call the label soft if its fourth axis holds structures",
        )
    if not np.issubdtype(data.dtype, np.integer):
        whole: NDArray[Any] = np.rint(data)
        odd: NDArray[np.bool_] = data != whole
        if odd.any():
            raise DataError(
                "a hard label holds values that are not whole numbers",
                where={"file": file, "values": _some(np.unique(data[odd])), "label set": _values(label_set)},
                remedy="call the label soft if these are probabilities; one that was resampled like an image "
                "must be made anew with nearest neighbour",
            )
        data = whole.astype(np.int64)
    known = {0: 0, **dict.fromkeys(label_set.background, 0)}
    known |= {s.value: i + 1 for i, s in enumerate(label_set.structures)}
    known |= {value: known[to] for value, to in label_set.merged}
    top = max([*known, *label_set.ignore])
    outside = -1
    table = np.full(top + 1, outside, np.int16)
    for value, place in known.items():
        table[value] = place
    for value in label_set.ignore:
        table[value] = 0
    # A value that no table entry can hold is moved to one past the end, which is outside too.
    held = (data >= 0) & (data <= top)
    index = np.append(table, np.int16(outside))[np.where(held, data, top + 1)]
    if (index == outside).any():
        raise DataError(
            "a label holds values outside the label set",
            where={
                "file": file,
                "values": _some(np.unique(data[index == outside])),
                "label set": _values(label_set),
            },
            remedy="add the values to `structures`, or to `ignore` where they mean: not annotated",
        )
    valid = ~np.isin(data, label_set.ignore) if label_set.ignore else None
    return index[None].astype(_index_type(len(label_set))), valid


def _index_type(structures: int) -> Any:
    return np.uint8 if structures < 256 else np.int16


def _some(values: Iterable[Any], limit: int = 8) -> str:
    shown = [f"{v:g}" for v in values]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def _names(label_set: LabelSet) -> str:
    return f"{len(label_set)} ({', '.join(label_set.names)})"


def _values(label_set: LabelSet) -> str:
    parts = ["0 background", *(f"{s.value} {s.name}" for s in label_set.structures)]
    return ", ".join([*parts, *(f"{v} ignored" for v in label_set.ignore)])
