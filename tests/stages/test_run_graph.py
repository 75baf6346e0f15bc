"""Running a graph: once, resumed, waited for; failures that say where."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mriad.errors import DataError, LaunchError, MriadError, StageError, StorageError
from mriad.registry import registry
from mriad.stages.artefact import Artefact
from mriad.stages.fingerprints import DataIdentity, fingerprints
from mriad.stages.graph import expand
from mriad.stages.run import read_done, run_graph, stage_folder

IDENTITY = DataIdentity("voxels", ("a",))


def prepare(experiment):
    graph = expand(experiment)
    return graph, fingerprints(graph, lambda _: IDENTITY)


@contextmanager
def file_guard(folder):
    """The simplest guard: a file that only one may create."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise LaunchError("in use", where={"owner": "process 1"}) from None
    try:
        yield lock
    finally:
        lock.unlink()


def run(experiment, runs, talk, **arguments):
    graph, prints = prepare(experiment)
    options = {"guard": file_guard, "poll_s": 0.02, **arguments}
    return run_graph(graph, fingerprints=prints, runs=runs, reporter=talk, launcher=None, **options), prints


STAGES = {
    "make": "toy.make",
    "train": {"type": "core.train", "data": ["make"], "members": {"seeds": [1, 2]}},
}


class TestOnce:
    def test_each_stage_runs_in_its_folder_and_is_skipped_the_second_time(self, make, stages_root, talk):
        made, prints = run(make(stages=STAGES), stages_root, talk)
        assert list(made) == ["make", "train.seed1", "train.seed2", "train"]
        folder = stage_folder(stages_root, "train.seed1", prints["train.seed1"])
        assert folder == stages_root / "stages" / f"train.seed1-{prints['train.seed1'][:12]}"
        assert made["train.seed1"].folder == folder
        inputs = json.loads((folder / "inputs.json").read_text())
        assert inputs == {"make": str(made["make"].folder)}
        record = json.loads((folder / "done.json").read_text())
        assert (record["fingerprint"], record["kind"]) == (prints["train.seed1"], "predictor")
        assert record["inputs"] == {"make": prints["make"]}

        again, _ = run(make(stages=STAGES), stages_root, talk)
        assert {n: a.folder for n, a in again.items()} == {n: a.folder for n, a in made.items()}
        assert again["make"].summary == {"runs": 1}
        assert (folder / "runs.txt").read_text() == "run\n"
        assert sum("was done before, skipped" in text for text in talk.messages) == 4

    def test_the_ensemble_names_its_members_relatively(self, make, stages_root, talk, tmp_path):
        made, _ = run(make(stages=STAGES), stages_root, talk)
        moved = tmp_path / "elsewhere"
        stages_root.rename(moved)
        folder = moved / "stages" / made["train"].folder.name
        document = json.loads((folder / "predictor.json").read_text())
        assert document["type"] == "core.ensemble"
        members = [(folder / member).resolve() for member in document["members"]]
        assert members == [moved / "stages" / made[f"train.seed{s}"].folder.name for s in (1, 2)]

    def test_another_experiment_shares_what_is_equal(self, make, stages_root, talk):
        run(make(stages=STAGES), stages_root, talk)
        talk.messages.clear()
        other = {**STAGES, "more": {"type": "toy.make", "strength": 5}}
        run(make(name="other", stages=other), stages_root, talk)
        assert sum("skipped" in text for text in talk.messages) == 4
        assert any(text.startswith("stage 'more' starts in") for text in talk.messages)

    def test_only_what_is_needed(self, make, stages_root, talk):
        made, _ = run(make(stages={**STAGES, "more": "toy.fit"}), stages_root, talk, only="train.seed1")
        assert list(made) == ["make", "train.seed1"]

    def test_the_real_lease(self, make, stages_root, talk):
        made, prints = run(make(stages=STAGES), stages_root, talk, guard=None)
        assert read_done(made["make"].folder, prints["make"]) is not None


