"""`core.pseudo_label`: a predictor's own output on training cases, as a data set to train on."""

from __future__ import annotations

import difflib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mriad.component import Config
from mriad.errors import DataError
from mriad.interfaces import Stage
from mriad.stages.artefact import Artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mriad.experiment.model import Experiment
    from mriad.interfaces import CasePredictor, Prediction
    from mriad.launch.protocol import WorkerContext
    from mriad.stages.artefact import ArtefactKind, StageContext
    from mriad.vocabulary import Case, CaseIndex, LabelSet

SAY_EVERY_S = 5.0


class Keep(Config):
    """Which pseudo-labelled cases go into the data set."""

    all_present: list[str] = Field(
        default_factory=list, description="Structures that must each have at least one voxel."
    )


class PseudoLabel(Stage):
    """Predicts training cases and writes a data set of them with the predictions as labels.

    Only persons on the training side of the fold are used. The labels take the name of the experiment's
    target, so that the data set can be trained on together with others; their kind is "pseudo" (hard) or
    "soft". Structures of the data set that the predictor does not know are not annotated. After an interruption,
    finished cases stay.
    """

    type: Literal["core.pseudo_label"] = "core.pseudo_label"
    makes: ClassVar[ArtefactKind] = "dataset"
    references: ClassVar[tuple[str, ...]] = ("after", "with_", "cases")
    with_: str = Field(alias="with", description="Stage whose predictor labels the cases.")
    cases: str = Field(
        "unlabelled",
        description="all, labelled, unlabelled, a domain, a contrast, or a stage that makes a data set.",
    )
    kind: Literal["hard", "soft"] = Field("hard", description="Label values, or probabilities in [0, 1].")
    keep: Keep = Keep()
    confidence: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Voxels whose label (background too) is less probable become invalid; 0: none.",
    )
    weigh: bool = Field(
        False,
        description="Keep how probable each voxel's label is (background too); the loss weighs the voxel by it.",
    )
    name: str = Field("", description="Name of the label; default: that of the experiment's target.")

    def sections(self) -> tuple[str, ...]:
        """The target's name, and what domains are called."""
        return ("data.labels.kind", "data.labels.name", "data.domains", "data.structures", "data.sparse")

    def run(self, context: StageContext) -> Artefact:
        """Label here where the run has no GPU; else in a worker that has one."""
        folder = context.folder.absolute()
        dataset = context.inputs.get(self.cases)
        payload = PseudoLabelPayload(
            stage=self.model_dump(mode="json"),
            experiment=context.experiment.model_dump(mode="json"),
            fold=context.fold,
            predictor=str(context.inputs[self.with_].folder),
            dataset=str(dataset.folder) if dataset else "",
        )
        resources = context.experiment.resources
        if resources.gpus:
            summary = context.launcher.run(
                label_worker,
                payload,
                resources=resources.model_copy(update={"workers": 1}),
                name=f"{context.name}-{context.fingerprint[:12]}",
                folder=folder,
                reporter=context.reporter,
            )
        else:
            summary = label_cases(payload, folder, "cpu", context.reporter.message)
        return Artefact("dataset", folder, context.fingerprint, summary)


@dataclass(frozen=True)
class PseudoLabelPayload:
    """Plain values, so that it travels to any process."""

    stage: dict[str, Any]
    experiment: dict[str, Any]
    fold: int
    predictor: str
    dataset: str
    """Folder of the data set artefact that `cases` names; "" for the experiment's own data set."""


def label_worker(context: WorkerContext[PseudoLabelPayload]) -> dict[str, Any]:
    """Label in a worker of a launcher."""
    return label_cases(context.payload, context.folder, context.device, context.reporter.message)


