"""What shall be checked: a folder, a table or an experiment as cases, by the readers that training uses."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError, MriadError
from mriad.layouts import every_scan, recognise

from mriad_data.bids import Bids
from mriad_data.checking.findings import Finding
from mriad_data.faults import Faults
from mriad_data.manifest import NAMES, Manifest
from mriad_data.nnunet import NnunetRaw
from mriad_data.tree import list_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.experiment.model import Experiment
    from mriad.vocabulary import Case, CaseIndex, LabelSet

FIX_LAYOUT = "correct the files or the table; the other checks took the files by their names"


@dataclass
class Gathered:
    """Cases to be checked, and what the readers said about them."""

    layout: str
    cases: list[Case]
    label_set: LabelSet | None = None
    """None: nothing says which values labels may hold."""
    declared: bool = True
    """Whether somebody said what each file is; otherwise it was told by its name."""
    experiment: Experiment | None = None
    same_person: Sequence[Sequence[str]] = ()
    findings: list[Finding] = field(default_factory=list)


def gather(target: str, overrides: Sequence[str] = ()) -> Gathered:
    """Look at what a target is, and list its cases. No voxels are read.

    Args:
        target: a folder, a manifest, an experiment's file, or its name PLUGIN:NAME.
        overrides: `a.b=value` for an experiment.

    Raises:
        DataError: there is no such place, or no image in it.
        ExperimentError: it is an experiment that is not valid.
    """
    path = Path(target)
    if path.is_dir():
        return _folder(path)
    if path.is_file() and (path.suffix in (".csv", ".tsv") or _is_table(path)):
        return _read(f"manifest {path.name}", Manifest(path=path).build, lambda: None)
    if not path.is_file() and (":" not in target or "/" in target):
        raise DataError(
            "there is no such folder or file",
            where={"target": target, "expected": "a folder, a manifest, or an experiment's YAML file"},
        )
    return _experiment(target, overrides)


def _is_table(path: Path) -> bool:
    """Whether a YAML file is a manifest rather than an experiment."""
    if path.suffix not in (".yaml", ".yml"):
        return False
    if path.name in NAMES:
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(r"^cases\s*:", text, re.MULTILINE)) and not re.search(
        r"^data\s*:", text, re.MULTILINE
    )


def _experiment(target: str, overrides: Sequence[str]) -> Gathered:
    from mriad.experiment.load import load_located
    from mriad.flow import apply_domains

    experiment = load_located(target, overrides).experiment
    data = experiment.data

    def build() -> CaseIndex:
        return apply_domains(data.dataset.build(), data.domains)

    made = _read(f"experiment {experiment.name}", build, lambda: None)
    made.experiment, made.same_person = experiment, data.same_person
    return made


def _folder(folder: Path) -> Gathered:
    table = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if table is not None:
        return _read(f"manifest {table.name}", Manifest(path=table).build, lambda: _by_names(folder))
    if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir():
        both: Any = NnunetRaw(root=folder, part="all" if (folder / "imagesTs").is_dir() else "train")
        return _read("dataset.json", both.build, lambda: _by_names(folder))
    made = _by_names(folder)
    if any(folder.glob("sub-*/anat")) or any(folder.glob("sub-*/ses-*")):
        made.layout = "BIDS, labels by their names"
        made.findings += _faults_of(Bids(root=folder).build)
    return made


def _by_names(folder: Path) -> Gathered:
    """A folder without a table: `imagesTr` and `labelsTr`, or every file by its name."""
    faults = Faults()
    tree = list_tree(folder.absolute(), faults)
    for path in tree.missing:
        faults.add(path, "a link to nothing; get the file's content first")
    trained = (folder / "imagesTr").is_dir() and (folder / "labelsTr").is_dir()
    layout = recognise(folder) if trained else every_scan(folder)
    if not layout.cases:
        return _dicom(folder)
    made = Gathered(layout.kind, layout.cases, declared=trained)
    made.findings += [
        Finding("layout", "error", what, file=place)
        for place, texts in faults.lines.items()
        for what in texts
    ]
    for reason in layout.left_out:
        case, _, why = reason.partition(": ")
        made.findings.append(Finding("layout", "warning", f"an image makes no case: {why}", case=case))
    return made


def _dicom(folder: Path) -> Gathered:
    """A folder without NIfTI files: every DICOM series in it.

    Raises:
        DataError: there is none either.
    """
    from mriad_data.dicom import Dicom

    try:
        return Gathered("DICOM series", list(Dicom(root=folder).build()))
    except DataError as error:
        if error.what != "a folder holds no DICOM series":
            return Gathered("DICOM series", [], findings=_faults(error))
        raise DataError(
            "a folder holds no image",
            where={
                "folder": str(folder),
                "looked for": "NIfTI (.nii, .nii.gz); DICOM as PERSON/SERIES/*.dcm",
            },
            remedy="convert other formats first, for example with dcm2niix",
        ) from error


def _read(layout: str, build: Callable[[], CaseIndex], instead: Callable[[], Gathered | None]) -> Gathered:
    """Cases by a reader; where it refuses, its faults are findings and `instead` may still list files."""
    try:
        index = build()
    except DataError as error:
        made = Gathered(layout, [])
        with contextlib.suppress(DataError):  # no image is there at all: the reader's faults say enough
            made = instead() or made
        if made.cases:
            made.layout = f"{made.layout}, since the reader of {layout} refused"
        made.findings = _faults(error) + made.findings
        return made
    return Gathered(layout, list(index), index.label_set)


def _faults_of(build: Callable[[], CaseIndex]) -> list[Finding]:
    try:
        build()
    except DataError as error:
        return _faults(error)
    return []


def _faults(error: MriadError) -> list[Finding]:
    """What a reader refused, one finding a fault."""
    if not error.where:
        return [Finding("layout", "error", error.what, remedy=error.remedy)]
    return [
        Finding(
            "layout", "error", error.what, file=str(place), detail=str(why), remedy=error.remedy or FIX_LAYOUT
        )
        for place, why in error.where.items()
    ]
