"""What a data set holds: cases, voxel sizes, label values. Reads headers, hashes files, and reads label
voxels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad.errors import DataError
from mriad.filehash import HASHES, remember_in
from mriad.gridcheck import grid_difference
from mriad.images import FileSource, read_grid
from mriad.layouts import Layout, recognise
from mriad.parallel import map_cases
from mriad.vocabulary import CaseIndex, LabelSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mriad.geometry import Grid
    from mriad.vocabulary import Case, Source

MANIFESTS = ("manifest.csv", "manifest.tsv", "manifest.yaml", "manifest.yml")


@dataclass(frozen=True)
class Survey:
    """A data set as `mriad init` sees it. Axes of sizes are right, anterior, superior."""

    folder: Path
    layout: str
    index: CaseIndex
    label: str
    """Name of the label among a case's labels."""
    kind: str
    channels: tuple[str, ...]
    spacing: tuple[float, float, float]
    """Median voxel size in mm."""
    size: tuple[int, int, int]
    """Median extent in voxels of the median size."""
    contrasts: Mapping[str, int] = field(default_factory=dict)
    label_choice: str = ""
    left_out: tuple[str, ...] = ()
    manifest: Path | None = None
    """The table that was there already."""


@dataclass(frozen=True)
class _Seen:
    case: Case
    grid: Grid | None
    values: frozenset[int] = frozenset()
    fault: str = ""


def survey(
    folder: Path,
    label: str = "",
    runs: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Look at a data set.

    Args:
        folder: its root, or a manifest.
        label: end of the label files' names; default: the most frequent.
        runs: the runs root, where hashes of files are kept for the training.
        progress: called as `progress(done, total)`.

    Raises:
        DataError: nothing was recognised, or no case can be used (every reason is listed).
    """
    if runs is not None:
        remember_in(runs / HASHES)
    manifest = (
        folder if folder.is_file() else next((folder / m for m in MANIFESTS if (folder / m).is_file()), None)
    )
    layout, label_set = _from_manifest(manifest) if manifest else (recognise(folder, label), None)
    seen = list(map_cases(_Look(_label_name(layout)), layout.cases, progress=progress))
    good = [s for s in seen if s.grid is not None]
    left_out = [*layout.left_out, *(f"{s.case.id}: {s.fault}" for s in seen if s.grid is None)]
    if not good:
        raise DataError(
            "no case of the data set can be used",
            where={f"case {i}": reason for i, reason in enumerate(left_out[:10])},
        )
    name = _label_name(layout)
    kind = good[0].case.labels[name].kind
    values = sorted(set().union(*(s.values for s in good)) - {0})
    label_set = label_set or _label_set(values, layout, kind)
    spacing, size = _median([s.grid for s in good if s.grid is not None])
    channels = tuple(good[0].case.channels)
    chosen = layout.labels.most_common()
    return Survey(
        folder=folder.absolute(),
        layout=layout.kind,
        index=CaseIndex([s.case for s in good], label_set),
        label=name,
        kind=kind,
        channels=channels,
        spacing=spacing,
        size=size,
        contrasts=dict(Counter(s.case.contrast for s in good if s.case.contrast)),
        label_choice="endings seen: " + ", ".join(f"{n} ({c})" for n, c in chosen[:6])
        if chosen
        else "as named",
        left_out=tuple(left_out),
        manifest=manifest.absolute() if manifest else None,
    )


def _from_manifest(manifest: Path) -> tuple[Layout, LabelSet]:
    """Cases of a manifest, read by the component that the experiment will name."""
    from mriad.registry import registry

    component: Any = registry().get("dataset", "data.manifest")
    index = component.model_validate({"type": "data.manifest", "path": manifest}).build()
    labelled = [case for case in index if case.labels]
    unlabelled = [f"{case.id}: no label in the manifest" for case in index if not case.labels]
    layout = Layout(f"manifest {manifest.name}", labelled, left_out=unlabelled)
    if not labelled:
        raise DataError("no case of the manifest has a label", where={"file": str(manifest)})
    return layout, index.label_set


def _label_name(layout: Layout) -> str:
    """The label that most cases have."""
    return Counter(name for case in layout.cases for name in case.labels).most_common(1)[0][0]


@dataclass(frozen=True)
class _Look:
    """Grids and label values of one case; what is wrong with it instead of an error, so that all are
    listed.
    """

    label: str

    def __call__(self, case: Case) -> _Seen:
        try:
            label = case.labels[self.label]
            grids = [_grid(source) for source in case.channels.values()]
            for channel, grid in zip(case.channels, grids, strict=True):
                if not grid.same(grids[0]):
                    return _Seen(case, None, fault=f"channel {channel}: {grid_difference(grid, grids[0])}")
            values: frozenset[int] = frozenset()
            if label.kind == "soft":
                found = _grid(label.source)
            else:
                volume = label.source.read()
                found, values = volume.grid, _values(volume.data)
            if not found.same(grids[0]):
                return _Seen(case, None, fault=f"label: {grid_difference(found, grids[0])}")
        except (DataError, KeyError, IndexError) as error:
            return _Seen(case, None, fault=getattr(error, "what", f"no label '{self.label}' or no channel"))
        for source in (*case.channels.values(), label.source):
            _ = source.fingerprint  # hashed while the files are warm; the training asks for it
        return _Seen(case, grids[0], values)


def _grid(source: Source) -> Grid:
    """The grid of a source; of a file from its header, where 4D is refused as it would be in training."""
    return read_grid(source.path, source.stacked) if isinstance(source, FileSource) else source.read().grid


def _values(data: Any) -> frozenset[int]:
    found = np.unique(data)
    if (found != np.rint(found)).any():
        raise DataError("the label holds values that are not whole numbers; is it soft?")
    return frozenset(int(v) for v in found)


def _label_set(values: list[int], layout: Layout, kind: str) -> LabelSet:
    if kind == "soft":
        values = [1]
    if not values:
        raise DataError(
            "every label is empty",
            where={"labels": ", ".join(layout.labels)},
            remedy="choose others with --label",
        )
    return LabelSet.of({layout.names.get(v) or f"structure_{v}": v for v in values})


def _median(grids: list[Grid]) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Median spacing (three significant digits) and extent, axes in the order right, anterior, superior."""
    order = [
        [next(i for i, c in enumerate(g.orientation) if c in pair) for pair in ("RL", "AP", "SI")]
        for g in grids
    ]
    spacings = np.array([np.array(g.spacing)[o] for g, o in zip(grids, order, strict=True)])
    extents = spacings * np.array([np.array(g.shape)[o] for g, o in zip(grids, order, strict=True)])
    spacing = [float(f"{s:.3g}") for s in np.median(spacings, axis=0)]
    size = [max(1, round(e / s)) for e, s in zip(np.median(extents, axis=0), spacing, strict=True)]
    return (spacing[0], spacing[1], spacing[2]), (size[0], size[1], size[2])
