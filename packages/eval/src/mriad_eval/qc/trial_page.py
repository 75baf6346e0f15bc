"""The quality-control page of a finished trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.evaluation import read_rows
from mriad.flow import gather_cases
from mriad.stages.evaluate import PREDICTIONS, TABLE
from mriad.stages.train import index_of
from mriad.tracking.privacy import read_names

from mriad_eval.qc.page import Page, open_page, write_page, write_single, write_zip
from mriad_eval.qc.picture import PairPicture
from mriad_eval.scoring import Pair

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.launch.trial import Trial

FOLDER, SINGLE, ZIP = "qc", "qc.html", "qc.zip"
IN_SINGLE = 8


def draw_page(trial: Trial, folder: Path, count: int) -> list[Path]:
    """Write the page of the test cases of a trial below `folder`; nothing where no case was measured.

    `qc/index.html` opens from disk. `qc.html` (one file, without the viewer) and `qc.zip` (the folder) are what a
    tracking store is given. With public names `folder` gets these two alone; where a run has public names, the
    local folder holds no copies under true ones.

    Raises:
        MriadError: the data set cannot be read, or the place cannot be written.
    """
    tables = [a.folder for a in trial.tested if (a.folder / PREDICTIONS).is_dir()]
    if not tables:
        return []
    page = open_page(folder.parent / FOLDER) if trial.names else None
    if page is None:
        page = _page(trial, tables[-1], folder.parent if trial.names else folder, count)
    if not trial.names and read_names(trial.folder):
        return []
    shown = page.renamed(trial.names.of)
    return [write_single(folder / SINGLE, shown, IN_SINGLE), write_zip(folder / ZIP, shown)]


def _page(trial: Trial, table: Path, folder: Path, count: int) -> Page:
    experiment = trial.experiment
    made = experiment.data.labels.from_
    labels = str(trial.artefacts[made].folder) if made in trial.artefacts else ""
    cases = gather_cases(experiment, index_of(experiment, labels=labels), experiment.fold, experiment.seed)
    rows = read_rows(table / TABLE)
    measured = {row.case for row in rows}
    label_set, name = cases.task.label_set(), experiment.evaluate.reference or cases.label
    pictures = []
    for case in (case for case in cases.index if case.id in measured):
        prediction = table / PREDICTIONS / f"{case.id}.nii.gz"
        pair = Pair(case, (prediction,) if prediction.is_file() else (), (), name)
        channel = next((c for c in cases.task.channels if c in case.channels), None)
        scan = case.channels[channel] if channel is not None else None
        pictures.append(PairPicture(pair, label_set, scan))
    note = f"Test cases, measured against the reference '{name}'"
    return write_page(
        folder / FOLDER, pictures, rows, title=experiment.name, note=note, identity=trial.id, limit=count
    )
