"""Figures that are drawn for every finished trial: curves, and overlays of a few test cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Figure
from pydantic import Field

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.launch.trial import Trial


class Curves(Figure):
    """Training loss and the first validation metric against steps."""

    type: Literal["eval.curves"] = "eval.curves"

    def draw(self, trial: Trial, folder: Path) -> list[Path]:
        """Write `curves.png` from `metrics.jsonl`."""
        from mriad_eval.figures.curves import draw_curves

        metrics = trial.folder / "metrics.jsonl"
        if not metrics.is_file():
            return []
        return [draw_curves(folder / "curves.png", {trial.experiment.name: metrics})]


class Overlays(Figure):
    """Reference and prediction as contours on the worst, middle and best test cases by the first metric."""

    type: Literal["eval.overlays"] = "eval.overlays"
    cases: int = Field(3, ge=1, description="How many cases, spread from worst to best.")

    def draw(self, trial: Trial, folder: Path) -> list[Path]:
        """Write `overlay_<rank>_<case>.png`; nothing where no test case was measured."""
        from mriad_eval.trial_overlays import draw_overlays

        return draw_overlays(trial, folder, self.cases)