def label_cases(
    payload: PseudoLabelPayload, folder: Path, device: str, message: Callable[[str], None]
) -> dict[str, Any]:
    """Label the chosen cases and write the data set; return how many were chosen and kept.

    Raises:
        DataError: no case is chosen or kept, or the predictor segments a structure that the data set lacks.
        CheckpointError: the predictor cannot be loaded.
    """
    from mriad.experiment.model import Experiment
    from mriad.inference.load import load_predictor
    from mriad.stages.dataset import write_dataset

    experiment = Experiment.model_validate(payload.experiment)
    stage = PseudoLabel.model_validate(payload.stage)
    index, chosen = choose(experiment, stage.cases, payload.fold, payload.dataset)
    kept: list[Case] = []
    dropped: list[str] = []
    predictor: CasePredictor | None = None
    domain = ""
    told = start = time.perf_counter()
    # By domain, so that a domain-specific predictor is loaded once for each.
    for done, (case, called) in enumerate(sorted(chosen, key=lambda pair: pair[1]), 1):
        if predictor is None or called != domain:
            predictor, domain = load_predictor(payload.predictor, device, called), called
        labelled = _label(case, predictor, stage, experiment, index.label_set, folder)
        if labelled is None:
            dropped.append(case.id)
        else:
            kept.append(labelled)
        if time.perf_counter() - told > SAY_EVERY_S:
            told = time.perf_counter()
            left = (told - start) / done * (len(chosen) - done)
            message(f"labelled {done} of {len(chosen)} cases, {left:.0f} s left")
    message(f"kept {len(kept)} of {len(chosen)} pseudo-labelled cases")
    if not kept:
        raise DataError(
            "no pseudo-labelled case passes `keep`",
            where={"cases": len(chosen), "all_present": ", ".join(stage.keep.all_present)},
            remedy="look at the labels in the stage's folder; the predictor may miss a structure everywhere",
        )
    order = {case.id: i for i, (case, _) in enumerate(chosen)}
    write_dataset(folder, sorted(kept, key=lambda case: order[case.id]), index.label_set)
    return {"cases": len(chosen), "kept": len(kept), "dropped": sorted(dropped)}


def choose(
    experiment: Experiment, word: str, fold: int, dataset: str = ""
) -> tuple[CaseIndex, list[tuple[Case, str]]]:
    """Return the index and, of its training persons' cases, those that `word` means, each with its domain.

    Args:
        experiment: names the data set, its domains and its split.
        word: as in `PseudoLabel.cases`; ignored where a data set is given.
        fold: of the split.
        dataset: folder of a data set artefact to take cases from instead.

    Raises:
        SplitError: the split leaks a person.
        DataError: no case is meant.
    """
    from mriad.flow import apply_domains, split_cases
    from mriad.same_person import renamed
    from mriad.stages.dataset import open_dataset
    from mriad.vocabulary import CaseIndex

    data = experiment.data
    own = data.dataset.build()
    # The split is made where domains are named, as for training: they decide how persons are dealt.
    united, split, held_out = split_cases(experiment, apply_domains(own, data.domains), fold, experiment.seed)
    named = dict(zip(united.column("id"), united.column("domain"), strict=True))
    # Cases as the split has them (persons united, labels sparse), but with the data set's own domains.
    domain = dict(zip(own.column("id"), own.column("domain"), strict=True))
    within = [replace(case, domain=domain[case.id]) for case in united]
    training = set(split["train"])
    persons = {case.person for case in within if case.id in training}
    target = data.labels.name or data.labels.kind

    def fits(case: Case) -> bool:
        if word in ("labelled", "unlabelled"):
            return (target in case.labels) == (word == "labelled")
        return word in ("all", named[case.id], case.domain, case.contrast)

    if dataset:
        index = renamed(open_dataset(dataset), united.aliases)
        chosen = [
            (case, case.domain)
            for case in index
            if case.person in persons and held_out.isdisjoint((case.contrast, case.domain))
        ]
    else:
        index = CaseIndex(within, own.label_set)
        chosen = [(case, named[case.id]) for case in within if case.id in training and fits(case)]
    if not chosen:
        known = sorted({*data.domains, *(c.contrast for c in within), *(c.domain for c in within)} - {""})
        raise DataError(
            f"no training case is meant by `cases: {word}`",
            where={
                "training cases": len(training),
                "known": ", ".join([*known, "all, labelled, unlabelled"]),
            },
        )
    return index, chosen


