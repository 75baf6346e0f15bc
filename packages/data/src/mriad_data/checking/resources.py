"""Disk and memory that preparing a data set needs, from grids alone."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import numpy as np
from mriad.memory import memory_bytes, readable_bytes
from mriad.vocabulary import Sample

from mriad_data.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.geometry import Grid

    from mriad_data.checking.reading import Seen

IMAGE_BYTES = 4
"""Of a voxel and channel in the store: float32."""
WORKING_BYTES = 56
"""Of a voxel, while a channel is resampled and normalised; measured in tests/data/test_data_check_resources.py."""


def estimate(
    seen: Sequence[Seen], experiment: Experiment | None = None, structures: int = 1
) -> dict[str, float]:
    """Bytes that preparing needs.

    Steps of an experiment say how they change a grid. One that crops to what it sees cannot, and is taken to change
    nothing: `upper_bound` is then 1. Without an experiment volumes stay as they are.

    Returns `store_bytes` (on the disk, all cases after all steps), `case_bytes` (memory of the largest case while one
    worker prepares it), `voxels_largest`, `upper_bound`.
    """
    store = most = 0.0
    largest = 0
    bound = False
    for one in seen:
        reference = one.reference
        if reference is None or reference.grid is None:
            continue
        channels = len(_wanted(one, experiment))
        target, masked = _target_bytes(one, experiment, structures)
        sample, peak, unsure = _after(reference.grid, experiment, bool(target))
        bound = bound or unsure
        each = channels * IMAGE_BYTES + target + (masked or sample.validity is not None)
        voxels = math.prod(sample.grid.shape)
        store += voxels * (each + (sample.field is not None))
        # The files' voxels, the sample before the steps, and what a step works with.
        files = max((v.bytes for v in one.volumes), default=0)
        most = max(most, files + math.prod(reference.grid.shape) * each + peak * (each + WORKING_BYTES))
        largest = max(largest, voxels)
    return {
        "store_bytes": store,
        "case_bytes": most,
        "voxels_largest": float(largest),
        "upper_bound": bound,
    }


def check_resources(needs: Mapping[str, float], place: Path) -> Iterator[Finding]:
    """Whether the disk below `place` and the memory of this machine hold what preparing needs.

    Args:
        needs: as `estimate` gives it.
        place: where prepared cases are kept; it need not exist.
    """
    there = next(p for p in (place.absolute(), *place.absolute().parents) if p.is_dir())
    free, memory = shutil.disk_usage(there).free, memory_bytes()
    most = "at most " if needs["upper_bound"] else ""
    disk = f"{most}{readable_bytes(needs['store_bytes'])} on the disk"
    ram = f"{most}{readable_bytes(needs['case_bytes'])} of memory a worker"
    if needs["store_bytes"] > free:
        yield Finding(
            "resources",
            "error",
            "prepared cases do not fit on the disk",
            detail=f"{disk}, {readable_bytes(free)} free",
            remedy="free space, choose another --runs, or prepare at a larger spacing_mm",
        )
    if memory is not None and needs["case_bytes"] > memory:
        yield Finding(
            "resources",
            "error",
            "the largest case does not fit into memory",
            detail=f"{ram}, {readable_bytes(memory)} there",
            remedy="a larger spacing_mm, or a crop before resampling",
        )
    yield Finding("resources", "note", "preparing needs", detail=f"{disk}, {ram}")


def _after(grid: Grid, experiment: Experiment | None, labelled: bool) -> tuple[Sample, int, bool]:
    """What the steps make of a sample without channels: its grid, and whether it got a mask or field.

    Returns the sample, the most voxels on the way, and whether a step needed voxels to say.
    """
    target = np.empty((0, *grid.shape), np.float32) if labelled else None
    sample = Sample("", np.empty((0, *grid.shape), np.float32), grid, target)
    peak, unsure = math.prod(grid.shape), False
    for step in experiment.data.preprocessing if experiment is not None else ():
        if step.fitted:  # its parameters are not there yet; those of intensities change no grid
            continue
        try:
            sample = step.apply(sample, None)
        except (
            Exception
        ):  # a step that needs voxels, ours or a guest's, may raise anything where there are none
            unsure = True
        peak = max(peak, math.prod(sample.grid.shape))
    return sample, peak, unsure


def _wanted(one: Seen, experiment: Experiment | None) -> Sequence[str]:
    named = experiment.data.channels if experiment is not None else []
    return named or list(one.case.channels)


def _target_bytes(one: Seen, experiment: Experiment | None, structures: int) -> tuple[int, bool]:
    """Bytes of a voxel's target, and whether a mask says where it is annotated."""
    labels = [v for v in one.volumes if v.role == "label"]
    if experiment is not None:
        wanted = experiment.data.labels
        kind, name = wanted.kind, wanted.name or wanted.kind
        labels = [v for v in labels if v.name == name]
        if kind == "none" or not labels:
            return 0, False
        soft = kind == "soft"
    elif not labels:
        return 0, False
    else:
        soft, structures = labels[0].kind == "soft", labels[0].structures
    masked = any(v.role == "validity" and v.name == labels[0].name for v in one.volumes)
    return 4 * structures if soft else 1, masked
