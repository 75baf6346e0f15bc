"""A head of ellipsoids with persons who differ, and a painter of its own: shares no code with the plugin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from scipy import ndimage

VALUES = {
    "CSF": 24,
    "left cerebral white matter": 2,
    "left cerebral cortex": 3,
    "left lateral ventricle": 4,
    "left thalamus": 10,
    "left putamen": 12,
    "right cerebral white matter": 41,
    "right cerebral cortex": 42,
    "right lateral ventricle": 43,
    "right thalamus": 49,
    "right putamen": 51,
    "brain-stem": 16,
}
LABELS = LabelSet.of(VALUES)
T1_LIKE = {
    "air": 5, "scalp": 120, "CSF": 35, "white matter": 160, "cortex": 105, "ventricle": 30, "thalamus": 130,
    "putamen": 118, "brain-stem": 145,
}  # fmt: skip
INVERTED = {name: 5 if name == "air" else 190 - level for name, level in T1_LIKE.items()}

# Parts of a side: centre (x to the right, y anterior, z superior) and half axes, mm; later ones lie on top.
_SIDE = [
    ("cerebral cortex", (28, 0, 15), (31, 68, 50)),
    ("cerebral white matter", (27, 0, 14), (25, 60, 42)),
    ("lateral ventricle", (11, 2, 18), (7, 30, 11)),
    ("thalamus", (13, -10, 2), (9, 15, 10)),
    ("putamen", (26, 6, 2), (6, 16, 10)),
]


@dataclass(frozen=True)
class Head:
    """The label map, or a painting, of one person. Determined by its arguments."""

    person: int
    part: str = "label"
    spacing: float = 4.0
    noise: float = 4.0
    bias: float = 0.15
    gain: float = 1.0
    offset: float = 0.0

    @property
    def fingerprint(self):
        return fingerprint([getattr(self, name) for name in self.__dataclass_fields__])

    @property
    def location(self):
        return f"head {self.person} ({self.part})"

    def grid(self):
        """Tilted and off the origin, each person differently; axes run LAS."""
        rng = np.random.default_rng(self.person + 7000)
        shape = [round(n / self.spacing) for n in (168, 204, 168)]
        angle = np.deg2rad(rng.uniform(-6, 6, 3))
        matrix = np.eye(4)
        turn = np.eye(3)
        for axis in range(3):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            one = np.eye(3)
            one[i, i] = one[j, j] = np.cos(angle[axis])
            one[i, j], one[j, i] = -np.sin(angle[axis]), np.sin(angle[axis])
            turn = one @ turn
        matrix[:3, :3] = turn @ np.diag([-self.spacing, self.spacing, self.spacing])
        centre = (np.array(shape) - 1) / 2
        matrix[:3, 3] = rng.uniform(-8, 8, 3) - matrix[:3, :3] @ centre
        return Grid.of(shape, matrix)

    def labels(self):
        """(X, Y, Z) values, and where the head is; read-only."""
        return _labels(Head(self.person, spacing=self.spacing))

    def _made(self):
        rng = np.random.default_rng(self.person)
        grid = self.grid()
        where = grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1))
        scale = rng.uniform(0.93, 1.07, 3)
        for axis in range(3):  # a smooth deformation of the person's own
            phase, wave = rng.uniform(0, 6.28), rng.uniform(50, 80)
            where[..., axis] += 2.0 * np.sin(where[..., (axis + 1) % 3] / wave * 6.28 + phase)
        where = where / scale
        out = np.zeros(grid.shape, np.int16)
        out[_inside(where, (0, 0, 8), (66, 76, 62))] = VALUES["CSF"]
        for side, sign in (("left", -1), ("right", 1)):
            for name, centre, half in _SIDE:
                size = np.array(half) * (1 + rng.uniform(-0.05, 0.05))
                there = _inside(where, (sign * centre[0], *centre[1:]), size) & (sign * where[..., 0] > 0)
                out[there] = VALUES[f"{side} {name}"]
        out[_inside(where, (0, -16, -28), (11, 12, 24))] = VALUES["brain-stem"]
        return out, _inside(where, (0, 0, 6), (76, 88, 72))

    def read(self):
        grid = self.grid()
        labels, head = self.labels()
        if self.part == "label":
            return Volume(labels, grid)
        levels = {"t1": T1_LIKE, "inverted": INVERTED}[self.part]
        image = np.full(grid.shape, float(levels["air"]))
        image[head] = levels["scalp"]
        for name, value in VALUES.items():
            level = next(v for key, v in levels.items() if name.endswith(key))
            image[labels == value] = level
        image = ndimage.gaussian_filter(image, 0.5 * 2.0 / self.spacing)  # partial volume at the borders
        rng = np.random.default_rng(self.person + 1000)
        along = [np.linspace(-1, 1, n) for n in grid.shape]
        field = (
            along[0][:, None, None] * rng.uniform(-1, 1)
            + along[1][:, None] * rng.uniform(-1, 1)
            + along[2] ** 2
        )
        image = image * np.exp(self.bias * field)
        # Rician, as magnitude images are.
        real, imaginary = (rng.normal(0, self.noise, grid.shape) for _ in range(2))
        image = np.hypot(image + real, imaginary)
        return Volume((self.gain * image + self.offset).astype(np.float32), grid)


@lru_cache(maxsize=32)
def _labels(head):
    return head._made()


def _inside(where, centre, half):
    return (((where - np.array(centre)) / np.array(half)) ** 2).sum(-1) <= 1


def index_of_heads(persons, contrast=None, **more):
    """Cases with a label map; with an image too where a contrast is given."""
    cases = []
    for person in persons:
        channels = {} if contrast is None else {"image": Head(person, contrast, **more)}
        label = Label("hard", Head(person, "label", more.get("spacing", 4.0)))
        cases.append(Case(f"head{person}", f"head{person}", channels, {"hard": label}))
    return CaseIndex(cases, LABELS)


def dice(a, b):
    return 2 * (a & b).sum() / max((a.sum() + b.sum()), 1)


@lru_cache(maxsize=1)
def head_atlas():
    """The atlas of five heads at 4 mm; read-only."""
    from mriad.preparation import load_sample
    from mriad_synthseg.atlas_building import Indexed, build_atlas

    index = index_of_heads(range(5))

    def read(place):
        sample = load_sample(index[place], (), "hard", "hard", LABELS)
        return Indexed(sample.target[0], sample.grid)

    return build_atlas(5, read, LABELS, spacing_mm=4.0, smooth_mm=2.0, margin_mm=10.0)
