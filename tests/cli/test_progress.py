"""Progress: plain lines with the time left, a bar on a terminal."""

from __future__ import annotations

import io

import pytest
from mriad.cli.next_step import next_step
from mriad.cli.progress import Progress, TerminalReporter, progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(seconds: float, total: int, start: int = 0) -> list[str]:
    """The lines of work whose steps take some seconds each."""
    clock, stream = Clock(), io.StringIO()
    shown = Progress(total, "prepare", stream, clock)
    if start:
        shown.update(start)
    for _ in range(total - start):
        clock.now += seconds
        shown.advance()
    shown.close()
    return stream.getvalue().splitlines()


def test_short_work_says_nothing():
    assert steps(0.01, 100) == []
    assert steps(4.9, 1) == []


def test_long_work_says_how_much_is_left():
    assert steps(1, 20) == [
        "prepare: 5/20 (25%), 0:15 left",
        "prepare: 15/20 (75%), 0:05 left",
        "prepare: 20/20 (100%), took 0:20",
    ]


def test_pauses_grow_to_a_minute():
    lines = steps(1, 7200)
    assert len(lines) < 130
    assert lines[0] == "prepare: 5/7200 (0%), 1:59:55 left"
    assert lines[-1] == "prepare: 7200/7200 (100%), took 2:00:00"


def test_resumed_work_counts_its_own_rate():
    assert steps(1, 110, start=100)[0] == "prepare: 105/110 (95%), 0:05 left"


def test_a_bar_on_a_terminal():
    stream = Terminal()
    shown = Progress(3, "prepare [x]", stream)
    shown.note("loss 0.5")
    shown.message("a [bold]line[/bold]")
    shown.advance(3)
    shown.close()
    text = stream.getvalue()
    assert "prepare [x]" in text
    assert "3/3" in text
    assert "a [bold]line[/bold]" in text


def test_the_block_ends_after_an_error(capsys):
    with pytest.raises(ValueError), progress(3, "x"):
        raise ValueError
    assert capsys.readouterr().err == ""


def test_reporter_speaks_of_validation_and_messages():
    stream = io.StringIO()
    reporter = TerminalReporter("train", stream)
    reporter.message("begins")
    reporter.progress(1, 10)
    reporter.log(1, {"train/loss": 0.5})
    reporter.log(5, {"val/dice/cord": 0.81234, "train/loss": 0.4})
    reporter.progress(2, 20)
    reporter.close()
    reporter.close()
    assert stream.getvalue().splitlines() == ["begins", "step 5: val/dice/cord 0.8123"]


def test_reporter_on_a_terminal():
    stream = Terminal()
    reporter = TerminalReporter("train", stream)
    reporter.progress(1, 2)
    reporter.log(1, {"train/loss": 0.25})
    reporter.progress(2, 2)
    reporter.message("done")
    reporter.close()
    assert "train" in stream.getvalue()
    assert "loss 0.25" in stream.getvalue()


def test_next_step_goes_to_standard_error(capsys):
    next_step("mriad ui")
    next_step("mriad runs list", "what is there")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "\nnext: mriad ui\n\nnext: mriad runs list   (what is there)\n"
