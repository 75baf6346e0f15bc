"""Masks of discs on grids, tubes in three contrasts, and an experiment on a small phantom with labels to be made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.launch.inline import InlineLauncher
from mriad.registry import Registered, registry
from mriad.stages.artefact import StageContext
from mriad.stages.dataset import open_dataset
from mriad.stages.graph import expand
from mriad.vocabulary import LabelSet, Link, Task
from mriad_softseg.masks import Mask

sys.path.insert(0, str(Path(__file__).parent))
from tubes_setup import Tubes

if TYPE_CHECKING:
    from collections.abc import Mapping


def drawn(centres: Any, shape: tuple[int, int, int], radius: float, spacing: float = 1.0) -> np.ndarray:
    """A disc on each slice, uint8 (X, Y, Z); centres (Z, 2) in voxels, NaN for an empty slice; radius in mm."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    out = np.zeros(shape, np.uint8)
    for k, (cx, cy) in enumerate(np.asarray(centres, float)):
        out[:, :, k] = np.hypot(x - cx, y - cy) * spacing <= radius
    return out


@pytest.fixture
def make_task():
    def make(link: Link = "raw", structures: int = 1, channels: int = 1, dimensions: int = 3) -> Task:
        labels = LabelSet.of({f"s{i}": i + 1 for i in range(structures)})
        return Task(tuple(f"c{i}" for i in range(channels)), {"": labels}, link, dimensions=dimensions)

    return make


@pytest.fixture
def discs():
    return drawn


@pytest.fixture
def mask_of():
    """A mask from voxels and, unless given, a grid of 1 mm to R, A, S."""

    def made(data: np.ndarray, grid: Grid | None = None, value: int = 1) -> Mask:
        return Mask.of(data, grid or Grid.of(data.shape, np.eye(4)), value)

    return made


class Talk:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def progress(self, step: int, steps: int) -> None: ...
    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def context_of(tmp_path):
    """A stage's context in a folder of its own."""

    def made(experiment: Any, folder: str = "softgt") -> StageContext:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        return StageContext("softgt", place, experiment, {}, 0, 0, "f" * 64, Talk(), InlineLauncher())

    return made


@pytest.fixture
def tubes(monkeypatch):
    monkeypatch.setitem(registry().components["dataset"], "tubes.data", Registered(Tubes, "tubes", "tests"))


@pytest.fixture
def make(tubes):
    """An experiment; p0 and p1 test, p2 validates, the others train, unless another split is given."""

    def made(stage=None, split=None, **data) -> Experiment:
        return Experiment.model_validate(
            {
                "name": "soft",
                "data": {
                    "dataset": {"type": "tubes.data", **data},
                    "labels": {"kind": "soft", "from": "softgt"},
                    "split": split or {"type": "data.random_split", "validation": 1, "test": 2},
                },
                "model": "standard.plain_unet",
                "loss": {"type": "standard.mse"},
                "predict": {"head": "standard.identity"},
                "evaluate": {"metrics": ["eval.dice"]},
                "stages": {
                    "softgt": {"type": "softseg.soft_ground_truth", "trim_mm": 0, **(stage or {})},
                    "train": {"type": "core.train"},
                },
            }
        )

    return made


@pytest.fixture
def run(make, context_of):
    """Run the stage; return the artefact and its cases by id."""

    def ran(stage=None, split=None, folder="softgt", **data):
        experiment = make(stage, split, **data)
        node = next(n for n in expand(experiment) if n.name == "softgt")
        artefact = node.stage.run(context_of(node.experiment, folder))
        return artefact, {case.id: case for case in open_dataset(artefact.folder)}

    return ran
