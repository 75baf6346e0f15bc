"""The model file: one safetensors file with a JSON card. Nothing in it is pickled, so nothing in it can run.

`NAME.mriad.safetensors` holds tensors named `MEMBER/NETWORK/TENSOR` and, as metadata `mriad`, one JSON document:
format version, name, licence, date, versions, training summary, a digest of everything, and for each member the
same document that a predictor folder has. An ensemble is one file too. The card is read without torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file
from mriad.errors import CheckpointError, StorageError
from mriad.identity import canonical_json
from mriad.launch.files import read_json, runs_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mriad.inference.stored import Bundle

FORMAT = 1
SUFFIX = ".mriad.safetensors"
KEY = "mriad"
FILE = "model" + SUFFIX
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_MOST_HEADER = 100 * 2**20  # bytes; safetensors refuses longer headers too


@dataclass(frozen=True)
class ModelCard:
    """What a model file says about itself.

    `members`: one document a network predictor, as in `predictor.json`. `digest`: SHA-256 over documents and
    tensors. `training`: figures of the stage that made it. `created`: UTC, ISO 8601.
    """

    name: str
    licence: str
    created: str
    versions: Mapping[str, str]
    training: Mapping[str, Any]
    ensemble: bool
    members: Sequence[Mapping[str, Any]]
    digest: str

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels, in network order."""
        return tuple(self.members[0]["task"]["channels"])

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what it segments; of all its label sets, each once."""
        sets = self.members[0]["task"]["label_sets"].values()
        return tuple(dict.fromkeys(s["name"] for labels in sets for s in labels["structures"]))


def read_card(path: Path | str) -> ModelCard:
    """Read the card alone: fast, without torch, and tensors are not looked at.

    Raises:
        CheckpointError: missing, damaged, not a model file, or of another format version.
    """
    path = Path(path)
    raw = _metadata(path).get(KEY)
    try:
        card = json.loads(raw) if isinstance(raw, str) else None
    except ValueError as error:
        raise _damaged(path, "its card is no JSON") from error
    if not isinstance(card, dict):
        raise CheckpointError(
            "this safetensors file is no mriad model",
            where={"file": path, "expected": f"metadata '{KEY}', which `mriad model export` writes"},
        )
    from mriad.inference.stored import check_format

    check_format(card.pop("format", None), FORMAT, str(path))
    try:
        found = ModelCard(**card)
        sound = bool(found.members) and bool(found.channels) and bool(found.structures)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise _damaged(path, f"its card lacks something: {error}") from error
    if not sound:
        raise _damaged(path, "its card names no members, channels or structures")
    return found


def read_model(path: Path | str) -> Bundle:
    """Read documents and tensors and check them against the digest.

    Raises:
        CheckpointError: missing, damaged, or of another format version.
        PluginError: it needs a component that is not installed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mriad.inference.stored import Bundle, Member, parse_document

    path = Path(path)
    card = read_card(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    if _digest(card.members, card.ensemble, tensors) != card.digest:
        raise _damaged(path, "its content does not match its digest")
    states: dict[str, dict[str, dict[str, Tensor]]] = {
        str(place): {name: {} for name in member.get("networks", ())}
        for place, member in enumerate(card.members)
    }
    try:
        for key, tensor in tensors.items():
            place, network, name = key.split("/", 2)
            states[place][network][name] = tensor
    except (ValueError, KeyError) as error:
        raise _damaged(path, f"tensor '{key}' belongs to no network of it") from error
    documents = [parse_document(member, str(path)) for member in card.members]
    members = tuple(Member(d, s) for d, s in zip(documents, states.values(), strict=True))
    return Bundle(members, card.ensemble, str(path))


def export_model(
    source: Path | str,
    out: Path | str,
    *,
    licence: str,
    name: str = "",
    training: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a predictor, or an ensemble, as one file.

    Args:
        source: folder of a run, a stage or a predictor; or a model file, to give it another name or licence.
        out: file to write, with the ending `.mriad.safetensors` added where it lacks it; or a folder.
        licence: SPDX name of the licence of the weights, such as "CC-BY-4.0".
        name: of the model; default: the file's.
        training: figures to keep; default: what the training stage wrote beside the predictor.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: there is no predictor, or it cannot be read.
        StorageError: the file is there already, or the place is full or cannot be written.
    """
    from safetensors.torch import save

    from mriad.inference.load import read_bundle
    from mriad.inference.stored import dump_document

    if not licence.strip():
        raise CheckpointError("a model needs a licence", remedy="--licence CC-BY-4.0")
    source, out = Path(source), Path(out)
    folder = source if source.is_file() else predictor_folder(source)
    if out.is_dir():
        out = out / ((name or source.resolve().name) + SUFFIX)
    elif not out.name.endswith(SUFFIX):
        out = out.with_name(out.name + SUFFIX)
    name = _checked_name(name or out.name.removesuffix(SUFFIX))
    if out.exists() and not overwrite:
        raise StorageError(
            "the file is there already", where={"file": out}, remedy="choose another name, or --overwrite"
        )
    bundle = read_bundle(folder)
    documents = [dump_document(member.document) for member in bundle.members]
    tensors: dict[str, Tensor] = {}
    for place, member in enumerate(bundle.members):
        for network, state in member.states.items():
            for key, tensor in state.items():
                # Tied weights share memory, which safetensors refuses: each is stored for itself.
                tensors[f"{place}/{network}/{key}"] = tensor.detach().cpu().contiguous().clone()
    card = ModelCard(
        name=name,
        licence=licence.strip(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=documents[0]["versions"],
        training=dict(training if training is not None else _training(folder)),
        ensemble=bundle.ensemble,
        members=documents,
        digest=_digest(documents, bundle.ensemble, tensors),
    )
    text = json.dumps({"format": FORMAT, **asdict(card)}, ensure_ascii=False, allow_nan=False)
    # Written by Python: safetensors' own writer reports a full disk without an errno.
    data = save(tensors, metadata={KEY: text})
    with atomic_file(out) as temporary:
        temporary.write_bytes(data)
    return out


def import_model(
    file: Path | str, *, runs: Path | str | None = None, name: str = "", overwrite: bool = False
) -> Path:
    """Check a model file wholly and copy it into the models folder, `<runs>/models/NAME/`.

    Raises:
        CheckpointError: missing, damaged, of another format version, or without a usable name.
        PluginError: it needs a component that is not installed.
        StorageError: a model of that name is there already, or the place cannot be written.
    """
    file = Path(file)
    read_model(file)
    card = read_card(file)
    name = _checked_name(name or card.name)
    target = models_folder(runs) / name / FILE
    if target.exists() and not overwrite:
        same = read_card(target).digest == card.digest
        raise StorageError(
            f"a model named '{name}' is there already" + (", the same one" if same else ""),
            where={"file": target},
            remedy=f"mriad predict SCAN --model {name}" if same else "--name OTHER, or --overwrite",
        )
    with atomic_file(target) as temporary:
        temporary.write_bytes(file.read_bytes())
    record = {
        "format": 1,
        "kind": "model import",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": name, "digest": card.digest, "licence": card.licence},
        "versions": dict(card.versions),
        "inputs": [{"file": file.name, "sha256": hashlib.sha256(target.read_bytes()).hexdigest()}],
    }
    with atomic_file(target.parent / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return target


def list_models(runs: Path | str | None = None) -> dict[str, ModelCard | CheckpointError]:
    """Imported models by name; an error stands for one that cannot be read."""
    found: dict[str, ModelCard | CheckpointError] = {}
    for file in sorted(models_folder(runs).glob(f"*/{FILE}")):
        try:
            found[file.parent.name] = read_card(file)
        except CheckpointError as error:
            found[file.parent.name] = error
    return found


def find_model(name_or_path: Path | str, runs: Path | str | None = None) -> Path:
    """The predictor folder or model file that a name or path means.

    Raises:
        CheckpointError: there is none; the message holds the lines that train or import one.
    """
    text = str(name_or_path)
    imported = imported_model(text, runs)
    if imported is not None:
        return imported
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return predictor_folder(path)
    root = runs_root(runs)
    for place in (root.runs, root.stages):
        if _NAME.match(text) and (place / text).is_dir():
            return predictor_folder(place / text)
    known = list(list_models(runs))
    trained = sorted(p.name for p in root.runs.glob("*") if (p / "run.json").is_file())
    where = {"looked in": f"{models_folder(runs)}, {root.runs}", "models there": ", ".join(known) or "none"}
    if trained:
        where["runs there"] = ", ".join(trained[-10:])
    raise CheckpointError(
        f"there is no model '{text}'",
        where=where,
        remedy=_how_to_get(text),
    )


def _how_to_get(name: str) -> str:
    """The lines that import or train a model; for a method's name those of the method."""
    from mriad.registry import registry

    found = registry()
    own = [experiment for experiment in found.experiments if experiment.startswith(f"{name}:")]
    if not own:
        return f"mriad model import FILE{SUFFIX}, or train one: mriad train EXPERIMENT.yaml"
    lines = [
        f"'{name}' is a method, and no weights ship with mriad. Do one of these:",
        f"mriad train {own[0]}, then mriad predict SCAN --model RUN   (experiments: {', '.join(own)})",
        f"mriad model import FILE{SUFFIX} --name {name}   (a model that someone exported)",
    ]
    if name in found.commands:
        lines.append(found.commands[name].help)
    return "\n".join(lines)


def imported_model(name: str, runs: Path | str | None = None) -> Path | None:
    """The file of an imported model; None where there is none of that name."""
    file = models_folder(runs) / name / FILE
    return file if _NAME.match(name) and file.is_file() else None


def predictor_folder(place: Path | str) -> Path:
    """The predictor inside the folder of a predictor, a stage or a run.

    Raises:
        CheckpointError: there is none, or a run has not got that far.
    """
    place = Path(place)
    for candidate in (place, place / "predictor"):
        if (candidate / "predictor.json").is_file():
            return candidate
    last = _last_of_run(place)
    if last is not None:
        return last
    raise CheckpointError(
        "there is no predictor in this folder",
        where={
            "folder": place,
            "expected": "a run, a finished training stage, or a folder with predictor.json",
        },
        remedy="mriad resume " + str(place)
        if (place / "run.json").is_file()
        else "mriad train EXPERIMENT.yaml",
    )


def models_folder(runs: Path | str | None = None) -> Path:
    """Where imported models live: `<runs root>/models`."""
    return runs_root(runs).path / "models"


def _last_of_run(run: Path) -> Path | None:
    """The predictor of the last stage of a run that made one, by the run's `stages.json`."""
    try:
        rows = json.loads((run / "stages.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    rows = rows.get("stages", []) if isinstance(rows, dict) else rows
    stages = run.resolve().parent.parent / "stages"
    for row in reversed([r for r in rows if isinstance(r, dict) and r.get("kind") == "predictor"]):
        for folder in sorted(stages.glob(f"*-{str(row.get('fingerprint', ''))[:12]}")):
            done = read_json(folder / "done.json")
            made = folder / str(done["folder"]) if done and "folder" in done else folder
            if (made / "predictor.json").is_file():
                return made
    return None


def _training(folder: Path) -> dict[str, Any]:
    """The summary of the stage that made a predictor, if it is there."""
    for place in (folder, folder.parent):
        done = read_json(place / "done.json")
        if done is not None:
            summary = done.get("summary", {})
            return dict(summary) if isinstance(summary, dict) else {}
    return {}


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file: 8 bytes of length, then a JSON header."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            text = file.read(length) if 0 < length <= _MOST_HEADER else b""
    except OSError as error:
        raise CheckpointError(
            "a model file cannot be read", where={"file": path, "reason": error.strerror or error}
        ) from error
    try:
        header = json.loads(text) if text and len(text) == length else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _damaged(path, "it is no whole safetensors file")
    found = header.get("__metadata__", {})
    return found if isinstance(found, dict) else {}


def _digest(members: Sequence[Mapping[str, Any]], ensemble: bool, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over documents and tensors (name, type, shape, bytes), independent of name and licence."""
    import torch

    digest = hashlib.sha256(canonical_json({"members": list(members), "ensemble": ensemble}).encode())
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"\0{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise CheckpointError(
            f"'{name}' cannot name a model",
            where={"expected": "letters, digits, . _ -"},
            remedy="--name NAME",
        )
    return name


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        "a model file is damaged or no model file",
        where={"file": path, "reason": reason},
        remedy="copy or export it again",
    )
