"""Which prediction files belong to which case."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from mriad.vocabulary import Case

Files = dict[str, tuple["Path", ...]]
"""Case → its file, or one file a structure."""

_ENDING = re.compile(r"\.nii(\.gz)?$")
# What labels and predictions append to the name of their image: BIDS derivatives and common habits.
_APPENDED = re.compile(
    r"_((label|desc|space|res|model)-[A-Za-z0-9]+|(d|prob|soft)?seg|prob|mask|pred|gt|points|d?labels?)$"
)
_LABEL = re.compile(r"_label-([A-Za-z0-9]+)")
_SHOWN = 20


def case_of(name: str) -> str:
    """Return the case that a file name stands for: `sub-1_T2w_label-cord_seg.nii.gz` → `sub-1_T2w`."""
    name = _ENDING.sub("", name)
    while (shorter := _APPENDED.sub("", name)) and shorter != name:
        name = shorter
    return name


def structure_of(path: Path) -> str:
    """Return the structure in a file name (`…_label-cord_probseg` → `cord`), else ""."""
    found = _LABEL.search(path.name)
    return found.group(1) if found else ""


def files_by_case(place: Path, pattern: str, what: str) -> Files:
    """Return the NIfTI files below a folder (or the one file given) by case, in order of name.

    Raises:
        DataError: there is no such place, or no file fits the pattern.
    """
    if place.is_file():
        return {case_of(place.name): (place,)}
    found: Files = {}
    for path in sorted(place.rglob(pattern)) if place.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if _ENDING.search(path.name) and path.is_file() and not hidden:
            case = case_of(path.name)
            found[case] = (*found.get(case, ()), path)
    if not found:
        raise DataError(
            f"there are no {what} here",
            where={"folder": place, "expected": f"NIfTI files named {pattern}"},
            remedy="check the folder and the pattern",
        )
    return found


def with_ids(found: Files, cases: Mapping[str, Case]) -> Files:
    """Return files by the ids of `cases`.

    A case's files are those named as its id, else those of the case in their name, else those named after one of
    the case's scans: predictions are named after files, and a table may call its cases otherwise.
    """
    exact: Files = {_ENDING.sub("", path.name): (path,) for paths in found.values() for path in paths}
    taken: Files = {case: exact[case] for case in cases if case in exact}
    used = {path for paths in taken.values() for path in paths}
    # The id itself may end like a label, and then stands for a shorter name.
    reduced = {case_of(case): case for case in cases if case not in taken}
    scans = _by_scan(case for name, case in cases.items() if name not in taken)
    for name, paths in found.items():
        left = tuple(path for path in paths if path not in used)
        if left:
            taken[reduced.get(name) or scans.get(name, name)] = left
    return taken


def _by_scan(cases: Iterable[Case]) -> dict[str, str]:
    """Case by the name that predictions of its scan's file have; a name that several cases share stands for none."""
    found: dict[str, set[str]] = {}
    for case in cases:
        for source in case.channels.values():
            file = source.location.replace("\\", "/").rsplit("/", 1)[-1]
            if _ENDING.search(file):
                found.setdefault(case_of(file), set()).add(case.id)
    return {name: next(iter(owners)) for name, owners in found.items() if len(owners) == 1}


def require_same_cases(
    predictions: Collection[str], references: Collection[str], *, missing_counts: bool, skip_extra: bool
) -> None:
    """Refuse to score two different sets of cases without being told how.

    Raises:
        DataError: a reference has no prediction, or a prediction no reference; all are listed.
    """
    missing = [] if missing_counts else [case for case in references if case not in predictions]
    extra = [] if skip_extra else [case for case in predictions if case not in references]
    if not missing and not extra:
        return
    where = {}
    remedies = []
    if missing:
        where["no prediction"] = _listed(missing)
        remedies.append("--count-missing takes a case without prediction as a miss")
    if extra:
        where["no reference"] = _listed(extra)
        remedies.append("--skip-extra leaves out predictions without reference")
    raise DataError(
        "predictions and references are not of the same cases", where=where, remedy="; ".join(remedies)
    )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{shown}{', …' if len(names) > _SHOWN else ''} ({len(names)})"


def one_each(case: str, paths: tuple[Path, ...], structures: Collection[str]) -> dict[str, Path]:
    """Return one file a structure of a case that has several files, by the names in them.

    Raises:
        DataError: a structure has no file, or more than one.
    """
    by_structure: dict[str, list[Path]] = {name: [] for name in structures}
    plain = {re.sub(r"[^A-Za-z0-9]", "", name): name for name in structures}
    for path in paths:
        name = plain.get(structure_of(path))
        if name is not None:
            by_structure[name].append(path)
    if all(len(found) == 1 for found in by_structure.values()):
        return {name: found[0] for name, found in by_structure.items()}
    raise DataError(
        "several files stand for one case",
        where={
            "case": case,
            "files": ", ".join(path.name for path in paths),
            "expected": f"one file, or one for each of {', '.join(structures)} (…_label-NAME_…)",
        },
        remedy="choose one kind with --pattern or --reference-pattern, such as '*_dseg.nii.gz'",
    )
