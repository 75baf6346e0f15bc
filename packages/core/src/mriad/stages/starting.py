"""What training starts from: found, identified by its content, and set by `mriad train --from MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.errors import ExperimentError
from mriad.filehash import file_sha256
from mriad.model_file import find_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.experiment.model import Experiment

TRAIN = "core.train"
BARE = "weights.pt"
"""In a folder without `predictor.json`: weights that predict nothing, to start others from."""


def find_start(name_or_path: Path | str, runs: Path | str | None = None) -> Path:
    """What training can start from: as `find_model`, or a folder of bare weights.

    Raises:
        CheckpointError: there is none.
    """
    bare = Path(name_or_path).expanduser()
    if (bare / BARE).is_file() and not (bare / "predictor.json").exists():
        return bare
    return find_model(name_or_path, runs)


def start_identity(name_or_path: Path | str, runs: Path | str | None = None) -> str:
    """The fingerprint of what training starts from: its documents and tensors, wherever they lie.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    from mriad.inference.load import identity

    place = find_start(name_or_path, runs)
    bare = place / BARE
    return (
        file_sha256(bare) if bare.is_file() and not (place / "predictor.json").exists() else identity(place)
    )


def starting_from(experiment: Experiment, model: Path) -> Experiment:
    """The experiment with `from: model` on every `core.train` stage, in blocks too, that has no `from`.

    Args:
        experiment: stays as it is.
        model: model file, predictor folder or folder of bare weights; kept as an absolute path.

    Raises:
        ExperimentError: no stage trains, or every one that does says itself where it starts.
    """
    place = str(model.absolute())
    stages, trains, changed = _started(experiment.stages or {"train": {"type": TRAIN}}, place)
    if not changed:
        raise ExperimentError(
            f"no stage of experiment '{experiment.name}' can start from these weights",
            where={
                "model": place,
                "reason": f"every {TRAIN} stage has a `from` of its own" if trains else f"none is a {TRAIN}",
            },
            remedy="set stages.NAME.from on the stage that should start from them",
        )
    return type(experiment).model_validate({**experiment.model_dump(mode="json"), "stages": stages})


def _started(stages: Mapping[str, Any], place: str) -> tuple[dict[str, Any], int, int]:
    """Stages with `from` set, how many train, and how many of these were changed."""
    found: dict[str, Any] = {}
    trains = changed = 0
    for name, raw in stages.items():
        found[name] = raw
        if not isinstance(raw, dict):
            continue
        if "repeat" in raw:
            found[name], inner_trains, inner_changed = _started(raw, place)
            trains, changed = trains + inner_trains, changed + inner_changed
        elif raw.get("type") == TRAIN:
            trains += 1
            if "from" not in raw:
                found[name] = {**raw, "from": place}
                changed += 1
    return found, trains, changed
