"""What is kept of a predictor: one document and tensors. Folders and model files hold the same."""

# ruff: noqa: TC001 - pydantic reads the annotations when the class is made

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator

from mriad.component import Config
from mriad.errors import CheckpointError, MriadError, PluginError
from mriad.experiment.model import PredictSection
from mriad.interfaces import Model, PreprocessingStep
from mriad.registry import registry
from mriad.vocabulary import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FORMAT: Literal[1] = 1
States = dict[str, dict[str, "Tensor"]]
"""Network name → tensor name → tensor."""


class PredictorDocument(Config):
    """`predictor.json`: everything but tensors that a network predictor is made of."""

    format: Literal[1] = FORMAT
    type: Literal["network"] = "network"
    task: Task
    model: Model
    preprocessing: list[PreprocessingStep] = Field(default_factory=list)
    parameters: list[dict[str, Any] | None] = Field(
        default_factory=list, description="What each preprocessing step learnt; one entry a step."
    )
    step_versions: list[int] = Field(
        default_factory=list, description="Version of each step when this was made."
    )
    predict: PredictSection
    networks: list[str] = Field(min_length=1, description="Names of the networks that are averaged.")
    versions: dict[str, str] = Field(default_factory=dict, description="Distribution → version.")

    @field_validator("task")
    @classmethod
    def _portable(cls, task: Task) -> Task:
        """Folders of the machine that trained mean nothing elsewhere."""
        return replace(task, inputs={})


@dataclass(frozen=True, eq=False)
class Member:
    """One network predictor: its document and its tensors."""

    document: PredictorDocument
    states: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """One predictor, or the members of an ensemble. `place` names where it was read, for messages."""

    members: tuple[Member, ...]
    ensemble: bool
    place: str


def parse_document(raw: Any, place: str) -> PredictorDocument:
    """Validate a document that was read.

    Raises:
        CheckpointError: it is not a predictor's, of another format version, or damaged.
        PluginError: it names a component that is not installed; the message gives the install line.
    """
    if not isinstance(raw, dict) or "task" not in raw:
        raise CheckpointError(
            "this is not the document of a predictor",
            where={"file": place, "expected": "an object with format, task, model, predict"},
        )
    check_format(raw.get("format"), FORMAT, place)
    try:
        return PredictorDocument.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        unknown = [f["msg"] for f in faults if f["type"] == "unknown_component"]
        if unknown:
            raise PluginError(
                "a component of this model is missing", where={"file": place, "missing": "; ".join(unknown)}
            ) from error
        shown = {".".join(map(str, f["loc"])) or "document": f["msg"] for f in faults[:4]}
        raise CheckpointError(
            "the document of a predictor is not valid",
            where={"file": place, **shown},
            remedy="export it again with the version of mriad and plugins that trained it",
        ) from error


def check_format(found: Any, expected: int, place: str) -> None:
    """Refuse another format version.

    Raises:
        CheckpointError: both numbers are named.
    """
    if found == expected:
        return
    newer = isinstance(found, int) and found > expected
    raise CheckpointError(
        f"the model has format version {found}; this mriad reads {expected}",
        where={"file": place},
        remedy="pip install --upgrade mriad"
        if newer
        else "export the model again with this version of mriad",
    )


def dump_document(document: PredictorDocument) -> dict[str, Any]:
    """The document as JSON values."""
    found: dict[str, Any] = json.loads(document.model_dump_json())
    return found


def plain_states(networks: Mapping[str, Mapping[str, Any]]) -> States:
    """Copies of state dicts on the CPU.

    Raises:
        CheckpointError: a state dict holds something besides tensors.
    """
    import torch

    for name, state in networks.items():
        others = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
        if others:
            raise CheckpointError(
                f"the state of network '{name}' holds more than tensors",
                where={"entries": ", ".join(others[:4])},
                remedy="register it as a buffer, or leave it out of state_dict()",
            )
    return {
        name: {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}
        for name, state in networks.items()
    }


def versions_in_use() -> dict[str, str]:
    """Versions of mriad, of the libraries that change numbers, and of distributions that offer components."""
    offering = {entry.distribution for known in registry().components.values() for entry in known.values()}
    found: dict[str, str] = {}
    for name in ("mriad", "torch", "numpy", "nibabel", *sorted(offering)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a registry of tests
            continue
    return found


def as_checkpoint_error(error: MriadError, place: str) -> MriadError:
    """The same error with the place that was read."""
    return type(error)(error.what, where={"model": place, **error.where}, remedy=error.remedy)
