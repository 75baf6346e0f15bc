"""The table of a set of label maps: names, sides, generation classes, what is segmented (SynthSeg's lists).

Source: specs of SynthSeg, `labels_classes_priors`. Rows are in the order of the generation labels: neutral ones
first, then left, then right in the same order, which flipping relies on.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mriad.errors import DataError
from mriad.vocabulary import LabelSet

from mriad_data.faults import Faults
from mriad_data.freesurfer import NAMES, SIDES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Side = Literal["neutral", "left", "right"]
_NEEDED = ("label", "name")
_ARRAYS = {
    "label": "generation_labels.npy",
    "generation_class": "generation_classes.npy",
    "contrast_class": "generation_classes_contrast_specific.npy",
    "segmentation_label": "segmentation_labels.npy",
}


@dataclass(frozen=True)
class LabelRow:
    """One value of the label maps."""

    value: int
    name: str
    side: Side = "neutral"
    generation_class: int = 0
    """Values of one class are painted by one Gaussian."""
    contrast_class: int | None = None
    """Row of the contrast-specific priors."""
    segmentation_label: int = 0
    """What a network predicts where this value is; 0: nothing."""


@dataclass(frozen=True)
class LabelTable:
    """All values, in order."""

    rows: tuple[LabelRow, ...]

    @property
    def label_set(self) -> LabelSet:
        """What the maps hold: every value but background, by name."""
        return LabelSet.of({row.name: row.value for row in self.rows if row.value != 0})

    @property
    def segmented(self) -> LabelSet:
        """What a network predicts: the distinct segmentation labels, named after the row of that value."""
        names = {row.value: row.name for row in self.rows}
        wanted = dict.fromkeys(row.segmentation_label for row in self.rows if row.segmentation_label)
        return LabelSet.of({names.get(value, f"structure_{value}"): value for value in wanted})

    @property
    def to_segmented(self) -> dict[int, int]:
        """Value of a map → segmentation label."""
        return {row.value: row.segmentation_label for row in self.rows}

    @property
    def classes(self) -> dict[int, int]:
        """Value of a map → generation class."""
        return {row.value: row.generation_class for row in self.rows}

    def partner(self, value: int) -> int:
        """The value of the same structure on the other side; itself if neutral.

        Raises:
            DataError: the table has no such value, or sides that do not pair up.
        """
        sides = {side: [row.value for row in self.rows if row.side == side] for side in ("left", "right")}
        if value not in {row.value for row in self.rows} or len(sides["left"]) != len(sides["right"]):
            raise DataError(
                "a label has no partner on the other side",
                where={"label": value, "left": len(sides["left"]), "right": len(sides["right"])},
            )
        for here, there in (("left", "right"), ("right", "left")):
            if value in sides[here]:
                return sides[there][sides[here].index(value)]
        return value


def read_label_table(path: Path) -> LabelTable:
    """Read a tab- or comma-separated table, or SynthSeg's folder of arrays.

    A table has the columns `label` and `name`, and may have `side`, `generation_class`,
    `generation_class_contrast_specific`, `segmentation_label` (absent: each value is segmented as itself). A folder
    holds `generation_labels.npy` and `generation_classes.npy`, and may hold `segmentation_labels.npy`, all of one
    length; names and sides are then FreeSurfer's, values that it does not have are neutral. A name that several
    values share gets its value appended.

    Raises:
        DataError: missing, or with faults: absent columns, numbers that are none, values listed twice.
    """
    faults = Faults()
    raw = _from_arrays(path) if path.is_dir() else _from_table(path)
    rows: list[LabelRow] = []
    seen: dict[int, int] = {}
    for number, cells in enumerate(raw, 1):
        row = _row(cells, f"row {number}", faults)
        if row is None:
            continue
        if row.value in seen:
            faults.add(f"row {number}", f"label {row.value} is also in row {seen[row.value]}")
        seen[row.value] = number
        rows.append(row)
    faults.raise_any(f"label table {path}")
    return LabelTable(tuple(_distinct(rows)))


def _from_table(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t")
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("a label table cannot be read", where={"file": str(path), "reason": error}) from error
    lacking = [name for name in _NEEDED if name not in columns]
    if lacking:
        raise DataError(
            "a label table lacks columns",
            where={"file": str(path), "missing": ", ".join(lacking), "found": ", ".join(columns) or "none"},
        )
    return [{**row, "contrast_class": row.get("generation_class_contrast_specific")} for row in rows]


def _from_arrays(folder: Path) -> list[dict[str, Any]]:
    import numpy as np

    arrays: dict[str, Sequence[int]] = {}
    for key, name in _ARRAYS.items():
        place = folder / name
        if not place.is_file():
            if key in ("label", "generation_class"):
                raise DataError(
                    "a folder of label arrays is not complete",
                    where={"missing": str(place), "expected": ", ".join(_ARRAYS.values())},
                )
            continue
        try:
            arrays[key] = [int(v) for v in np.load(place, allow_pickle=False).ravel()]
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                "an array of labels cannot be read", where={"file": str(place), "reason": error}
            ) from error
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("arrays of labels differ in length", where={"folder": str(folder), **lengths})
    count = len(arrays["label"])
    rows = [{key: values[n] for key, values in arrays.items()} for n in range(count)]
    values = [row["label"] for row in rows]
    return [
        {**row, "name": NAMES.get(value, f"label_{value}"), "side": SIDES.get(value, "neutral")}
        for value, row in zip(values, rows, strict=True)
    ]


def _row(cells: dict[str, Any], where: str, faults: Faults) -> LabelRow | None:
    numbers: dict[str, int | None] = {}
    for key in ("label", "generation_class", "contrast_class", "segmentation_label"):
        text = cells.get(key)
        try:
            numbers[key] = None if text in (None, "") else int(str(text))
        except ValueError:
            faults.add(where, f"{key} is '{text}', not a whole number")
            return None
    side = str(cells.get("side") or "neutral")
    if side not in ("neutral", "left", "right"):
        faults.add(where, f"side is '{side}', not neutral, left or right")
        return None
    value = numbers["label"]
    if value is None:
        faults.add(where, "label is empty")
        return None
    return LabelRow(
        value,
        _slug(str(cells.get("name") or f"label_{value}")),
        side,  # type: ignore[arg-type]
        numbers["generation_class"] or 0,
        numbers["contrast_class"],
        value if numbers["segmentation_label"] is None else numbers["segmentation_label"],
    )


def _distinct(rows: list[LabelRow]) -> list[LabelRow]:
    names = [row.name for row in rows]
    return [
        row if names.count(row.name) == 1 else LabelRow(**{**vars(row), "name": f"{row.name}_{row.value}"})
        for row in rows
    ]


def _slug(text: str) -> str:
    text = re.sub(r"\(.*?\)", "", text)
    return re.sub(r"[^\w-]+", "_", text).strip("_")