def _label(
    case: Case,
    predictor: CasePredictor,
    stage: PseudoLabel,
    experiment: Experiment,
    label_set: LabelSet,
    folder: Path,
) -> Case | None:
    """Label one case, or read that it was done; None where it is not kept."""
    from mriad.atomic import atomic_file
    from mriad.images import FileSource, write_like
    from mriad.parallel import failure
    from mriad.stages.dataset import as_file
    from mriad.vocabulary import Label

    record = folder / "cases" / f"{case.id}.json"
    label, validity, confidence = (
        folder / part / f"{case.id}.nii.gz" for part in ("labels", "validity", "confidence")
    )
    try:
        if not record.exists():
            missing = [name for name in predictor.channels if name not in case.channels]
            if missing:
                raise DataError(
                    "a case lacks a channel of the predictor", where={"missing": ", ".join(missing)}
                )
            found = predictor({name: case.channels[name].read() for name in predictor.channels})
            values = _known(found.label_set, label_set, stage.keep.all_present)
            hard, best = _decide(found, values, stage.confidence > 0 or stage.weigh)
            if stage.kind == "soft":
                write_like(label, _ordered(found, label_set), found.grid, "float32", overwrite=True)
            else:
                write_like(label, hard, found.grid, "labels", overwrite=True)
            if best is not None and stage.confidence > 0:
                valid = (best >= stage.confidence).astype("uint8")
                write_like(validity, valid, found.grid, "labels", overwrite=True)
            if best is not None and stage.weigh:
                write_like(confidence, best.clip(0, 1), found.grid, "uint8_scaled", overwrite=True)
            voxels = {s.name: int((hard == s.value).sum()) for s in values.structures}
            with atomic_file(record) as path:
                path.write_text(json.dumps({"voxels": voxels}), "utf-8")
        done = json.loads(record.read_text("utf-8"))
        if not all(done["voxels"].get(name, 0) for name in stage.keep.all_present):
            return None
        channels = {
            name: as_file(source, folder / "images" / f"{case.id}_{name}.nii.gz")
            for name, source in case.channels.items()
        }
    except Exception as error:
        raise failure(case.id, error) from error
    name = stage.name or experiment.data.labels.name or experiment.data.labels.kind
    made = Label(
        "soft" if stage.kind == "soft" else "pseudo",
        FileSource(str(label), stacked=stage.kind == "soft"),
        FileSource(str(validity)) if stage.confidence > 0 else None,
        FileSource(str(confidence)) if stage.weigh else None,
        _looked_for(predictor.label_set, label_set),
    )
    return replace(case, channels=channels, labels={name: made})


def _known(made: LabelSet, wanted: LabelSet, present: Sequence[str]) -> LabelSet:
    """The predictor's structures, in its order, with the values of the data set."""
    from mriad.vocabulary import LabelSet, Structure

    value = {s.name: s.value for s in wanted.structures}
    unknown = [name for name in made.names if name not in value]
    if unknown:
        raise DataError(
            "the predictor segments structures that the data set does not have",
            where={"structures": ", ".join(unknown), "data set": ", ".join(value)},
        )
    for name in present:
        if name not in made.names:
            close = difflib.get_close_matches(name, made.names, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise DataError(
                f"keep.all_present names '{name}', which the predictor does not segment{hint}",
                where={"it segments": ", ".join(made.names)},
            )
    return LabelSet(tuple(Structure(name, value[name]) for name in made.names))


def _looked_for(made: LabelSet, wanted: LabelSet) -> tuple[str, ...] | None:
    """The data set's structures that the predictor segments; None: all."""
    known = tuple(name for name in wanted.names if name in made.names)
    return None if len(known) == len(wanted) else known


def _decide(
    found: Prediction, values: LabelSet, weigh: bool
) -> tuple[NDArray[np.integer[Any]], NDArray[np.float32] | None]:
    """Label values (X, Y, Z) and, if asked for, how probable each is, (X, Y, Z) in [0, 1]."""
    import numpy as np

    from mriad.inference.prediction import harden, largest_stride
    from mriad.inference.slab import slabs_of_array

    exclusive = bool(getattr(found, "exclusive", False))
    axis = largest_stride(found.probabilities)
    hard = harden(slabs_of_array(found.probabilities, axis), found.grid.shape, values, exclusive)
    if not weigh:
        return hard, None
    probable = np.zeros(found.grid.shape, np.float32)
    for slab in slabs_of_array(found.probabilities, axis):
        p = slab.array()
        best = p.max(axis=0)
        background = 1 - p.sum(axis=0) if exclusive else 1 - best
        place = slab.index[1:]
        probable[place] = np.where(hard[place] != 0, best, background)
    return hard, probable


def _ordered(found: Prediction, label_set: LabelSet) -> NDArray[np.float32]:
    """Probabilities in the order of the data set's structures; (X, Y, Z) where it has one."""
    import numpy as np

    given = {name: found.probabilities[i] for i, name in enumerate(found.label_set.names)}
    empty = np.zeros(found.grid.shape, np.float32)
    rows = [given.get(name, empty) for name in label_set.names]
    return rows[0] if len(rows) == 1 else np.stack(rows)
