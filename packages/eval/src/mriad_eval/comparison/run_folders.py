"""Read what `mriad train`, `mriad ablate` and `mriad evaluate` left behind as trials of a comparison."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError
from mriad.evaluation import read_rows
from mriad.launch.files import read_json
from mriad.tracking.record import CASES, RUN

from mriad_eval.comparison.spread import declared, resolved
from mriad_eval.comparison.trials import Status, Trial, TrialTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mriad.ablation.study import Study
    from mriad.evaluation import Row
    from mriad.launch.files import RunsRoot

_STATUS: dict[str, Status] = {"finished": "finished", "failed": "failed", "interrupted": "interrupted"}
_HAVE_TRIALS = ("run", "trial", "evaluate")
"""Kinds of records that hold a table of their own; the others (an ablation, a stage) stand above or below them."""


@dataclass(frozen=True)
class _Record:
    folder: Path
    content: Mapping[str, Any]


def read_table(arguments: Sequence[str], root: RunsRoot) -> TrialTable:
    """Read the trials that arguments of the command name.

    An argument is a run's folder, a folder of runs, an ablation's folder (then its trials), or the name of a run or
    study below the runs root; `NAME=` before it names the variant.

    Raises:
        DataError: nothing is found there, or a table cannot be read.
    """
    trials: list[Trial] = []
    records: list[_Record] = []
    taken: set[Path] = set()
    for argument in arguments:
        name, place = _split(argument)
        for record in _records(place, root):
            if record.folder.resolve() in taken:
                continue  # named twice, as by its study and by itself
            taken.add(record.folder.resolve())
            records.append(record)
            trials.append(_trial(record, name))
    data, evidence = _data_of(records)
    return _table(_apart(trials), data, evidence, records)


def table_of_study(study: Study) -> TrialTable:
    """All trials that an ablation asked for, those without a table included.

    Raises:
        DataError: a table cannot be read.
    """
    trials, records = [], []
    for planned in study.trials:
        record = _Record(planned.folder, planned.record())
        if not record.content:
            trials.append(
                Trial(
                    planned.variant,
                    str(planned.fold),
                    str(planned.seed),
                    status="absent",
                    error="not started",
                )
            )
            continue
        records.append(record)
        found = _trial(record, planned.variant)
        # The ablation's seed: a control shares it with the variant that it repeats, though its own draws differ.
        # Predictions made elsewhere have none: they are the same for every seed.
        seed = str(planned.seed) if found.seed else ""
        trials.append(replace(found, fold=str(planned.fold), seed=seed, study=study.name))
    data, evidence = _data_of(records)
    if study.generated:
        data, evidence = "phantom", "E2"
    return _table(trials, data, evidence, records)


def _table(trials: Sequence[Trial], data: str, evidence: str, records: Sequence[_Record]) -> TrialTable:
    metrics = list(_metrics(records))
    return TrialTable(
        tuple(trials), data, evidence, _voxels(records), *declared(metrics), tuple(resolved(metrics))
    )


def _split(argument: str) -> tuple[str, str]:
    name, sign, place = argument.partition("=")
    # A path may hold an equals sign (`loss.omega=8-3f2a…`): then it is there as it stands.
    if not sign or Path(argument).exists():
        return "", argument
    if not name or not place:
        raise DataError(
            "a run cannot be read",
            where={"given": argument},
            remedy="RUNFOLDER, or NAME=RUNFOLDER",
        )
    return name, place


def _records(place: str, root: RunsRoot) -> list[_Record]:
    folder = Path(place)
    if folder.is_dir():
        found = _at(folder)
    else:
        below = list(_below(root.runs)) + list(_below(root.path / "evaluations"))
        found = [r for r in below if place in (r.folder.name, r.content.get("name"))]
        if not any(r.content.get("kind") in _HAVE_TRIALS for r in found):
            studies = {r.content.get("study") for r in found} | {place}
            found = [r for r in below if r.content.get("study") in studies]
    usable = [r for r in found if r.content.get("kind") in _HAVE_TRIALS]
    if not usable:
        there = sorted({str(r.content.get("study") or r.folder.name) for r in _below(root.runs)})
        raise DataError(
            f"no run to compare: {place}",
            where={
                "expected": f"a folder with {RUN} and {CASES}, a folder of such, or a name below {root.runs}",
                "studies there": ", ".join(there[:12]) or "none",
            },
            remedy="mriad runs list",
        )
    return usable


def _at(folder: Path) -> list[_Record]:
    own = read_json(folder / RUN)
    if own is None:
        return list(_below(folder))
    if own.get("kind", "run") in _HAVE_TRIALS:
        return [_Record(folder, own)]
    # An ablation: its trials lie beside it, or below.
    near = [*_below(folder.absolute().parent), *_below(folder)]
    return [r for r in near if (r.content.get("parent") or {}).get("id") == own.get("id")]


def _below(folder: Path) -> Iterator[_Record]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        content = read_json(path / RUN) if path.is_dir() else None
        if content is not None:
            yield _Record(path, content)


def _trial(record: _Record, name: str) -> Trial:
    content, folder = record.content, record.folder
    tags: Mapping[str, str] = content.get("tags") or {}
    evaluated = content.get("kind") == "evaluate"
    variant = name or tags.get("variant") or str(content.get("name") or folder.name)
    status: Status = "finished" if evaluated else _STATUS.get(str(content.get("status")), "running")
    error = content.get("error") or {}
    rows: tuple[Row, ...] = ()
    if status == "finished":
        if not (folder / CASES).is_file():
            status, error = "failed", {"message": f"it has no {CASES}: nothing was evaluated"}
        else:
            rows = tuple(read_rows(folder / CASES))
    compute = {k: float(v) for k, v in (content.get("compute") or {}).items() if isinstance(v, (int, float))}
    gpus = (content.get("launch") or {}).get("gpus")
    if isinstance(gpus, (int, float)) and gpus > 0 and "seconds" in compute:
        compute["gpu_seconds"] = (
            compute["seconds"] * gpus * float((content.get("launch") or {}).get("workers") or 1)
        )
    return Trial(
        variant=variant,
        fold="" if evaluated else str(tags.get("fold", "")),
        seed="" if evaluated else str(tags.get("seed", "")),
        rows=rows,
        status=status,
        error=str(error.get("message", "")).splitlines()[0] if error.get("message") else "",
        name=str(folder),
        study=str(content.get("study") or ""),
        compute=compute,
        tuning=int(tags.get("tuning_trials") or 0),
    )


def _apart(trials: Iterable[Trial]) -> list[Trial]:
    """Variants of one name in several studies are several variants: `study:variant`."""
    trials = list(trials)
    studies: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        studies[trial.variant].add(trial.study)
    return [
        replace(t, variant=f"{t.study}:{t.variant}") if _clash(t, studies[t.variant]) else t for t in trials
    ]


def _clash(trial: Trial, studies: set[str]) -> bool:
    # Runs that `mriad train` made each have a study of their own name; several folds of one name are one variant.
    return len(studies) > 1 and bool(trial.study) and trial.study != trial.variant


def _data_of(records: Iterable[_Record]) -> tuple[str, str]:
    """How the data are called, and the level of evidence that they allow.

    Phantoms give E2 against the truth. Real data give E3, a direction on these data. E4 needs the paper's data and
    split, which no program can tell: it is claimed by people.
    """
    names: dict[str, None] = {}
    phantom = []
    for record in records:
        dataset = ((record.content.get("experiment") or {}).get("data") or {}).get("dataset") or {}
        kind = str(dataset.get("type", ""))
        if not kind:
            continue
        phantom.append("phantom" in kind)
        place = dataset.get("root") or dataset.get("path")
        names["phantom" if "phantom" in kind else Path(str(place)).name if place else kind] = None
    if not phantom:
        return "", ""
    return " and ".join(names), "E2" if all(phantom) else "E3"


def _metrics(records: Iterable[_Record]) -> Iterator[Any]:
    """The configs of the metrics that runs and evaluations wrote down, each once."""
    seen: list[Any] = []
    for record in records:
        experiment = record.content.get("experiment") or {}
        asked = (experiment.get("evaluate") or {}).get("metrics") or []
        for config in [*asked, *((record.content.get("config") or {}).get("metrics") or [])]:
            if config not in seen:
                seen.append(config)
                yield config


def _voxels(records: Iterable[_Record]) -> dict[str, str]:
    """Fingerprints of the test images by case, as far as the records of runs hold them.

    Raises:
        DataError: two records have one case name with other voxels, or were measured against other label files.
    """
    images: dict[str, tuple[str, Path]] = {}
    labels: dict[str, tuple[str, Path]] = {}
    for record in records:
        known = (record.content.get("data") or {}).get("voxels") or {}
        # An evaluation's inputs. Label files do not tell persons apart (two may be empty), so they are only compared.
        files = {
            str(entry["case"]): " ".join(sorted(map(str, entry["reference"].values())))
            for entry in record.content.get("inputs") or ()
            if isinstance(entry.get("reference"), dict) and "case" in entry
        }
        for what, marks, seen in (("images", known, images), ("references", files, labels)):
            for case, mark in marks.items():
                first = seen.setdefault(case, (mark, record.folder))
                if first[0] != mark:
                    raise DataError(
                        f"the same case names stand for other {what}, so their figures cannot be compared",
                        where={"case": case, "first": first[1], "second": record.folder},
                        remedy="compare runs on the same data and the same references",
                    )
    return {case: mark for case, (mark, _) in images.items()}
