"""What an ablation has of results: its trials with their tables, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mriad.case_table import read_rows
from mriad.launch.files import read_json
from mriad.tracking.record import CASES, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mriad.case_table import Row

Status = Literal["waiting", "running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class StudyTrial:
    """One trial: asked for, and perhaps run."""

    id: str
    variant: str
    fold: int
    seed: int
    folder: Path

    def record(self) -> dict[str, Any]:
        """The content of its `run.json`; empty before it started."""
        return read_json(self.folder / RUN) or {}

    @property
    def status(self) -> Status:
        """As its own record says; a killed trial says "running" until it goes on."""
        found: Status = self.record().get("status", "waiting")
        return found

    @property
    def error(self) -> str:
        """Why it failed, in one line."""
        told = (self.record().get("error") or {}).get("message") or ""
        return str(told).splitlines()[0] if told else ""

    def rows(self) -> list[Row]:
        """Its table of test cases.

        Raises:
            DataError: the table cannot be read.
        """
        return read_rows(self.folder / CASES)


@dataclass(frozen=True)
class Study:
    """An ablation's trials, all that were asked for.

    generated: whether the persons are made up (a phantom), which decides the level of evidence. data: name and
    fingerprint of the data set of the first trial.
    """

    name: str
    trials: Sequence[StudyTrial]
    description: str = ""
    generated: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> list[StudyTrial]:
        """Those whose table is there."""
        return [t for t in self.trials if t.status == "finished" and (t.folder / CASES).is_file()]

    @property
    def missing(self) -> list[StudyTrial]:
        """Those without a table: failed, killed or not started."""
        done = {t.id for t in self.finished}
        return [t for t in self.trials if t.id not in done]

    @property
    def variants(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(dict.fromkeys(t.variant for t in self.trials))
