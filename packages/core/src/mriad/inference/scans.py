"""Which files of a folder are scans, and what their segmentations are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.vocabulary import LabelSet

OutputForm = Literal["hard", "soft", "soft-uint8"]
"""hard: label values. soft: float32 probabilities. soft-uint8: probabilities as 0..255 with slope 1/255."""

_ENDINGS = (".nii.gz", ".nii")
_NO_SCAN = re.compile(r"(_seg|_dseg|_probseg|_mask|_label-[A-Za-z0-9]+.*)$")


@dataclass(frozen=True)
class Scan:
    """One case to predict. `folder`: where it lies below the folder that was given; its outputs go there too."""

    files: Mapping[str, Path]
    folder: Path = Path()

    @property
    def name(self) -> str:
        """The first channel's file name without its ending: what outputs begin with."""
        return stem(next(iter(self.files.values())))


def stem(path: Path) -> str:
    """A file name without `.nii` or `.nii.gz`."""
    for ending in _ENDINGS:
        if path.name.endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def find_scans(folder: Path, channels: Sequence[str]) -> tuple[list[Scan], list[tuple[str, DataError]]]:
    """Scans below a folder, in order of path, and cases that lack a channel.

    For a model of one channel every NIfTI file is a scan. For several, files of one folder whose names differ only
    in the last part, which must be a channel's name, are one case: `sub-01_T1w.nii.gz` and `sub-01_FLAIR.nii.gz`.
    Hidden files, folders named `derivatives`, and names that end as segmentations do, are left out.

    Raises:
        DataError: there is no scan.
    """
    files = [f for f in sorted(folder.rglob("*.nii*")) if _is_scan(f.relative_to(folder)) and f.is_file()]
    scans: list[Scan] = []
    faults: list[tuple[str, DataError]] = []
    if len(channels) == 1:
        scans = [Scan({channels[0]: f}, f.parent.relative_to(folder)) for f in files]
    else:
        cases: dict[Path, dict[str, Path]] = {}
        for file in files:
            base, _, last = stem(file).rpartition("_")
            if last in channels and base:
                cases.setdefault(file.parent / base, {})[last] = file
        for case, found in cases.items():
            missing = [c for c in channels if c not in found]
            if missing:
                where = {"case": case, "found": ", ".join(found), "missing": ", ".join(missing)}
                faults.append((case.name, DataError("a case lacks a channel of the model", where=where)))
            else:
                scans.append(Scan({c: found[c] for c in channels}, case.parent.relative_to(folder)))
    if not scans and not faults:
        raise DataError(
            "there is no scan in this folder",
            where={
                "folder": folder,
                "expected": "*.nii.gz or *.nii"
                + (f" named *_{channels[0]} … *_{channels[-1]}" if len(channels) > 1 else ""),
            },
        )
    return scans, faults


def output_names(name: str, label_set: LabelSet, form: OutputForm) -> dict[str, tuple[str, ...]]:
    """File names of a scan's outputs → the structures in each; after the BIDS derivatives of MRI.

    Hard: `_label-cord_seg` for one structure, `_dseg` with the label set's values for several. Soft: one
    `_label-cord_probseg` a structure. BIDS labels are alphanumeric: other characters of a structure's name go.
    """
    if form != "hard":
        names: dict[str, tuple[str, ...]] = {
            f"{name}_label-{_label(s)}_probseg.nii.gz": (s,) for s in label_set.names
        }
        if len(names) < len(label_set):
            raise DataError(
                "two structures would be written to one file",
                where={"structures": ", ".join(label_set.names)},
            )
        return names
    if len(label_set) == 1:
        return {f"{name}_label-{_label(label_set.names[0])}_seg.nii.gz": label_set.names}
    return {f"{name}_dseg.nii.gz": label_set.names}


def sidecar(output: Path) -> Path:
    """The JSON file beside an output."""
    return output.with_name(stem(output) + ".json")


def _label(structure: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", structure) or "structure"


def _is_scan(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    named = path.name.endswith(_ENDINGS) and not _NO_SCAN.search(stem(path))
    return named and not hidden and "derivatives" not in path.parts
