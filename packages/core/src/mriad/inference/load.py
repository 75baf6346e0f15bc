"""Predictor folders: written by a training stage, loaded by everything that predicts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from mriad.atomic import atomic_file, storing
from mriad.errors import CheckpointError, ExperimentError, MriadError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.inference.engine import Engine
from mriad.inference.predictor import EnsemblePredictor, NetworkPredictor, OfNetworks
from mriad.inference.segmenter import Segmenter
from mriad.inference.stored import (
    FORMAT,
    Bundle,
    Member,
    PredictorDocument,
    as_checkpoint_error,
    check_format,
    dump_document,
    parse_document,
    plain_states,
    versions_in_use,
)
from mriad.interfaces import Predictor
from mriad.launch.checkpoints import FolderCheckpoints, load_plain
from mriad.training.checkpoint import load_networks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mriad.experiment.model import PredictSection
    from mriad.interfaces import CasePredictor, Model, PreprocessingStep
    from mriad.vocabulary import Task

DOCUMENT = "predictor.json"
WEIGHTS = "weights"
ENSEMBLE = "core.ensemble"
TORCH = Engine()


def save_predictor(
    folder: Path | str,
    *,
    task: Task,
    predict: PredictSection,
    model: Model | None,
    preprocessing: Sequence[PreprocessingStep],
    parameters: Sequence[Mapping[str, Any] | None],
    networks: Mapping[str, Mapping[str, Tensor]],
) -> Path:
    """Write `predictor.json` and `weights.pt`; the document comes last, so that a folder that has it is whole.

    Args:
        folder: made where it is missing.
        task: of the networks.
        predict: section of the experiment.
        model: config that builds each of the networks.
        preprocessing: steps of the experiment.
        parameters: what each step learnt, None for a step that learns nothing.
        networks: state dicts by network name; several are averaged.

    Raises:
        CheckpointError: there is no model, or a state holds more than tensors.
        StorageError: the place is full or cannot be written.
    """
    if model is None:
        raise CheckpointError(
            "a network without a `model:` section cannot be kept as a predictor",
            remedy="add `model:` to the experiment",
        )
    folder = Path(folder)
    document = PredictorDocument(
        task=task,
        model=model,
        preprocessing=list(preprocessing),
        parameters=[None if p is None else dict(p) for p in parameters],
        step_versions=[type(step).version for step in preprocessing],
        predict=predict,
        networks=sorted(networks),
        versions=versions_in_use(),
    )
    states = plain_states(networks)
    path = folder / DOCUMENT
    with storing(path):
        path.unlink(missing_ok=True)
    FolderCheckpoints(folder).save(WEIGHTS, states)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(dump_document(document), indent=1) + "\n", "utf-8")
    return folder


def load_predictor(
    place: Path | str, device: str = "cpu", domain: str = "", engine: Engine = TORCH
) -> CasePredictor:
    """Load a predictor folder or a model file.

    Args:
        place: folder with `predictor.json`, or a file that `mriad model export` wrote.
        device: "cpu", "cuda", "cuda:1", …
        domain: of the cases to come, for domain-specific networks.
        engine: what runs networks; a predictor that is not made of networks (`OfNetworks`) runs itself.

    Raises:
        CheckpointError: missing, damaged, of another format or architecture, or it holds code.
        ExperimentError: the engine cannot run the networks on this device.
        PluginError: it needs a component that is not installed.
    """
    place = Path(place)
    if place.is_dir():
        raw = _document(place)
        if raw.get("type", "network") not in ("network", ENSEMBLE):
            found = _other(raw, place, device)
            if isinstance(found, OfNetworks):
                return (found.for_domain(domain) if domain else found).with_engine(engine)
            if engine.name == "openvino" or engine.precision != "fp32":
                raise ExperimentError(
                    "this predictor asks no networks, so it takes no engine and no precision",
                    where={"predictor": raw["type"], "engine": engine.name, "precision": engine.precision},
                    remedy="leave out --engine and --precision",
                )
            return found
    return build(read_bundle(place), device, domain, engine)


def read_bundle(place: Path | str) -> Bundle:
    """Read documents and tensors of a predictor folder or model file; nothing is built."""
    place = Path(place)
    if not place.is_dir():
        from mriad.model_file import read_model

        return read_model(place)
    raw = _document(place)
    if raw.get("type") != ENSEMBLE:
        return Bundle((_member(place, raw),), False, str(place))
    check_format(raw.get("format", FORMAT), FORMAT, str(place / DOCUMENT))
    members = raw.get("members")
    if not isinstance(members, list) or not members or not all(isinstance(m, str) for m in members):
        raise CheckpointError(
            "an ensemble names no members",
            where={"file": place / DOCUMENT, "expected": "members: a list of predictor folders"},
        )
    folders = [place / member for member in members]
    return Bundle(tuple(_member(f, _document(f)) for f in folders), True, str(place))


def identity(place: Path | str) -> str:
    """The fingerprint of a predictor: documents and tensors, wherever they lie."""
    place = Path(place)
    if not place.is_dir():
        from mriad.model_file import read_card

        return read_card(place).digest
    raw = _document(place)
    if raw.get("type") == ENSEMBLE:
        return fingerprint({"ensemble": [identity(place / member) for member in raw.get("members", [])]})
    weights = place / f"{WEIGHTS}.pt"
    return fingerprint({"document": raw, "weights": file_sha256(weights) if weights.exists() else None})


def start_weights(place: Path | str, member: int | None = None) -> dict[str, dict[str, Tensor]]:
    """Tensors to start training from: network name → tensor name → tensor.

    Args:
        place: folder of a run, stage, predictor or of bare weights; a model file; or an imported model's name.
        member: which of an ensemble's members, from 0.

    Raises:
        CheckpointError: cannot be read; or an ensemble, and no member was chosen.
    """
    from mriad.model_file import find_model

    bare = Path(place) / f"{WEIGHTS}.pt"
    if bare.is_file() and not bare.with_name(DOCUMENT).exists():
        return _tensors(bare)
    bundle = read_bundle(find_model(place))
    if len(bundle.members) > 1 and member is None:
        raise CheckpointError(
            "an ensemble has several sets of weights to start from",
            where={"model": bundle.place, "members": len(bundle.members)},
            remedy="start from the predictor of one member",
        )
    chosen = bundle.members[member or 0]
    return {name: dict(state) for name, state in chosen.states.items()}


def build(
    bundle: Bundle, device: str = "cpu", domain: str = "", engine: Engine = TORCH
) -> NetworkPredictor | EnsemblePredictor:
    """Build networks and load their tensors.

    Raises:
        CheckpointError: tensors do not fit the architecture; the first few are named.
        ExperimentError: the engine cannot run the networks on this device.
    """
    members = [_build_member(member, bundle.place, device, domain, engine) for member in bundle.members]
    return EnsemblePredictor(members) if bundle.ensemble else members[0]


def _build_member(member: Member, place: str, device: str, domain: str, engine: Engine) -> NetworkPredictor:
    document = member.document
    _warn_of_changes(document, place)
    try:
        target = torch.device(device)
        networks = {name: document.model.build(document.task) for name in document.networks}
        load_networks(networks, member.states, place)
        placed = [network.to(target).eval() for network in networks.values()]
    except MriadError as error:
        raise (error if "checkpoint" in error.where else as_checkpoint_error(error, place)) from error
    except (RuntimeError, AssertionError) as error:  # torch's two ways to say that a device is not there
        raise CheckpointError(
            f"the model cannot be built on '{device}'",
            where={"model": place, "reason": str(error).splitlines()[0]},
            remedy="--device cpu",
        ) from error
    segmenter = Segmenter(placed, document.task, document.predict, document.model.divisor(), target)
    found = NetworkPredictor(segmenter, document.preprocessing, document.parameters, domain)
    return found.with_engine(engine)


def _warn_of_changes(document: PredictorDocument, place: str) -> None:
    """A step whose numbers changed since the training gives other predictions: say so."""
    for step, version in zip(document.preprocessing, document.step_versions, strict=False):
        if type(step).version != version:
            warnings.warn(
                f"{place}: '{step.type_name()}' was version {version} when this model was trained and is "
                f"{type(step).version} now; predictions may differ (made with {document.versions})",
                RuntimeWarning,
                stacklevel=2,
            )


def _document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            "there is no predictor in this folder",
            where={"folder": folder, "expected": DOCUMENT},
            remedy="give the folder of a finished training stage, or a model file",
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "the document of a predictor cannot be read", where={"file": path, "reason": error}
        ) from error
    if not isinstance(raw, dict):
        raise CheckpointError("the document of a predictor is no JSON object", where={"file": path})
    return raw


def _member(folder: Path, raw: dict[str, Any]) -> Member:
    document = parse_document(raw, str(folder / DOCUMENT))
    weights = folder / f"{WEIGHTS}.pt"
    if not weights.exists():
        raise CheckpointError(
            "a predictor has lost its weights",
            where={"file": weights},
            remedy="run the training stage again: it resumes from its checkpoints",
        )
    return Member(document, _tensors(weights))


def _tensors(path: Path) -> dict[str, dict[str, Tensor]]:
    """Network name → tensor name → tensor, and nothing else."""
    states = load_plain(path)
    for network, state in states.items():
        if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
            raise CheckpointError(
                "these are not the weights of networks",
                where={"file": path, "at": network, "expected": "network name → tensor name → tensor"},
            )
    return states


def _other(raw: dict[str, Any], place: Path, device: str) -> CasePredictor:
    """A predictor of a plugin: its config lies in the document and builds itself from the folder."""
    from pydantic_core import PydanticCustomError

    config = {key: value for key, value in raw.items() if key != "format"}
    try:
        return Predictor.resolve(config).build(place, device)
    except (ValidationError, PydanticCustomError) as error:
        raise CheckpointError(
            "the document of a predictor is not valid",
            where={"file": place / DOCUMENT, "reason": str(error)},
        ) from error
