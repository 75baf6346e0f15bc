"""The parallel map: order, names of failures, dead workers, progress, bounded memory."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from mriad.errors import DataError, LaunchError
from mriad.parallel import map_cases

# Workers import this module by name, which importlib mode does not allow: functions are taken from there.
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from parallel_jobs import Item, crash, die, exhaust, fail, leave, refuse, slow_first, square, threads, touch  # noqa: E402


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_with_progress(workers):
    seen = []
    items = [Item(f"c{i}", i) for i in range(5)]
    found = list(
        map_cases(slow_first, items, workers, progress=lambda done, total: seen.append((done, total)))
    )
    assert found == [0, 1, 4, 9, 16]
    assert seen == [(i, 5) for i in range(1, 6)]


def test_no_items_start_nothing():
    assert list(map_cases(square, [], 2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_any_error_names_the_case(workers):
    with pytest.raises(DataError, match="a case failed") as found:
        list(map_cases(fail, [Item("good", 0), Item("bad", 1)], workers))
    assert "bad" in str(found.value)
    assert "ZeroDivisionError" in str(found.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_our_own_errors_keep_their_kind_and_gain_the_case(workers):
    with pytest.raises(DataError, match="the image is constant") as found:
        list(map_cases(refuse, [Item("sub-07", 1)], workers))
    assert "sub-07" in str(found.value)
    assert "look at the file" in str(found.value)


def test_a_killed_worker_is_reported_with_its_signal_and_case():
    with pytest.raises(LaunchError, match="a worker process died") as found:
        list(map_cases(die, [Item("sub-01", 1), Item("sub-02", 2)], 1))
    assert "killed by SIGKILL" in str(found.value)
    assert "out of memory" in str(found.value)
    assert "sub-01" in str(found.value)
    assert "fewer workers" in str(found.value)


def test_a_kill_for_want_of_memory_is_told_apart_where_the_kernel_counts_them(monkeypatch):
    import mriad.parallel

    counted = iter([3, 4])
    monkeypatch.setattr(mriad.parallel, "memory_kills", lambda: next(counted))
    with pytest.raises(LaunchError) as found:
        list(map_cases(die, [Item("sub-01", 1)], 1))
    assert "killed by SIGKILL: memory ran out (the kernel counted such a kill meanwhile)" in str(found.value)


def test_a_worker_that_runs_out_of_its_own_memory_limit_names_the_case():
    with pytest.raises(DataError, match="a case failed") as found:
        list(map_cases(exhaust, [Item("sub-01", 1)], 1))
    assert "MemoryError" in str(found.value)
    assert "sub-01" in str(found.value)


def test_a_worker_that_crashes_is_reported_with_its_signal():
    with pytest.raises(LaunchError, match="a worker process died") as found:
        list(map_cases(crash, [Item("sub-01", 1)], 1))
    assert "killed by SIGSEGV" in str(found.value)


def test_a_worker_that_exits_is_reported_with_its_code():
    with pytest.raises(LaunchError, match="a worker process died") as found:
        list(map_cases(leave, [Item("sub-01", 1)], 1))
    assert "exit code 7" in str(found.value)


def test_workers_have_one_thread_and_end_with_the_generator(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    results = map_cases(threads, [Item(str(i), i) for i in range(100)], 1)
    pid, count = next(results)
    assert count == "1"
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_work_does_not_run_far_ahead_of_the_reader(tmp_path):
    results = map_cases(touch, [Item(str(tmp_path / f"{i:02}"), i) for i in range(20)], 1)
    next(results)
    next(results)
    time.sleep(0.3)
    # Two are read; the worker may have finished the item that it was given before the second was asked for.
    assert len(list(tmp_path.iterdir())) <= 4
    results.close()


def test_a_function_that_cannot_be_sent_is_refused():
    with pytest.raises(LaunchError, match="cannot be sent to worker processes") as found:
        list(map_cases(lambda item: item, [1], 1))
    assert "workers=0" in str(found.value)
