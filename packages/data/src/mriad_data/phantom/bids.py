"""The spine phantom on disk: a BIDS data set with its labels as derivatives, and the manifest that mriad reads."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.images import FileSource, write_like
from mriad.manifest import write_manifest
from mriad.vocabulary import Case, CaseIndex, Label

from mriad_data.phantom.folder import Written, new_folder, write_json, write_tsv
from mriad_data.phantom.parameters import VERSION
from mriad_data.phantom.sources import SpineSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mriad_data.phantom.dataset import PhantomSpine
    from mriad_data.phantom.parameters import SpineParameters

RAW = {
    "T1w": ("anat", "T1w"),
    "T2w": ("anat", "T2w"),
    "T2star": ("anat", "T2starw"),
    "MTon": ("anat", "flip-1_mt-on_MTS"),
    "GRE-T1w": ("anat", "flip-2_mt-off_MTS"),
    "DWI": ("dwi", "rec-average_dwi"),
}
"""Folder and ending of each contrast's file, as in the spine-generic data set."""
DERIVED = {
    "hard": "label-cord_seg",
    "soft": "label-cord_desc-soft_probseg",
    "truth": "label-cord_desc-truth_probseg",
    "discs": "label-discs_dlabel",
    "levels": "label-levels_dseg",
}
"""What is added to the image's name for each label and annotation, under derivatives/labels."""
DERIVATIVES = "derivatives/labels"


def write_bids(dataset: PhantomSpine, out: Path, advance: Callable[[], None] = lambda: None) -> Written:
    """Write a data set; `out` appears when it is whole.

    Args:
        dataset: what to make. Disc labels and levels are always written, as annotations.
        out: a folder that does not exist or is empty.
        advance: called after each image, for progress.

    Raises:
        StorageError: `out` holds something, or the place is full or cannot be written. Nothing is left behind.
    """
    index = dataset.build()
    parameters = dataset.parameters()
    with new_folder(out) as folder:
        written = []
        for case in index:
            written.append(_write_case(case, folder, parameters))
            advance()
        write_manifest(folder, CaseIndex(written, index.label_set))
        _describe(folder, dataset, index)
    return Written(out.absolute(), len(index.persons), len(index), parameters.fingerprint)


def _write_case(case: Case, folder: Path, parameters: SpineParameters) -> Case:
    """Write image, sidecar and labels; return the case with files as sources."""
    kind, ending = RAW[case.contrast]
    visit = f"ses-{case.session}" if case.session else ""
    name = "_".join(part for part in (case.person, visit, ending) if part)
    place = "/".join(part for part in (case.person, visit, kind) if part)
    image = folder / place / f"{name}.nii.gz"
    volume = case.channels["image"].read()
    write_like(image, volume.data, volume.grid)
    write_json(image.with_name(f"{name}.json"), _sidecar(case, parameters))
    if kind == "dwi":
        image.with_name(f"{name}.bval").write_text(f"{parameters.sequences.of(case.contrast).b_s_mm2:g}\n")
        # The mean over directions has none of its own.
        image.with_name(f"{name}.bvec").write_text("0\n0\n0\n")
    derived = folder / DERIVATIVES / place
    labels = {}
    for label_name, label in case.labels.items():
        if label_name in case.annotations:
            continue
        mask = label.source.read()
        path = derived / f"{name}_{DERIVED[label_name]}.nii.gz"
        hard = np.issubdtype(mask.data.dtype, np.integer)
        write_like(path, mask.data, mask.grid, "labels" if hard else "float32")
        labels[label_name] = Label(label.kind, FileSource(str(path), stacked=not hard))
    annotations = {}
    for label_name, source in case.annotations.items():
        mask = source.read()
        path = write_like(derived / f"{name}_{DERIVED[label_name]}.nii.gz", mask.data, mask.grid, "labels")
        annotations[label_name] = FileSource(str(path))
    channels = {"image": FileSource(str(image))}
    plain = {n: getattr(case, n) for n in ("contrast", "domain", "session")}
    return Case(
        case.id, case.person, channels, labels, numbers=case.numbers, annotations=annotations, **plain
    )


def _sidecar(case: Case, parameters: SpineParameters) -> dict[str, Any]:
    sequence = parameters.sequences.of(case.contrast)
    source = case.channels["image"]
    echoes = list(sequence.te_s)
    out: dict[str, Any] = {
        "Modality": "MR",
        "Manufacturer": "mriad phantom.spine",
        "MagneticFieldStrength": 3,
        "RepetitionTime": sequence.tr_s,
        "EchoTime": sum(echoes) / len(echoes),
        "FlipAngle": sequence.flip_deg,
        "MTState": sequence.equation == "mt_gre",
        "SignalEquation": sequence.equation,
        "EchoTimes": echoes,
        "Simulated": True,
        "Fingerprint": source.fingerprint,
    }
    if sequence.ti_s:
        out["InversionTime"] = sequence.ti_s
    if isinstance(source, SpineSource) and source.session.atrophy_percent:
        out["AtrophyPercent"] = source.session.atrophy_percent
    return out


def _describe(folder: Path, dataset: PhantomSpine, index: CaseIndex) -> None:
    """The files about the data set as a whole."""
    parameters = dataset.parameters()
    made = {"Name": "mriad", "Version": version("mriad-data")}
    common = {"BIDSVersion": "1.9.0", "License": "CC0", "GeneratedBy": [made]}
    write_json(
        folder / "dataset_description.json",
        {"Name": "Spine phantom (simulated)", "DatasetType": "raw", **common},
    )
    write_json(
        folder / DERIVATIVES / "dataset_description.json",
        {"Name": "Labels of the spine phantom", "DatasetType": "derivative", **common},
    )
    # Folders of derivatives and tables of our own are nothing that a BIDS validator should judge.
    (folder / ".bidsignore").write_text("manifest.csv\nlabels.yaml\nrun.json\nphantom.json\n")
    write_json(folder / "phantom.json", parameters.model_dump(mode="json"))
    run = {
        "dataset": dataset.model_dump(mode="json"),
        "fingerprint": parameters.fingerprint,
        "phantom_version": VERSION,
        "versions": {name: version(name) for name in ("mriad", "mriad-data", "numpy")},
        "cases": {case.id: case.channels["image"].fingerprint for case in index},
    }
    write_json(folder / "run.json", run)
    area = next((k for k in ("area_mm2/C2-C3", "area_mm2/C3", "area_mm2/C4") if k in index[0].numbers), None)
    first = {case.person: case for case in reversed(list(index))}
    rows = [
        {"participant_id": person, "species": "phantom"}
        | ({area.replace("/", "_"): f"{first[person].numbers[area]:.4f}"} if area else {})
        for person in index.persons
    ]
    write_tsv(folder / "participants.tsv", rows)
