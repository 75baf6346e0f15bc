"""The experiment that `mriad init` writes: YAML with comments that say where each number comes from."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mriad.atomic import temporary_folder
from mriad.errors import SplitError, StorageError
from mriad.manifest import TABLE, write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.survey import Survey

EXPERIMENT = "experiment.yaml"
FEATURES = (16, 32, 64, 128)
DIVISOR = 2 ** (len(FEATURES) - 1)
PATCH_VOXELS = 64**3
"""Voxels of a patch: two of them train in about 2 GB with these features."""


def experiment_name(text: str) -> str:
    """A name that an experiment may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._") or "experiment"


def patch_size(size: tuple[int, int, int]) -> list[int]:
    """Voxels of a patch: the median volume, rounded up to what the network halves, its longest axes
    shortened.
    """
    patch = [-(-n // DIVISOR) * DIVISOR for n in size]
    while patch[0] * patch[1] * patch[2] > PATCH_VOXELS and max(patch) > DIVISOR:
        patch[patch.index(max(patch))] -= DIVISOR
    return patch


def write_starter(looked: Survey, target: Path, name: str) -> Path:
    """Write manifest, label set, experiment and `run.json` into the new folder `target`; return the
    experiment.

    It is loaded before the folder is renamed into place, so what is there is an experiment that validates.

    Raises:
        SplitError: fewer than three persons.
        StorageError: the place is there already, or cannot be written.
        ExperimentError: a plugin that the experiment names is not installed.
    """
    from mriad.experiment.load import load

    persons = len(looked.index.persons)
    if persons < 3:
        raise SplitError(
            f"training, validation and test need three persons, but there are {persons}",
            where={"persons": ", ".join(looked.index.persons)},
            remedy="add data, or name persons in a manifest if each case is another person",
        )
    with temporary_folder(target) as folder:
        table = looked.manifest
        if table is None:
            write_manifest(folder, looked.index)
        (folder / EXPERIMENT).write_text(
            experiment_text(looked, name, str(table) if table else TABLE), encoding="utf-8"
        )
        load(folder / EXPERIMENT)
        (folder / "run.json").write_text(json.dumps(_record(looked, name), indent=2) + "\n", encoding="utf-8")
        if target.exists():
            raise StorageError("nothing is overwritten", where={"path": str(target)})
        folder.rename(target)
    return target / EXPERIMENT


def _record(looked: Survey, name: str) -> dict[str, object]:
    from importlib.metadata import version

    return {
        "command": "init",
        "experiment": name,
        "versions": {"mriad": version("mriad")},
        "inputs": {
            "folder": str(looked.folder),
            "cases": len(looked.index),
            "sha256": looked.index.fingerprint,
        },
        "left_out": list(looked.left_out),
    }


def experiment_text(looked: Survey, name: str, manifest: str) -> str:
    """The YAML of a first experiment on a data set."""
    persons = len(looked.index.persons)
    spacing = ", ".join(f"{s:g}" for s in looked.spacing)
    patch = ", ".join(map(str, patch_size(looked.size)))
    structures = ", ".join(f"{s.name} = {s.value}" for s in looked.index.label_set.structures)
    median = "×".join(map(str, looked.size))
    metrics = "eval.dice, eval.soft_dice" if looked.kind == "soft" else "eval.dice, eval.assd"
    plain = looked.label == looked.kind
    labels = looked.kind if plain else f"{{kind: {looked.kind}, name: {json.dumps(looked.label)}}}"
    return f"""# {len(looked.index)} cases of {persons} persons, written by `mriad init`; change any value.
name: {name}

data:
  dataset: {{type: data.manifest, path: {json.dumps(manifest)}}}  # the table of cases
  labels: {labels}  # {structures}
  channels: {json.dumps(list(looked.channels))}
  split: {{type: data.k_fold, k: {min(5, persons)}}}  # by person; this experiment is fold 0
  preprocessing:
    - {{type: data.orient, axes: RAS}}
    - {{type: data.resample, spacing_mm: [{spacing}]}}  # the median voxel size
    - {{type: data.z_score}}

streams:
  labelled:
    batch: 2
    # The median volume is {median} voxels; sizes are multiples of {DIVISOR}, at most {PATCH_VOXELS}
    # voxels in all. Larger patches see more of the surroundings, and take more memory and time.
    sampler: {{type: data.patch, size: [{patch}], foreground: 0.5}}

model: {{type: standard.plain_unet, features: {list(FEATURES)}}}  # more and wider levels where there is a GPU
loss: {{type: standard.dice_ce}}
optimiser: {{type: standard.adam, lr: 1e-3}}
schedule: {{type: standard.cosine}}
budget: {{steps: 2000, validate_every: 250}}  # try `--set budget.steps=50` first

predict:
  head: {{type: standard.softmax}}
  window: [{patch}]

evaluate:
  metrics: [{metrics}]
"""
