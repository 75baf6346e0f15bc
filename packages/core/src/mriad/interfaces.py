"""The interfaces of DESIGN.md section 3. A component's `build` imports the heavy part; this module does not.

Datasets, augmenters, models and losses are the stable public API; the rest may still move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from mriad.ablation.comparison import Comparison as Comparison
from mriad.component import Component, Config
from mriad.metric import CaseMetric as CaseMetric
from mriad.metric import Direction as Direction
from mriad.metric import Level as Level
from mriad.metric import Metric as Metric
from mriad.metric import PersonMetric as PersonMetric
from mriad.metric import SliceMetric as SliceMetric
from mriad.report import Report as Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mriad.batch import Batch, Draws
    from mriad.experiment.model import Experiment
    from mriad.geometry import Grid
    from mriad.launch.trial import Trial
    from mriad.stages.artefact import Artefact, ArtefactKind, StageContext
    from mriad.training.algorithm import Algorithm, LearnerSetup
    from mriad.vocabulary import CaseIndex, LabelSet, Link, Sample, Task, Volume

    LossFunction = Callable[..., Tensor]
    BatchFunction = Callable[[Batch, Draws], Batch]
    PatchFunction = Callable[[Sample, np.random.Generator, Sequence[int]], Sample]


class Dataset(Component):
    """An index of cases. `build` reads tables and file names, never voxels."""

    interface = "dataset"
    generated: ClassVar[bool] = False
    """Whether its persons are made up, so that their names need no protection in a tracking store."""

    def build(self) -> CaseIndex:
        """Return the cases and their label set.

        Raises:
            DataError: the folder, table or a named file is missing or malformed; all faults in one message.
        """
        raise NotImplementedError


class PreprocessingStep(Component):
    """One recorded step on a `Sample`. Geometry is undone through world space: see decision 0004.

    `version` is raised when the step's numbers change: it is part of every store key.
    """

    interface = "preprocessing"
    version: ClassVar[int] = 1
    fitted: ClassVar[bool] = False
    """Whether `fit` learns from training cases; a fitted step belongs to a fold."""

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, Any] | None:
        """Learn parameters (JSON values) from training samples that went through the steps before this one."""
        return None

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return a new sample; image, target, validity and field move together. The input is not written to."""
        raise NotImplementedError


class Store(Component):
    """Keeps prepared samples so that they are made once and read at memory speed."""

    interface = "store"

    def build(self, folder: Path) -> SampleStore:
        """Return the store that lives under `folder`."""
        raise NotImplementedError


class SampleStore(Protocol):
    """Content-addressed samples; several processes may share one."""

    def get(self, key: str) -> Sample | None:
        """Return a sample whose arrays are read-only memory maps, or None.

        Where a store compresses, an array may be one that gives numpy arrays when it is sliced and as a whole to
        `np.asarray`; steps never see such ones.
        """
        ...

    def put(self, key: str, sample: Sample) -> Sample:
        """Write atomically, then return what `get` would.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        ...

    def once(self, key: str, make: Callable[[], Sample]) -> Sample:
        """Return what is there, or `put` what `make` gives; of several processes that ask at once one makes it.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        ...


class Sampler(Component):
    """Chooses a patch of a prepared sample."""

    interface = "sampler"

    def build(self, task: Task) -> PatchFunction:
        """Return `draw(sample, generator, margin) -> patch`; `margin` is in voxels a side, for augmenters.

        Where an epoch goes through every slice, what is returned also has `items(sample) -> int`, and is called with
        `item=`, from 0.
        """
        raise NotImplementedError


