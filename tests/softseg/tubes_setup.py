"""Six persons with a tube in each of three contrasts, and what the soft ground truth stage made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from mriad.geometry import Grid
from mriad.interfaces import Dataset
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume

RADIUS = {"T2w": 5.0, "T1w": 6.0, "DWI": 7.0}
SHAPE = (25, 25, 12)
GRID = Grid.of(SHAPE, np.diag([1, 1, 2, 1.0]))


@dataclass(frozen=True)
class Tube:
    """A cord mask, or its image, that follows from a few numbers."""

    radius: float
    offset: float = 0.0
    """Whole voxels, so that every person's discs are alike."""
    thing: str = "mask"
    first: int = 0
    last: int = 12

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def location(self) -> str:
        return f"tube {self.radius:g}"

    def read(self) -> Volume:
        x, y = np.meshgrid(np.arange(25) - 12, np.arange(25) - 12 - self.offset, indexing="ij")
        inside = np.repeat((np.hypot(x, y) <= self.radius)[..., None], 12, 2)
        inside[:, :, : self.first], inside[:, :, self.last :] = False, False
        if self.thing == "soft":
            return Volume(inside * np.float32(0.7), GRID)
        if self.thing == "blobs":
            inside[0, 0, 3] = True
        return Volume(inside.astype(np.uint8), GRID)


@dataclass(frozen=True)
class Disc:
    """One point with a value."""

    value: int

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def location(self) -> str:
        return "disc"

    def read(self) -> Volume:
        data = np.zeros(SHAPE, np.uint8)
        data[12, 8, 6] = self.value
        return Volume(data, GRID)


class Tubes(Dataset):
    """Six persons with three contrasts each; `change` puts another source in the place of one mask."""

    type: Literal["tubes.data"] = "tubes.data"
    persons: int = 6
    case: str = ""
    change: dict[str, float | int | str] | Literal["none", "soft_kind", "twice", "absent"] = "none"

    def build(self) -> CaseIndex:
        cases = []
        for n in range(self.persons):
            for contrast, radius in RADIUS.items():
                case = Case(
                    f"p{n}_{contrast}",
                    f"p{n}",
                    {"image": Tube(radius, float(n - 2), "image")},
                    {"hard": Label("hard", Tube(radius, float(n - 2)))},
                    contrast=contrast,
                    domain=contrast,
                )
                if case.id == self.case and self.change == "absent":
                    continue
                cases.append(self._changed(case, n) if case.id == self.case else case)
                if case.id == self.case and self.change == "twice":
                    cases.append(replace(case, id=f"{case.id}_again"))
        return CaseIndex(cases, LabelSet.of({"cord": 1}))

    def _changed(self, case: Case, n: int) -> Case:
        if self.change == "none":
            return replace(case, labels={})
        if self.change == "soft_kind":
            return replace(case, labels={"hard": replace(case.labels["hard"], kind="soft")})
        if isinstance(self.change, dict):
            given = {"radius": RADIUS[case.contrast], "offset": float(n - 2), **self.change}
            return replace(case, labels={"hard": Label("hard", Tube(**given))})
        return case


def voxels(case: Case, label: str) -> np.ndarray:
    return case.labels[label].source.read().data


def ray(case: Case, label: str = "soft", k: int = 4) -> list[float]:
    """Values from the centre of the disc to the right."""
    return voxels(case, label)[12:, 12 + int(case.person[1:]) - 2, k].tolist()
