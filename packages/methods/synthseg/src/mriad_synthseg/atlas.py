"""A probabilistic atlas: how probable each structure is at each place, as arrays and as one file."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mriad.atomic import atomic_file
from mriad.errors import CheckpointError
from mriad.geometry import Grid
from mriad.vocabulary import LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
FILE = "atlas.npz"
BACKGROUND = "background"
_STEPS = 10_000  # of a stored probability; finer than the average of any number of maps that is built from


@dataclass(frozen=True, eq=False)
class Atlas:
    """priors: (1 + S, X, Y, Z) float32, background first; they sum to 1 at each voxel. grid: where they lie."""

    priors: NDArray[np.float32]
    grid: Grid
    label_set: LabelSet
    maps: int
    """Number of label maps that it is the average of."""

    def save(self, folder: Path) -> Path:
        """Write `atlas.npz`, whole or not at all.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        card = {
            "format": FORMAT,
            "shape": list(self.grid.shape),
            "affine": list(self.grid.affine),
            "structures": [[s.name, s.value] for s in self.label_set.structures],
            "maps": self.maps,
        }
        steps = np.rint(self.priors * _STEPS).astype(np.uint16)
        with atomic_file(folder / FILE) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, card=np.array(json.dumps(card)), priors=steps)
        return folder / FILE

    @classmethod
    def load(cls, folder: Path) -> Atlas:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            CheckpointError: missing, damaged or of another format.
        """
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as file:
                card = json.loads(str(file["card"]))
                steps = file["priors"]
        except FileNotFoundError as error:
            raise CheckpointError(
                "the atlas of a predictor is missing",
                where={"file": path},
                remedy="run the stage that fits it again",
            ) from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointError("an atlas cannot be read", where={"file": path, "reason": error}) from error
        if card.get("format") != FORMAT:
            raise CheckpointError(
                "an atlas of another format",
                where={"file": path, "format": card.get("format"), "expected": FORMAT},
            )
        priors = steps.astype(np.float32) / np.float32(_STEPS)
        priors /= priors.sum(0)  # they were rounded one by one
        names = {str(name): int(value) for name, value in card["structures"]}
        return cls(
            priors, Grid.of(card["shape"], np.reshape(card["affine"], (4, 4))),
            LabelSet.of(names), int(card["maps"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Classes:
    """Which structures share Gaussians. Class 0 is background; `of[k]` is the class of prior k (0 is background)."""

    names: tuple[str, ...]
    of: tuple[int, ...]
    gaussians: tuple[int, ...]
    """Number of Gaussians of each class."""

    @classmethod
    def of_structures(
        cls,
        names: Sequence[str],
        groups: Mapping[str, Sequence[str]],
        gaussians: Mapping[str, int],
        background: int,
    ) -> Classes:
        """Classes from the settings of the predictor.

        Args:
            names: structures in label-set order.
            groups: class → structures; what is in none shares a class with its mirror image by name.
            gaussians: class → number; others have 1.
            background: number of Gaussians of the background.

        Raises:
            ValueError: a structure is unknown or in two classes, or a number is given for no class.
        """
        from mriad.sides import without_side

        chosen: dict[str, str] = {}
        for group, members in groups.items():
            for member in members:
                if member not in names:
                    raise ValueError(f"class '{group}' names '{member}', which the atlas does not have")
                if member in chosen:
                    raise ValueError(f"'{member}' is in two classes: '{chosen[member]}' and '{group}'")
                chosen[member] = group
        called = [BACKGROUND, *(chosen.get(name, without_side(name)) for name in names)]
        order = list(dict.fromkeys(called))
        unknown = [name for name in gaussians if name not in order]
        if unknown:
            raise ValueError(
                f"`gaussians` names no class: {', '.join(unknown)}; there are {', '.join(order)}"
            )
        counts = {BACKGROUND: background, **gaussians}
        return cls(
            tuple(order),
            tuple(order.index(name) for name in called),
            tuple(counts.get(name, 1) for name in order),
        )

    def __len__(self) -> int:
        return len(self.names)

    def merged(self, priors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1 + S, …) priors of structures → (C, …) of classes."""
        out = np.zeros((len(self), *priors.shape[1:]), np.float32)
        for k, c in enumerate(self.of):
            out[c] += priors[k]
        return out
