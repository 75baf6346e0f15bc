"""Voxels that a generator makes: read from the store where they were made before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mriad.errors import DataError
from mriad.identity import fingerprint
from mriad.vocabulary import Sample, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.interfaces import SampleStore
    from mriad.vocabulary import Case, Source

FORMAT = 1
"""Part of every key: raised when a volume is laid out otherwise in its sample."""


def kept(case: Case, store: SampleStore) -> Case:
    """A case whose generated voxels are made once a store; those that lie in files are read as before.

    A source says so by an attribute `costly = True`. Trials of an ablation that test on one
    phantom then share what costs more than the network's answer.
    """
    labels = {
        name: replace(
            label,
            source=_kept(label.source, store),
            validity=_beside(label.validity, store),
            confidence=_beside(label.confidence, store),
        )
        for name, label in case.labels.items()
    }
    return replace(
        case,
        channels=_each(case.channels, store),
        labels=labels,
        annotations=_each(case.annotations, store),
    )


def _each(sources: Mapping[str, Source], store: SampleStore) -> dict[str, Source]:
    return {name: _kept(source, store) for name, source in sources.items()}


def _kept(source: Source, store: SampleStore) -> Source:
    return KeptSource(source, store) if getattr(source, "costly", False) else source


def _beside(source: Source | None, store: SampleStore) -> Source | None:
    return None if source is None else _kept(source, store)


@dataclass(frozen=True)
class KeptSource:
    """A source behind a store: the same voxels, type and grid; its fingerprint is the key."""

    source: Source
    store: SampleStore

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels, those of the source."""
        return self.source.fingerprint

    @property
    def location(self) -> str:
        """The source's."""
        return self.source.location

    def read(self) -> Volume:
        """The voxels, as the source gives them; read-only.

        Raises:
            DataError: as the source; voxels of a type that the store would change.
            StorageError: the store cannot be written.
        """
        sample = self.store.once(
            fingerprint(["generated", FORMAT, self.source.fingerprint]),
            lambda: _packed(self.source.read(), self.location),
        )
        if sample.target is None:
            return Volume(np.asarray(sample.image)[0], sample.grid)
        target = np.asarray(sample.target)
        return Volume(target if np.issubdtype(target.dtype, np.floating) else target[0], sample.grid)


def _packed(volume: Volume, location: str) -> Sample:
    """A volume as a sample: its image if float32 (X, Y, Z); its target if whole numbers or float32 (C, X, Y, Z).

    Raises:
        DataError: voxels of another type or number of axes.
    """
    data = volume.data
    if data.ndim == 3 and data.dtype == np.float32:
        return Sample("", data[None], volume.grid)
    if data.ndim == 3 and np.issubdtype(data.dtype, np.integer):
        return Sample("", np.zeros((0, *data.shape), np.float32), volume.grid, data[None])
    if data.ndim == 4 and data.dtype == np.float32:
        return Sample("", np.zeros((0, *data.shape[1:]), np.float32), volume.grid, data)
    raise DataError(
        "generated voxels of this type cannot be kept in the store",
        where={
            "source": location,
            "found": f"{data.dtype} in {data.ndim} axes",
            "expected": "float32 in 3 or 4 axes, or whole numbers in 3",
        },
        remedy="give such voxels, or leave `costly` out of the source",
    )
