"""`core.train`: one learner over one experiment's streams; makes a predictor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mriad.errors import DataError
from mriad.interfaces import Stage
from mriad.stages.artefact import Artefact

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment
    from mriad.stages.artefact import ArtefactKind, StageContext
    from mriad.vocabulary import Case, CaseIndex

OVERRIDES = "The experiment's section, for this stage alone: another `type` replaces, all else merges."
SECTIONS = (
    "data",
    "streams",
    "augment",
    "model",
    "loss",
    "learner",
    "optimiser",
    "schedule",
    "budget",
    "predict",
    "evaluate",
)


class TrainStage(Stage):
    """Trains the experiment's learner. Any of its sections may be overridden here, for this stage alone."""

    type: Literal["core.train"] = "core.train"
    makes: ClassVar[ArtefactKind] = "predictor"
    overrides: ClassVar[tuple[str, ...]] = SECTIONS
    data: str | list[str] | dict[str, Any] | None = Field(
        None, description="Stages whose data sets are trained on instead of the experiment's; or overrides."
    )
    streams: dict[str, Any] | None = Field(None, description=OVERRIDES)
    augment: list[Any] | None = Field(None, description=OVERRIDES)
    model: dict[str, Any] | str | None = Field(None, description=OVERRIDES)
    loss: dict[str, Any] | str | None = Field(None, description=OVERRIDES)
    learner: dict[str, Any] | str | None = Field(None, description=OVERRIDES)
    optimiser: dict[str, Any] | str | None = Field(None, description=OVERRIDES)
    schedule: dict[str, Any] | str | None = Field(None, description=OVERRIDES)
    budget: dict[str, Any] | None = Field(None, description=OVERRIDES)
    predict: dict[str, Any] | None = Field(None, description=OVERRIDES)
    evaluate: dict[str, Any] | None = Field(None, description=OVERRIDES)
    from_: str = Field(
        "scratch",
        alias="from",
        description="`scratch`, a stage that made weights, or a model: file, folder or imported name.",
    )
    key_map: dict[str, str] = Field(
        default_factory=dict,
        description="Prefix of a tensor's name there → prefix here; empty: equal names. No match is an error.",
    )
    overfit: int = Field(
        0, ge=0, description="Train and validate on the first n labelled cases; 0: normally."
    )

    def sections(self) -> tuple[str, ...]:
        """What the weights depend on. The first metric chooses the checkpoint, so it counts; the others do not."""
        return (
            "data.labels",
            "data.channels",
            "data.domains",
            "data.structures",
            "data.sparse",
            "data.validate_on",
            "data.preprocessing",
            "streams",
            "augment",
            "model",
            "loss",
            "learner",
            "optimiser",
            "schedule",
            "budget",
            "predict",
            "evaluate.metrics.0",
            "evaluate.stop_on",
        )

    def result(self, experiment: Experiment) -> ArtefactKind:
        """A predictor, or bare weights where the learner's networks segment nothing."""
        return experiment.learner.yields

    def run(self, context: StageContext) -> Artefact:
        """Train in the launcher's workers, resuming from what is in the folder."""
        from mriad.training.worker import TrainPayload, train_worker

        folder = context.folder.absolute()
        payload = TrainPayload(
            experiment=context.experiment.model_dump(mode="json"),
            fold=context.fold,
            seed=context.seed,
            inner=context.inner,
            overfit=self.overfit,
            store=str(folder.parent.parent / "store"),
            datasets=tuple(str(context.inputs[name].folder) for name in self._datasets()),
            labels=labels_folder(context),
            start=self._start(context),
            key_map=dict(self.key_map),
            inputs={name: str(made.folder) for name, made in context.inputs.items()},
        )
        summary = context.launcher.run(
            train_worker,
            payload,
            resources=context.experiment.resources,
            name=f"{context.name}-{context.fingerprint[:12]}",
            folder=folder,
            reporter=context.reporter,
        )
        kind = context.experiment.learner.yields
        return Artefact(kind, folder / kind, context.fingerprint, summary)

    def _datasets(self) -> list[str]:
        if isinstance(self.data, str):
            return [self.data]
        return list(self.data) if isinstance(self.data, list) else []

    def _start(self, context: StageContext) -> str:
        if self.from_ == "scratch":
            return ""
        if self.from_ in context.inputs:
            return str(context.inputs[self.from_].folder)
        from mriad.stages.starting import find_start

        return str(find_start(self.from_).absolute())  # workers may run in another folder


def labels_folder(context: StageContext) -> str:
    """The folder of the stage that made the labels, where `data.labels.from` names one."""
    name = context.experiment.data.labels.from_
    return str(context.inputs[name].folder) if name else ""


def index_of(experiment: Experiment, datasets: tuple[str, ...] = (), labels: str = "") -> CaseIndex:
    """The cases of an experiment, or of the data sets that earlier stages made.

    Args:
        experiment: names the data set.
        datasets: folders of data set artefacts, used instead of it.
        labels: folder of a data set artefact whose labels are added to the cases of the same id; its annotations
            too, where a case has none of that name. Labels of `datasets` stay: they may have been made of these.

    Raises:
        DataError: an artefact has no manifest, or its labels fit no case.
    """
    from mriad.flow import merge_indexes
    from mriad.interfaces import Dataset
    from mriad.stages.dataset import open_dataset
    from mriad.vocabulary import CaseIndex as Index

    def read(folder: str) -> CaseIndex:
        return Dataset.resolve({"type": "data.manifest", "path": f"{folder}/manifest.csv"}).build()

    index = (
        merge_indexes([read(folder) for folder in datasets]) if datasets else experiment.data.dataset.build()
    )
    if not labels:
        return index
    made = {case.id: case for case in open_dataset(labels)}
    if not any(case.id in made for case in index):
        raise DataError(
            "the labels of an earlier stage belong to no case of the data set", where={"stage": labels}
        )
    return Index([_with_made(case, made.get(case.id), bool(datasets)) for case in index], index.label_set)


def _with_made(case: Case, made: Case | None, keep: bool) -> Case:
    """The case with what a stage made; with `keep` its own labels stay where both have one of a name."""
    if made is None:
        return case
    labels = {**made.labels, **case.labels} if keep else {**case.labels, **made.labels}
    return replace(case, labels=labels, annotations={**made.annotations, **case.annotations})
