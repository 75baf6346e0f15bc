"""The watch over the embedded Ray, with a launcher that says what it is told to."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from mriad.errors import LaunchError
from mriad.launch import ray_watch
from mriad.launch.ray_watch import unless_ray_dies


class Told:
    def __init__(self, name: str = "", after: float = 0.0) -> None:
        self.name, self.at = name, time.monotonic() + after

    def dead(self) -> str:
        return self.name if time.monotonic() >= self.at else ""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "LOOK_S", 0.05)


def test_a_call_that_would_wait_for_ever_ends_with_a_message() -> None:
    began = time.monotonic()
    with (
        pytest.raises(LaunchError, match=r"(?s)embedded Ray has died.*raylet.*memory.*try\s+do it again"),
        unless_ray_dies(Told("raylet", 0.1), "do it again"),
    ):
        time.sleep(20)
    assert time.monotonic() - began < 5


def test_what_ray_raises_about_its_own_death_becomes_the_same_message() -> None:
    with (
        pytest.raises(LaunchError, match="embedded Ray has died") as caught,
        unless_ray_dies(Told("gcs_server", 0.0), "again"),
    ):
        raise RuntimeError("the actor died")
    assert caught.value.where["process that ended"] == "gcs_server"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_and_ctrl_c_of_a_living_ray_stay_as_they_are() -> None:
    for error in (RuntimeError, KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error), unless_ray_dies(Told(), "again"):
            raise error


def test_handler_and_thread_are_gone_afterwards() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with unless_ray_dies(Told(), "again"):
        assert signal.getsignal(signal.SIGUSR2) is not before
    assert signal.getsignal(signal.SIGUSR2) is before
    assert not [thread for thread in threading.enumerate() if thread.name == "mriad-ray-alive"]


def test_in_another_thread_nothing_is_watched_and_nothing_breaks() -> None:
    done: list[int] = []

    def work() -> None:
        with unless_ray_dies(Told(), "again"):
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
