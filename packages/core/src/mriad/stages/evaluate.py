"""`core.evaluate`: predicts the test cases on their own grids and measures them there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mriad.errors import DataError
from mriad.interfaces import Stage
from mriad.stages.artefact import Artefact
from mriad.stages.imported import ImportedPredictions, LabelPredictions
from mriad.stages.train import index_of, labels_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.evaluation import Row
    from mriad.experiment.model import Experiment
    from mriad.interfaces import Metric
    from mriad.launch.protocol import WorkerContext
    from mriad.stages.artefact import ArtefactKind, StageContext
    from mriad.vocabulary import Case, LabelSet

TABLE = "cases.csv"
PREDICTIONS = "predictions"


class EvaluateStage(Stage):
    """Writes `cases.csv` and Parquet (one row a case or person, structure and metric), and the predictions."""

    type: Literal["core.evaluate"] = "core.evaluate"
    makes: ClassVar[ArtefactKind] = "table"
    accepts: ClassVar[Mapping[str, tuple[ArtefactKind, ...]]] = {"with_": ("predictor",)}
    with_: str = Field(alias="with", description="Stage whose predictor is measured.")
    cases: Literal["test", "validation", "train"] = Field("test", description="Which side of the split.")

    references: ClassVar[tuple[str, ...]] = ("after", "with_")

    def sections(self) -> tuple[str, ...]:
        """Metrics, reference and the target's name."""
        return ("evaluate", "data.labels", "data.domains", "data.structures", "data.channels")

    def run(self, context: StageContext) -> Artefact:
        """Evaluate here where the run has no GPU; else in a worker that has one."""
        folder = context.folder.absolute()
        payload = EvaluatePayload(
            experiment=context.experiment.model_dump(mode="json"),
            fold=context.fold,
            predictor=str(context.inputs[self.with_].folder),
            side=self.cases,
            labels=labels_folder(context),
            store=str(folder.parent.parent / "store"),
        )
        resources = context.experiment.resources
        if resources.gpus:
            alone = resources.model_copy(update={"workers": 1})
            summary = context.launcher.run(
                evaluate_worker,
                payload,
                resources=alone,
                name=f"{context.name}-{context.fingerprint[:12]}",
                folder=folder,
                reporter=context.reporter,
            )
        else:
            summary = evaluate_cases(payload, folder, "cpu", context.reporter.message)
        return Artefact("table", folder, context.fingerprint, summary)


class EvaluateImportedStage(Stage):
    """Measures predictions that were made elsewhere, with the same metrics, cases and references."""

    type: Literal["core.evaluate_imported"] = "core.evaluate_imported"
    makes: ClassVar[ArtefactKind] = "table"
    references: ClassVar[tuple[str, ...]] = ("after",)
    predictions: Path = Field(
        description="Folder of NIfTI files CASE.nii.gz: label values, or probabilities (4D for several structures)."
    )
    cases: Literal["test", "validation"] = Field("test", description="Which side of the split.")

    def sections(self) -> tuple[str, ...]:
        """As of `core.evaluate`, and the structures of each domain, which a predictor would know."""
        return ("evaluate", "data.labels", "data.domains", "data.channels", "data.structures")

    def contents(self) -> Mapping[str, str]:
        """The predictions themselves: where one was made anew, all are measured again."""
        from mriad.filehash import file_sha256

        found = sorted(self.predictions.glob("*.nii*")) if self.predictions.is_dir() else []
        return {path.name: file_sha256(path) for path in found}

    def run(self, context: StageContext) -> Artefact:
        """Measure every case of the side, in this process."""
        folder = context.folder.absolute()
        payload = EvaluatePayload(
            experiment=context.experiment.model_dump(mode="json"),
            fold=context.fold,
            predictor=str(self.predictions),
            side=self.cases,
            labels=labels_folder(context),
            imported=True,
            store=str(folder.parent.parent / "store"),
        )
        summary = evaluate_cases(payload, folder, "cpu", context.reporter.message)
        return Artefact("table", folder, context.fingerprint, summary)


class EvaluateLabelStage(Stage):
    """Measures one of the cases' own labels as if it were a prediction: the best that learning it can reach.

    Nothing is measured where the label itself is not annotated.
    """

    type: Literal["core.evaluate_label"] = "core.evaluate_label"
    makes: ClassVar[ArtefactKind] = "table"
    references: ClassVar[tuple[str, ...]] = ("after",)
    label: str = Field(description="Name of the label: soft, hard, or what a stage named.")
    cases: Literal["test", "validation", "train"] = Field("test", description="Which side of the split.")

    def sections(self) -> tuple[str, ...]:
        """As of `core.evaluate_imported`, and what leaves labels out of training cases."""
        return ("evaluate", "data.labels", "data.domains", "data.channels", "data.structures", "data.sparse")

    def run(self, context: StageContext) -> Artefact:
        """Measure every case of the side, in this process."""
        folder = context.folder.absolute()
        payload = EvaluatePayload(
            experiment=context.experiment.model_dump(mode="json"),
            fold=context.fold,
            predictor="",
            side=self.cases,
            labels=labels_folder(context),
            scored_label=self.label,
            store=str(folder.parent.parent / "store"),
        )
        summary = evaluate_cases(payload, folder, "cpu", context.reporter.message)
        return Artefact("table", folder, context.fingerprint, summary)


