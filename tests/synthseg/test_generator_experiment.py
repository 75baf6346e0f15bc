"""An experiment on label maps alone, through the core: cases without channels, painted validation, stages."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_inputs import SIDED, a_map
from mriad.errors import DataError, ExperimentError
from mriad.experiment.model import Experiment
from mriad.flow import gather_cases
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.launch.api import preview_batches, train
from mriad.painted import as_segmented, label_set_after, painted, painters_of, require_one_orientation
from mriad.stages.sections import canonical
from mriad.stages.train import index_of
from mriad.training.worker import recipe_for
from mriad.vocabulary import LabelSet, Sample, Structure
from mriad_synthseg.generate import Generate

INDEX = a_map((16, 16, 16))[0].numpy()
VALUES = np.array([0, *(s.value for s in SIDED.structures)])


@pytest.fixture
def folder(tmp_path):
    """Five label maps, and a scan of a sixth person whose label file holds every value."""
    grid = Grid.of(INDEX.shape, np.diag([2, 2, 2, 1]))
    rows = []
    for n in range(6):
        label = VALUES[np.roll(INDEX, n, 2)].astype(np.int16)
        write_like(tmp_path / f"m{n}.nii.gz", label, grid, "labels")
        image = ""
        if n == 5:
            image = "scan.nii.gz"
            write_like(tmp_path / image, np.random.default_rng(0).normal(label, 5) + 50, grid, "float32")
        rows.append([f"m{n}", f"p{n}", "maps" if n < 5 else "scans", image, f"m{n}.nii.gz"])
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "person", "domain", "image:image", "label:hard"], *rows])
    names = "".join(f"  {s.name}: {s.value}\n" for s in SIDED.structures)
    (tmp_path / "labels.yaml").write_text(f"structures:\n{names}")
    split = {"train": ["p0", "p1", "p2"], "validation": ["p3", "p4"], "test": ["p5"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


def experiment(folder, **sections) -> Experiment:
    raw = {
        "name": "maps",
        "data": {
            "dataset": {"type": "data.manifest", "path": str(folder / "manifest.csv")},
            "split": {"type": "data.file", "path": str(folder / "split.json")},
            "channels": ["image"],
            "preprocessing": [{"type": "data.orient", "axes": "RAS"}, {"type": "data.percentile"}],
        },
        "streams": {"labelled": {"batch": 1, "domain": "maps"}},
        "augment": [
            {
                "type": "synthseg.generate",
                "translation_voxels": 1,
                "structures": ["right_thalamus", "left_thalamus"],
            }
        ],
        "model": {"type": "synthseg.unet", "levels": 2, "features": 2},
        "loss": {"type": "synthseg.dice"},
        "budget": {"steps": 2, "validate_every": 2},
        "evaluate": {"metrics": ["eval.dice"]},
        "stages": {"train": {"type": "core.train"}},
    }
    return Experiment.model_validate({**raw, **sections})


def test_two_steps_validate_on_painted_maps_and_test_on_a_scan(folder, runs):
    trial = train(experiment(folder), runs=runs)
    assert {row.structure for row in trial.summary} == {"right_thalamus", "left_thalamus"}
    assert trial.artefacts["train"].summary["validation_cases"] == 2
    assert trial.artefacts["train"].summary["best_key"] == "val/dice"


@pytest.mark.slow
def test_priors_reach_the_generator_by_the_stages_name(folder, runs):
    split = {"train": ["p0", "p1", "p2", "p5"], "validation": ["p3"], "test": ["p4"]}
    (folder / "split.json").write_text(json.dumps(split))
    generate = {"type": "synthseg.generate", "translation_voxels": 1, "priors": "priors"}
    chosen = experiment(
        folder,
        augment=[generate],
        evaluate={"metrics": []},
        stages={
            "priors": {"type": "synthseg.fit_priors", "cases": "scans"},
            "train": {"type": "core.train"},
        },
    )
    trial = train(chosen, runs=runs)
    assert trial.artefacts["priors"].summary["images"] == 1
    assert (trial.artefacts["priors"].folder / "priors.tsv").is_file()
    with pytest.raises(ExperimentError, match="are not there"):
        preview_batches(chosen, 1, runs)


def test_the_network_is_built_for_what_comes_out(folder):
    chosen = experiment(folder)
    cases = gather_cases(chosen, index_of(chosen), 0, 0)
    assert cases.task.channels == ("image",)
    assert cases.task.label_set().names == ("right_thalamus", "left_thalamus")
    assert cases.task.stored_label_set == cases.index.label_set
    assert cases.task.outputs() == 3
    without = experiment(folder, data={**chosen.data.model_dump(mode="json"), "channels": []})
    assert gather_cases(without, index_of(without), 0, 0).task.channels == ("image",)
    plain = experiment(folder, augment=[])
    assert gather_cases(plain, index_of(plain), 0, 0).task.stored_label_set is None


def test_samples_of_maps_and_scans(folder, tmp_path):
    chosen = experiment(folder)
    cases = gather_cases(chosen, index_of(chosen), 0, 0)
    recipe = replace(recipe_for(chosen, cases, str(tmp_path / "store")), store=None)
    by_id = {case.id: case for case in cases.index}
    map_, scan = recipe.sample(by_id["m3"]), recipe.sample(by_id["m5"])
    assert map_.image.shape == (0, 16, 16, 16)
    assert scan.image.shape == (1, 16, 16, 16)
    known = as_segmented(scan, cases.task)
    assert np.array_equal(known.target, np.array([0, 2, 1, 0, 0, 0, 0])[scan.target])
    painters = painters_of(chosen)
    made = [painted(map_, painters, cases.task, 0, torch.device("cpu")) for _ in range(2)]
    assert np.array_equal(made[0].image, made[1].image)
    assert made[0].image.shape == (1, 16, 16, 16)
    assert not np.array_equal(
        made[0].image, painted(map_, painters, cases.task, 1, torch.device("cpu")).image
    )
    with pytest.raises(DataError, match="no augmenter paints one") as found:
        painted(map_, [], cases.task, 0, torch.device("cpu"))
    assert "m3" in str(found.value)
    soft = np.stack([(scan.target[0] == s + 1).astype(np.float32) for s in range(6)])
    assert np.array_equal(
        as_segmented(replace(scan, target=soft), cases.task).target[0], known.target[0] == 1
    )


def test_streams_must_agree(folder):
    skull = {"type": "synthseg.generate", "structures": ["skull"]}
    two = {"labelled": {"batch": 1, "views": {"a": [{"type": "synthseg.generate"}], "b": [skull]}}}
    with pytest.raises(ExperimentError, match="different structures"):
        label_set_after(experiment(folder, streams=two, augment=[]), SIDED)
    structured = experiment(folder)
    data = {**structured.data.model_dump(mode="json"), "structures": {"maps": ["skull"], "scans": ["skull"]}}
    with pytest.raises(ExperimentError, match="does not go with"):
        gather_cases(experiment(folder, data=data), index_of(structured), 0, 0)


def test_maps_of_different_orientations():
    def sample(name, *signs):
        return Sample(name, np.empty((0, 2, 2, 2), np.float32), Grid.of((2, 2, 2), np.diag([*signs, 1])))

    require_one_orientation([sample("a", 1, 1, 1), sample("b", 1, 1, 1)])
    with pytest.raises(DataError, match="different orientations") as found:
        require_one_orientation([sample("a", 1, 1, 1), sample("b", -1, 1, 1)])
    text = str(found.value)
    assert "RAS" in text
    assert "LAS" in text
    assert "data.orient" in text
    turned = replace(sample("a", 1, 1, 1), grid=Grid.of((4, 4, 4), np.eye(4)[[1, 0, 2, 3]]))
    with pytest.raises(DataError, match="must run left–right") as wrong:
        require_one_orientation([turned])
    assert "ARS" in str(wrong.value)


def test_a_label_set_knows_values_that_belong_to_another():
    whole = LabelSet((Structure("a", 1), Structure("b", 2)), (9,), (7,), ((5, 1), (6, 2)))
    stored = LabelSet.of({"b": 2, "more_a": 5, "gone": 7, "ignored": 9})
    assert whole.indices(stored) == (0, 2, 1, 0, 0)
    assert whole.only(["b"]) == LabelSet((Structure("b", 2),), (9,), (7, 1, 5), ((6, 2),))
    with pytest.raises(DataError, match="does not know values") as found:
        whole.indices(LabelSet.of({"new": 3}))
    assert "3 new" in str(found.value)


def test_a_table_counts_by_its_content(tmp_path):
    one, other = tmp_path / "a.tsv", tmp_path / "b.tsv"
    one.write_text("label\tname\n")
    other.write_text("label\tname\n")
    same = [canonical(Generate(table=path)) for path in (one, other)]
    assert same[0] == same[1]
    other.write_text("label\tname\n1\ta\n")
    assert canonical(Generate(table=other)) != same[0]
    folder = tmp_path / "arrays"
    folder.mkdir()
    empty = canonical(Generate(table=folder))
    (folder / "generation_labels.npy").write_bytes(b"x")
    assert canonical(Generate(table=folder)) != empty
    assert canonical(Generate(table=tmp_path / "none"))["table"] == str(tmp_path / "none")


def test_the_packaged_experiment(real_data, monkeypatch, runs):
    """Training and validation maps apart; samples of real maps in range, targets of the table's 32 structures."""
    monkeypatch.setenv("MRIAD_TEST_DATA", str(real_data))
    chosen = Experiment.load("synthseg:brain_small")
    cases = gather_cases(chosen, index_of(chosen), 0, chosen.seed)
    sides = {side: {case.person for case in cases.side(side)} for side in ("train", "validation", "test")}
    assert [len(s) for s in sides.values()] == [10, 4, 1]
    assert cases.task.outputs() == 33
    ((_, batch),) = preview_batches(chosen, 1, runs)
    assert tuple(batch.image.shape) == (1, 1, 64, 64, 64)
    assert (batch.image.min(), batch.image.max()) == (0, pytest.approx(1))
    assert len(batch.target.unique()) > 25
