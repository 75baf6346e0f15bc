"""Makes the index of a BIDS folder: which images are there, which labels belong to them, what is missing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad.errors import DataError
from mriad.vocabulary import LabelSet

from mriad_data.bids_names import LABEL_SUFFIXES, SOFT_SUFFIXES, BidsName, Pattern, parse_name
from mriad_data.bids_tables import Sidecars, read_participants
from mriad_data.faults import Faults
from mriad_data.index import Columns, TableIndex
from mriad_data.tree import list_tree, nifti_stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad_data.bids import Bids

_NO_IMAGES = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
"""Folders at the top that hold no raw images."""


@dataclass(frozen=True)
class _Image:
    folder: str
    path: str
    name: BidsName


@dataclass(frozen=True)
class _Found:
    """The images of a case by channel; `contrast` is empty where channels make one case."""

    id: str
    contrast: str
    images: dict[str, _Image]

    @property
    def first(self) -> _Image:
        return next(iter(self.images.values()))


def read_bids(config: Bids) -> TableIndex:
    """The index of `data.bids`; see there."""
    reading = _Reading(config)
    columns = reading.columns()
    reading.faults.raise_any(f"BIDS folder {config.root}", reading.remedy())
    if not len(columns):
        raise DataError(
            "no case of a BIDS folder is left",
            where={"folder": str(config.root), "sessions": len(reading.visits)},
            remedy="look at `exclude`, `missing_image` and `missing_label`",
        )
    return columns.index(LabelSet.of(config.structures, config.ignore), reading.root)


class _Reading:
    """One pass over a folder."""

    def __init__(self, config: Bids) -> None:
        self.config = config
        self.faults = Faults()
        self.lacks: set[str] = set()
        """Settings that would accept what was found missing."""
        self.root = str(config.root.absolute())
        self.endings = {name: [Pattern.of(e) for e in ends] for name, ends in config.endings().items()}
        self.tree = list_tree(config.root.absolute(), self.faults, self._enter)
        self.stems: dict[str, list[str]] = {}
        """Path of every NIfTI file by its name without ending, for labels."""
        self.visits: dict[str, list[_Image]] = {}
        self._sort_files()
        if not self.visits:
            self.faults.raise_any(f"BIDS folder {config.root}")
            raise DataError(
                "a folder holds no BIDS image",
                where={
                    "folder": self.root,
                    "expected": "sub-X/[ses-Y/]anat/sub-X_[ses-Y_]T1w.nii.gz",
                    "seen": ", ".join([*self.tree.folders][:5]) or "nothing",
                },
            )
        for name in config.derivatives:
            if not (config.root / "derivatives" / name).is_dir():
                self.faults.add(f"derivatives/{name}", "there is no such folder")
        self.sidecars = Sidecars(self.tree, self.faults)
        domain = config.domain.partition(":")
        self.domain_kind, self.domain_key = domain[0], domain[2]
        self.participants = (
            read_participants(config.root, self.faults) if self.domain_kind == "participants" else {}
        )
        self.named = self._exclusions()

    def _enter(self, folder: str) -> bool:
        top, _, rest = folder.partition("/")
        if top == "derivatives":
            chosen = self.config.derivatives
            return not rest or not chosen or rest.partition("/")[0] in chosen
        return top not in _NO_IMAGES

    def _sort_files(self) -> None:
        parsed: dict[str, BidsName | None] = {}
        for folder, file in self.tree.files():
            stem = nifti_stem(file)
            if not stem:
                continue
            path = self.tree.path(folder, file)
            self.stems.setdefault(stem, []).append(path)
            if folder.startswith("derivatives"):
                continue
            name = parsed.setdefault(stem, parse_name(stem))
            if name is not None and name.suffix not in LABEL_SUFFIXES and "label" not in dict(name.entities):
                self.visits.setdefault(name.visit, []).append(_Image(folder, path, name))
        self.visits = dict(sorted(self.visits.items()))

    def _exclusions(self) -> set[str]:
        """Entries of `exclude` in full; those that name nothing are faults."""
        known = {image.name.person for images in self.visits.values() for image in images}
        found = set()
        for entry in self.config.exclude:
            if f"sub-{entry}" in known:
                found.add(f"sub-{entry}")
            elif entry in known or entry in self.stems or entry in self.visits:
                found.add(entry)
            elif entry.startswith("sub-"):
                found.add(entry)  # perhaps a case's id; looked for when cases are known
            else:
                close = difflib.get_close_matches(entry, [p[4:] for p in known], n=1)
                meant = f"; did you mean '{close[0]}'?" if close else ""
                self.faults.add("exclude", f"'{entry}' names no person, case or image{meant}")
        return found

    def columns(self) -> Columns:
        """Every case by columns; faults are noted."""
        columns = Columns()
        used: set[str] = set()
        ids: dict[str, str] = {}
        for visit, images in self.visits.items():
            person = images[0].name.person
            if hit := {person, visit} & self.named:
                used |= hit
                continue
            for found in self._cases(visit, images):
                out = {found.id, *(image.name.stem for image in found.images.values())} & self.named
                used |= out
                if out:
                    continue
                if found.id in ids:
                    self.faults.add(found.first.path, f"and {ids[found.id]} would both be case {found.id}")
                    continue
                ids[found.id] = found.first.path
                row = self._row(found)
                if row is not None:
                    columns.add(row)
        for entry in sorted(self.named - used):
            self.faults.add("exclude", f"'{entry}' names no person, case or image")
        self._orphans()
        return columns

    def _cases(self, visit: str, images: Sequence[_Image]) -> list[_Found]:
        """The cases of one session."""
        if self.config.missing_image == "leave_out":  # so is what git-annex has not fetched
            images = [image for image in images if image.path not in self.tree.missing]
        if not self.endings:
            return [_Found(i.name.stem, i.name.ending, {"image": i}) for i in images]
        channels: dict[str, _Image] = {}
        cases = []
        for name, patterns in self.endings.items():
            hits: list[tuple[Pattern, _Image]] = []
            for pattern in patterns:
                hits = [(pattern, image) for image in images if pattern.fits(image.name)]
                if hits:
                    break
            if self.config.channels:
                if len(hits) > 1:
                    self.faults.add(visit, f"channel {name}: {' and '.join(i.path for _, i in hits)}")
                if hits:
                    channels[name] = hits[0][1]
            else:
                cases += [_Found(f"{visit}{p.varying(i.name)}_{name}", name, {"image": i}) for p, i in hits]
            if not hits and self.config.missing_image == "refuse" and not self._is_out(visit, name):
                what = "channel" if self.config.channels else "contrast"
                wanted = " or ".join(f"{visit}_{e}" for e in self.config.endings()[name])
                self.faults.add(visit, f"no image for {what} {name} ({wanted})")
                self.lacks.add("missing_image: leave_out")
        if self.config.channels:
            return [_Found(visit, "", channels)] if len(channels) == len(self.endings) else []
        return cases

    def _is_out(self, visit: str, contrast: str) -> bool:
        """Whether a case that is not there was excluded by its id, so that nobody misses it."""
        return f"{visit}_{contrast}" in self.named

    def _row(self, found: _Found) -> dict[str, str | float] | None:
        """A case by columns; None where it is left out."""
        name = found.first.name
        row: dict[str, str | float] = {
            "id": found.id,
            "person": name.person,
            "contrast": found.contrast,
            "domain": self._domain(found),
            "session": name.session,
        }
        for channel, image in found.images.items():
            row[f"image:{channel}"] = self._there(image.path)
        bases = [image.name.stem for image in found.images.values()]
        if self.config.channels:
            bases += [name.visit, name.person] if name.session else [name.visit]
        for label, endings in self.config.labels.items():
            path, ending = self._labelled(bases, endings)
            if path:
                kind = self.config.kinds.get(label) or _kind(ending)
                row[f"label:{label}"] = f"stacked://{path}" if kind == "soft" else path
                row[f"kind:{label}"] = kind
                mask = self._labelled(bases, self.config.validity.get(label, []))[0]
                if mask:
                    row[f"validity:{label}"] = mask
                elif kind == "sparse" and not self.config.ignore:
                    self.faults.add(found.first.path, f"no mask of what is annotated in '{label}'")
            elif self.config.missing_label == "leave_out":
                return None
            elif self.config.missing_label == "refuse":
                wanted = " or ".join(f"{bases[0]}_{e}" for e in _listed(endings))
                self.faults.add(found.first.path, f"no label '{label}' ({wanted})")
                self.lacks.add("missing_label: leave_out or keep")
        for annotation, endings in self.config.annotations.items():
            path, _ = self._labelled(bases, endings)
            if path:
                row[f"annotation:{annotation}"] = path
        return row

    def _labelled(self, bases: Sequence[str], endings: str | list[str]) -> tuple[str, str]:
        """Path and ending of the first label file that is there; empty where there is none."""
        for ending in _listed(endings):
            for base in bases:
                hits = self.stems.get(f"{base}_{ending}", [])
                if self.config.missing_label != "refuse":
                    hits = [path for path in hits if path not in self.tree.missing]
                if len(hits) > 1:
                    self.faults.add(hits[0], f"is there again as {', '.join(hits[1:])}: name `derivatives`")
                if hits:
                    return self._there(hits[0]), ending
        return "", ""

    def _there(self, path: str) -> str:
        if path in self.tree.missing:
            self.faults.add(
                path, "a link to nothing; with git-annex or DataLad, get the file's content first"
            )
        return path

    def _domain(self, found: _Found) -> str:
        kind, key = self.domain_kind, self.domain_key
        name = found.first.name
        if kind == "contrast":
            return found.contrast
        if kind == "name":
            return key
        if kind == "entity":
            value = {"sub": name.subject, "ses": name.session, **dict(name.entities)}.get(key, "")
            missing = f"its name has no entity '{key}'"
        elif kind == "sidecar":
            seen = self.sidecars.value(found.first.folder, name, key)
            value = "" if seen is None else str(seen)
            missing = f"no JSON sidecar gives '{key}'"
        else:
            value = self.participants.get(name.person, {}).get(key, "")
            missing = f"participants.tsv gives {name.person} no '{key}'"
        if not value:
            self.faults.add(found.first.path, f"{missing}, which shall be the domain")
        return value

    def _orphans(self) -> None:
        """Sidecars of images that are not there, where such images are asked for and none may be missing."""
        if self.config.missing_image == "leave_out":
            return
        images = [(i.folder, i.name) for images in self.visits.values() for i in images]
        data = {file.partition(".")[0] for _, file in self.tree.files() if not file.endswith(".json")}
        patterns = [pattern for patterns in self.endings.values() for pattern in patterns]
        for path, name in self.sidecars.orphans(images):
            asked = any(p.fits(name) for p in patterns) if patterns else name.suffix not in LABEL_SUFFIXES
            if asked and name.stem not in data and not {name.person, name.visit, name.stem} & self.named:
                self.faults.add(path, "a sidecar without its image")

    def remedy(self) -> str:
        """What to set where something is missing and may be."""
        return f"fetch or repair the files, or set {' and '.join(sorted(self.lacks))}" if self.lacks else ""


def _kind(ending: str) -> str:
    return "soft" if ending.rpartition("_")[2] in SOFT_SUFFIXES else "hard"


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
