"""Preparing a collection: failures and dead workers cost their case alone; a killed command goes on; one key once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from mriad.errors import StorageError
from mriad.images import FileSource
from mriad.preparation import Recipe
from mriad.vocabulary import Case, LabelSet
from mriad_data.preparing import Chain, Plan, run
from mriad_data.store import ArrayFolder

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from preparing_steps import Selective  # noqa: E402

CORD = LabelSet.of({"cord": 1})


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def collection(tmp_path, write):
    """collection(n, **step) → a plan of one chain over n cases in files, with `Selective` as its only step."""

    def make(count: int = 5, shape=(6, 7, 8), **step) -> Plan:
        cases = []
        for i in range(count):
            data = np.random.default_rng(i).normal(size=shape).astype(np.float32)
            path = write(tmp_path / "images" / f"sub-{i}.nii.gz", data)
            cases.append(Case(f"sub-{i}", f"sub-{i}", {"T2w": FileSource(str(path))}))
        steps = (Selective(log=str(tmp_path / "log"), **step),)
        recipe = Recipe(
            ("T2w",), CORD, steps=steps, parameters=(None,), store=ArrayFolder(tmp_path / "store")
        )
        return Plan((Chain(0, recipe, tuple(cases), tuple(cases[:3])),), 1)

    return make


def applied(tmp_path) -> list[str]:
    return (tmp_path / "log").read_text().split()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_is_named_with_its_step_and_the_rest_goes_on(tmp_path, collection, workers):
    planned = collection(refuse="sub-1", broken="sub-3")
    said, seen = [], []
    done = run(planned, workers, tmp_path / "hashes", False, lambda *a: seen.append(a), said.append)
    assert (done.cases, done.made, done.there) == (5, 3, 0)
    assert [(f.case, f.step) for f in done.failures] == [
        ("sub-1", "0 (test.selective)"),
        ("sub-3", "0 (test.selective)"),
    ]
    assert said == done.failures
    assert "nothing is left" in str(done.failures[0].error)
    assert "KeyError: 'oops'" in str(done.failures[1].error)
    assert seen[-1] == (5, 5)
    again = run(planned, workers, tmp_path / "hashes", False)
    assert (again.made, again.there, len(again.failures)) == (0, 3, 2)


def test_an_unreadable_file_fails_at_reading(tmp_path, collection):
    planned = collection(3)
    (tmp_path / "images" / "sub-1.nii.gz").write_bytes(b"no image")
    done = run(planned, 0, tmp_path / "hashes", False)
    assert [(f.case, f.step) for f in done.failures] == [("sub-1", "reading")]
    assert "sub-1.nii.gz" in str(done.failures[0].error)


def test_a_worker_that_dies_costs_its_case_alone_and_its_cause_is_said(tmp_path, collection):
    done = run(collection(5, kill="sub-2"), 2, tmp_path / "hashes", False)
    assert done.made == 4
    (failure,) = done.failures
    assert failure.case == "sub-2"
    assert "killed by SIGKILL (on Linux most often: the machine is out of memory)" in str(failure.error)
    assert "fewer workers" in str(failure.error)
    assert applied(tmp_path).count("sub-2") == 2  # once more, alone: it may have been another's memory


def test_a_disk_that_fills_up_half_way_ends_it_and_keeps_what_was_made(tmp_path, collection, monkeypatch):
    import resource

    planned = collection(4, shape=(20, 20, 20))
    store = planned.chains[0].recipe.store
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    puts = []
    put = ArrayFolder.put

    def filling(self, key, sample):
        if len(puts) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        puts.append(key)
        return put(self, key, sample)

    monkeypatch.setattr(ArrayFolder, "put", filling)
    try:
        with pytest.raises(StorageError, match="cannot write") as found:
            run(planned, 0, tmp_path / "hashes", False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "mriad data store prune" in str(found.value)
    assert len(list(store.folder.glob("[0-9a-f][0-9a-f]/*"))) == 2  # the two that were made, nothing else
    assert list(store.folder.glob("*/.*")) == []
    assert store.verify() == {}
    puts.clear()
    monkeypatch.setattr(ArrayFolder, "put", put)
    assert (run(planned, 0, tmp_path / "hashes", False).made, len(applied(tmp_path))) == (2, 5)


SCRIPT = """
    import sys
    from pathlib import Path
    from mriad.images import FileSource
    from mriad.preparation import Recipe
    from mriad.vocabulary import Case, LabelSet
    from mriad_data.preparing import Chain, Plan, run
    from mriad_data.store import ArrayFolder
    from preparing_steps import Selective

    if __name__ == "__main__":
        place, seconds = Path(sys.argv[1]), float(sys.argv[2])
        cases = tuple(
            Case(p.name[:5], p.name[:5], {"T2w": FileSource(str(p))}) for p in sorted((place / "images").iterdir())
        )
        steps = (Selective(log=str(place / "log"), seconds=seconds),)
        recipe = Recipe(("T2w",), LabelSet.of({"cord": 1}), steps=steps, parameters=(None,),
                        store=ArrayFolder(place / "store"))
        done = run(Plan((Chain(0, recipe, cases, cases),), 1), 0, place / "hashes", False)
        print(done.made, done.there)
"""


def _started(tmp_path, seconds: float) -> subprocess.Popen[str]:
    script = tmp_path / "prepare_it.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_make_each_sample_once(tmp_path, collection):
    collection(6)
    both = [_started(tmp_path, 0.1) for _ in range(2)]
    printed = [p.communicate(timeout=60) for p in both]
    assert [p.returncode for p in both] == [0, 0], printed
    assert sorted(applied(tmp_path)) == [f"sub-{i}" for i in range(6)]
    store = ArrayFolder(tmp_path / "store")
    assert store.verify() == {}
    assert list(store.folder.glob(".claims/*")) == []


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_half_written_and_the_next_goes_on(tmp_path, collection):
    """kill -9 at many moments: what is visible is always whole, and nobody waits for the dead."""
    planned = collection(12, shape=(60, 60, 60))
    store = ArrayFolder(tmp_path / "store")
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = _started(tmp_path, 0.0)
        until = time.monotonic() + 30
        before = len(applied(tmp_path)) if (tmp_path / "log").exists() else 0
        while time.monotonic() < until and process.poll() is None:
            if (tmp_path / "log").exists() and len(applied(tmp_path)) > before:
                break
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.03)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert store.verify() == {}
    began = time.monotonic()
    done = run(planned, 0, tmp_path / "hashes", False)
    assert time.monotonic() - began < 30
    assert done.there > 0
    assert done.made + done.there == 12
    assert store.verify() == {}
