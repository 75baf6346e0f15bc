"""`--from MODEL`: which stages start from it."""

from __future__ import annotations

import pytest
from mriad.errors import ExperimentError
from mriad.stages.graph import expand
from mriad.stages.starting import starting_from


def starts(experiment):
    return {n.name: n.stage.from_ for n in expand(experiment) if n.stage.type_name() == "core.train"}


def test_stages_without_a_start_get_it_in_blocks_too_and_others_keep_theirs(make, tmp_path):
    given = make(
        stages={
            "first": "core.train",
            "second": {"type": "core.train", "from": "first"},
            "blank": {"type": "core.train", "from": "scratch"},
            "rounds": {"repeat": "2 as k", "student": {"type": "core.train", "note": "round {k}"}},
        }
    )
    model = str(tmp_path / "m")
    assert starts(starting_from(given, tmp_path / "m")) == {
        "first": model,
        "second": "first",
        "blank": "scratch",
        "rounds.1.student": model,
        "rounds.2.student": model,
    }
    assert starts(given)["first"] == "scratch"


def test_an_experiment_without_stages_has_one(make, tmp_path):
    assert starts(starting_from(make(), tmp_path)) == {"train": str(tmp_path)}


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ({"make": "toy.make"}, "none is a core.train"),
        (
            {"train": {"type": "core.train", "from": "scratch"}},
            "every core.train stage has a `from` of its own",
        ),
    ],
)
def test_nothing_to_start_is_an_error(make, tmp_path, stages, reason):
    with pytest.raises(ExperimentError, match="no stage of experiment 'toy' can start") as caught:
        starting_from(make(stages=stages), tmp_path)
    assert reason in str(caught.value)
    assert "stages.NAME.from" in str(caught.value)


def test_a_stage_comes_before_a_file_of_its_name(make, tmp_path, monkeypatch):
    (tmp_path / "first").write_text("no model")
    monkeypatch.chdir(tmp_path)
    graph = expand(make(stages={"first": "core.train", "next": {"type": "core.train", "from": "first"}}))
    assert graph["next"].inputs == {"first": "first"}
