"""Nothing that names a person or case reaches a tracking store, unless asked for."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from hypothesis import given
from hypothesis import strategies as st
from mriad.launch.files import runs_root
from mriad.launch.trial import TrialOptions, run_trial, trial_id
from mriad.tracking.privacy import PublicNames, keep_names, public_names, read_names, true_names
from mriad.tracking.record import RunRecord
from mriad.vocabulary import Case

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.experiment.model import Experiment

PERSONS = [f"Groß-{n:02d}" for n in range(9)]
NAMES = PublicNames({"sub-01": "p-a", "sub-01_T2w": "c-b", "7": "p-c", "Groß-01": "p-d"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sub-01", "p-a"),
        ("7", "7"),
        ("steps: 7 of 17", "steps: 7 of 17"),
        ("root/sub-01/anat/sub-01_T2w.nii.gz", "root/p-a/anat/c-b.nii.gz"),
        ("sub-011 and xsub-01", "sub-011 and xsub-01"),
        ("of Groß-01, twice Groß-01", "of p-d, twice p-d"),
    ],
)
def test_names_in_text(text: str, expected: str):
    assert NAMES.text(text) == expected


def test_values_and_tables_keep_their_shape():
    value = {"persons": ["7", "8"], "sub-01": {"seed": 7}, "path": "x/sub-01.nii"}
    assert NAMES.value(value, short=True) == {
        "persons": ["p-c", "8"],
        "p-a": {"seed": 7},
        "path": "x/p-a.nii",
    }
    # Person "7" is no reason to rewrite a slice, a unit or a fold.
    assert NAMES.value({"fold": "7"}) == {"fold": "7"}
    table = 'case,person,part,value\nsub-01_T2w,"7",7,0.7\n'
    assert NAMES.table(table) == "case,person,part,value\nc-b,p-c,7,0.7\n"


@given(st.lists(st.text("abc-_0", min_size=3, max_size=6), min_size=1, max_size=5, unique=True), st.data())
def test_no_true_name_is_left_between_separators(true: list[str], data: Any):
    names = PublicNames({name: f"p~{i}" for i, name in enumerate(true)})
    order = data.draw(st.permutations(true))
    shown = names.text("/".join(order))
    assert sorted(shown.split("/")) == sorted(names.names.values())


class TestKey:
    def case(self, person: str) -> Case:
        return Case(f"{person}_T2w", person, {})

    def test_names_are_stable_below_a_root_and_differ_between_roots(self, tmp_path):
        one, other = runs_root(tmp_path / "one"), runs_root(tmp_path / "other")
        first = public_names(one, [self.case("anna"), self.case("berta")])
        again = public_names(one, [self.case("anna")])
        elsewhere = public_names(other, [self.case("anna")])
        assert first.of("anna") == again.of("anna") != elsewhere.of("anna")
        assert first.of("anna") != first.of("berta")
        assert "anna" not in first.of("anna") + first.of("anna_T2w")

    def test_key_and_lists_are_the_owners_alone(self, tmp_path):
        root = runs_root(tmp_path)
        public_names(root, [self.case("anna")])
        kept = sorted((tmp_path / "private").iterdir())
        assert len(kept) == 2
        assert all(path.stat().st_mode & 0o077 == 0 for path in kept)

    def test_the_owner_finds_the_person_again(self, tmp_path):
        root = runs_root(tmp_path)
        public = public_names(root, [self.case("anna"), self.case("berta")])
        assert true_names(root, public.of("berta")) == ["berta"]
        assert true_names(root, public.of("anna_T2w")) == ["anna_T2w"]
        assert true_names(root, "p-unknown") == []


def experiment(folder: Path, privacy: str) -> Experiment:
    """On files that bear names; figures of cases are drawn."""
    rows = ["id,person,image:image,label:hard"]
    for n, person in enumerate(PERSONS):
        setup.write_case(folder, n)
        for ending in ("", "_label"):
            (folder / f"p{n:02d}{ending}.nii.gz").rename(folder / f"{person}{ending}.nii.gz")
        rows.append(f"scan_{person},{person},{person}.nii.gz,{person}_label.nii.gz")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "labels.yaml").write_text("structures: {box: 1}\n")
    return setup.experiment(
        data={
            "dataset": {"type": "data.manifest", "path": str(folder)},
            "labels": {"kind": "hard"},
            "split": {"type": "shapes.thirds"},
        },
        privacy=privacy,
        evaluate={"metrics": [{"type": "eval.dice"}]},
    )


def everything_in(place: Path) -> bytes:
    """Every byte of a tracking store, names of files included."""
    found = b""
    for path in sorted(place.rglob("*")):
        found += str(path.relative_to(place)).encode() + (path.read_bytes() if path.is_file() else b"")
    return found


@pytest.mark.parametrize("privacy", ["pseudonymise", "plain"])
def test_a_store_sees_public_names_unless_asked(tmp_path, privacy):
    data = tmp_path / "data"
    data.mkdir()
    given = experiment(data, privacy)
    trial = run_trial(given, TrialOptions(runs=tmp_path / "runs"))
    store = everything_in(tmp_path / "runs" / "tracking")
    assert b"test/dice/box" in store
    hidden = [name for name in PERSONS if name.encode() in store]
    assert hidden == (
        [] if privacy == "pseudonymise" else PERSONS[::3]
    )  # the test persons stand in cases.csv
    # What stays here keeps its names.
    local = (trial.folder / "cases.csv").read_text("utf-8")
    assert all(name in local for name in PERSONS[::3])
    sent = next((tmp_path / "runs" / "tracking").rglob("cases.csv"))
    with sent.open(newline="", encoding="utf-8") as file:
        shown = list(csv.DictReader(file))
    assert len({row["person"] for row in shown}) == 3
    prefix = "p-" if privacy == "pseudonymise" else "Groß"
    assert all(row["person"].startswith(prefix) for row in shown)
    if privacy == "pseudonymise":
        root = runs_root(tmp_path / "runs")
        assert {n for row in shown for n in true_names(root, row["person"])} == set(PERSONS[::3])
        figures = {path.name for path in (tmp_path / "runs" / "tracking").rglob("*.png")}
        assert any(name.startswith("overlay_") and "c-" in name for name in figures)
        assert (
            json.loads(next((tmp_path / "runs" / "tracking").rglob("run.json")).read_text())["id"] == trial.id
        )


def test_a_failure_names_no_person_either(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    given = experiment(data, "pseudonymise")
    (data / f"{PERSONS[0]}.nii.gz").write_bytes(b"not a NIfTI")
    with pytest.raises(Exception, match=PERSONS[0]):  # the person at the terminal must know which
        run_trial(given, TrialOptions(runs=tmp_path / "runs"))
    store = everything_in(tmp_path / "runs" / "tracking")
    assert b"NIfTI" in store
    assert PERSONS[0].encode() not in store


def test_nothing_with_a_true_name_is_sent_when_a_finished_run_starts_again(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    given = experiment(data, "pseudonymise")
    options = TrialOptions(runs=tmp_path / "runs", tracking="off")
    trial = run_trial(given, options)
    record = RunRecord(trial.folder)
    true = [path.name for path in record.public_figures() if "Groß" in path.name]
    assert true == []
    assert any("Groß" in path.name for path in (trial.folder / "figures" / "named").iterdir())
    RunRecord.start(trial.folder, id=trial.id, name=given.name).fail(RuntimeError("cut off"))
    assert not any("Groß" in path.name for path in record.public_figures())


def test_aliases_and_bare_names_are_hidden_too(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    given = experiment(data, "pseudonymise")
    raw = given.model_dump(mode="json")
    raw["data"]["same_person"] = [[PERSONS[1], PERSONS[2]], [PERSONS[4], "sub-Huber"]]
    keep_names(runs_root(tmp_path / "runs"), tmp_path / "run", [type(given).model_validate(raw)])
    names = read_names(tmp_path / "run")
    assert all(names.of(person).startswith("p-") for person in (*PERSONS, "sub-Huber", "Huber"))
    assert names.of("Huber") == names.of("sub-Huber")


def test_privacy_changes_no_identity(tmp_path):
    assert trial_id(setup.experiment(privacy="plain")) == trial_id(setup.experiment())
