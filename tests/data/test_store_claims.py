"""Claims: one makes, the others wait; the dead hold nothing; without locks everybody makes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from mriad_data import store_claims
from mriad_data.store import ArrayFolder
from mriad_data.store_claims import claim

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from store_writers import KEY, hold  # noqa: E402


def test_of_several_threads_one_makes(tmp_path, grid, make_sample):
    store, sample, made, given = ArrayFolder(tmp_path), make_sample(grid), [], []

    def make():
        made.append(1)
        time.sleep(0.1)
        return sample

    threads = [threading.Thread(target=lambda: given.append(store.once(KEY, make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(made), len(given)) == (1, 8)
    assert list((tmp_path / ".claims").iterdir()) == []


def test_an_error_gives_the_claim_back(tmp_path, grid, make_sample):
    store = ArrayFolder(tmp_path)

    def fail():
        raise KeyError("oops")

    with pytest.raises(KeyError):
        store.once(KEY, fail)
    began = time.monotonic()
    assert store.once(KEY, lambda: make_sample(grid)) is not None
    assert time.monotonic() - began < 5


def test_a_killed_holder_holds_nothing(tmp_path, grid, make_sample, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    with claim(tmp_path, KEY, patience_s=0.05) as mine:
        assert not mine
    os.kill(holder.pid, signal.SIGKILL)
    with claim(tmp_path, KEY, patience_s=20) as mine:
        assert mine
    holder.join()


def test_patience_ends(tmp_path):
    with claim(tmp_path, KEY) as first, claim(tmp_path, KEY, patience_s=0.02) as second:
        assert (first, second) == (True, False)


def test_without_locks_everybody_makes(tmp_path, grid, make_sample, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(store_claims.fcntl, "flock", none)
    with claim(tmp_path, KEY) as mine:
        assert not mine
    assert ArrayFolder(tmp_path).once(KEY, lambda: make_sample(grid)) is not None
