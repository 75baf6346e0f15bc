"""Segmentation files as channels: label values or soft maps → (S, X, Y, Z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.encoding import SOFT_TOLERANCE, encode_label
from mriad.errors import DataError
from mriad.evaluation import require_same_grid
from mriad.images import read_volume
from mriad.vocabulary import LabelSet

from mriad_eval.pairing import one_each

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mriad.geometry import Grid
    from mriad.vocabulary import LabelKind
    from numpy.typing import NDArray

Map = tuple["NDArray[np.float32]", "NDArray[Any] | None", "Grid"]
"""Channels (S, X, Y, Z) in [0, 1], validity (1, X, Y, Z) or None, grid."""


def read_map(case: str, paths: tuple[Path, ...], label_set: LabelSet) -> Map:
    """Read the segmentation of one case.

    Several files: one map in [0, 1] a structure, by the structure in their names. One 4D file: one soft map a
    structure. One 3D file of fractions, or in [0, 1] for a single structure: soft. Any other 3D file holds
    values of the label set.

    Raises:
        DataError: unreadable, values outside the label set or [0, 1], another number of structures, or files
            of one case on different grids.
    """
    if len(paths) > 1:
        return _stacked(case, one_each(case, paths, label_set.names))
    volume = read_volume(paths[0], stacked=True)
    _require_plain_values(case, str(paths[0]), volume.data, label_set)
    channels, validity = encode_label(
        volume.data, _kind(volume.data, len(label_set)), "soft", label_set, file=str(paths[0])
    )
    return channels, validity, volume.grid


def _stacked(case: str, paths: dict[str, Path]) -> Map:
    volumes = {name: read_volume(path) for name, path in paths.items()}
    grid = next(iter(volumes.values())).grid
    channels = []
    for name, volume in volumes.items():
        require_same_grid(case, volume.grid, grid)
        channels.append(
            encode_label(volume.data, "soft", "soft", LabelSet.of({name: 1}), file=str(paths[name]))[0]
        )
    return np.concatenate(channels), None, grid


def _kind(data: NDArray[Any], structures: int) -> LabelKind:
    if data.ndim == 4:
        return "soft"
    if np.issubdtype(data.dtype, np.integer) or structures > 1:
        return "hard"
    return "soft" if float(data.max()) <= 1 + SOFT_TOLERANCE else "hard"


def _require_plain_values(case: str, file: str, data: NDArray[Any], label_set: LabelSet) -> None:
    """Refuse 0–255 where that is no label: a mask or soft map that was scaled when it was saved.

    Raises:
        DataError: it says which of the two it looks like, and what to do.
    """
    top = float(data.max())
    known = {*(float(s.value) for s in label_set.structures), *map(float, label_set.ignore)}
    if not 200 < top <= 255 or float(data.min()) < 0 or top in known:
        return
    values = np.unique(data)
    soft = len(values) > len(known) + 2
    shown = ", ".join(f"{v:g}" for v in values[:6]) + (f", … {top:g}" if len(values) > 6 else "")
    name = label_set.names[0]
    raise DataError(
        "values run from 0 to 255: soft or scaled?",
        where={
            "case": case,
            "file": file,
            "values": shown,
            "looks like": "a soft map times 255" if soft else "a mask that was saved as 0 and 255",
            "expected": f"label values ({', '.join(f'{v:g}' for v in sorted(known))}), or soft values in [0, 1]",
        },
        remedy="divide by 255, or set scl_slope to 1/255 in the header"
        if soft
        else f"divide by 255, or name the value: --labels {name}={top:g}",
    )


def label_set_of(references: Iterable[tuple[Path, ...]]) -> LabelSet:
    """Return one structure a value that occurs in hard reference files, named "label-VALUE".

    Raises:
        DataError: a case has several files, a file holds fractions, or no file holds anything.
    """
    values: set[int] = set()
    for paths in references:
        data = read_volume(paths[0], stacked=True).data
        found = np.unique(data)
        if len(paths) > 1 or data.ndim == 4 or (found != np.rint(found)).any():
            raise DataError(
                "these references do not name their structures",
                where={"files": ", ".join(path.name for path in paths)},
                remedy="name them, such as --labels cord=1,csf=2, or choose with --reference-pattern",
            )
        values.update(int(value) for value in found if value != 0)
    if not values:
        raise DataError(
            "no reference holds a structure", remedy="name the structures, such as --labels cord=1"
        )
    return LabelSet.of({f"label-{value}": value for value in sorted(values)})


def parse_labels(text: str) -> LabelSet:
    """Return the label set of `cord=1,csf=2`.

    Raises:
        DataError: it cannot be read so.
    """
    values: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if not name or not value.isdigit() or name in values:
            raise DataError(
                "structures cannot be read",
                where={"--labels": text, "at": part.strip() or "an empty part"},
                remedy="write NAME=VALUE, such as --labels cord=1,csf=2",
            )
        values[name] = int(value)
    return LabelSet.of(values)
