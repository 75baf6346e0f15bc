"""Reports of predictions, for `mriad predict --measure --qc`; light configs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads annotations at run time
from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Report
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.report import Predicted
    from mriad.vocabulary import LabelSet


class Measure(Report):
    """Volumes of all structures and cross-sectional area of tubular ones; see `mriad measure`."""

    type: Literal["eval.measure"] = "eval.measure"
    discs: Path | None = Field(None, description="Disc labels: a file for one scan, or a folder.")
    levels: Path | None = Field(
        None, description="Maps of vertebral levels: a file for one scan, or a folder."
    )
    convention: Literal["sct", "totalspineseg"] = Field("sct", description="How discs are numbered.")
    at: tuple[str, ...] = Field((), description="Levels to average, as C2-C3; default: each, and C2-C3.")
    tubes: tuple[str, ...] = Field(
        (), description="Structures with an area; default: cord, canal or the only one."
    )
    mask: Literal["soft", "binary"] = Field("soft", description="Uncut soft values, or binarised at > .5.")

    @model_validator(mode="after")
    def _one_kind(self) -> Measure:
        if self.discs is not None and self.levels is not None:
            raise ValueError("give either discs or levels")
        return self

    def write(self, predictions: Sequence[Predicted], label_set: LabelSet, folder: Path) -> list[Path]:
        """Write the tables and `run.json`; areas go to `csa.csv`, or per slice where there are no labels."""
        from mriad_eval.prediction_reports import write_measures

        return write_measures(self, predictions, label_set, folder)


class QualityControl(Report):
    """A page to look through predictions: mosaics and 3D viewer, pass and fail by key. Opens from disk."""

    type: Literal["eval.qc"] = "eval.qc"

    def write(self, predictions: Sequence[Predicted], label_set: LabelSet, folder: Path) -> list[Path]:
        """Write the page's folder; return its `index.html`."""
        from mriad_eval.prediction_reports import write_qc

        return write_qc(predictions, label_set, folder)
