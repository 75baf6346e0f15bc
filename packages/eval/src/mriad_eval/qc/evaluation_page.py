"""The quality-control page of `mriad evaluate`: the scored pairs, with their scans where they are known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mriad.cli.progress import progress
from mriad.errors import DataError
from mriad.images import FileSource

from mriad_eval.pairing import files_by_case, with_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mriad.evaluation import Row
    from mriad.vocabulary import Case, LabelSet, Source

    from mriad_eval.scoring import Pair

FOLDER = "qc"
_CHANNEL = re.compile(r"_0000$")  # nnU-Net's name of the first channel


def scans_of(images: Path | None, cases: Mapping[str, Case]) -> dict[str, Source]:
    """Return a scan a case, for looking: the first channel of the case, or its file in a folder of images.

    Raises:
        DataError: the folder holds no image, or none of a case.
    """
    own: dict[str, Source] = {
        name: next(iter(c.channels.values())) for name, c in cases.items() if c.channels
    }
    if images is None:
        return own
    found = files_by_case(images, "*", "images")
    if images.is_file() and len(cases) == 1:
        return {next(iter(cases)): FileSource(str(images))}
    found = {_CHANNEL.sub("", name): paths for name, paths in reversed(found.items())}
    matched = {name: paths[0] for name, paths in with_ids(found, cases).items() if name in cases}
    if not matched:
        raise DataError(
            "no image is named like a case",
            where={
                "images": images,
                "cases": ", ".join(list(cases)[:4]),
                "found": ", ".join(list(found)[:4]),
            },
            remedy="give a folder whose files are named as the references, or leave --images out",
        )
    return own | {name: FileSource(str(path)) for name, path in matched.items()}


def write_evaluation_page(
    folder: Path,
    pairs: Sequence[Pair],
    rows: Sequence[Row],
    label_set: LabelSet,
    scans: Mapping[str, Source],
    limit: int,
    workers: int,
    record: Mapping[str, Any],
) -> Path:
    """Write `qc/` into an evaluation's folder, saying how far it is; return the file to open.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    from mriad_eval.qc.page import INDEX, write_page
    from mriad_eval.qc.picture import PairPicture

    pictures = [PairPicture(pair, label_set, scans.get(pair.case.id)) for pair in pairs]
    with progress(min(limit, len(pairs)), "draw") as shown:
        write_page(
            folder / FOLDER,
            pictures,
            rows,
            title="Quality control",
            note=f"{len(pairs)} cases, measured against '{pairs[0].label}'",
            identity=str(record["fingerprint"]),
            limit=limit,
            workers=workers,
            progress=lambda done, _: shown.update(done),
        )
    return folder / FOLDER / INDEX
