"""What ships as YAML resolves, and the phantom's parameters are those for which claims were written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import resolve
from mriad.experiment.model import Experiment
from mriad.identity import fingerprint
from mriad.registry import registry
from mriad.stages.graph import expand

CLAIMS = Path(__file__).parents[2] / "docs" / "results" / "softseg-claims.md"
MODES = ("published", "none", "image_only", "labels_zero_mean", "labels_same_sign", "random_per_person")


def shipped(folder: str) -> list[str]:
    return sorted(
        name
        for name, (path, _) in registry().experiments.items()
        if name.startswith("softseg:") and path.parent.name == folder
    )


def frozen(dataset) -> str:
    """Of who there is, and of everything that decides a person's voxels: tissues, sequences, biases."""
    return fingerprint([dataset.model_dump(mode="json"), dataset.parameters().model_dump(mode="json")])


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MRIAD_SPINE_GENERIC", str(tmp_path))


def test_every_experiment_is_valid():
    names = shipped("experiments")
    assert {"softseg:soft_all", "softseg:phantom"} <= set(names)
    for name in names:
        assert Experiment.load(name).stages


def test_every_variant_of_every_ablation_is_valid():
    names = shipped("ablations")
    assert {"softseg:paper", "softseg:factorial", *(f"softseg:phantom_{mode}" for mode in MODES)} <= set(
        names
    )
    for name in names:
        resolved, _ = resolve(load_ablation(name))
        assert len(resolved) > 1


def test_the_papers_variants_differ_in_what_their_names_say():
    found, _ = resolve(load_ablation("softseg:paper"))
    assert found["soft_all"].loss == found["hard_all_softseg"].loss
    assert found["hard_all_softseg"].data.labels.kind == "hard"
    assert {
        name: e.streams["labelled"].contrasts for name, e in found.items() if name.startswith("soft_T1")
    } == {"soft_T1w": ["T1w"]}
    assert {name for name in found if name.startswith("GT_")} == {"GT_soft", "GT_hard"}
    for e in found.values():  # no contrast that a model does not train on has a part in its checkpoint
        assert e.data.validate_on == e.streams["labelled"].contrasts
    fewer = found["soft_2contrasts"]
    assert fewer.streams["labelled"].contrasts == fewer.stages["softgt"]["contrasts"] == ["T1w", "T2w"]
    assert {e.evaluate.reference for e in found.values()} == {"soft"}
    assert len({e.budget.steps for e in found.values()}) == 1


def test_the_factorial_is_whole():
    found, _ = resolve(load_ablation("softseg:factorial"))
    cells = {(e.data.labels.kind, e.loss.loss.type) for e in found.values()}
    assert len(cells) == 8
    assert {kind for kind, _ in cells} == {"soft", "hard"}
    for kind in ("soft", "hard"):
        assert len({loss for k, loss in cells if k == kind}) == 4


@pytest.mark.parametrize("ablation", ["paper", "phantom_published"])
def test_targets_are_scored_and_models_of_one_contrast_put_together(ablation):
    loaded = load_ablation(f"softseg:{ablation}")
    found, _ = resolve(loaded)
    for name, e in found.items():
        kinds = [node.kind for node in expand(e)]
        assert ("predictor" in kinds) == (not name.startswith("GT_")), (
            name
        )  # targets are scored, nothing is trained
    (apart,) = loaded.ablation.compare.composites.values()
    assert len(apart) == 6
    for contrast, variant in apart.items():
        assert found[variant].streams["labelled"].contrasts == [contrast]


def test_the_phantoms_rows_are_what_their_names_say():
    found, _ = resolve(load_ablation("softseg:phantom_published"))
    for name, e in found.items():
        kinds = [node.kind for node in expand(e)]
        assert ("predictor" in kinds) == (not name.startswith("GT_")), (
            name
        )  # targets are scored, nothing is trained
        own = [name.removeprefix("soft_")] if name.startswith("soft_") and name != "soft_all" else []
        assert e.streams["labelled"].contrasts == e.data.validate_on == own
        assert e.stages.get("scored", {}).get("label", "") == name.partition("GT_")[2]


@pytest.mark.parametrize("mode", MODES)
def test_the_frozen_phantom_is_the_one_of_the_claims(mode):
    found, _ = resolve(load_ablation(f"softseg:phantom_{mode}"))
    datasets = {frozen(e.data.dataset) for e in found.values()}
    assert len(datasets) == 1
    assert found["soft_all"].data.dataset.mode == mode
    assert f"| {mode} | `{datasets.pop()[:16]}` |" in CLAIMS.read_text(encoding="utf-8")
