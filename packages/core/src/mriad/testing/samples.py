"""Small inputs with a known structure: a box of one structure, a ball of another, on an oblique anisotropic grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mriad.batch import Batch, sample_key
from mriad.geometry import Grid
from mriad.training.streams import collate
from mriad.vocabulary import LabelSet, Sample, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad.vocabulary import Link

STRUCTURES = LabelSet.of({"box": 1, "ball": 2})


def a_task(link: Link = "softmax", channels: tuple[str, ...] = ("T1w", "T2w")) -> Task:
    """A task with two channels and two structures."""
    return Task(channels=channels, label_sets={"": STRUCTURES}, link=link)


def a_sample(
    number: int = 0, kind: Literal["hard", "soft"] = "hard", size: int = 16, channels: int = 2
) -> Sample:
    """A sample of (size, size, size + 4) voxels of 1 × 1 × 2 mm, turned by 10° about the first axis.

    Image channels differ; the target is an index map (hard) or two probability maps (soft).
    """
    rng = np.random.default_rng(number)
    shape = (size, size, size + 4)
    index = np.zeros(shape, np.uint8)
    quarter = size // 4
    index[quarter : 2 * quarter, quarter : 3 * quarter, quarter:-quarter] = 1
    centre = np.array([3 * quarter, 2 * quarter, shape[2] // 2])
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    index[(np.linalg.norm(places - centre, axis=-1) <= quarter - 1) & (index == 0)] = 2
    clean = np.stack([c + 3.0 * (index == 1) * (c + 1) - 2.0 * (index == 2) for c in range(channels)])
    noisy = (clean + rng.normal(0, 0.3, clean.shape)).astype(np.float32)
    angle = np.deg2rad(10)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 1.0, 2.0])
    affine[:3, 3] = (12, -7, 30)
    target = index[None] if kind == "hard" else _soft(index)
    return Sample(
        f"case-{number}", noisy, Grid.of(shape, affine), target, person=f"person-{number}", contrast="T1w"
    )


def _soft(index: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The two structures with blurred borders, in [0, 1], their sum at most 1."""
    maps: NDArray[np.float32] = np.stack([index == 1, index == 2]).astype(np.float32)
    for axis in (1, 2, 3):
        maps = (np.roll(maps, 1, axis) + 2 * maps + np.roll(maps, -1, axis)) / np.float32(4)
    return maps


def a_batch(size: int = 2, kind: Literal["hard", "soft"] = "hard", voxels: int = 16) -> Batch:
    """`size` samples as a batch with keys of their own."""
    samples = [a_sample(i, kind, voxels) for i in range(size)]
    return collate(samples, [sample_key(0, "labelled", 0, s.case) for s in samples])