class Augmenter(Component):
    """Changes a batch on its device; label map → image generators are augmenters too.

    The built callable takes `(batch, draws)` and returns a new batch; every random number comes from `draws`.
    With `where = "worker"` it is called with one sample on the CPU, in a loader process.
    """

    interface = "augmenter"
    where: ClassVar[Literal["device", "worker"]] = "device"

    def margin(self) -> int:
        """Voxels that a patch should be larger on each side, so that no border is made up."""
        return 0

    def channels(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Channel names after this augmenter; a generator makes images where `given` is empty."""
        return given

    def label_set(self, given: LabelSet) -> LabelSet:
        """Label set of targets after this augmenter; a generator maps what it paints to what is segmented."""
        return given

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        raise NotImplementedError


class Model(Component):
    """A network for a task.

    The module maps (B, C, *D) to raw outputs (B, `task.outputs()`, *D), or to a list of them, finest first, when it
    is in training mode with deep supervision. Domain-specific networks also take `domain=` by name.
    """

    interface = "model"

    def build(self, task: Task) -> nn.Module:
        """Return the module on the CPU, initialised from torch's global generator (seeded by the caller)."""
        raise NotImplementedError

    def divisor(self) -> int:
        """Every spatial size of an input must be a multiple of this."""
        return 1


class Loss(Component):
    """A scalar to minimise.

    The built callable takes `(prediction, target, weight=None)`: raw outputs (B, O, *D), a target as in `Batch`, a
    weight (B, 1, *D) where 0 hides a voxel. It is a mean over samples of a value per sample, so that ranks average
    to the joint batch. A loss on an embedding takes `(embedding, group)` and has `link` None.
    """

    interface = "loss"

    @property
    def link(self) -> Link | None:
        """How the loss reads raw outputs; the prediction head must agree."""
        return None

    def build(self, task: Task) -> LossFunction:
        """Return the callable."""
        raise NotImplementedError


class Optimiser(Component):
    """A torch optimiser over given parameters."""

    interface = "optimiser"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser."""
        raise NotImplementedError


class Schedule(Component):
    """A factor on the learning rate."""

    interface = "schedule"

    def factor(self, step: int, steps: int) -> float:
        """The factor at `step` (from 0) of `steps` updates."""
        raise NotImplementedError


class Learner(Component):
    """A training algorithm: steps over named streams, owns networks and optimisers, yields what predicts."""

    interface = "learner"
    yields: ClassVar[Literal["predictor", "weights"]] = "predictor"
    """"weights": the networks segment nothing (proxy tasks, translation); they start others or feed a stage."""

    def streams(self) -> tuple[str, ...]:
        """Names of the streams that `step` reads; the experiment must declare them."""
        return ("labelled",)

    def build(self, setup: LearnerSetup) -> Algorithm:
        """Return the running learner with its networks on `setup.device`."""
        raise NotImplementedError


class Head(Component):
    """Raw outputs of the *stitched* volume → probabilities per structure, background dropped."""

    interface = "head"

    @property
    def link(self) -> Link:
        """What raw outputs mean; must agree with the loss."""
        raise NotImplementedError

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return a function (O, *D) → (S, *D) in [0, 1]."""
        raise NotImplementedError

    @property
    def voxelwise(self) -> bool:
        """Whether the value at a voxel depends on that voxel alone, so that slabs may be finished one by one."""
        return True

    def facts(self, raw: Tensor) -> Mapping[str, Sequence[float]]:
        """Numbers of a case's stitched raw outputs (O, *D), by name, one a structure; asked where not voxelwise.

        They stand in the table of the evaluation as measurements (no direction) beside the metrics.
        """
        return {}


class Prediction(Protocol):
    """Probabilities (S, X, Y, Z) float32 on the case's own grid."""

    probabilities: NDArray[np.float32]
    grid: Grid
    label_set: LabelSet


class CasePredictor(Protocol):
    """What a `Predictor` builds. With domain-specific networks it is one domain's, label set included."""

    label_set: LabelSet
    channels: tuple[str, ...]

    def __call__(self, channels: Mapping[str, Volume]) -> Prediction:
        """Segment one case; the result lies on the grid of the first channel."""
        ...


class Predictor(Component):
    """Case → probabilities on the case's own grid. Validation, predict, pseudo-labels and export know only this."""

    interface = "predictor"

    def build(self, folder: Path, device: str = "cpu") -> CasePredictor:
        """Return the predictor from the folder that holds its weights and fitted parameters.

        One that asks networks should be a `mriad.inference.predictor.OfNetworks`: `--domain` and `--engine` then
        reach it.

        Raises:
            CheckpointError: a file is missing, damaged, or of another architecture.
        """
        raise NotImplementedError


class Postprocessor(Component):
    """Changes probabilities after prediction, on the case's own grid."""

    interface = "postprocessor"

    def apply(
        self, probabilities: NDArray[np.float32], grid: Grid, label_set: LabelSet
    ) -> NDArray[np.float32]:
        """Return new probabilities (S, X, Y, Z)."""
        raise NotImplementedError


class Split(Component):
    """Which persons train, validate and test in each fold."""

    interface = "split"

    def folds(self) -> int:
        """Number of folds; -1 where it depends on the data (leave one out)."""
        raise NotImplementedError

    def folds_of(self, index: CaseIndex) -> int:
        """Number of folds for these cases; to be overridden where it depends on them."""
        return self.folds()

    def held_out(self, index: CaseIndex, fold: int) -> frozenset[str]:
        """Contrasts or domains that nothing may learn from in this fold, whatever data set a stage reads."""
        return frozenset()

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test".

        Raises:
            SplitError: a person would be on two sides, or a side would be empty.
        """
        raise NotImplementedError


class Members(Config):
    """Several runs of one stage, by fold or by seed; their ensemble has the stage's name."""

    folds: int | None = Field(
        None,
        ge=2,
        description="Parts of the training persons; each member validates on one, trains on the rest.",
    )
    seeds: list[int] | None = Field(None, min_length=1, description="One member a seed; all different.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        """Either folds or seeds."""
        if (self.folds is None) == (self.seeds is None):
            raise ValueError("members are either `folds: n` or `seeds: [..]`")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"the seeds of members must differ, not {self.seeds}")
        return self


class Stage(Component):
    """A step that turns artefacts into artefacts; see `mriad.stages`.

    Fields whose names are in `references` hold names of other stages (a name, or a list of names). A mapping
    there is no reference but an override: `data: {...}` changes the experiment's section, `data: [a, b]` names
    stages.
    """

    interface = "stage"
    references: ClassVar[tuple[str, ...]] = ("after", "with_", "data", "from_", "cases")
    version: ClassVar[int] = 1
    makes: ClassVar[ArtefactKind] = "table"
    reads_unlearned: ClassVar[bool] = False
    """Whether the result also holds something of cases that neither train nor validate (labels that are tested
    against), so that their voxels count for the fingerprint."""
    seeded: ClassVar[bool] = True
    """Whether the result depends on the seed. One that does not is made once for all seeds of an ablation."""
    accepts: ClassVar[Mapping[str, tuple[ArtefactKind, ...]]] = {
        "with_": ("predictor",),
        "data": ("dataset",),
        "from_": ("weights", "predictor"),
        "cases": ("dataset",),
    }
    """Kinds that a reference takes, by field; a field that is not listed (`after`) takes any."""
    overrides: ClassVar[tuple[str, ...]] = ()
    """Sections of the experiment (`learner`, `streams`, …) that the stage may be given too, for itself alone.

    Each needs a field of that name, typed raw (`dict[str, Any] | None`): it is merged and then validated.
    """

    after: str | list[str] = Field(default_factory=list, description="Stages that must have ended before.")
    members: Members | None = Field(None, description="Run several times; the predictors become an ensemble.")

    def sections(self) -> tuple[str, ...]:
        """Sections of the experiment that the result depends on ("model", "data.labels"), for the fingerprint."""
        return ()

    def contents(self) -> Mapping[str, str]:
        """SHA-256 of files outside the data set that the result depends on, by name, for the fingerprint."""
        return {}

    def result(self, experiment: Experiment) -> ArtefactKind:
        """The kind that `run` will make under this experiment (the stage's own overrides included)."""
        return self.makes

    def run(self, context: StageContext) -> Artefact:
        """Do the work inside `context.folder` and return what was made."""
        raise NotImplementedError


class Figure(Component):
    """A picture of a finished trial, computed from its tracked values; drawn for every run."""

    interface = "figure"
    names_cases: ClassVar[bool] = False
    """Whether it writes names of cases or persons, through `trial.names.of`, into pictures or file names."""

    def draw(self, trial: Trial, folder: Path) -> list[Path]:
        """Write PNG files into `folder` and return them; an empty list where the trial has nothing to show."""
        raise NotImplementedError


INTERFACES: tuple[type[Component], ...] = (
    Dataset,
    PreprocessingStep,
    Store,
    Sampler,
    Augmenter,
    Model,
    Loss,
    Optimiser,
    Schedule,
    Learner,
    Head,
    Predictor,
    Postprocessor,
    Split,
    Stage,
    Metric,
    Figure,
    Comparison,
    Report,
)
"""Every interface, in the order of a run."""


def interface_named(name: str) -> type[Component]:
    """The interface class of a name such as "loss".

    Raises:
        KeyError: there is no such interface.
    """
    return {i.interface: i for i in INTERFACES}[name]
