"""A BIDS data set: raw images, labels and masks as derivatives; beside it manifest and splits that mriad reads."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from mriad.atomic import atomic_file
from mriad.errors import DataError
from mriad.images import FileSource, write_like
from mriad.manifest import write_manifest
from mriad.parallel import failure
from mriad.vocabulary import CaseIndex

from mriad_data.export.plan import Exported, persons_or_cases, write_json, written_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mriad.vocabulary import Case, Label, LabelSet, Source

    from mriad_data.export.plan import ExportPlan

DERIVATIVES = "derivatives/mriad"
ENDINGS = {
    "T2star": "T2starw",
    "MTon": "flip-1_mt-on_MTS",
    "MToff": "flip-1_mt-off_MTS",
    "GRE-T1w": "flip-2_mt-off_MTS",
    "DWI": "rec-average_dwi",
}
"""Endings of contrasts whose name is no BIDS suffix, as in the spine-generic data set."""
_README = """{name}

Written by `mriad data export`. Images are the voxels and grids of their sources; acquisition parameters (sidecars)
are not carried over, so a validator asks for those that a suffix requires (MTS: FlipAngle, MTState and more). Labels
lie in derivatives/mriad under the names that spine-generic uses (IMAGE_label-NAME_dseg). manifest.csv, labels.yaml
and splits.json are read by mriad.
"""
_SUFFIXES = ("T1w", "T2w", "T2starw", "FLAIR", "PDw", "PDT2", "inplaneT1", "inplaneT2", "UNIT1", "MTS", "dwi")
_FOLDERS = {"dwi": "dwi"}


def export_bids(plan: ExportPlan, out: Path, advance: Callable[[], None] = lambda: None) -> Exported:
    """Write every case that a fold uses: its images, and all of its labels and annotations.

    Hard labels become `…_label-NAME_dseg`, soft ones `…_label-NAME_probseg` (structures along the fourth axis), masks
    of what is annotated `…_label-NAME_desc-valid_mask`, confidences `…_label-NAME_desc-confidence_probseg`, all under
    derivatives/mriad, with a table of values. A person's and a session's name keep their letters and digits.

    Args:
        plan: cases and folds.
        out: folder that does not exist or is empty.
        advance: called after each case.

    Raises:
        DataError: two persons or images would have one name; a case cannot be read.
        StorageError: `out` holds something, or the place is full or cannot be written.
    """
    out = out.absolute()
    used = plan.on_a_side()
    cases = [case for case in plan.index if case.id in used]
    names = _Names.of(cases)
    with written_whole(out) as folder:
        written = []
        for case in cases:
            try:
                written.append(_write_case(case, names, folder))
            except Exception as error:
                raise failure(case.id, error) from error
            advance()
        _describe(folder, plan, cases, names)
        made = CaseIndex(written, plan.index.label_set)
        write_manifest(folder, made)
        renamed = {who: f"sub-{name}" for who, name in names.persons.items()}
        folds = persons_or_cases(plan)
        write_json(
            folder / "splits.json",
            [
                {side: [renamed.get(n, n) for n in entries] for side, entries in fold.items()}
                for fold in folds
            ],
        )
    return Exported(out, len(cases))


@dataclass(frozen=True)
class _Names:
    """BIDS labels of persons and sessions, and the stem of every image."""

    persons: Mapping[str, str]
    images: Mapping[tuple[str, str], str]
    """Case and channel → name without folder and ending."""

    @classmethod
    def of(cls, cases: Iterable[Case]) -> _Names:
        known = list(cases)
        persons: dict[str, str] = {}
        holder: dict[str, str] = {}
        for who in dict.fromkeys(case.person for case in known):
            persons[who] = _plain(who.removeprefix("sub-"))
            other = holder.setdefault(persons[who].lower(), who)
            if other != who or not persons[who]:
                raise DataError(
                    "BIDS names hold letters and digits only, and two persons would have one",
                    where={"persons": f"{other!r}, {who!r}", "name": f"sub-{persons[who]}"},
                    remedy="rename one of them in the data set",
                )
        images: dict[tuple[str, str], str] = {}
        count: dict[str, int] = {}
        for case in known:
            for channel in case.channels or ("",):
                head = _visit(persons[case.person], case.session)
                ending = _ending(channel if len(case.channels) > 1 else case.contrast or channel)
                stem = f"{head}_{ending}"
                count[stem] = count.get(stem, 0) + 1
                if count[stem] > 1:  # further images of one contrast in a session are runs
                    entities, _, suffix = ending.rpartition("_")
                    stem = "_".join(p for p in (head, entities, f"run-{count[stem]}", suffix) if p)
                images[case.id, channel] = stem
        return cls(persons, images)


def _visit(person: str, session: str) -> str:
    return f"sub-{person}" + (f"_ses-{_plain(session.removeprefix('ses-'))}" if session else "")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _ending(contrast: str) -> str:
    if contrast in _SUFFIXES:
        return contrast
    return ENDINGS.get(contrast) or _plain(contrast) or "MRI"


def _place(folder: Path, stem: str, derived: bool) -> Path:
    """Where a file of this name lies, less what follows the stem."""
    parts = stem.split("_")
    session = [parts[1]] if len(parts) > 1 and parts[1].startswith("ses-") else []
    kind = _FOLDERS.get(parts[-1], "anat")
    return folder.joinpath(*([DERIVATIVES] if derived else []), parts[0], *session, kind, stem)


def _write_case(case: Case, names: _Names, folder: Path) -> Case:
    channels: dict[str, Source] = {}
    for channel, source in case.channels.items():
        volume = source.read()
        path = _place(folder, names.images[case.id, channel], derived=False)
        channels[channel] = FileSource(
            str(write_like(path.with_name(path.name + ".nii.gz"), volume.data, volume.grid))
        )
    # Labels of several channels belong to the session; of one, to its image.
    stem = names.images[case.id, next(iter(case.channels), "")]
    stem = _visit(names.persons[case.person], case.session) if len(case.channels) > 1 else stem
    base = _place(folder, stem, derived=True)
    labels = {name: _write_label(label, _named(base, name)) for name, label in case.labels.items()}
    annotations = {
        name: FileSource(str(_write(source, _named(base, name), "dseg")))
        for name, source in case.annotations.items()
        if name not in case.labels
    }
    person = f"sub-{names.persons[case.person]}"
    return replace(case, person=person, channels=channels, labels=labels, annotations=annotations)


def _named(base: Path, label: str) -> Path:
    return base.with_name(f"{base.name}_label-{_plain(label)}")


def _write(source: Source, base: Path, suffix: str) -> Path:
    volume = source.read()
    hard = suffix in ("dseg", "mask")
    data = (volume.data != 0).astype(np.uint8) if suffix == "mask" else volume.data
    return write_like(
        base.with_name(f"{base.name}_{suffix}.nii.gz"), data, volume.grid, "labels" if hard else "float32"
    )


def _write_label(label: Label, base: Path) -> Label:
    soft = label.kind == "soft"
    source = FileSource(str(_write(label.source, base, "probseg" if soft else "dseg")), stacked=soft)
    valid = base.with_name(f"{base.name}_desc-valid")
    trust = base.with_name(f"{base.name}_desc-confidence")
    return replace(
        label,
        source=source,
        validity=FileSource(str(_write(label.validity, valid, "mask"))) if label.validity else None,
        confidence=FileSource(str(_write(label.confidence, trust, "probseg"))) if label.confidence else None,
    )


def _describe(folder: Path, plan: ExportPlan, cases: list[Case], names: _Names) -> None:
    """The files about the data set as a whole."""
    common = {
        "BIDSVersion": "1.9.0",
        "GeneratedBy": [{"Name": "mriad", "Version": version("mriad-data")}],
    }
    write_json(folder / "dataset_description.json", {"Name": plan.name, "DatasetType": "raw", **common})
    with atomic_file(folder / "README") as temporary:
        temporary.write_text(_README.format(name=plan.name), encoding="utf-8")
    write_json(
        folder / "participants.json",
        {"domain": {"Description": "What the data set calls the person's domains, such as sites; n/a: none"}},
    )
    write_json(
        folder / DERIVATIVES / "dataset_description.json",
        {"Name": f"Labels of {plan.name}", "DatasetType": "derivative", **common},
    )
    own = {i for i, n in names.images.items() if n.split("_")[-1] not in _SUFFIXES}
    strange = sorted({f"*_{names.images[i].split('_')[-1]}.nii.gz" for i in own})
    (folder / ".bidsignore").write_text(
        "\n".join(["manifest.csv", "labels.yaml", "splits.json", *strange]) + "\n"
    )
    domains: dict[str, list[str]] = {}
    for case in cases:
        domains.setdefault(names.persons[case.person], []).append(case.domain)
    rows = [[f"sub-{who}", ",".join(dict.fromkeys(filter(None, d))) or "n/a"] for who, d in domains.items()]
    _write_tsv(folder / "participants.tsv", ["participant_id", "domain"], rows)
    for label in {name for case in cases for name in case.labels}:
        _write_tsv(
            folder / DERIVATIVES / f"label-{_plain(label)}_dseg.tsv",
            ["index", "name"],
            _table(plan.index.label_set),
        )


def _table(label_set: LabelSet) -> list[list[str]]:
    rows = [["0", "background"], *([str(s.value), s.name] for s in label_set.structures)]
    return rows + [[str(v), "not annotated"] for v in label_set.ignore]


def _write_tsv(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([head, *rows])
