"""Recognises how a folder of NIfTI files is laid out, and makes cases of it.

Layouts: a manifest; `imagesTr`/`labelsTr` (Medical Segmentation Decathlon, nnU-Net); and images with
labels beside them or in BIDS derivatives, where the label's name is the image's plus `_seg` or the like.
Reads names and headers, no voxels of images.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError
from mriad.images import FileSource
from mriad.vocabulary import Case, Label

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.vocabulary import LabelKind

_LABEL_WORDS = "seg|dseg|points|mask|label|labels|gt|lesion|softseg|probseg|prob"
_LABEL = re.compile(
    rf"^(?P<image>.+?)[_-](?P<suffix>(?:(?:label|desc|space)-[A-Za-z0-9]+_)*(?:{_LABEL_WORDS}))$"
)
_NAMED_LABEL = re.compile(r"^(?P<image>.+?)_(?P<suffix>label-[A-Za-z0-9]+_.+)$")
"""Any derivative that BIDS calls a label, such as `label-discs_dlabel`; not what `mriad init` would train on."""
_SOFT = re.compile(r"(softseg|probseg|prob)$")
_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
_ENDING = re.compile(r"\.nii(\.gz)?$")


@dataclass
class Layout:
    """What was found. `left_out` says which images make no case, and why."""

    kind: str
    cases: list[Case]
    names: dict[int, str] = field(default_factory=dict)
    """Names of label values, as far as the data set says."""
    labels: Counter[str] = field(default_factory=Counter)
    """How often each kind of label file occurs, by the end of its name; the most frequent is used."""
    left_out: list[str] = field(default_factory=list)


def recognise(folder: Path, label: str = "") -> Layout:
    """Look at a folder.

    Args:
        folder: root of the data set.
        label: end of the label files' names to use, such as "label-cord_seg"; default: the most frequent.

    Raises:
        DataError: no such folder, no NIfTI file, or no image with a label.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError("there is no such folder", where={"folder": str(folder)})
    layout = _decathlon(folder) if (folder / "imagesTr").is_dir() else _pairs(folder, label)
    if not layout.cases:
        raise DataError(
            "no image with a label was recognised",
            where={
                "folder": str(folder),
                "looked for": "imagesTr/ and labelsTr/; BIDS with derivatives; X.nii.gz with X_seg.nii.gz",
                **({"labels seen": ", ".join(layout.labels)} if layout.labels else {}),
            },
            remedy="rename the files, or write a table: columns id, person, image:T1w, label:hard",
        )
    return layout


