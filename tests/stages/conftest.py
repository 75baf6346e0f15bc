"""A small registry of components that do nothing heavy, and experiments made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.interfaces import (
    Augmenter,
    Dataset,
    Head,
    Learner,
    Metric,
    Optimiser,
    Split,
    Stage,
    Store,
)
from mriad.registry import Registry, using
from mriad.stages.artefact import Artefact
from mriad.stages.ensemble import Ensemble
from mriad.stages.pseudo_label import PseudoLabel
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OBLIQUE = np.array([[0.8, 0.1, 0, -7], [-0.1, 0.9, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]])
GRID = Grid.of((4, 5, 6), OBLIQUE)


@dataclass(frozen=True)
class Ramp:
    """Voxels that follow from a number."""

    seed: int
    labels: bool = False

    @property
    def fingerprint(self) -> str:
        return f"ramp-{self.seed}-{self.labels}"

    @property
    def location(self) -> str:
        return f"ramp {self.seed}"

    def read(self) -> Volume:
        data = np.random.default_rng(self.seed).normal(size=GRID.shape).astype(np.float32)
        return Volume((data > 0).astype(np.uint8) if self.labels else data, GRID)


class ToyData(Dataset):
    type: Literal["toy.data"] = "toy.data"
    persons: int = 8
    salt: int = 0

    def build(self) -> CaseIndex:
        cases = []
        for i in range(self.persons):
            labelled = i % 2 == 0
            labels = {"hard": Label("hard", Ramp(100 + i + self.salt, labels=True))} if labelled else {}
            cases.append(
                Case(
                    id=f"case{i}",
                    person=f"person{i}",
                    channels={"image": Ramp(i + self.salt)},
                    labels=labels,
                    contrast="T1w" if labelled else "T2w",
                    numbers={"area_mm2/C3": 70.5 + i},
                )
            )
        return CaseIndex(cases, LabelSet.of({"cord": 7, "csf": 3}))


class ToySplit(Split):
    type: Literal["data.k_fold"] = "data.k_fold"
    test: int = 2

    def folds(self) -> int:
        return 2

    def build(self, index: CaseIndex, fold: int, seed: int) -> dict[str, tuple[str, ...]]:
        ids = [case.id for case in index]
        ids = ids[fold * self.test :] + ids[: fold * self.test]
        return {
            "test": tuple(ids[: self.test]),
            "validation": tuple(ids[self.test : self.test + 1]),
            "train": tuple(ids[self.test + 1 :]),
        }


class ToyStore(Store):
    type: Literal["data.store"] = "data.store"
    mib: int = 100


class Supervised(Learner):
    type: Literal["standard.supervised"] = "standard.supervised"
    weight: float = 1.0


class Proxy(Learner):
    type: Literal["toy.proxy"] = "toy.proxy"
    yields: ClassVar[Any] = "weights"

    def streams(self) -> tuple[str, ...]:
        return ("unlabelled",)


class Adam(Optimiser):
    type: Literal["standard.adam"] = "standard.adam"
    lr: float = 1e-3


class Softmax(Head):
    type: Literal["standard.softmax"] = "standard.softmax"

    @property
    def link(self) -> Any:
        return "softmax"


class Painter(Augmenter):
    type: Literal["toy.painter"] = "toy.painter"
    version: ClassVar[int] = 1
    references: ClassVar[tuple[str, ...]] = ("priors",)
    priors: str = ""
    strength: float = 1.0


class Dice(Metric):
    type: Literal["toy.dice"] = "toy.dice"
    smooth: float = 0.0


class Train(Stage):
    type: Literal["core.train"] = "core.train"
    makes: ClassVar[Any] = "predictor"
    overrides: ClassVar[tuple[str, ...]] = ("data", "streams", "learner", "optimiser", "budget", "augment")
    data: Any = None
    streams: Any = None
    learner: Any = None
    optimiser: Any = None
    budget: Any = None
    augment: Any = None
    from_: str = "scratch"
    note: str = ""

    model_config: ClassVar[Any] = {"alias_generator": lambda name: name.rstrip("_")}

    def sections(self) -> tuple[str, ...]:
        return ("data", "streams", "augment", "learner", "optimiser", "budget", "predict", "evaluate.stop_on")

    def result(self, experiment: Experiment) -> Any:
        return experiment.learner.yields

    def run(self, context: Any) -> Artefact:
        return _work(self, context)


class Evaluate(Stage):
    type: Literal["core.evaluate"] = "core.evaluate"
    makes: ClassVar[Any] = "table"
    references: ClassVar[tuple[str, ...]] = ("after", "with_")
    with_: str

    model_config: ClassVar[Any] = {"alias_generator": lambda name: name.rstrip("_")}

    def sections(self) -> tuple[str, ...]:
        return ("evaluate", "data.labels")

    def run(self, context: Any) -> Artefact:
        return _work(self, context)


class Make(Stage):
    """Makes a data set; what it does to the experiment's cases is a matter of `strength`."""

    type: Literal["toy.make"] = "toy.make"
    version: ClassVar[int] = 1
    makes: ClassVar[Any] = "dataset"
    references: ClassVar[tuple[str, ...]] = ("after", "with_", "cases")
    with_: str = ""
    cases: str = ""
    strength: float = 1.0
    fail: str = ""

    model_config: ClassVar[Any] = {"alias_generator": lambda name: name.rstrip("_")}

    def sections(self) -> tuple[str, ...]:
        return ("data",)

    def run(self, context: Any) -> Artefact:
        return _work(self, context)


class Fit(Stage):
    type: Literal["toy.fit"] = "toy.fit"
    makes: ClassVar[Any] = "table"

    def sections(self) -> tuple[str, ...]:
        return ("data.preprocessing",)

    def run(self, context: Any) -> Artefact:
        return _work(self, context)


def _work(stage: Stage, context: Any) -> Artefact:
    """Leave a trace of each run: how often, with what."""
    log = context.folder / "runs.txt"
    before = log.read_text() if log.exists() else ""
    log.write_text(before + "run\n")
    seen = {name: str(made.folder) for name, made in context.inputs.items()}
    (context.folder / "inputs.json").write_text(json.dumps(seen))
    return Artefact(stage.result(context.experiment), context.folder, context.fingerprint, {"runs": 1})


TOYS = (
    ToyData,
    ToySplit,
    ToyStore,
    Supervised,
    Proxy,
    Adam,
    Softmax,
    Painter,
    Dice,
    Train,
    Evaluate,
    Make,
    Fit,
    Ensemble,
    PseudoLabel,
)


@pytest.fixture
def toys() -> Iterator[Registry]:
    """Only the toy components are installed."""
    registry = Registry()
    for component in TOYS:
        registry.add(component, component.type_name().split(".")[0], "tests")
    with using(registry):
        yield registry


@pytest.fixture
def make(toys: Registry) -> Any:
    """Make an experiment from its sections; `data` has a default."""

    def made(**sections: Any) -> Experiment:
        raw = {"name": "toy", "data": {"dataset": "toy.data"}, **sections}
        return Experiment.model_validate(raw)

    return made


class Talk:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, step: int, values: Any) -> None:
        return

    def progress(self, step: int, steps: int) -> None:
        return

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def grid() -> Grid:
    return GRID


@pytest.fixture
def ramp() -> type[Ramp]:
    return Ramp


@pytest.fixture
def stage_types() -> Any:
    """The toy stages by name, for tests that subclass them."""
    return {"make": Make, "train": Train, "fit": Fit}


@pytest.fixture
def stages_root(tmp_path: Path) -> Path:
    return tmp_path / "runs"
