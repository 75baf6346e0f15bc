"""The experiment as a typed tree. Field names are the YAML's; DESIGN.md section 4 shows two in full."""

# ruff: noqa: TC001 - pydantic reads the annotations when the classes are made

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from mriad.component import Component, Config
from mriad.experiment.merge import merge_plain
from mriad.experiment.node import located
from mriad.experiment.stage_entry import Stages, line_errors, training_stages
from mriad.interfaces import (
    Augmenter,
    Dataset,
    Head,
    Learner,
    Loss,
    Metric,
    Model,
    Optimiser,
    Postprocessor,
    PreprocessingStep,
    Sampler,
    Schedule,
    Split,
    Store,
)
from mriad.vocabulary import LabelKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import GetJsonSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaValue

Size = list[int | Literal["full"]]
Axis = Literal["x", "y", "z"]


class Section(Config):
    """A part of the experiment. Where a component has a default, its fields may be given without the type:
    `optimiser: {lr: 0.1}` changes the default optimiser.
    """

    @model_validator(mode="before")
    @classmethod
    def _default_types(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for name, field in cls.model_fields.items():
            if isinstance(data.get(name), dict) and is_component_default(field) and "type" not in data[name]:
                filled[name] = {"type": field.default, **data[name]}
        return filled


def is_component_default(field: FieldInfo) -> bool:
    """Whether a field holds a component and its default is one's bare name."""
    kind = field.annotation
    return isinstance(field.default, str) and isinstance(kind, type) and issubclass(kind, Component)


class LabelsSection(Config):
    """Which labels are the target: by name in the data set, or made by a stage."""

    kind: LabelKind = Field(description="hard, soft, sparse, none or pseudo.")
    name: str = Field("", description="Name of the label in the data set; default: the kind.")
    from_: str = Field("", alias="from", description="Stage whose data set holds the labels.")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A mapping, or the kind alone."""
        return {"anyOf": [handler(schema), {"type": "string", "enum": list(get_args(LabelKind))}]}


class SparseSection(Config):
    """A label budget: few labelled persons, or few annotated slices. Validation and test keep all labels."""

    persons: int | None = Field(
        None,
        ge=1,
        description="Training persons who keep their labels; null: all. A smaller number is a subset.",
    )
    slices: float = Field(
        1.0, gt=0, le=1, description="Fraction of the slices of each labelled scan that keeps its annotation."
    )
    axis: Literal["axial", "coronal", "sagittal"] = Field("axial", description="The plane of the slices.")
    seed: int | None = Field(
        0, description="Of who and which; the same for all variants. Null: the experiment's seed."
    )


class DataSection(Section):
    """Cases, targets, split and preprocessing."""

    dataset: Dataset
    labels: LabelsSection = Field(LabelsSection(kind="hard"), description="A kind, or a mapping.")
    channels: list[str] = Field(
        default_factory=list, description="Channel names in network order; empty: those of the first case."
    )
    domains: dict[str, str] = Field(
        default_factory=dict,
        description="Domain name → contrast or domain value of cases; empty: as in the data.",
    )
    structures: dict[str, list[str]] = Field(
        default_factory=dict, description="Domain → structures annotated there; empty: all, in every domain."
    )
    same_person: list[Annotated[list[str], Field(min_length=2)]] = Field(
        default_factory=list,
        description="Names that mean one person, such as [[07, map-07]]; equal voxels are found without it.",
    )
    sparse: SparseSection | None = Field(
        None, description="Use only a part of the training labels; what is left over is unlabelled data."
    )
    split: Split = Field(default="data.k_fold", validate_default=True)
    validate_on: list[str] = Field(
        default_factory=list,
        description="Contrasts or domains whose validation cases choose the checkpoint; empty: all. A model of one "
        "contrast names it here as in its stream, or others have a part in it.",
    )
    preprocessing: list[PreprocessingStep] = Field(default_factory=list)
    store: Store = Field(default="data.store", validate_default=True)

    @field_validator("labels", mode="before")
    @classmethod
    def _bare_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class StreamSection(Config):
    """A named flow of batches."""

    batch: int = Field(
        2, ge=1, description="Samples a step over all ranks; must be divisible by their number."
    )
    labelled: bool | None = Field(None, description="Only cases with (true) or without (false) a target.")
    domain: str = Field(
        "", description="Only cases of this domain; empty: the stream's name, where `data.domains` has it."
    )
    contrasts: list[str] = Field(default_factory=list, description="Only cases of these contrasts.")
    balance: Literal["", "domain", "contrast", "person"] = Field(
        "",
        description="Draw from each domain, contrast or person alike often; empty: each case once an epoch.",
    )
    sampler: Sampler | None = Field(None, description="How a patch is cut; none: the whole prepared volume.")
    augment: list[Augmenter] | None = Field(
        None,
        description="In place of the experiment's `augment`; where there are views, shared by them, first.",
    )
    views: dict[str, list[Augmenter]] = Field(
        default_factory=dict, description="Named augmentations of one patch; the learner reads `stream.view`."
    )
    slices: Literal["", "axial", "coronal", "sagittal"] = Field(
        "", description="Draw 2D slices across this axis instead of volumes."
    )


class BudgetSection(Config):
    """How long to train, how often to look, when to stop."""

    steps: int = Field(50_000, ge=1, description="Calls of the learner's step; default: 200 epochs of 250.")
    epoch: Literal["longest", "shortest"] | Annotated[int, Field(ge=1)] = Field(
        "longest",
        description="Steps of an epoch: until the longest or shortest stream is through, or a number.",
    )
    validate_every: int = Field(0, ge=0, description="Steps between validations; 0: every epoch.")
    checkpoint_every: int = Field(0, ge=0, description="Steps between checkpoints; 0: with each validation.")
    patience: int = Field(
        0, ge=0, description="Validations without a better value before stopping; 0: never."
    )
    accumulate: int = Field(1, ge=1, description="Losses summed up before an optimiser step.")
    clip_norm: float | None = Field(
        None, gt=0, description="Largest L2 norm of all gradients; none: no limit."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 on a GPU that has it, else fp32. A CPU computes in bf16 only when asked.",
    )
    compile: bool = Field(
        False,
        description="Compile networks for training and lay their weights out channels last; needs a C++ compiler. "
        "Pays back after some hundred steps; results differ by rounding.",
    )


class TestTimeSection(Config):
    """Test-time augmentation."""

    flips: list[Axis] = Field(
        default_factory=list,
        description="All combinations are averaged; across left–right, structures of both sides trade places.",
    )


class PredictSection(Section):
    """From raw outputs to probabilities on the scan's own grid."""

    type: Literal["network"] | str = Field("network", description="`network`: the trained network.")
    head: Head = Field(default="standard.softmax", validate_default=True)
    window: Size = Field(
        default_factory=list, description="Window in working voxels; `full`; empty: the volume."
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="Fraction of a window shared with its neighbour.")
    test_time: TestTimeSection = TestTimeSection()
    low_cut: float = Field(0.0, ge=0, le=1, description="Probabilities at or below this become 0.")
    postprocess: list[Postprocessor] = Field(default_factory=list)
    with_: str = Field(
        "", alias="with", description="Stage whose predictor is used; empty: the last that trains."
    )


class AtSection(Config):
    """Where morphometrics are taken."""

    levels: list[str] = Field(
        default_factory=list, description="Vertebral levels, such as C2; empty: everywhere."
    )


class EvaluateSection(Config):
    """What is measured on the test cases."""

    metrics: list[Metric] = Field(default_factory=list)
    at: AtSection = AtSection()
    reference: str = Field(
        "", description="Name of the label measured against; empty: the training target's."
    )
    empty: Literal["exclude", "worst", "error"] = Field(
        "exclude",
        description="A metric without a value where prediction or reference is empty: no value (it counts as the "
        "worst in comparisons), the worst value itself, or refuse.",
    )
    both_empty: Literal["exclude", "best"] = Field(
        "exclude", description="Nothing to find and nothing found: no value, or that of a perfect prediction."
    )
    stop_on: str = Field(
        "", description="Validation key that chooses the checkpoint; empty: the first metric's mean."
    )


class ResourcesSection(Config):
    """What a run may use."""

    workers: int = Field(1, ge=1, description="Training processes.")
    cpus: int = Field(1, ge=1, description="CPU cores, so threads, of each worker.")
    gpus: float = Field(0, ge=0, description="GPUs of each worker; a fraction shares one.")
    loaders: int = Field(
        0, ge=0, description="Loader processes of each worker; 0: load in the training process."
    )


class Experiment(Section):
    """Stages + data + evaluation."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", description="Letters, digits, . _ : -")
    description: str = Field("", description="For people; changes no result.")
    seed: int = Field(0, ge=0, description="Of initial weights and of every draw.")
    fold: int = Field(0, ge=0, description="Which fold of the split, from 0.")
    data: DataSection = Field(description="Cases, targets, split and preprocessing.")
    streams: dict[str, StreamSection] = Field(
        default_factory=lambda: {"labelled": StreamSection()}, description="Name → flow of batches."
    )
    augment: list[Augmenter] = Field(default_factory=list, description="For every stream without views.")
    model: Model | None = Field(None, description="The network; some learners bring their own.")
    loss: Loss | None = Field(None, description="What the learner minimises; some learners bring their own.")
    learner: Learner = Field(default="standard.supervised", validate_default=True)
    optimiser: Optimiser = Field(default="standard.adam", validate_default=True)
    schedule: Schedule | None = Field(None, description="Factor on the learning rate; none: constant.")
    budget: BudgetSection = BudgetSection()
    predict: PredictSection = Field(default_factory=lambda: PredictSection())
    evaluate: EvaluateSection = EvaluateSection()
    resources: ResourcesSection = ResourcesSection()
    privacy: Literal["pseudonymise", "plain"] = Field(
        "pseudonymise",
        description="Whether tracking stores see persons and cases under public names only; changes no result.",
    )
    tuned: str = Field(
        "", description="Fingerprint of the search that chose some of these values; an ablation writes it."
    )
    stages: Stages = Field(
        default_factory=lambda: {"train": {"type": "core.train"}},
        description="Name → stage, or a block with `repeat: n as k` that holds stages; null takes one away.",
    )

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read an experiment from a YAML file or by `plugin:name`; see `mriad.experiment.load.load`.

        Raises:
            ExperimentError: no such file or name, or not a valid experiment; all faults in one message.
        """
        from mriad.experiment.load import load  # an experiment made in Python needs no YAML reader

        return load(source, overrides)

    def with_sections(self, sections: Mapping[str, Any]) -> Experiment:
        """The experiment of one stage: sections laid over its own; another `type` replaces, all else merges.

        It has no stages itself. What was never set counts as absent: a stage's `streams` do not join the
        default stream.

        Raises:
            pydantic.ValidationError: the result is not valid.
        """
        merged = _overridden(located(self).plain_mapping(), sections)
        experiment = type(self).model_validate({**merged, "stages": {}})
        misfits = experiment._misfits()
        if misfits:
            raise ValidationError.from_exception_data(type(self).__name__, misfits)
        return experiment

    @model_validator(mode="wrap")
    @classmethod
    def _with_stages(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate once for the experiment and once for each training stage; report everything together."""
        errors: list[InitErrorDetails] = []
        experiment: Self | None = None
        try:
            experiment = handler(data)
        except ValidationError as error:
            errors += line_errors(error)
        if isinstance(data, dict):
            errors += cls._stage_errors(data, handler, experiment, {_identity(e) for e in errors})
        if errors:
            # Two stages may share what is wrong; it is said once.
            distinct = {_identity(e): e for e in errors}
            raise ValidationError.from_exception_data(cls.__name__, list(distinct.values()))
        assert experiment is not None
        return experiment

    @classmethod
    def _stage_errors(
        cls,
        data: dict[str, Any],
        handler: ModelWrapValidatorHandler[Self],
        experiment: Self | None,
        known: set[tuple[Any, str]],
    ) -> list[InitErrorDetails]:
        """What is wrong with the experiment that each training stage sees, where it was written."""
        found: list[InitErrorDetails] = []
        stages = data.get("stages", {"train": {"type": "core.train"}})
        if isinstance(stages, dict):
            stages = {name: entry for name, entry in stages.items() if entry is not None}
        for path, sections in training_stages(stages):
            seen: Self | None = experiment
            errors: list[InitErrorDetails] = []
            if sections:
                try:
                    seen = handler({**_overridden(data, sections), "stages": {}})
                except ValidationError as error:
                    seen = None
                    errors += [e for e in line_errors(error) if _identity(e) not in known]
            errors += seen._misfits() if seen is not None else []
            for line in errors:
                loc = line.get("loc", ())
                place = (*path, *loc) if loc and loc[0] in sections else loc
                found.append(InitErrorDetails(type=line["type"], loc=place, input=line["input"]))
        return found

    def _misfits(self) -> list[InitErrorDetails]:
        """Rules between sections, for a stage that trains; each message names both fields."""
        found: list[InitErrorDetails] = []

        def misfit(loc: tuple[str, ...], text: str) -> None:
            problem = PydanticCustomError("misfit", text)
            found.append(InitErrorDetails(type=problem, loc=loc, input=None))

        link = self.loss.link if self.loss is not None else None
        if self.loss is not None and link is not None and link != self.predict.head.link:
            misfit(
                ("loss",),
                f"loss '{self.loss.type_name()}' reads outputs as {link}, but predict.head "
                f"'{self.predict.head.type_name()}' as {self.predict.head.link}: change one of the two",
            )
        wanted = self.learner.streams()
        missing = [name for name in wanted if name not in self.streams]
        if missing:
            misfit(
                ("streams",),
                f"learner '{self.learner.type_name()}' reads the streams {', '.join(wanted)}; "
                f"streams: lacks {', '.join(missing)}",
            )
        workers = self.resources.workers
        for name, stream in self.streams.items():
            if stream.batch % workers:
                misfit(
                    ("streams", name, "batch"),
                    f"{stream.batch} samples cannot be divided over resources.workers {workers}: change one",
                )
        return found


def _overridden(data: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, **{name: merge_plain(data.get(name), over) for name, over in sections.items()}}


def _identity(error: InitErrorDetails) -> tuple[Any, str]:
    return error.get("loc"), str(error["type"])