class TestFailure:
    @pytest.fixture
    def breaks(self, make, monkeypatch):
        """Let `toy.make` raise what is set."""
        kind = registry().get("stage", "toy.make")
        good = kind.run
        fault = {}

        def run_or_raise(self, context):
            (context.folder / "half.txt").write_text("half")
            if "error" in fault:
                raise fault["error"]
            return good(self, context)

        monkeypatch.setattr(kind, "run", run_or_raise)
        return fault

    def test_our_own_errors_keep_their_kind_and_name_the_stage(self, make, stages_root, talk, breaks):
        breaks["error"] = DataError("a file is truncated", where={"file": "x.nii"}, remedy="copy it again")
        with pytest.raises(DataError) as caught:
            run(make(stages=STAGES), stages_root, talk)
        assert caught.value.where["stage"] == "make"
        assert caught.value.where["file"] == "x.nii"
        assert "make-" in str(caught.value.where["stage folder"])
        assert not list(stages_root.rglob("done.json"))

    def test_any_other_error_becomes_one_that_names_the_stage(self, make, stages_root, talk, breaks):
        breaks["error"] = ZeroDivisionError("division by zero")
        with pytest.raises(
            StageError, match="stage 'make' failed: ZeroDivisionError: division by zero"
        ) as caught:
            run(make(stages=STAGES), stages_root, talk)
        assert caught.value.where["type"] == "toy.make"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert not list(stages_root.rglob("done.json"))

    def test_an_interrupted_stage_resumes_in_its_folder(self, make, stages_root, talk, breaks):
        breaks["error"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            run(make(stages=STAGES), stages_root, talk)
        assert not list(stages_root.rglob("done.json"))
        breaks.clear()
        made, _ = run(make(stages=STAGES), stages_root, talk)
        assert (made["make"].folder / "half.txt").exists()
        assert any(text.startswith("stage 'make' resumes in") for text in talk.messages)

    def test_a_result_of_another_kind_or_place(self, make, stages_root, talk, monkeypatch, tmp_path):
        kind = registry().get("stage", "toy.make")
        monkeypatch.setattr(kind, "run", lambda self, c: Artefact("table", c.folder, c.fingerprint))
        with pytest.raises(StageError, match=r"toy\.make made a table, but declares a dataset"):
            run(make(stages=STAGES), stages_root, talk)
        monkeypatch.setattr(kind, "run", lambda self, c: Artefact("dataset", tmp_path, c.fingerprint))
        with pytest.raises(StageError, match="must leave its result in its own folder"):
            run(make(stages=STAGES), stages_root, talk)

    def test_damaged_records(self, make, stages_root, talk):
        made, _ = run(make(stages=STAGES), stages_root, talk)
        record = made["make"].folder / "done.json"
        whole = record.read_text()
        record.write_text(whole[:40])
        with pytest.raises(StageError, match="the record of a finished stage is damaged") as caught:
            run(make(stages=STAGES), stages_root, talk)
        assert "remove the folder" in str(caught.value)
        record.write_text(json.dumps({**json.loads(whole), "fingerprint": "0" * 64}))
        with pytest.raises(StageError, match="is another stage's"):
            run(make(stages=STAGES), stages_root, talk)
        record.write_text(json.dumps({**json.loads(whole), "folder": "gone"}))
        with pytest.raises(StageError, match="what a finished stage made is gone"):
            run(make(stages=STAGES), stages_root, talk)

    def test_a_place_below_a_file(self, make, tmp_path, talk):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="cannot write"):
            run(make(stages=STAGES), tmp_path / "file" / "runs", talk)

    def test_a_process_that_lost_its_lease_finishes_nothing(self, make, stages_root, talk):
        class Lost:
            def __init__(self, folder):
                self.folder = folder

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def check(self):
                raise LaunchError("this process lost its lease")

        with pytest.raises(MriadError, match="lost its lease"):
            run(make(stages=STAGES), stages_root, talk, guard=Lost)
        assert not list(stages_root.rglob("done.json"))


def _slow_process(experiment, runs, go):
    kind = registry().get("stage", "toy.make")
    good = kind.run

    def slow(self, context):
        go.set()
        time.sleep(0.5)
        return good(self, context)

    kind.run = slow

    class Quiet:
        def message(self, text):
            return

    run(experiment, Path(runs), Quiet(), guard=None)


class TestTwoProcesses:
    def test_one_runs_the_other_waits(self, make, stages_root, talk):
        experiment = make(stages={"make": "toy.make"})
        context = multiprocessing.get_context("fork")  # the toy registry goes along
        go = context.Event()
        other = context.Process(target=_slow_process, args=(experiment, str(stages_root), go))
        other.start()
        assert go.wait(20)
        made, _ = run(experiment, stages_root, talk, guard=None)
        other.join(20)
        assert other.exitcode == 0
        assert (made["make"].folder / "runs.txt").read_text() == "run\n"
        assert "is being run by process" in talk.messages[0]
        assert "was done by another process, skipped" in talk.messages[1]

    def test_whoever_waits_holds_no_stage_that_another_could_wait_for(self, make, stages_root, talk):
        """So no two processes can wait for each other, in whatever order their graphs name the stages."""
        held: list[Path] = []

        @contextmanager
        def watched(folder):
            assert not held, f"waits for {folder.name} with {held[0].name} in hand"
            with file_guard(folder) as lock:
                held.append(folder)
                try:
                    yield lock
                finally:
                    held.remove(folder)

        made, _ = run(make(stages=STAGES), stages_root, talk, guard=watched)
        assert len(made) == 4

    def test_the_waiting_one_takes_over_when_the_other_fails(self, make, stages_root, talk):
        experiment = make(stages={"make": "toy.make"})
        tries = []

        @contextmanager
        def busy_twice(folder):
            tries.append(folder)
            if len(tries) < 3:
                raise LaunchError("in use", where={"owner": "process 1"})
            yield None

        made, _ = run(experiment, stages_root, talk, guard=busy_twice)
        assert len(tries) == 3
        assert (made["make"].folder / "runs.txt").read_text() == "run\n"
        assert sum("waiting for it" in text for text in talk.messages) == 1
