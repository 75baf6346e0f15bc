"""What we started is seen gone; what others started is left alone."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from mriad.launch.process_tree import Process, started_with, wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}']).wait()"


@pytest.fixture
def tree() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A marked child with a child of its own, and an unmarked one beside it."""
    marked = subprocess.Popen([sys.executable, "-c", PARENT, "session_of_this_test"])
    other = subprocess.Popen([sys.executable, "-c", SLEEP])
    until = time.monotonic() + 20
    while len(started_with("session_of_this_test")) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    yield marked, other
    for process in started_with("session_of_this_test"):
        wait_gone([process], 0)
    for child in (marked, other):
        child.kill()
        child.wait()


def test_descendants_of_the_marked_child_alone(tree) -> None:
    marked, other = tree
    found = {process.pid for process in started_with("session_of_this_test")}
    assert marked.pid in found
    assert len(found) == 2
    assert other.pid not in found
    assert started_with("session_of_nobody") == []


def test_what_stays_is_killed_and_others_live(tree) -> None:
    marked, other = tree
    ours = started_with("session_of_this_test")
    assert set(wait_gone(ours, patience_s=0.1)) == set(ours)
    marked.wait()
    assert wait_gone(ours, patience_s=10) == []
    assert other.poll() is None


def test_a_number_that_was_used_again_is_another_process(tree) -> None:
    _, other = tree
    stranger = Process(other.pid, started="1")  # ours had this number and is long gone
    assert not stranger.runs
    assert wait_gone([stranger], patience_s=5) == []
    assert other.poll() is None
