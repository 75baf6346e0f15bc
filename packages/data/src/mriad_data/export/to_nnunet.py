"""nnU-Net's raw format (version 2) with `splits_final.json`; beside it the manifest and splits that mriad reads."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.encoding import encode_label
from mriad.errors import DataError
from mriad.gridcheck import require_same_grid
from mriad.images import FileSource, write_like
from mriad.manifest import write_manifest
from mriad.parallel import failure
from mriad.vocabulary import CaseIndex, Label, LabelSet

from mriad_data.export.plan import SIDES, Exported, file_names, write_json, written_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mriad.vocabulary import Case
    from numpy.typing import NDArray

    from mriad_data.export.plan import ExportPlan

_FOLDER = re.compile(r"^Dataset\d{3}_[A-Za-z0-9_-]+$")
ENDING = ".nii.gz"


def export_nnunet(plan: ExportPlan, out: Path, advance: Callable[[], None] = lambda: None) -> Exported:
    """Write imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json.

    Labels are numbered 1, 2, … in the order of the label set; soft ones are cut at > .5; what is not annotated gets
    the highest value, called `ignore`. Training cases without the label are left out: nnU-Net learns from labels
    alone. Test cases lie in imagesTs, since nnU-Net plans on all of imagesTr; so all folds must test the same cases.

    Args:
        plan: cases and folds.
        out: folder called DatasetNNN_NAME, which does not exist or is empty.
        advance: called after each case.

    Raises:
        DataError: the folds test different cases; a name does not fit; a case cannot be read or lacks a channel.
        StorageError: `out` holds something, or the place is full or cannot be written.
    """
    out = out.absolute()
    if not _FOLDER.match(out.name):
        raise DataError(
            "nnU-Net finds a data set by its folder's name",
            where={"folder": out.name, "expected": "three digits and a name: Dataset501_Cord"},
            remedy=f"--out {out.parent / 'Dataset501_Name'}",
        )
    tests = _test_cases(plan)
    used = plan.on_a_side()
    cases = [case for case in plan.index if case.id in used]
    left = {
        c.id: f"no label '{plan.label}'" for c in cases if plan.label not in c.labels and c.id not in tests
    }
    cases = [case for case in cases if case.id not in left]
    names = file_names(cases, lambda case: re.sub(r"[^\w.-]+", "-", case.id), "files of nnU-Net")
    with written_whole(out) as folder:
        written, ignored = [], False
        for case in cases:
            try:
                made, hidden = _write_case(case, names[case.id], case.id in tests, plan, folder)
            except Exception as error:
                raise failure(case.id, error) from error
            written.append(made)
            ignored |= hidden
            advance()
        structures = plan.index.label_set.names
        values = {name: i for i, name in enumerate(structures, 1)}
        labels = {"background": 0, **values} | ({"ignore": len(values) + 1} if ignored else {})
        write_json(
            folder / "dataset.json",
            {
                "name": out.name[11:],
                "channel_names": {str(i): name for i, name in enumerate(plan.channels)},
                "labels": labels,
                "numTraining": sum(case.id not in tests for case in cases),
                "file_ending": ENDING,
            },
        )
        folds = [
            {"train": _named(fold, "train", names), "val": _named(fold, "validation", names)}
            for fold in plan.folds.values()
        ]
        write_json(folder / "splits_final.json", folds)
        ours = [{side: _ids(fold, side, names) for side in SIDES} for fold in plan.folds.values()]
        write_json(folder / "splits.json", ours)
        label_set = LabelSet.of(values, [len(values) + 1] if ignored else [])
        write_manifest(folder, CaseIndex(written, label_set))
    return Exported(out, len(cases), left)


def _test_cases(plan: ExportPlan) -> set[str]:
    tests = [set(fold["test"]) for fold in plan.folds.values()]
    if any(found != tests[0] for found in tests):
        raise DataError(
            "the folds test different cases, and nnU-Net plans on every case of imagesTr",
            where={"folds": len(tests)},
            remedy="export one fold as a data set of its own: --fold 0",
        )
    return tests[0]


def _named(fold: Mapping[str, tuple[str, ...]], side: str, names: Mapping[str, str]) -> list[str]:
    return [names[case] for case in fold[side] if case in names]


def _ids(fold: Mapping[str, tuple[str, ...]], side: str, names: Mapping[str, str]) -> list[str]:
    return [case for case in fold[side] if case in names]


def _write_case(case: Case, name: str, tests: bool, plan: ExportPlan, folder: Path) -> tuple[Case, bool]:
    """Write images and label; return the case with these files, and whether something is not annotated."""
    part = "Ts" if tests else "Tr"
    missing = [channel for channel in plan.channels if channel not in case.channels]
    if missing:
        raise DataError("a case lacks a channel", where={"missing": ", ".join(missing)})
    channels = {}
    grid = None
    for number, channel in enumerate(plan.channels):
        volume = case.channels[channel].read()
        grid = grid or volume.grid
        require_same_grid(f"channel {channel}", volume.grid, grid, case.channels[channel].location)
        path = folder / f"images{part}" / f"{name}_{number:04d}{ENDING}"
        channels[channel] = FileSource(str(write_like(path, volume.data, volume.grid)))
    if plan.label not in case.labels:
        return replace(case, channels=channels, labels={}, annotations={}), False
    label = case.labels[plan.label]
    volume = label.source.read()
    if grid is not None:
        require_same_grid("label", volume.grid, grid, label.source.location)
    values, hidden = _values(label, volume.data, plan.index.label_set)
    path = write_like(folder / f"labels{part}" / f"{name}{ENDING}", values, volume.grid, "labels")
    made = Label("hard" if label.kind in ("hard", "soft", "sparse") else label.kind, FileSource(str(path)))
    return replace(case, channels=channels, labels={plan.label: made}, annotations={}), hidden


def _values(label: Label, data: NDArray[Any], label_set: LabelSet) -> tuple[NDArray[Any], bool]:
    """Values 0, 1, … (X, Y, Z), with the one after the last where nobody annotated."""
    mask = None if label.validity is None else label.validity.read().data
    target, valid = encode_label(
        data, label.kind, "hard", label_set, mask, label.source.location, annotated=label.annotated
    )
    values = target[0].astype(np.uint16)
    if valid is None or (valid != 0).all():
        return values, False
    values[valid[0] == 0] = len(label_set) + 1
    return values, True
