"""What is drawn for every finished trial: curves, overlays of a few test cases, the quality-control page."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

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

    names_cases: ClassVar[bool] = True

    type: Literal["eval.overlays"] = "eval.overlays"
    cases: int = Field(3, ge=1, description="How many cases, spread from worst to best.")

    def draw(self, trial: Trial, folder: Path) -> list[Path]:
        """Write `overlay_<rank>_<case>.png`; nothing where no test case was measured."""
        from mriad_eval.trial_overlays import draw_overlays

        return draw_overlays(trial, folder, self.cases)


class QualityControl(Figure):
    """A page to look through test cases: tables, mosaics, 3D viewer, pass and fail by key. Opens from disk.

    Writes the folder `qc/` and, for tracking stores, `qc.html` (one file, without the viewer) and `qc.zip`.
    """

    names_cases: ClassVar[bool] = True

    type: Literal["eval.quality_control"] = "eval.quality_control"
    cases: int = Field(40, ge=1, description="Cases with pictures, worst and median first; all are listed.")

    def draw(self, trial: Trial, folder: Path) -> list[Path]:
        """Write the page; nothing where no test case was measured."""
        from mriad_eval.qc.trial_page import draw_page

        return draw_page(trial, folder, self.cases)
