"""Cases that stages made follow the persons of the experiment's one split; nothing is split a second time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trial_setup as setup
from mriad.errors import SplitError
from mriad.stages.dataset import write_dataset
from mriad.training.worker import TrainPayload, cases_for

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.vocabulary import CaseIndex

PERSONS = [f"p{i:02d}" for i in range(20)]
SIDES = ("train", "validation", "test")


@pytest.fixture(params=["data.k_fold", "data.file"])
def given(request, tmp_path):
    """An experiment on 20 persons in files, with one of the splits that read the index differently."""
    split = {"type": request.param}
    if request.param == "data.file":
        content = {"train": PERSONS[6:], "validation": PERSONS[3:6], "test": PERSONS[:3]}
        (tmp_path / "split.json").write_text(json.dumps(content))
        split["path"] = str(tmp_path / "split.json")
    made = setup.written(tmp_path / "data", persons=20, steps=2)
    data = {**made.model_dump(mode="json")["data"], "split": split}
    return made.with_sections({"data": data})


def chosen(experiment, *datasets: Path, inner=None):
    """The cases that a worker trains on."""
    return cases_for(
        experiment,
        TrainPayload(
            experiment={},
            fold=0,
            seed=0,
            inner=inner,
            overfit=0,
            store="",
            datasets=tuple(map(str, datasets)),
            labels="",
            start="",
            key_map={},
        ),
    )


def persons(cases, side):
    return {case.person for case in cases.side(side)}


def derive(folder: Path, index: CaseIndex, rename=lambda person: person) -> Path:
    """A data set of a stage: new ids, the same voxels."""
    folder.mkdir()
    cases = [replace(case, id=f"made_{case.id}", person=rename(case.person)) for case in index]
    write_dataset(folder, cases, index.label_set)
    return folder


def test_pseudo_labelled_cases_train_where_their_persons_do(given, tmp_path):
    stages = {
        "teacher": {"type": "core.train"},
        "labels": {"type": "core.pseudo_label", "with": "teacher", "cases": "all"},
        "train": {"type": "core.train", "data": ["labels"]},
        "evaluate": {"type": "core.evaluate", "with": "train"},
    }
    changed = given.model_dump(mode="json")
    trial = setup.run(type(given).model_validate({**changed, "stages": stages}), tmp_path / "runs")
    whole = chosen(given)
    cases = chosen(given, trial.artefacts["labels"].folder)
    for side in ("train", "validation"):
        assert persons(cases, side) == persons(whole, side)
    assert {case.labels["hard"].kind for case in cases.side("train")} == {"pseudo"}
    assert {case.labels["hard"].kind for case in cases.side("validation")} == {"hard"}
    summary = trial.artefacts["train"].summary
    assert summary["train_cases"] == len(whole.split["train"])
    assert summary["validation_cases"] == len(whole.split["validation"])


def test_cases_made_of_everybody_never_train_on_test_persons(given, tmp_path):
    whole = chosen(given)
    made = derive(tmp_path / "made", given.data.dataset.build())
    cases = chosen(given, made)
    for side in SIDES:
        assert persons(cases, side) == persons(whole, side)
        assert all(case.id.startswith("made_") for case in cases.side(side))


def test_members_by_fold_keep_the_parts_of_the_experiments_persons(given, tmp_path):
    index = given.data.dataset.build()
    training = set(chosen(given).split["train"])
    some = derive(
        tmp_path / "made", index.select(lambda case: case.id in training and int(case.id[1:]) % 2 == 0)
    )
    for k in range(3):
        whole, cases = chosen(given, inner=(k, 3)), chosen(given, some, inner=(k, 3))
        assert persons(cases, "train") == {p for p in persons(whole, "train") if int(p[1:]) % 2 == 0}
        assert persons(cases, "validation") == persons(whole, "validation")


def test_persons_from_elsewhere_train_unless_they_are_test_persons(given, tmp_path):
    whole = chosen(given)
    index = given.data.dataset.build()
    training, tested = (set(whole.split[side]) for side in ("train", "test"))
    others = derive(tmp_path / "others", index.select(lambda case: case.id in training), lambda p: f"x{p}")
    cases = chosen(given, others)
    assert persons(cases, "train") == {f"x{p}" for p in persons(whole, "train")}
    assert persons(cases, "validation") == persons(whole, "validation")
    leak = derive(tmp_path / "leak", index.select(lambda case: case.id in tested), lambda p: f"x{p}")
    with pytest.raises(SplitError, match="the same voxels under two names are in two splits") as caught:
        chosen(given, leak)
    assert "of person 'xp" in caught.value.where["train"]
    assert "of person 'p" in caught.value.where["test"]
