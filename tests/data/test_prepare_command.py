"""`mriad data prepare`: keys are those of the training, so that it finds everything made; what people read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mriad.cli import main

STEPS = [{"type": "data.orient", "axes": "LPS"}, {"type": "data.z_score"}]
FITTED = [STEPS[0], {"type": "data.histogram_match"}]


@pytest.fixture
def experiment(tmp_path, write):
    """experiment(**sections) → the path of a YAML that trains two steps on nine persons in files."""

    def make(steps=STEPS, persons: int = 9, **over) -> str:
        rows = ["id,person,image:image,label:hard"]
        for i in range(persons):
            rng = np.random.default_rng(i)
            box = np.zeros((8, 8, 8), np.uint8)
            box[2:6, 2:6, 3:7] = 1
            write(
                tmp_path / "set" / f"p{i}.nii.gz", (2 * box + rng.normal(0, 1, box.shape)).astype(np.float32)
            )
            write(tmp_path / "set" / f"p{i}_label.nii.gz", box)
            rows.append(f"p{i},p{i},p{i}.nii.gz,p{i}_label.nii.gz")
        (tmp_path / "set" / "manifest.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "set" / "labels.yaml").write_text("structures: {box: 1}\n")
        raw = {
            "name": "prepared",
            "data": {
                "dataset": {"type": "data.manifest", "path": str(tmp_path / "set")},
                "labels": "hard",
                "split": {"type": "data.k_fold", "k": 3},
                "preprocessing": steps,
                **over.pop("data", {}),
            },
            "model": {"type": "shapes.tiny_net"},
            "loss": {"type": "shapes.cross_entropy"},
            "learner": {"type": "shapes.supervised"},
            "optimiser": {"type": "shapes.adam"},
            "budget": {"steps": 2, "validate_every": 2},
            "predict": {"head": {"type": "shapes.softmax"}},
            "stages": {"train": {"type": "core.train"}},
            **over,
        }
        path = tmp_path / "experiment.yaml"
        path.write_text(json.dumps(raw))
        return str(path)

    return make


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Cases that were read from their files."""
    import mriad.preparation

    found: list[str] = []
    load = mriad.preparation.load_sample

    def remembered(case, *rest):
        found.append(case.id)
        return load(case, *rest)

    monkeypatch.setattr(mriad.preparation, "load_sample", remembered)
    return found