@dataclass(frozen=True)
class EvaluatePayload:
    """Plain values, so that it travels to any process."""

    experiment: dict[str, Any]
    fold: int
    predictor: str
    """Folder of the predictor, or of finished predictions where `imported`."""
    side: str
    labels: str = ""
    imported: bool = False
    scored_label: str = ""
    """Name of the label that stands for a prediction; empty: none does."""
    store: str = ""
    """Folder of the store; empty: none."""


def evaluate_worker(context: WorkerContext[EvaluatePayload]) -> dict[str, Any]:
    """Evaluate in a worker of a launcher."""
    return evaluate_cases(context.payload, context.folder, context.device, context.reporter.message)


def evaluate_cases(payload: EvaluatePayload, folder: Path, device: str, message: Any) -> dict[str, Any]:
    """Predict and measure every case of the side that has the reference; cases done before are not done again.

    Raises:
        DataError: no case has the reference, or a case cannot be read.
        CheckpointError: the predictor cannot be loaded.
    """
    from mriad.evaluation import read_rows, write_rows, write_table
    from mriad.experiment.model import Experiment
    from mriad.flow import gather_cases
    from mriad.generated import kept
    from mriad.inference.load import load_predictor
    from mriad.person_rows import person_rows, with_needed

    experiment = Experiment.model_validate(payload.experiment)
    cases = gather_cases(
        experiment, index_of(experiment, labels=payload.labels), payload.fold, experiment.seed
    )
    name = experiment.evaluate.reference or cases.label
    wanted = [case for case in cases.side(payload.side) if name in case.labels]
    if not wanted:
        raise DataError(
            f"no {payload.side} case has the reference '{name}'",
            where={f"{payload.side} cases": len(cases.split[payload.side])},
            remedy="set evaluate.reference to a label that they have",
        )
    if payload.store:
        store = experiment.data.store.build(Path(payload.store))
        wanted = [kept(case, store) for case in wanted]
    metrics = with_needed(experiment.evaluate.metrics)
    whole = cases.index.label_set if experiment.data.structures else None
    predictors: dict[str, Any] = {}  # by domain, which domain-specific networks need to know
    if payload.imported or payload.scored_label:
        given: ImportedPredictions | LabelPredictions
        for domain in {case.domain for case in wanted}:
            label_set = cases.task.label_set(domain)
            given = (
                LabelPredictions(payload.scored_label, label_set, whole)
                if payload.scored_label
                else ImportedPredictions(Path(payload.predictor), label_set)
            )
            predictors[domain] = given
        given.require(wanted)
    parts = folder / "rows"
    rows: list[Row] = []
    start, told = time.perf_counter(), time.perf_counter()
    for done, case in enumerate(wanted, 1):
        part = parts / f"{done:05d}.csv"
        if not part.exists():
            if case.domain not in predictors:
                predictors[case.domain] = load_predictor(Path(payload.predictor), device, case.domain)
            predictor = predictors[case.domain]
            write_rows(part, measure_case(experiment, metrics, case, name, predictor, folder, whole))
        rows += read_rows(part)
        if time.perf_counter() - told > 5:
            told = time.perf_counter()
            left = (told - start) / done * (len(wanted) - done)
            message(f"measured {done} of {len(wanted)} cases, {left:.0f} s left")
    write_table(folder / TABLE, rows + person_rows(rows, metrics))
    return {
        "cases": len(wanted),
        "side": payload.side,
        "reference": name,
        "seconds": round(time.perf_counter() - start, 3),
    }


def measure_case(
    experiment: Experiment,
    metrics: Sequence[Metric],
    case: Case,
    name: str,
    predictor: Any,
    folder: Path,
    whole: LabelSet | None = None,
) -> list[Row]:
    """Predict a case on its own grid and return its rows; the prediction is kept as a soft map of 1/255 steps."""
    from mriad.evaluation import EmptyPolicy, Reference, score_case
    from mriad.images import write_like
    from mriad.preparation import load_sample

    sample = load_sample(case, (), name, case.labels[name].kind, predictor.label_set, whole)
    if isinstance(predictor, (ImportedPredictions, LabelPredictions)):
        found = predictor.of(case)
        sample = predictor.within(sample, case) if isinstance(predictor, LabelPredictions) else sample
    else:
        found = predictor({channel: case.channels[channel].read() for channel in predictor.channels})
    target = folder / PREDICTIONS / f"{case.id}.nii.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = found.probabilities[0] if len(found.label_set) == 1 else found.probabilities
    write_like(target, kept, found.grid, "uint8_scaled", overwrite=True)
    asked = experiment.evaluate
    rows = score_case(
        found.probabilities,
        found.grid,
        Reference.of_sample(sample, name).with_case(case, metrics),
        found.label_set,
        metrics,
        at_levels=asked.at.levels,
        empty=EmptyPolicy(asked.empty, asked.both_empty),
    )
    return rows + fact_rows(case, name, found.label_set, getattr(found, "facts", {}))


def fact_rows(
    case: Case, reference: str, label_set: LabelSet, facts: Mapping[str, Sequence[float]]
) -> list[Row]:
    """What a head says of a case's raw outputs, as measurements: no unit, no direction, nothing to miss."""
    from mriad.evaluation import Row

    return [
        Row(
            case=case.id,
            person=case.person or case.id,
            contrast=case.contrast,
            domain=case.domain,
            structure=structure,
            metric=key,
            value=float(value),
            unit="",
            direction="none",
            worst=math.nan,
            reference=reference,
        )
        for key, values in facts.items()
        for structure, value in zip(label_set.names, values, strict=True)
    ]