def every_scan(folder: Path) -> Layout:
    """Every NIfTI file below a folder, whether or not it can be trained on, to be checked.

    An image with all label maps that are named after it is a case; a label is called by the end of its name. Label
    maps without their image make a case without channels, those of one folder and name together.

    Raises:
        DataError: no such folder.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError("there is no such folder", where={"folder": str(folder)})
    images: dict[str, list[Path]] = {}
    labels: list[tuple[str, str, Path]] = []
    for path in _niftis(folder):
        match = _LABEL.match(stem(path)) or _NAMED_LABEL.match(stem(path))
        if match is None:
            images.setdefault(stem(path), []).append(path)
        else:
            labels.append((match["image"], match["suffix"], path))
    of_image: dict[Path, dict[str, Path]] = {path: {} for paths in images.values() for path in paths}
    alone: dict[tuple[Path, str], dict[str, Path]] = {}
    layout = Layout("NIfTI files by their names", [])
    for name, suffix, path in labels:
        image = _image_of(name, path, images)
        (alone.setdefault((path.parent, name), {}) if image is None else of_image[image])[suffix] = path
        layout.labels[suffix] += 1
    found = [(path.parent, stem(path), {"image": FileSource(str(path))}, of) for path, of in of_image.items()]
    found += [(place, name, {}, of) for (place, name), of in alone.items()]
    taken: Counter[str] = Counter()
    twice = {name for name, count in Counter(name for _, name, _, _ in found).items() if count > 1}
    for place, name, channels, of in found:
        within = "_".join((*place.relative_to(folder).parts, name)) if name in twice else name
        taken[within] += 1
        number = f"_{taken[within]}" if taken[within] > 1 else ""  # x.nii and x.nii.gz
        layout.cases.append(
            Case(
                within + number,
                _person(name),
                channels,
                {suffix: _label_of(suffix, path) for suffix, path in of.items()},
                contrast=name.rpartition("_")[2] if channels and _entity("sub", name) else "",
                session=_entity("ses", name),
            )
        )
    return layout


def _label_of(suffix: str, path: Path) -> Label:
    soft = bool(_SOFT.search(suffix))
    return Label("soft" if soft else "hard", FileSource(str(path), stacked=soft))


def stem(path: Path) -> str:
    """The name of a NIfTI file without .nii or .nii.gz."""
    return _ENDING.sub("", path.name)


def _niftis(folder: Path, pattern: str = "**/*") -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if _ENDING.search(path.name) and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def _decathlon(folder: Path) -> Layout:
    """`imagesTr/X.nii.gz` (or `X_0000.nii.gz`, one file a channel) with `labelsTr/X.nii.gz`."""
    facts = _json(folder / "dataset.json")
    channel_names = {
        str(k): str(v) for k, v in (facts.get("channel_names") or facts.get("modality") or {}).items()
    }
    labels = {stem(path): path for path in _niftis(folder / "labelsTr", "*")}
    groups: dict[str, dict[str, Path]] = {}
    for path in _niftis(folder / "imagesTr", "*"):
        # A label of the whole name says that four digits at its end number the case, not a channel.
        match = None if stem(path) in labels else _CHANNEL.match(stem(path))
        case, number = (match["case"], str(int(match["channel"]))) if match else (stem(path), "0")
        groups.setdefault(case, {})[number] = path
    layout = Layout("imagesTr and labelsTr", [], _decathlon_names(facts))
    for case, files in groups.items():
        label = labels.get(case)
        if label is None:
            layout.left_out.append(f"{case}: no label in labelsTr")
            continue
        names = {
            n: _slug(channel_names.get(n, "")) or ("image" if n == "0" else f"channel{n}") for n in files
        }
        channels = {names[n]: FileSource(str(files[n])) for n in sorted(files, key=int)}
        layout.cases.append(
            Case(case, _person(case), channels, {"hard": Label("hard", FileSource(str(label)))})
        )
        layout.labels["labelsTr"] += 1
    return layout


def _decathlon_names(facts: dict[str, Any]) -> dict[int, str]:
    """`labels` of dataset.json: Decathlon has value → name, nnU-Net 2 name → value."""
    names: dict[int, str] = {}
    for left, right in (facts.get("labels") or {}).items():
        value, name = (left, right) if str(left).isdigit() else (right, left)
        if isinstance(value, (int, str)) and str(value).isdigit() and int(value) > 0:
            names[int(value)] = _slug(str(name))
    return names


def _pairs(folder: Path, wanted: str) -> Layout:
    """Images, and labels whose names are an image's name and a label's ending, in the same folder or
    derivatives.
    """
    files = _niftis(folder)
    images: dict[str, list[Path]] = {}
    labels: list[tuple[str, str, Path]] = []
    for path in files:
        match = _LABEL.match(stem(path))
        if match is None:
            images.setdefault(stem(path), []).append(path)
        else:
            labels.append((match["image"], match["suffix"], path))
    layout = Layout("images with labels", [])
    found: dict[Path, dict[str, Path]] = {}
    for name, suffix, path in labels:
        image = _image_of(name, path, images)
        if image is None:
            continue
        found.setdefault(image, {})[suffix] = path
        layout.labels[suffix] += 1
    if not layout.labels:
        return layout
    chosen = wanted or layout.labels.most_common(1)[0][0]
    if chosen not in layout.labels:
        raise DataError(f"no label file ends in '_{chosen}'", where={"labels seen": ", ".join(layout.labels)})
    named = re.search(r"label-([A-Za-z0-9]+)", chosen)
    layout.names = {1: named[1]} if named else {}
    kind: LabelKind = "soft" if _SOFT.search(chosen) else "hard"
    for image in (path for paths in images.values() for path in paths):
        if chosen not in found.get(image, {}):
            layout.left_out.append(f"{image.relative_to(folder)}: no label that ends in _{chosen}")
            continue
        source = FileSource(str(found[image][chosen]), stacked=kind == "soft")
        twins = len(images[stem(image)]) > 1
        name = _ENDING.sub("", str(image.relative_to(folder))).replace("/", "_") if twins else stem(image)
        bids = stem(image).startswith("sub-")
        layout.cases.append(
            Case(
                name,
                _person(stem(image) if bids or not twins else name),
                {"image": FileSource(str(image))},
                {kind: Label(kind, source)},
                contrast=stem(image).rpartition("_")[2] if bids else "",
                session=_entity("ses", stem(image)),
            )
        )
    return layout


def _image_of(name: str, label: Path, images: dict[str, list[Path]]) -> Path | None:
    """The image that a label belongs to: the one beside it, else the only one of that name anywhere."""
    candidates = images.get(name, [])
    beside = [path for path in candidates if path.parent == label.parent]
    if beside:
        return beside[0]
    return candidates[0] if len(candidates) == 1 else None


def _person(name: str) -> str:
    """The BIDS subject if the name has one, else the name: every case another person."""
    return (f"sub-{_entity('sub', name)}") if _entity("sub", name) else name


def _entity(key: str, name: str) -> str:
    match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", name)
    return match[1] if match else ""


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("a JSON file cannot be read", where={"file": str(path), "reason": error}) from error
    return found if isinstance(found, dict) else {}
