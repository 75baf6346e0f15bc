"""Checks of files and their grids: readable, geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mriad.geometry import SAME_GRID_MM
from mriad.gridcheck import grid_difference

from mriad_data.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.checking.reading import Seen, VolumeFacts

FIX = "mriad data check … --fix geometry --out DIR"


def check_readable(seen: Sequence[Seen], declared: bool) -> Iterator[Finding]:
    """Files that are damaged, absent, or of another dimension. What only looks like an image by its name, such as a
    displacement field, is a warning.
    """
    for one in seen:
        for v in one.volumes:
            if v.fault and not v.not_finite:
                guess = not declared and "is meant" in v.fault
                yield Finding(
                    "readable",
                    "warning" if guess else "error",
                    v.fault,
                    one.case.id,
                    v.place,
                    v.detail,
                    "no matter if it is no image to train on" if guess else v.remedy,
                )
            if v.warning:
                yield Finding(
                    "geometry",
                    "warning",
                    "sform and qform disagree; the sform is used",
                    one.case.id,
                    v.place,
                    v.warning,
                    "make both agree, or one code 0",
                )
        if not one.volumes:
            yield Finding("readable", "error", "a case has neither images nor labels", one.case.id)


def check_geometry(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Channels, labels and what goes with them that do not lie on the grid of the case's first channel."""
    for one in seen:
        reference = one.reference
        for v in one.volumes:
            if reference is None or reference.grid is None or v.grid is None or v is reference:
                continue
            if v.grid.same(reference.grid):
                continue
            apart = distance_mm(v.grid, reference.grid)
            yield Finding(
                "geometry",
                "error",
                f"a {v.role} does not share the grid of its {_called(reference)}",
                one.case.id,
                v.place,
                f"{_gap(apart)}: {v.name}'s {grid_difference(v.grid, reference.grid)}",
                FIX,
                {"distance_mm": apart, "tolerance_mm": SAME_GRID_MM},
            )


def _gap(apart: float) -> str:
    return f"{apart:.3g} mm" if apart > SAME_GRID_MM else "0 mm, the same field of view"


def _called(reference: VolumeFacts) -> str:
    return "image" if reference.role == "channel" else "case"


def distance_mm(found: Grid, expected: Grid) -> float:
    """How far apart two grids lie: the same voxel of both where shapes agree, else corners of the fields of view."""
    if found.shape == expected.shape:
        return found.distance(expected)
    one, two = _faces(found), _faces(expected)
    gaps = np.linalg.norm(one[:, None] - two[None], axis=2)
    return float(max(gaps.min(axis=0).max(), gaps.min(axis=1).max()))


def _faces(grid: Grid) -> NDArray[np.float64]:
    """World positions (8, 3) of the outer corners of the corner voxels."""
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
    return grid.world(picks * np.array(grid.shape) - 0.5)
