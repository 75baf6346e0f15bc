"""What is written out: the cases of an experiment, its folds, and what its labels mean."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file, storing, temporary_folder
from mriad.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.vocabulary import Case, CaseIndex

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class ExportPlan:
    """Cases and folds of one experiment, before anything is written.

    label: name of the target. folds: number → case ids by side.
    """

    name: str
    index: CaseIndex
    label: str
    channels: tuple[str, ...]
    folds: Mapping[int, Mapping[str, tuple[str, ...]]]

    def on_a_side(self) -> set[str]:
        """Ids of the cases that some fold uses."""
        return {case for fold in self.folds.values() for ids in fold.values() for case in ids}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    cases: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Case → why it was not written."""


def plan_export(experiment: Experiment, fold: int | None = None) -> ExportPlan:
    """Index and split an experiment.

    Args:
        experiment: its data section says what is written.
        fold: only this one; None: all.

    Raises:
        SplitError: the split leaks a person, or there is no such fold.
        DataError: the data set cannot be read, or a stage has yet to make its labels.
    """
    from mriad.flow import gather_cases

    data = experiment.data
    if data.labels.from_:
        raise DataError(
            "the labels of this experiment are made by a stage",
            where={"data.labels.from": data.labels.from_},
            remedy="export the data set that the stage wrote: its manifest.csv lies in the stage's folder",
        )
    if fold is None and data.sparse is not None:
        raise DataError(
            "which labels a budget keeps depends on the fold",
            where={"data.sparse": data.sparse},
            remedy="export one fold with --fold, or all labels with --set data.sparse=null",
        )
    index = data.dataset.build()
    first = gather_cases(experiment, index, fold or 0, experiment.seed)
    folds = {fold or 0: first.split}
    if fold is None:
        for number in range(1, data.split.folds_of(first.index)):
            folds[number] = gather_cases(experiment, index, number, experiment.seed).split
    return ExportPlan(experiment.name, first.index, first.label, first.task.channels, folds)


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when the block ends well.

    Raises:
        StorageError: `out` holds something, or the place is full or cannot be written.
    """
    with storing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StorageError(
                "the output folder holds something already, and nothing is overwritten",
                where={"folder": str(out)},
                remedy="choose another --out, or empty the folder",
            )
    with temporary_folder(out) as folder:
        yield folder
        if out.exists():
            out.rmdir()
        folder.rename(out)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read, at once or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def persons_or_cases(plan: ExportPlan) -> list[dict[str, list[str]]]:
    """Folds as `data.file` reads them: by person where a fold takes all cases of each, else by case."""
    of_person: dict[str, set[str]] = {}
    person = dict(zip(plan.index.column("id"), plan.index.column("person"), strict=True))
    for case, who in person.items():
        of_person.setdefault(who, set()).add(case)
    folds = []
    for fold in plan.folds.values():
        sides = {side: list(fold[side]) for side in SIDES}
        whole = {side: list(dict.fromkeys(person[c] for c in ids)) for side, ids in sides.items()}
        complete = all(
            {c for who in whole[side] for c in of_person[who]} == set(ids) for side, ids in sides.items()
        )
        folds.append(whole if complete else sides)
    return folds


def file_names(
    cases: Sequence[Case], name: Callable[[Case], str], what: str = "names of files"
) -> dict[str, str]:
    """Case id → a name; refused where two cases would share one.

    Raises:
        DataError: names both cases.
    """
    found: dict[str, str] = {}
    holder: dict[str, str] = {}
    for case in cases:
        found[case.id] = name(case)
        other = holder.setdefault(found[case.id].lower(), case.id)
        if other != case.id:
            raise DataError(
                f"two cases would have one name among the {what}",
                where={"name": found[case.id], "cases": f"{other}, {case.id}"},
                remedy="rename one of them in the data set",
            )
    return found
