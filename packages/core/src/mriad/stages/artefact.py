"""What stages make and what they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.launch.protocol import Launcher
    from mriad.training.protocols import Reporter

ArtefactKind = Literal["dataset", "weights", "predictor", "table", "parameters"]


@dataclass(frozen=True)
class Artefact:
    """The result of a stage: a folder of a kind, and figures that describe it.

    kinds: "dataset" (a manifest that `data.manifest` reads), "weights" and "predictor" (a folder that
    `Predictor.build` takes), "table" (`cases.csv`), "parameters" (fitted on training cases; its reader knows them).
    """

    kind: ArtefactKind
    folder: Path
    fingerprint: str
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageContext:
    """What a stage is run with."""

    name: str
    folder: Path
    """An empty folder, or one that an interrupted try left: the stage resumes from what it finds."""
    experiment: Experiment
    """With the stage's own overrides of sections merged in."""
    inputs: Mapping[str, Artefact]
    """Artefacts by stage name as the stage's own fields write it ("teacher", also in round 2)."""
    fold: int
    seed: int
    """For weights and draws; differs between rounds and members. Splits are made with `experiment.seed`."""
    fingerprint: str
    reporter: Reporter
    launcher: Launcher
    inner: tuple[int, int] | None = None
    """(k, n): member k (from 0) of n validates on part k of the training persons; see `inner_split`."""