def command(*arguments: str) -> int:
    """Run a command line; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


def train(file: str, *more: str) -> None:
    assert command("train", file, "--tracking", "off", *more) == 0


def keys(runs) -> set[str]:
    return {p.name for p in (runs / "store").glob("[0-9a-f][0-9a-f]/*")}


def test_a_training_after_it_makes_nothing(experiment, runs, made, capsys):
    file = experiment()
    assert command("data", "prepare", file, "--workers", "0") == 0
    said = capsys.readouterr()
    assert "9 samples: 9 made, 0 were there, 0 failed" in said.out
    assert f"next: mriad train {file}" in said.err
    assert sorted(made) == [f"p{i}" for i in range(9)]
    made.clear()
    before = keys(runs)
    for fold in (0, 2):
        train(file, "--set", f"fold={fold}")
    assert made == []
    assert keys(runs) == before
    assert command("data", "prepare", file) == 0
    assert "9 samples: 0 made, 9 were there" in capsys.readouterr().out
    assert made == []


def test_fitted_steps_are_prepared_a_fold(experiment, runs, made, capsys):
    file = experiment(FITTED)
    assert command("data", "prepare", file, "--workers", "0") == 0
    said = capsys.readouterr().out
    assert "9 samples: 9 made" in said
    assert "data.histogram_match is fitted anew in each fold: prepared up to there; --fold N" in said
    made.clear()
    assert command("data", "prepare", file, "--fold", "1", "--workers", "0") == 0
    assert made == []  # what comes before the fitted step was there
    before = keys(runs)
    train(file, "--set", "fold=1")
    assert made == []
    assert keys(runs) == before
    train(file, "--set", "fold=2")
    assert made == []
    assert len(keys(runs)) > len(before)


def test_labels_chains_and_members_of_stages_are_found(experiment, runs, made):
    file = experiment(
        data={"sparse": {"slices": 0.5}},
        stages={
            "one": {"type": "core.train", "members": {"folds": 2}},
            "two": {"type": "core.train", "data": {"preprocessing": [STEPS[1]]}},
        },
    )
    assert command("data", "prepare", file, "--workers", "0", "--fold", "0") == 0
    assert made
    made.clear()
    before = keys(runs)
    train(file)
    assert made == []
    assert keys(runs) == before


def test_workers_prepare_the_same(experiment, runs, made, capsys):
    file = experiment()
    assert command("data", "prepare", file, "--workers", "2") == 0
    assert made == []  # it was done in other processes
    train(file)
    assert made == []


def test_a_failure_is_listed_with_exit_code_1(experiment, runs, made, write, tmp_path, capsys):
    file = experiment()
    write(tmp_path / "set" / "p4.nii.gz", np.full((8, 8, 8), 7, np.float32))
    assert command("data", "prepare", file, "--workers", "0") == 1
    said = capsys.readouterr()
    assert "9 samples: 8 made, 0 were there, 1 failed" in said.out
    assert "1 failed at step reading: an image is constant: every voxel is 7" in said.out
    assert "\n  p4; channel" in said.out
    assert "try: look at the file" in said.out
    assert "failed: p4, step reading" in said.err
    assert command("data", "prepare", file, "--workers", "0", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["there"], found["failures"][0]["case"]) == (8, "p4")


def test_fitted_steps_are_left_out_where_a_training_case_failed(experiment, runs, write, tmp_path, capsys):
    file = experiment(FITTED)
    write(tmp_path / "set" / "p4.nii.gz", np.full((8, 8, 8), 7, np.float32))
    folds = [n for n in "012" for _ in [command("data", "prepare", file, "--fold", n, "--workers", "0")]]
    assert folds
    assert "the fitted steps were left out, because training cases failed (1)" in capsys.readouterr().out


def test_a_data_set_is_prepared_with_the_chain_of_init(experiment, runs, tmp_path, made, capsys):
    experiment()
    assert command("data", "prepare", str(tmp_path / "set"), "--workers", "0") == 0
    said = capsys.readouterr()
    file = runs / "experiments" / "set" / "experiment.yaml"
    assert f"wrote {file}: its chain is run" in said.err
    assert "9 made" in said.out
    made.clear()
    assert command("data", "prepare", str(tmp_path / "set" / "manifest.csv"), "--workers", "0") == 0
    assert "9 were there" in capsys.readouterr().out
    assert made == []


def test_an_experiment_without_training_is_refused(experiment, runs, capsys):
    file = experiment(stages={"measure": {"type": "core.evaluate_imported", "predictions": "."}})
    assert command("data", "prepare", file) == 1
    assert "no stage of the experiment trains on its data set" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_share_the_work(experiment, runs, made, write, tmp_path, capsys):
    file = experiment(FITTED)
    write(tmp_path / "set" / "p4.nii.gz", np.full((8, 8, 8), 7, np.float32))
    assert command("data", "prepare", file, "--launcher", "ray", "--workers", "2") == 1
    said = capsys.readouterr().out
    assert "9 samples: 8 made, 0 were there, 1 failed" in said
    assert "\n  p4; channel" in said
    write(tmp_path / "set" / "p4.nii.gz", np.random.default_rng(4).normal(size=(8, 8, 8)).astype(np.float32))
    assert command("data", "prepare", file, "--launcher", "ray", "--workers", "2", "--fold", "0") == 0
    assert made == []
    before = keys(runs)
    train(file)
    assert made == []
    assert keys(runs) == before
    assert [p for p in runs.iterdir() if p.name.startswith("prepare-")] == []
