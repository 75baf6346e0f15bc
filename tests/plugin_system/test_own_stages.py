"""The contract checks of stages and predictors, on each stage of core and on what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mriad.experiment.model import Experiment
from mriad.identity import fingerprint
from mriad.images import write_like
from mriad.inference.load import load_predictor
from mriad.launch.inline import InlineLauncher
from mriad.registry import registry
from mriad.stages.artefact import StageContext
from mriad.stages.graph import expand
from mriad.stages.run import stage_folder
from mriad.testing import check_predictor, check_stage
from mriad_shapes.configs import Blobs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mriad.stages.artefact import Artefact

STAGES = {
    "teacher": {"type": "core.train", "members": {"seeds": [1, 2]}},  # two of core.train, one core.ensemble
    "pseudo": {"type": "core.pseudo_label", "with": "teacher", "cases": "all", "kind": "soft"},
    "test": {"type": "core.evaluate", "with": "teacher"},
    "theirs": {"type": "core.evaluate_imported", "predictions": ""},  # the folder is the fixture's
    "labels": {"type": "core.evaluate_label", "label": "hard"},
}


class Quiet:
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def progress(self, step: int, steps: int) -> None: ...
    def message(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Artefact]]:
    """Every stage, checked; node → (type, what it made)."""
    runs: Path = tmp_path_factory.mktemp("runs")
    elsewhere: Path = tmp_path_factory.mktemp("elsewhere")
    for case in Blobs().build():
        label = case.labels["hard"].source.read()
        write_like(elsewhere / f"{case.id}.nii.gz", label.data, label.grid, "labels")
    experiment = Experiment.model_validate(
        {
            "name": "stages",
            "data": {"dataset": "shapes.blobs", "split": "shapes.thirds"},
            "model": "shapes.tiny_net",
            "loss": "shapes.cross_entropy",
            "learner": "shapes.supervised",
            "optimiser": "shapes.adam",
            "budget": {"steps": 2},
            "predict": {"head": "shapes.softmax"},
            "evaluate": {"metrics": ["shapes.overlap"]},
            "stages": {**STAGES, "theirs": {**STAGES["theirs"], "predictions": str(elsewhere)}},
        }
    )
    found: dict[str, tuple[str, Artefact]] = {}
    for node in expand(experiment):
        mark = fingerprint(node.name)
        folder = stage_folder(runs, node.name, mark)
        folder.mkdir(parents=True)
        context = StageContext(
            name=node.name,
            folder=folder,
            experiment=node.experiment,
            inputs={written: found[name][1] for written, name in node.inputs.items()},
            fold=node.experiment.fold,
            seed=node.seed,
            fingerprint=mark,
            reporter=Quiet(),
            launcher=InlineLauncher(),
            inner=node.inner,
        )
        check_stage(node.stage, context)
        found[node.name] = (node.stage.type_name(), node.stage.run(context))
    return found


def test_every_stage_of_core_keeps_its_contract(made: dict[str, tuple[str, Artefact]]) -> None:
    core = {n for n, entry in registry().components["stage"].items() if entry.plugin == "core"}
    assert {kind for kind, _ in made.values()} == core


@pytest.mark.parametrize("kind", ["core.train", "core.ensemble"])
def test_predictors_keep_theirs(kind: str, made: dict[str, tuple[str, Artefact]]) -> None:
    artefact = next(a for k, a in made.values() if k == kind)
    case = Blobs().build()[0]
    check_predictor(
        load_predictor(artefact.folder, domain=case.domain),
        {name: source.read() for name, source in case.channels.items()},
    )
