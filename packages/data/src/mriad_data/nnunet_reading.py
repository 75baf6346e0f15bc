"""Makes the index of a `dataset.json` folder: what it promises, what is there, what does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError
from mriad.images import FileSource
from mriad.vocabulary import LabelSet

from mriad_data.faults import Faults
from mriad_data.index import Columns, TableIndex
from mriad_data.sources import FrameSource, as_cell
from mriad_data.tree import NIFTI, Tree, list_tree, nifti_stem

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.vocabulary import Source

    from mriad_data.nnunet import NnunetRaw

FILE = "dataset.json"
_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<number>\d{4})$")
_IGNORE = "ignore"


@dataclass
class _Facts:
    """What dataset.json says."""

    channels: list[str] = field(default_factory=list)
    structures: dict[str, int] = field(default_factory=dict)
    ignore: list[int] = field(default_factory=list)
    ending: str = ".nii.gz"
    count: int | None = None
    listed: dict[str, tuple[list[str], str]] | None = None
    """Case → images and label as listed, below the root; None: whatever lies in imagesTr."""
    test: dict[str, list[str]] | None = None


def read_nnunet(config: NnunetRaw) -> TableIndex:
    """The index of `data.nnunet`; see there."""
    faults = Faults()
    root = config.root.absolute()
    tree = list_tree(root, faults, lambda folder: folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"))
    facts = _facts(root, faults)
    columns = Columns(*(f"image:{name}" for name in facts.channels))
    seen: dict[str, str] = {}
    parts = {"train": ("Tr",), "test": ("Ts",), "all": ("Tr", "Ts")}[config.part]
    for part in parts:
        _Part(part, config, tree, facts, faults, columns, seen).read()
    try:
        label_set = LabelSet.of(facts.structures, facts.ignore)
    except DataError as error:
        faults.add(FILE, error.what)
        label_set = LabelSet(())
    faults.raise_any(f"data set {root}")
    if not len(columns):
        raise DataError(
            "a data set holds no case",
            where={
                "folder": str(root),
                "expected": " and ".join(f"images{p}/CASE_0000{facts.ending}" for p in parts),
            },
        )
    return columns.index(label_set, root)


def _facts(root: Path, faults: Faults) -> _Facts:
    """Parse dataset.json; what is wrong inside is noted, a file that is none is raised."""
    path = root / FILE
    where = {"file": str(path)}
    if not path.is_file():
        raise DataError(
            "a data set has no dataset.json",
            where=where,
            remedy="without one, `mriad init FOLDER` writes a manifest, which data.manifest reads",
        )
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError("a dataset.json cannot be read", where={**where, "reason": error}) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("labels"), dict):
        raise DataError(
            "a dataset.json is not that of nnU-Net or of the Decathlon",
            where={**where, "expected": "a mapping with labels, and channel_names or modality"},
        )
    facts = _Facts()
    names = raw.get("channel_names", raw.get("modality"))
    if not isinstance(names, dict) or not names:
        faults.add(FILE, "neither channel_names nor modality names a channel")
    elif sorted(names, key=str) != sorted(map(str, range(len(names))), key=str):
        faults.add(FILE, f"channels count 0, 1, 2 …, not {', '.join(map(str, names))}")
    else:
        facts.channels = _distinct([_slug(str(names[str(n)])) or f"channel{n}" for n in range(len(names))])
    _labels(raw["labels"], facts, faults)
    facts.ending = str(raw.get("file_ending", ".nii.gz"))
    if facts.ending not in NIFTI:
        faults.add(FILE, f"file_ending is {facts.ending}: only {' and '.join(NIFTI)} are read")
        facts.ending = ".nii.gz"
    count = raw.get("numTraining")
    facts.count = count if isinstance(count, int) else None
    _listed(raw, facts, faults)
    return facts


def _labels(raw: dict[Any, Any], facts: _Facts, faults: Faults) -> None:
    """Names and values of either version; 0 is background, `ignore` is no structure."""
    numbered = all(str(key).isdigit() for key in raw)
    pairs = [(value, key) if numbered else (key, value) for key, value in raw.items()]
    taken: dict[int, str] = {}
    for given, value in pairs:
        name = str(given)
        if isinstance(value, list):
            faults.add(
                FILE, f"label '{name}' is a region of several values, which is not read: give each its own"
            )
            continue
        if not str(value).isdigit():
            faults.add(FILE, f"label '{name}' has the value {value!r}, not a whole number")
            continue
        number = int(value)
        if number in taken:
            faults.add(FILE, f"labels '{taken[number]}' and '{name}' have one value, {number}")
        taken[number] = name
        if number == 0:
            continue
        if name == _IGNORE and not numbered:
            facts.ignore.append(number)
        elif _slug(name) in facts.structures:
            faults.add(FILE, f"two labels are called '{name}'")
        else:
            facts.structures[_slug(name)] = number
    if 0 not in taken:
        faults.add(FILE, "no label has the value 0, which is background")


def _listed(raw: dict[str, Any], facts: _Facts, faults: Faults) -> None:
    """Lists of files: `training` and `test` (nnU-Net 1, Decathlon), `dataset` (nnU-Net 2)."""
    try:
        if isinstance(raw.get("dataset"), dict):
            facts.listed = {
                str(case): ([str(i) for i in entry["images"]], str(entry["label"]))
                for case, entry in raw["dataset"].items()
            }
        elif isinstance(raw.get("training"), list) and raw["training"]:
            facts.listed = {
                nifti_stem(entry["image"].rpartition("/")[2]): (
                    [_clean(entry["image"])],
                    _clean(entry["label"]),
                )
                for entry in raw["training"]
            }
            if len(facts.listed) < len(raw["training"]):
                faults.add(FILE, "`training` lists an image twice")
        tests = raw.get("test")
        if isinstance(tests, list) and tests:
            images = [_clean(entry["image"] if isinstance(entry, dict) else entry) for entry in tests]
            facts.test = {nifti_stem(image.rpartition("/")[2]): [image] for image in images}
    except (KeyError, TypeError, AttributeError) as error:
        faults.add(FILE, f"a list of files is not understood: {type(error).__name__} {error}")


class _Part:
    """Training or test cases."""

    def __init__(
        self,
        part: str,
        config: NnunetRaw,
        tree: Tree,
        facts: _Facts,
        faults: Faults,
        columns: Columns,
        seen: dict[str, str],
    ) -> None:
        self.part, self.config, self.tree, self.facts = part, config, tree, facts
        self.faults, self.columns, self.seen = faults, columns, seen
        self.root = str(tree.root)
        images = {s: n for n in tree.folders.get(f"images{part}", []) if (s := nifti_stem(n))}
        self.images, self.labels = images, self._stems(f"labels{part}")
        self.used: set[str] = set()

    def _stems(self, folder: str) -> dict[str, str]:
        """Name without ending → path, of the NIfTI files in a folder."""
        return {s: f"{folder}/{n}" for n in self.tree.folders.get(folder, []) if (s := nifti_stem(n))}

    def read(self) -> None:
        """Add the cases; note what does not fit."""
        if self.part == "Tr" and not (self.tree.root / "imagesTr").is_dir():
            self.faults.add("imagesTr", "there is no such folder")
        cases = self._cases()
        for case, (files, label) in sorted(cases.items()):
            self._add(case, files, label)
        if self.part == "Tr":
            if self.facts.count is not None and self.facts.count != len(cases):
                self.faults.add(FILE, f"numTraining is {self.facts.count}, but there are {len(cases)} cases")
            for stem in sorted(set(self.labels) - set(cases)):
                self.faults.add(self.labels[stem], "a label without image")
            if self.facts.listed is not None:
                for stem in sorted(set(self.images) - self.used):
                    self.faults.add(f"imagesTr/{self.images[stem]}", f"is not listed in {FILE}")

    def _cases(self) -> dict[str, tuple[list[str], str]]:
        """Case → its image files, one a channel or one for all, and its label; paths below the root."""
        listed = self.facts.listed if self.part == "Tr" else None
        if self.part == "Ts" and self.facts.test is not None:
            listed = {case: (files, self.labels.get(case, "")) for case, files in self.facts.test.items()}
        if listed is not None:
            return {case: (self._resolve(case, files), label) for case, (files, label) in listed.items()}
        cases: dict[str, dict[int, str]] = {}
        for stem, name in self.images.items():
            match = _CHANNEL.match(stem)
            if match is None:
                self.faults.add(
                    f"images{self.part}/{name}", "the name does not end in the channel's number, as _0000"
                )
                continue
            if not name.endswith(self.facts.ending) or (self.facts.ending == ".nii" and name.endswith(".gz")):
                self.faults.add(
                    f"images{self.part}/{name}", f"does not end in {self.facts.ending}, as {FILE} says"
                )
            cases.setdefault(match["case"], {})[int(match["number"])] = f"images{self.part}/{name}"
        return {case: self._numbered(case, files) for case, files in cases.items()}

    def _numbered(self, case: str, files: dict[int, str]) -> tuple[list[str], str]:
        names = self.facts.channels
        for number in sorted(set(range(len(names))) - set(files)):
            self.faults.add(f"case {case}", f"channel {names[number]} is missing (_{number:04d})")
        extra = sorted(set(files) - set(range(len(names))))
        if extra and names:
            self.faults.add(
                f"case {case}",
                f"channel {', '.join(f'_{n:04d}' for n in extra)} is more than {FILE} names",
            )
        return [files[n] for n in sorted(files)], self.labels.get(case, "")

    def _resolve(self, case: str, files: list[str]) -> list[str]:
        """Listed files as they lie on disk: nnU-Net 1 lists CASE.nii.gz and stores CASE_0000.nii.gz."""
        if len(files) == 1 and not (self.tree.root / files[0]).is_file():
            split = [
                f"images{self.part}/{case}_{n:04d}{self.facts.ending}"
                for n in range(len(self.facts.channels))
            ]
            if (self.tree.root / split[0]).is_file() if split else False:
                files = split
        self.used |= {nifti_stem(f.rpartition("/")[2]) for f in files}
        for file in files:
            if not (self.tree.root / file).is_file():
                self.faults.add(f"case {case}", f"{file} is missing")
        return files

    def _add(self, case: str, files: list[str], label: str) -> None:
        names = self.facts.channels
        person = self._person(case)
        if case in self.seen:
            self.faults.add(f"case {case}", f"is in images{self.part} and in images{self.seen[case]}")
            return
        self.seen[case] = self.part
        for path in [*files, *([label] if label else [])]:
            if path in self.tree.missing:
                self.faults.add(path, "a link to nothing; get the file's content first")
        sources: list[Source] = [FileSource(f"{self.root}/{file}") for file in files]
        if len(files) == 1 and len(names) > 1:  # the Decathlon's several modalities in one 4D file
            sources = [FrameSource(f"{self.root}/{files[0]}", n) for n in range(len(names))]
        row: dict[str, str | float] = {"id": case, "person": person, "domain": self.config.domain}
        row["contrast"] = self.config.contrast or (names[0] if len(names) == 1 else "")
        row |= {
            f"image:{name}": as_cell(source, self.root) for name, source in zip(names, sources, strict=False)
        }
        if label and (self.tree.root / label).is_file():
            row |= {"label:hard": label, "kind:hard": "hard"}
        elif self.part == "Tr":
            self.faults.add(f"case {case}", f"the label is missing ({label or f'labelsTr/{case}'})")
        self.columns.add(row)

    def _person(self, case: str) -> str:
        if not self.config.person:
            return case
        match = re.search(self.config.person, case)
        if match is None:
            self.faults.add(f"case {case}", f"its name does not fit person: '{self.config.person}'")
            return case
        return match[1]


def _clean(path: str) -> str:
    return path.removeprefix("./")


def _slug(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text).strip("_")


def _distinct(names: list[str]) -> list[str]:
    """Channels of one name are told apart by their number."""
    return [name if names.count(name) == 1 else f"{name}_{n}" for n, name in enumerate(names)]
