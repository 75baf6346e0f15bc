"""Light configs; the torch code is in `paced`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad.interfaces import Dataset, Learner
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume

from mriad_bench.marks import mark


class NoiseSource:
    """A volume of noise with a bright box; a label has the box alone. Determined by its arguments."""

    def __init__(self, number: int, size: int, part: str) -> None:
        self.number, self.size, self.part = number, size, part

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.number, self.size, self.part])

    @property
    def location(self) -> str:
        return f"noise {self.number}"

    def read(self) -> Volume:
        rng = np.random.default_rng(self.number)
        start = rng.integers(1, self.size // 2, 3)
        box = np.zeros((self.size,) * 3, np.float32)
        box[tuple(slice(s, s + self.size // 3) for s in start)] = 1
        grid = Grid.of(box.shape, np.eye(4))
        if self.part == "label":
            return Volume(box.astype(np.uint8), grid)
        return Volume(box * 2 + rng.standard_normal(box.shape, np.float32), grid)


class Volumes(Dataset):
    """`persons` cases of `size`³ voxels of 1 mm, with one structure."""

    type: Literal["bench.volumes"] = "bench.volumes"
    persons: int = 8
    size: int = 64

    def build(self) -> CaseIndex:
        mark("data set built")
        cases = [
            Case(
                id=f"v{n:02d}",
                person=f"v{n:02d}",
                channels={"image": NoiseSource(n, self.size, "image")},
                labels={"hard": Label("hard", NoiseSource(n, self.size, "label"))},
            )
            for n in range(self.persons)
        ]
        return CaseIndex(cases, LabelSet.of({"box": 1}))


class Paced(Learner):
    """`standard.supervised` that keeps time and waits for its turn (see `mriad_bench.paced`)."""

    type: Literal["bench.paced"] = "bench.paced"
    turns: str = ""
    """Folder of the turns; "" runs without waiting."""
    block: int = 10
    blocks: int = 0

    def build(self, setup):
        from mriad_bench.paced import PacedAlgorithm

        return PacedAlgorithm(self, setup)
