"""`data.map_labels`: a data set's own labels as those of a common ontology.

Every value goes where the map says; two structures may become one (their voxels are joined), which is the only way in
which anything is lost. What a data set does not annotate stays apart from its background, see `Label.annotated`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.identity import fingerprint
from mriad.interfaces import Dataset
from mriad.vocabulary import CaseIndex, Label, LabelSet, Volume
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mriad.vocabulary import Case, Source

BACKGROUND, IGNORE = "background", "ignore"
"""Words in a map: none of the ontology's structures; not annotated."""


class MapLabels(Dataset):
    """Another data set, its labels mapped to an ontology that several data sets share.

    A structure that the map does not name keeps its name. A label annotates those structures of the ontology that
    something is mapped to; elsewhere the background of a voxel is unknown as soon as a network is asked for the
    others too, unless `absent` says that they cannot be there (no humerus in an ankle).
    """

    type: Literal["data.map_labels"] = "data.map_labels"
    dataset: Dataset = Field(description="Whose labels are mapped.")
    ontology: dict[str, int] = Field(min_length=1, description="Structure → value in mapped label maps.")
    map: dict[str, str] = Field(
        default_factory=dict,
        description="Structure of the data set → structure of the ontology, `background`, or `ignore` (becomes not "
        "annotated); several may become one.",
    )
    absent: list[str] = Field(
        default_factory=list,
        description="Structures of the ontology that are not annotated because they cannot be in these scans.",
    )

    def build(self) -> CaseIndex:
        """Return the cases with mapped labels and the ontology as label set.

        Raises:
            DataError: as the data set, or the map names structures that are not there.
        """
        index = self.dataset.build()
        mapping = LabelMap.between(index.label_set, self.ontology, self.map, self.absent)
        made = CaseIndex([mapping.case(case) for case in index], mapping.target)
        made.aliases = index.aliases
        return made


@dataclass(frozen=True)
class LabelMap:
    """Where each structure of a label set goes in another."""

    source: LabelSet
    target: LabelSet
    places: Mapping[str, str]
    """Structure of the source → structure of the target, `background` or `ignore`."""
    absent: tuple[str, ...] = ()

    @classmethod
    def between(
        cls,
        source: LabelSet,
        ontology: Mapping[str, int],
        named: Mapping[str, str],
        absent: Sequence[str] = (),
    ) -> LabelMap:
        """Complete and check a map.

        Raises:
            DataError: a structure is unknown on either side, or one is both mapped to and absent.
        """
        places = {name: named.get(name, name) for name in source.names}
        words = {BACKGROUND, IGNORE}
        faults = {
            "the data set does not have": [n for n in named if n not in source.names],
            "the ontology does not have": [
                f"{n} (from {o})" for o, n in places.items() if n not in ontology and n not in words
            ]
            + [n for n in absent if n not in ontology],
            "called absent, but mapped to": [n for n in absent if n in places.values()],
            "not a structure's name": [n for n in ontology if n in words],
        }
        if any(faults.values()):
            raise DataError(
                "a map of labels names structures that are not there",
                where={
                    **{what: ", ".join(names) for what, names in faults.items() if names},
                    "data set": ", ".join(source.names) or "none",
                    "ontology": ", ".join(ontology),
                },
                remedy="map each structure of the data set to one of the ontology, to background, or to ignore",
            )
        ignored = source.ignore or IGNORE in places.values()
        free = max(ontology.values()) + 1
        return cls(source, LabelSet.of(ontology, [free] if ignored else []), places, tuple(absent))

    @property
    def table(self) -> tuple[tuple[int, int], ...]:
        """Value in the data set's files → value in the ontology, 0 included."""
        value = {s.name: s.value for s in self.target.structures} | {BACKGROUND: 0}
        unknown = self.target.ignore[0] if self.target.ignore else 0
        pairs = {
            0: 0,
            **dict.fromkeys(self.source.background, 0),
            **dict.fromkeys(self.source.ignore, unknown),
        }
        pairs |= {s.value: value.get(self.places[s.name], unknown) for s in self.source.structures}
        return tuple(sorted(pairs.items()))

    def annotated(self, before: Collection[str] | None) -> tuple[str, ...] | None:
        """Structures of the ontology that a label annotates; None: all.

        Args:
            before: structures of the data set that it annotates; None: all.
        """
        found = []
        for name in self.target.names:
            parts = [old for old, new in self.places.items() if new == name]
            # A joined structure was looked for only if every part of it was.
            seen = bool(parts) and (before is None or set(parts) <= set(before))
            if seen or name in self.absent:
                found.append(name)
        return None if len(found) == len(self.target) else tuple(found)

    def case(self, case: Case) -> Case:
        """A case with every label mapped."""
        return replace(case, labels={name: self.label(label) for name, label in case.labels.items()})

    def label(self, label: Label) -> Label:
        """A label mapped.

        Raises:
            DataError: a soft label with a structure that is to be ignored.
        """
        annotated = self.annotated(label.annotated)
        if label.kind != "soft":
            source: Source = MappedValues(label.source, self.table)
            return replace(label, source=source, annotated=annotated)
        if IGNORE in self.places.values():
            raise DataError(
                "a structure of a soft label cannot be ignored: its values are part of a whole",
                where={"label": label.source.location},
                remedy="map it to background, or use the hard label",
            )
        rows = tuple(
            tuple(i for i, old in enumerate(self.source.names) if self.places[old] == name)
            for name in self.target.names
        )
        return replace(label, source=MappedChannels(label.source, rows), annotated=annotated)


