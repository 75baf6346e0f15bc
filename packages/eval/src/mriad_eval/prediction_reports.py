"""Measurements and the quality-control page of predictions that have no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.cli.progress import progress
from mriad.images import FileSource
from mriad.inference.stored import versions_in_use
from mriad.vocabulary import Case
from rich.console import Console

from mriad_eval.measurement_report import report
from mriad_eval.measurements import (
    LEVELS,
    SLICES,
    VOLUMES,
    marks_of,
    measure_all,
    record_of,
    tubes_of,
    write_measurements,
)
from mriad_eval.measuring import Measurer, Work
from mriad_eval.morphometry.levels import LevelSet
from mriad_eval.morphometry.settings import CsaSettings
from mriad_eval.pairing import case_of
from mriad_eval.qc.page import write_page
from mriad_eval.qc.picture import PairPicture
from mriad_eval.scoring import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad.report import Predicted
    from mriad.vocabulary import LabelSet

    from mriad_eval.reports import Measure


def write_measures(
    config: Measure, predictions: Sequence[Predicted], label_set: LabelSet, folder: Path
) -> list[Path]:
    """Measure predictions into `folder`, print the tables, return the main one."""
    files = {one.case: one.outputs for one in predictions}
    names = {case_of(case.rsplit("/", 1)[-1]): case for case in files}
    by_name = {name: files[case] for name, case in names.items()}
    marks = marks_of(by_name, config.discs, config.levels, config.convention)
    marks = {names[name]: found for name, found in marks.items()}
    measurer = Measurer(
        label_set,
        tubes_of(label_set, config.tubes),
        CsaSettings(config.mask),
        tuple(LevelSet.parse(text) for text in config.at),
        version=f"mriad {versions_in_use().get('mriad', '')}".strip(),
    )
    work = [Work(case, paths, marks.get(case)) for case, paths in files.items()]
    with progress(len(work), "measure") as shown:
        found, faults = measure_all(work, measurer, advance=lambda done, _: shown.update(done))
    for name in (LEVELS, SLICES, VOLUMES):
        (folder / name).unlink(missing_ok=True)
    write_measurements(folder, found, record_of(work, measurer), faults, measurer)
    report(Console(), folder, found, faults, what_next=False)
    return [next(path for name in (LEVELS, SLICES, VOLUMES) if (path := folder / name).exists())]


def write_qc(predictions: Sequence[Predicted], label_set: LabelSet, folder: Path) -> list[Path]:
    """Write the page with each prediction on its first channel, and return its file."""
    pictures = [
        PairPicture(
            Pair(Case(one.case.replace("/", "_"), "", {}), one.outputs, (), ""),
            label_set,
            FileSource(str(next(iter(one.scan.values())))),
        )
        for one in predictions
    ]
    note = "predictions without reference: look at each"
    with progress(len(pictures), "page") as shown:
        page = write_page(folder, pictures, [], note=note, progress=lambda done, _: shown.update(done))
    return [page.index]
