"""The brain phantom on disk: a BIDS data set, its label maps as derivatives, and the manifest that mriad reads."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mriad.images import FileSource, write_like
from mriad.manifest import write_manifest
from mriad.vocabulary import Case, CaseIndex, Label

from mriad_data.phantom.brain.parameters import VERSION
from mriad_data.phantom.brain.regions import REGIONS
from mriad_data.phantom.folder import Written, new_folder, write_json, write_tsv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mriad_data.phantom.brain.dataset import PhantomBrain
    from mriad_data.phantom.brain.parameters import BrainParameters

ENDING = {"T1w": "T1w", "T2w": "T2w", "PD": "PDw", "FLAIR": "FLAIR", "DBS": "acq-dbs_T1w"}
"""Of each contrast's file."""
DERIVATIVES = "derivatives/labels"
TABLE = f"{DERIVATIVES}/labels.tsv"


def write_brain(dataset: PhantomBrain, out: Path, advance: Callable[[], None] = lambda: None) -> Written:
    """Write a data set; `out` appears when it is whole.

    The label maps are `derivatives/labels/sub-…/anat/…_dseg.nii.gz`, one a session and voxel size, with
    `derivatives/labels/labels.tsv` for `data.label_maps`. The shares of voxels are not written.

    Args:
        dataset: what to make.
        out: a folder that does not exist or is empty.
        advance: called after each case, for progress.

    Raises:
        StorageError: `out` holds something, or the place is full or cannot be written. Nothing is left behind.
    """
    with new_folder(out) as folder:
        index = dataset.build()
        parameters = dataset.parameters()
        done: dict[str, FileSource] = {}
        written = []
        for case in index:
            written.append(_write_case(case, folder, parameters, done))
            advance()
        write_manifest(folder, CaseIndex(written, index.label_set))
        _describe(folder, dataset, index)
    images = sum(len(case.channels) for case in index)
    return Written(out.absolute(), len(index.persons), images, parameters.fingerprint)


def _write_case(case: Case, folder: Path, parameters: BrainParameters, done: dict[str, FileSource]) -> Case:
    """Write image, sidecar and label map (once for equal ones); return the case with files as sources."""
    visit = f"ses-{case.session}" if case.session else ""
    stem = "_".join(part for part in (case.person, visit) if part)
    place = "/".join(part for part in (case.person, visit, "anat") if part)
    channels = {}
    if case.channels:
        image = folder / place / f"{stem}_{ENDING[case.contrast]}.nii.gz"
        volume = case.channels["image"].read()
        write_like(image, volume.data, volume.grid)
        write_json(image.with_name(image.name.replace(".nii.gz", ".json")), _sidecar(case, parameters))
        channels["image"] = FileSource(str(image))
    source = case.labels["hard"].source
    if source.fingerprint not in done:
        others = sum(
            path.startswith(stem + "_") for path in (f.location.split("/")[-1] for f in done.values())
        )
        # A second voxel size of one session gets a map of its own.
        name = f"{stem}_{f'desc-grid{others + 1}_' if others else ''}dseg.nii.gz"
        mask = source.read()
        path = write_like(folder / DERIVATIVES / place / name, mask.data, mask.grid, "labels")
        done[source.fingerprint] = FileSource(str(path))
    labels = {"hard": Label("hard", done[source.fingerprint])}
    plain = {n: getattr(case, n) for n in ("contrast", "domain", "session")}
    return Case(case.id, case.person, channels, labels, numbers=case.numbers, **plain)


def _sidecar(case: Case, parameters: BrainParameters) -> dict[str, Any]:
    sequence = parameters.sequences.of(case.contrast)
    out: dict[str, Any] = {
        "Modality": "MR",
        "Manufacturer": "mriad phantom.brain",
        "MagneticFieldStrength": 3,
        "RepetitionTime": sequence.tr_s,
        "EchoTime": sequence.te_s[0],
        "FlipAngle": sequence.flip_deg,
        "SignalEquation": sequence.equation,
        "Simulated": True,
        "Fingerprint": case.channels["image"].fingerprint,
    }
    if sequence.ti_s:
        out["InversionTime"] = sequence.ti_s
    return out


def _describe(folder: Path, dataset: PhantomBrain, index: CaseIndex) -> None:
    """The files about the data set as a whole."""
    parameters = dataset.parameters()
    common = {
        "BIDSVersion": "1.9.0",
        "License": "CC0",
        "GeneratedBy": [{"Name": "mriad", "Version": version("mriad-data")}],
    }
    write_json(
        folder / "dataset_description.json",
        {"Name": "Brain phantom (simulated)", "DatasetType": "raw", **common},
    )
    write_json(
        folder / DERIVATIVES / "dataset_description.json",
        {"Name": "Label maps of the brain phantom", "DatasetType": "derivative", **common},
    )
    (folder / ".bidsignore").write_text("manifest.csv\nlabels.yaml\nrun.json\nphantom.json\n")
    write_json(folder / "phantom.json", parameters.model_dump(mode="json"))
    run = {
        "dataset": dataset.model_dump(mode="json"),
        "fingerprint": parameters.fingerprint,
        "phantom_version": VERSION,
        "versions": {name: version(name) for name in ("mriad", "mriad-data", "numpy", "scipy")},
        "cases": {case.id: case.labels["hard"].source.fingerprint for case in index},
    }
    write_json(folder / "run.json", run)
    write_tsv(
        folder / TABLE,
        [
            {
                "label": str(r.value),
                "name": r.name,
                "side": r.side,
                "generation_class": str(r.generation_class),
                "generation_class_contrast_specific": str(r.contrast_class),
                "segmentation_label": str(r.value if r.brain else 0),
            }
            for r in REGIONS
            if r.brain or r.value == 0 or dataset.head
        ],
    )
    first = {case.person: case for case in reversed(list(index))}
    rows = [
        {"participant_id": person, "species": "phantom"}
        | {name.replace("/", "_"): f"{value:.1f}" for name, value in first[person].numbers.items()}
        for person in index.persons
    ]
    # A structure that one person's field of view cuts has no column.
    shared = set.intersection(*(set(row) for row in rows))
    write_tsv(folder / "participants.tsv", [{k: v for k, v in row.items() if k in shared} for row in rows])
