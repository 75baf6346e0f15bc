"""Small label maps and batches for the tests of the generator."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from mriad.batch import Batch, Draws, sample_key
from mriad.vocabulary import LabelSet, Task

WITHOUT = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
BACKENDS = pytest.mark.parametrize("backend", ["torch", pytest.param("numba", marks=WITHOUT)])
SIDED = LabelSet.of(
    {
        "left_thalamus": 10,
        "right_thalamus": 49,
        "brain-stem": 16,
        "left_caudate": 11,
        "right_caudate": 50,
        "skull": 502,
    }
)


def a_map(size=(24, 20, 22)) -> torch.Tensor:
    """Balls of the structures of SIDED, left ones at low x, in a (1, X, Y, Z) index volume."""
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij"), -1)
    index = np.zeros(size, np.int64)

    def ball(centre, radius, value):
        index[np.linalg.norm(at - np.array(centre), axis=-1) < radius] = value

    ball((0, 0, 0), 0.95, 6)
    ball((0, 0, 0), 0.85, 3)
    ball((-0.4, 0.2, 0.1), 0.3, 1)
    ball((0.4, 0.2, 0.1), 0.33, 2)
    ball((-0.35, -0.4, -0.2), 0.22, 4)
    ball((0.35, -0.4, -0.2), 0.25, 5)
    return torch.from_numpy(index)[None]


def a_task(label_set: LabelSet = SIDED, channels=("image",)) -> Task:
    return Task(channels=channels, label_sets={"": label_set}, link="softmax")


def a_batch(*targets: torch.Tensor, spacing=1.0, **more) -> Batch:
    target = torch.stack(list(targets))
    names = tuple(f"map-{i}" for i in range(len(target)))
    return Batch(
        image=torch.empty((len(target), 0, *target.shape[2:])),
        keys=tuple(sample_key(0, "labelled", 0, name) for name in names),
        cases=names,
        target=target,
        spacing=((spacing,) * 3,) * len(target),
        **more,
    )


def still(**fields):
    """Settings of a generator that neither moves nor degrades anything, but for what is given."""
    return {
        "rotation_deg": 0,
        "scaling": 0,
        "shear": 0,
        "translation_voxels": 0,
        "velocity_std": (0, 0),
        "flip_probability": 0,
        "strip_probability": 0,
        "background_zero_probability": 0,
        "blur_voxels": 0,
        "bias_std": (0, 0),
        "gamma": 0,
        "std": (0, 0),
        **fields,
    }


def made(config, batch: Batch, task: Task | None = None, tag: str = "t") -> Batch:
    return config.build(task or a_task())(batch, Draws(batch.keys, tag))