@dataclass(frozen=True)
class MappedValues:
    """A label map whose values are replaced by a table."""

    source: Source
    table: tuple[tuple[int, int], ...]

    @property
    def fingerprint(self) -> str:
        """Of the map before, and of the table."""
        return fingerprint([self.source.fingerprint, self.table])

    @property
    def location(self) -> str:
        """Of the map before."""
        return self.source.location

    def read(self) -> Volume:
        """Return the mapped values (X, Y, Z), the smallest unsigned integers that hold them.

        Raises:
            DataError: unreadable, or a value that the table does not have.
        """
        volume = self.source.read()
        old = np.array([a for a, _ in self.table])
        new = np.array([b for _, b in self.table])
        place = np.searchsorted(old, volume.data).clip(max=len(old) - 1)
        outside = old[place] != volume.data
        if outside.any():
            values = np.unique(volume.data[outside])[:8].tolist()
            raise DataError(
                "a label map holds values that the map of labels does not have",
                where={
                    "file": self.source.location,
                    "values": ", ".join(f"{v:g}" for v in values),
                    "known": ", ".join(map(str, old.tolist())),
                },
                remedy="name them among the data set's structures, and map them to background or ignore",
            )
        return Volume(new[place].astype(np.min_scalar_type(int(new.max()))), volume.grid)


@dataclass(frozen=True)
class MappedChannels:
    """A soft label whose structures are put in another order; joined ones are summed, never above 1."""

    source: Source
    rows: tuple[tuple[int, ...], ...]
    """For each structure of the ontology, channels of the label before; none: zero everywhere."""

    @property
    def fingerprint(self) -> str:
        """Of the label before, and of the rows."""
        return fingerprint([self.source.fingerprint, self.rows, "channels"])

    @property
    def location(self) -> str:
        """Of the label before."""
        return self.source.location

    def read(self) -> Volume:
        """Return soft values (S, X, Y, Z) in the ontology's order."""
        volume = self.source.read()
        data: Any = volume.data[None] if volume.data.ndim == 3 else volume.data
        if max((max(row, default=-1) for row in self.rows), default=-1) >= len(data):
            raise DataError(
                "a soft label has fewer structures than its data set says",
                where={"file": self.source.location, "structures": len(data)},
            )
        out = np.zeros((len(self.rows), *data.shape[1:]), np.float32)
        for channel, row in zip(out, self.rows, strict=True):
            for i in row:
                channel += data[i]
        return Volume(np.minimum(out, 1) if len(data) else out, volume.grid)
