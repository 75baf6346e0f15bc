"""The volumes that a quality-control page shows: where they lie, what is cut, and what never goes along."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_eval.figures.mosaic import window
from mriad_eval.qc import volumes, write_page
from mriad_eval.qc.picture import resampled
from mriad_eval.qc.volumes import script_of
from qc_cases import GRID, Shown, delivered, full, mask, volume

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_volumes_lie_where_the_scan_is(tmp_path: Path) -> None:
    page = write_page(tmp_path / "qc", [Shown("a", full())], [])
    told = delivered(page)
    assert set(told["volumes"]) == {"scan", "reference", "prediction", "difference", "soft"}
    for role, expected in {"reference": mask(), "prediction": mask(1), "soft": 0.8 * mask(1)}.items():
        image = volume(told, role)
        back = resampled(np.asarray(image.get_fdata(), np.float32), Grid.of(image.shape, image.affine), GRID)
        np.testing.assert_allclose(back, expected[0], atol=1 / 255)
        assert (image.header["intent_code"] == 1002) == (role != "soft")
    scan = volume(told, "scan")
    np.testing.assert_allclose(scan.affine, GRID.matrix)
    assert (scan.get_data_dtype(), scan.shape) == (np.uint8, GRID.shape)
    codes = np.asarray(volume(told, "difference").dataobj)
    counts = [int((codes == code).sum()) for code in (1, 2, 3, 4)]
    assert counts == [3 * 5 * 5, 5 * 5, 5 * 5, 0]
    centre = GRID.voxels(told["centre"])
    assert (mask()[0] + mask(1)[0])[tuple(np.rint(centre).astype(int))] > 0


def test_the_centre_of_a_bent_structure_is_in_it() -> None:
    ring = np.zeros((1, *GRID.shape), np.float32)
    ring[0, 2:10, 2:12, 4] = 1
    ring[0, 4:8, 4:10, 4] = 0
    told = json.loads(script_of(1, full(reference=(ring, GRID), prediction=None))[len("QC.deliver(1, ") : -3])
    assert ring[0][tuple(np.rint(GRID.voxels(told["centre"])).astype(int))] == 1


def test_a_very_large_scan_is_cut_to_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut scan still lies where it lay, and holds everything near the structures."""
    fine = Grid.of((60, 56, 40), [[-0.4, 0, 0.02, 20], [0, 0.4, 0, -4], [0, 0, 0.9, -6], [0, 0, 0, 1]])
    scan = np.random.default_rng(0).random(fine.shape).astype(np.float32)
    monkeypatch.setattr(volumes, "LARGE", 1000)
    monkeypatch.setattr(volumes, "AROUND_MM", 2.0)
    told = json.loads(script_of(1, full(scan=Volume(scan, fine)))[len("QC.deliver(1, ") : -3])
    image = volume(told, "scan")
    cut = Grid.of(image.shape, image.affine)
    assert np.prod(cut.shape) < 0.5 * scan.size
    low, high = window(scan[tuple(_within(fine, cut))])
    back = np.asarray(image.dataobj) / 255 * (high - low) + low
    there = fine.voxels(cut.world(np.array([0, 0, 0])))
    np.testing.assert_allclose(there, np.rint(there), atol=1e-6)  # whole voxels, nothing resampled
    original = scan[tuple(_within(fine, cut))]
    np.testing.assert_allclose(back, original.clip(low, high), atol=0.01)
    corners = GRID.world(np.argwhere(mask()[0] + mask(1)[0]))
    inside = cut.voxels(corners)
    assert (inside >= 0).all()
    assert (inside <= np.array(cut.shape) - 1).all()


def _within(grid: Grid, part: Grid) -> list[slice]:
    start = np.rint(grid.voxels(part.world(np.zeros(3)))).astype(int)
    return [slice(a, a + n) for a, n in zip(start, part.shape, strict=True)]


def test_other_grids_meet_in_world_space(tmp_path: Path) -> None:
    """The same world box drawn on a scan of another spacing, orientation and origin."""
    fine = Grid.of((30, 30, 30), [[-0.5, 0, 0, 12], [0, 0.5, 0, -1], [0, 0, 1, -3], [0, 0, 0, 1]])
    world = fine.world(np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1))
    inside = ((world >= [2.5, 3.5, 3]) & (world <= [6.5, 8.5, 13])).all(axis=-1)
    picture = full(
        prediction=(inside[None].astype(np.float32), fine), scan=Volume(inside.astype(np.float32), fine)
    )
    assert picture.prediction.shape == (1, *GRID.shape)
    assert ((picture.prediction > 0.5) == (mask() > 0.5)).mean() > 0.97
    on_grid = picture.scan_on_grid()
    assert on_grid.shape == GRID.shape
    assert np.corrcoef(on_grid.ravel(), mask().ravel())[0, 1] > 0.9
    page = write_page(tmp_path / "qc", [Shown("a", picture)], [])
    np.testing.assert_allclose(volume(delivered(page), "scan").affine, fine.matrix)
