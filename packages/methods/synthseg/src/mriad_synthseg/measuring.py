"""Soft volumes and the quality score of a prediction, summed up while its slabs pass by."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from mriad.atomic import atomic_file
from mriad.errors import StorageError
from mriad.sides import without_side

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.inference.slab import Slab
    from mriad.vocabulary import LabelSet

# FreeSurfer's values, with the names of the groups that SynthSeg 2 scores (Billot et al., PNAS 2023) and two more.
_FREESURFER = {
    "white matter": {2, 41},
    "cerebral cortex": {3, 42},
    "CSF and ventricles": {4, 5, 14, 15, 24, 43, 44},
    "cerebellum": {7, 8, 46, 47},
    "brain-stem": {16},
    "thalamus": {10, 49},
    "caudate and accumbens": {11, 26, 50, 58},
    "putamen and pallidum": {12, 13, 51, 52},
    "hippocampus and amygdala": {17, 18, 53, 54},
    "ventral DC": {28, 60},
}


def groups_of(label_set: LabelSet) -> dict[str, list[int]]:
    """Group → places of its structures in the label set.

    Where the names are FreeSurfer's the groups above; otherwise each structure with its mirror image by name.
    """
    from mriad_data.freesurfer import NAMES

    known = {s.value: i for i, s in enumerate(label_set.structures)}
    if all(_plain(NAMES.get(s.value, "")) == _plain(s.name) for s in label_set.structures):
        found = {
            name: [known[v] for v in sorted(values) if v in known] for name, values in _FREESURFER.items()
        }
        taken = {place for places in found.values() for place in places}
    else:
        found, taken = {}, set()
    for place, structure in enumerate(label_set.structures):
        if place not in taken:
            found.setdefault(without_side(structure.name), []).append(place)
    return {name: places for name, places in found.items() if places}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


@dataclass(frozen=True)
class Measured:
    """volumes: mm³ by structure, Σ posterior · voxel volume. quality: 0 to 1 by group, NaN where nothing is."""

    volumes: Mapping[str, float]
    quality: Mapping[str, float]


class Tally:
    """Sums over the slabs of one prediction.

    The quality of a group is its expected Dice: that of the hard segmentation h against a truth drawn from the
    posteriors p, 2 Σ p·h / (Σ p + Σ h), with p summed over the group. It says how sure the model is of its own
    border, not whether it is right: a network that is sure and wrong scores high.

    Args:
        label_set: channels of the slabs.
        voxel_mm3: volume of one voxel.
        exclusive: as of the prediction.
    """

    def __init__(self, label_set: LabelSet, voxel_mm3: float, exclusive: bool) -> None:
        self.label_set, self.voxel_mm3, self.exclusive = label_set, voxel_mm3, exclusive
        self.groups = groups_of(label_set)
        self._volume = np.zeros(len(label_set))
        self._sums = {name: np.zeros(3) for name in self.groups}  # p·h, p, h

    def watch(self, slabs: Iterable[Slab]) -> Iterator[Slab]:
        """Pass slabs on, summing."""
        for slab in slabs:
            self.add(slab)
            yield slab

    def add(self, slab: Slab) -> None:
        """Count one slab."""
        p = slab.values.float()
        self._volume += p.sum((1, 2, 3), dtype=torch.float64).cpu().numpy()
        best, which = p.max(0)
        which = torch.where(best > (1 - p.sum(0) if self.exclusive else 0.5), which, -1)
        for name, places in self.groups.items():
            q = p[places].sum(0)
            hard = torch.isin(which, torch.tensor(places, device=which.device))
            self._sums[name] += [
                float(q[hard].sum(dtype=torch.float64)), float(q.sum(dtype=torch.float64)), float(hard.sum())
            ]  # fmt: skip

    def measured(self) -> Measured:
        """What was summed so far."""
        volumes = self._volume * self.voxel_mm3
        quality = {
            name: 2 * both / (p + h) if h else float("nan") for name, (both, p, h) in self._sums.items()
        }
        return Measured(dict(zip(self.label_set.names, map(float, volumes), strict=True)), quality)


class MeasureTable:
    """A CSV file with a row a case and a column a structure or group; rows of earlier calls stay.

    With `replace` a table with other columns is begun anew.

    Raises:
        StorageError: the file has other columns, so it is of another model.
    """

    def __init__(self, path: Path, columns: Sequence[str], replace: bool = False) -> None:
        self.path, self.columns = path, ["case", *columns]
        self._rows: dict[str, list[str]] = {}
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            if not rows or rows[0] != self.columns:
                if replace:
                    return
                raise StorageError(
                    "a table of measurements has other columns than this model's",
                    where={"file": path},
                    remedy="--out OTHER_FOLDER, or --overwrite",
                )
            self._rows = {row[0]: row[1:] for row in rows[1:]}

    def has(self, case: str) -> bool:
        """Whether there is a row of the case."""
        return case in self._rows

    def put(self, case: str, values: Mapping[str, float], digits: int) -> None:
        """Add or replace the row of a case and write the file, whole or not at all."""
        self._rows[case] = [f"{values[name]:.{digits}f}" for name in self.columns[1:]]
        with atomic_file(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows([case, *row] for case, row in sorted(self._rows.items()))
