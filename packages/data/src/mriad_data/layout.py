"""Folders of NIfTI files whose names follow a published scheme: read by regular expressions on their paths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError
from mriad.vocabulary import LabelSet

from mriad_data.faults import Faults
from mriad_data.index import Columns, TableIndex
from mriad_data.tree import list_tree, nifti_stem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Patterns = tuple[str, ...]
"""Regular expressions for a path below the root, from any folder on. Groups are `person`, and where there are such
`session` and `domain`. A person's name may span folders: / becomes _."""

_Key = tuple[str, str]
_FEW = 5  # missing files of one kind that are named one by one


@dataclass(frozen=True)
class Layout:
    """Where a collection's files lie, and what they are."""

    title: str
    images: Mapping[str, Patterns]
    """Channel or contrast → its files."""
    expected: str
    """A path or two as they should be, for messages."""
    labels: Mapping[str, Patterns] = field(default_factory=dict)
    annotations: Mapping[str, Patterns] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    cases: Literal["session", "image"] = "session"
    """One case a session with `images` as channels, or one an image with the contrast's name."""
    labelled: tuple[str, ...] | None = None
    """Contrasts whose images must have the labels; None: all."""
    unlabelled: str = ""
    """Persons that have no labels by design, as a regular expression."""
    domain: str = ""
    """Domain where no pattern gives one; "contrast": that of the case."""
    persons: int | None = None
    """Number of persons as published."""


@dataclass(frozen=True)
class Choices:
    """What a user may decide."""

    exclude: tuple[str, ...] = ()
    missing_image: str = "refuse"
    missing_label: str = "refuse"
    complete: bool = False
    domains: Mapping[str, str] = field(default_factory=dict)
    """Domain by person, where a table gives them."""


@dataclass
class _Visit:
    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    domain: str = ""


def read_layout(root: Path, layout: Layout, choices: Choices, faults: Faults | None = None) -> TableIndex:
    """The index of a folder in a published layout.

    Args:
        root: the folder.
        layout: what is meant to lie there.
        choices: exclusions, and what may be missing.
        faults: found before; reported with those found here.

    Raises:
        DataError: the folder is missing or holds nothing of the kind; or, in one message: images and labels that are
            missing, labels without image, several files for one place, links to nothing, exclusions that name
            nothing, and with `complete` a number of persons other than published.
    """
    faults = Faults() if faults is None else faults
    root = root.absolute()
    visits = _visits(root, layout, faults)
    if not visits:
        faults.raise_any(f"{layout.title} in {root}")
        raise DataError(
            f"a folder does not hold {layout.title}",
            where={"folder": str(root), "expected": layout.expected},
        )
    used: set[str] = set()
    columns = Columns(*([f"image:{name}" for name in layout.images] if layout.cases == "session" else []))
    lacking: dict[str, list[str]] = {}
    persons: set[str] = set()
    for (person, session), visit in sorted(visits.items()):
        name = "_".join(part for part in (person, session) if part)
        if hit := {person, name} & set(choices.exclude):
            used |= hit
            continue
        persons.add(person)
        for row in _rows(name, (person, session), visit, layout, choices, lacking):
            if row["id"] in choices.exclude:
                used.add(str(row["id"]))
                continue
            columns.add(row)
    for what, names in lacking.items():
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        faults.add(what, f"missing for {', '.join(names[:_FEW])}{more}")
    for entry in sorted(set(choices.exclude) - used):
        faults.add("exclude", f"'{entry}' names no person or case")
    if choices.complete and layout.persons is not None and len(persons) != layout.persons:
        faults.add("persons", f"{len(persons)} are here, {layout.persons} were published")
    remedy = "fetch the files, or set missing_image or missing_label" if lacking else ""
    faults.raise_any(f"{layout.title} in {root}", remedy)
    if not len(columns):
        raise DataError(f"no case of {layout.title} is left", where={"folder": str(root)})
    return columns.index(LabelSet.of(dict(layout.structures)), root)


def _visits(root: Path, layout: Layout, faults: Faults) -> dict[_Key, _Visit]:
    """Files by person and session."""
    groups = {"images": layout.images, "labels": layout.labels, "annotations": layout.annotations}
    rules = [
        (kind, name, re.compile(rf"(?:^|/){pattern}$"))
        for kind, named in groups.items()
        for name, patterns in named.items()
        for pattern in patterns
    ]
    tree = list_tree(root, faults)
    visits: dict[_Key, _Visit] = {}
    for folder, file in tree.files():
        if not nifti_stem(file):
            continue
        path = tree.path(folder, file)
        for kind, name, rule in rules:
            match = rule.search(path)
            if match is None:
                continue
            if path in tree.missing:
                faults.add(path, "a link to nothing; get the file's content first")
            found = match.groupdict()
            visit = visits.setdefault(
                (found["person"].replace("/", "_"), found.get("session") or ""), _Visit()
            )
            files: dict[str, str] = getattr(visit, kind)
            if name in files:
                faults.add(path, f"is {name} of {found['person']}, but so is {files[name]}")
            files[name] = path
            visit.domain = visit.domain or found.get("domain") or ""
    return visits


def _rows(
    name: str, key: _Key, visit: _Visit, layout: Layout, choices: Choices, lacking: dict[str, list[str]]
) -> list[dict[str, str | float]]:
    """The cases of a session; what is missing is noted in `lacking`."""
    person, session = key
    plain: dict[str, str | float] = {"person": person, "session": session}
    domain = choices.domains.get(person) or visit.domain or layout.domain
    if layout.cases == "session":
        absent = [image for image in layout.images if image not in visit.images]
        row = {"id": name, **plain, "domain": domain}
        row |= {f"image:{image}": path for image, path in visit.images.items()}
        candidates = [(name, "", row, absent)]
    else:
        candidates = [
            (
                f"{name}_{c}",
                c,
                {
                    "id": f"{name}_{c}",
                    **plain,
                    "contrast": c,
                    "domain": c if domain == "contrast" else domain,
                    "image:image": path,
                },
                [],
            )
            for c, path in visit.images.items()
        ]
        if not candidates:
            candidates = [(name, "", {}, list(layout.labelled or layout.images))]
    rows = []
    for case, contrast, row, absent in candidates:
        if absent:
            if choices.missing_image == "refuse" and case not in choices.exclude:
                for image in absent:
                    lacking.setdefault(f"image {image}", []).append(case)
            continue
        if _label(row, contrast, visit, layout, choices, person, lacking):
            row |= {f"annotation:{a}": path for a, path in visit.annotations.items()}
            rows.append(row)
    return rows


def _label(
    row: dict[str, str | float],
    contrast: str,
    visit: _Visit,
    layout: Layout,
    choices: Choices,
    person: str,
    lacking: dict[str, list[str]],
) -> bool:
    """Put the labels into a row; whether the case stays."""
    if layout.labelled is not None and contrast not in layout.labelled:
        return True
    promised = not (layout.unlabelled and re.search(layout.unlabelled, person))
    for label in layout.labels:
        if label in visit.labels:
            row |= {f"label:{label}": visit.labels[label], f"kind:{label}": "hard"}
        elif promised and choices.missing_label == "leave_out":
            return False
        elif promised and choices.missing_label == "refuse" and row["id"] not in choices.exclude:
            lacking.setdefault(f"label {label}", []).append(str(row["id"]))
    return True
