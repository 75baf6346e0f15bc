"""Partial volume of cord and sac against brute force that shares no code with the phantom's own."""

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad_data.phantom.anatomy import draw_anatomy
from mriad_data.phantom.coverage import tube_coverage
from mriad_data.phantom.neck import Cord, paint
from mriad_data.phantom.signals import NAMES
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

LOW, HIGH = -150.0, 100.0


def oblique(spacing, degrees, size, centre):
    """A grid of about `size` mm around a point, turned by Euler angles."""
    shape = np.round(np.array(size) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid.of([int(n) for n in shape], affine)


class Nearest:
    """Inside or not, by the nearest of densely sampled points of the centre line."""

    def __init__(self, anatomy, tube):
        z = np.arange(-75, 15, 0.01)  # the grids here lie around −30
        self.points, _, _ = anatomy.line.derivatives(z)
        _, self.lateral, self.anterior = anatomy.line.frame(z)
        self.a, self.b = anatomy.cord(z) if tube == "cord" else anatomy.sac(z)
        self.offset = 0.0 if tube == "cord" else anatomy.sac_offset
        self.tree = cKDTree(self.points)

    def __call__(self, points, shift=0.0):
        row = self.tree.query(points)[1]
        away = points - self.points[row]
        u = (away * self.lateral[row]).sum(-1) / (self.a[row] + shift)
        v = ((away * self.anterior[row]).sum(-1) - self.offset) / (self.b[row] + shift)
        return u**2 + v**2 <= 1


def supersampled(grid, voxels, inside, n=16, shift=0.0):
    at = (np.arange(n) + 0.5) / n - 0.5
    offsets = np.stack(np.meshgrid(at, at, at, indexing="ij"), -1).reshape(-1, 3)
    points = grid.world((voxels[:, None] + offsets).reshape(-1, 3))
    return inside(points, shift).reshape(len(voxels), -1).mean(1)


@pytest.mark.parametrize("tube", ["cord", "sac"])
@pytest.mark.parametrize(
    ("spacing", "degrees"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 0)),
        ((0.5, 0.5, 3.0), (12, 5, 3)),
        ((0.9, 0.9, 5.0), (0, 0, 0)),
        ((0.9, 0.9, 5.0), (15, -4, 8)),
        ((2.0, 2.0, 2.0), (0, 0, 0)),
    ],
)
def test_partial_volume_is_within_half_a_percent_of_16_cubed_supersampling(tube, spacing, degrees):
    anatomy = draw_anatomy(3, 2)
    grid = oblique(spacing, degrees, (40, 44, 60), anatomy.line.derivatives(-30.0)[0])
    shift = 0.0 if tube == "sac" else 0.13
    cover = tube_coverage(grid, anatomy.tables(LOW, HIGH), tube, [0.0, shift])
    values = cover.values[:, 1]
    edge = np.flatnonzero((values > 0) & (values < 1))
    pick = np.random.default_rng(0).permutation(edge)[:40]
    voxels = np.stack(np.unravel_index(cover.index[pick], grid.shape), -1)
    error = values[pick] - supersampled(grid, voxels, Nearest(anatomy, tube), shift=shift)
    # Voxels with a partial share only; the rest is exact. 16 steps alone resolve a face-on boundary to ±1/32.
    assert np.abs(error).mean() < 0.005
    assert abs(error.mean()) < 0.001
    assert np.abs(error).max() < 1 / 32 + 0.005


def test_voxels_that_are_not_listed_are_outside_and_ones_are_inside():
    anatomy = draw_anatomy(0, 1)
    grid = oblique((1.5, 1.5, 4.0), (8, 0, 0), (30, 34, 40), anatomy.line.derivatives(-30.0)[0])
    dense = tube_coverage(grid, anatomy.tables(LOW, HIGH), "cord", [0.0]).dense(0)
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    share = supersampled(grid, voxels, Nearest(anatomy, "cord"), n=3)
    assert (share[dense.ravel() == 0] < 0.3).all()
    assert share[dense.ravel() == 0].mean() < 1e-4
    assert (share[dense.ravel() == 1] > 0.7).all()


@pytest.mark.parametrize("tube", ["cord", "sac"])
def test_volume_is_the_integral_of_area_along_arc_length(tube):
    """Pappus: a section centred on the centre line sweeps area times arc length, however the line bends."""
    anatomy = draw_anatomy(1, 4)
    z = np.linspace(-90, 10, 20001)
    a, b = anatomy.cord(z) if tube == "cord" else anatomy.sac(z)
    tables = anatomy.tables(LOW, HIGH)
    grid = oblique((1.0, 1.0, 1.0), (0, 0, 0), (50, 80, 130), (0, anatomy.line.derivatives(-40)[0][1], -40))
    cover = tube_coverage(grid, tables, tube, [0.0])
    # Voxels whose foot lies between two heights: those at the two ends enter whole or not at all, evenly.
    height = tables.columns["z"][cover.row]
    volume = cover.values[(height > -90) & (height < 10), 0].sum() * grid.voxel_volume
    expected = np.trapezoid(np.pi * a * b * anatomy.line.speed(z), z)
    assert volume == pytest.approx(expected, rel=2e-3)


def test_area_of_the_normal_section_by_resampling_the_mask():
    anatomy = draw_anatomy(2, 5)
    centre = anatomy.line.derivatives(-40.0)[0]
    grid = oblique((0.4, 0.4, 0.4), (0, 0, 0), (24, 24, 30), centre)
    mask = tube_coverage(grid, anatomy.tables(LOW, HIGH), "cord", [0.0]).dense(0)
    for z in (-44.0, -40.0, -35.0):
        point, _, _ = anatomy.line.derivatives(z)
        _, lateral, anterior = anatomy.line.frame(z)
        at = np.arange(-11, 11, 0.1)
        plane = point + at[:, None, None] * lateral + at[None, :, None] * anterior
        values = map_coordinates(mask, np.moveaxis(grid.voxels(plane), -1, 0), order=1)
        assert values.sum() * 0.01 == pytest.approx(float(anatomy.area(z)), rel=3e-3)


def test_growing_the_boundary_grows_the_ellipse():
    anatomy = draw_anatomy(2, 5)
    assert float(anatomy.area(-20.0, 0.2)) == pytest.approx(
        np.pi * np.prod([float(r) + 0.2 for r in anatomy.cord(-20.0)])
    )
    grid = oblique((1.0, 1.0, 1.0), (0, 0, 0), (30, 40, 60), anatomy.line.derivatives(-30.0)[0])
    values = tube_coverage(grid, anatomy.tables(LOW, HIGH), "cord", [-0.3, 0.0, 0.3]).values
    assert (np.diff(values, axis=1) >= -1e-5).all()
    z = np.linspace(-60, 0, 2001)
    areas = [anatomy.area(z, s).mean() for s in (-0.3, 0.0, 0.3)]
    assert values.sum(0) / values[:, 1].sum() == pytest.approx(np.array(areas) / areas[1], rel=2e-3)


@pytest.fixture(scope="module", params=[(1.0, 1.0, 1.0), (0.9, 0.9, 5.0)])
def coarse_and_fine(request):
    """A painter of a tissue's shares, and one of the means of its shares on a grid four times finer."""
    anatomy = draw_anatomy(0, 3)
    tables = anatomy.tables(LOW, HIGH)
    coarse = oblique(request.param, (0, 0, 0), (40, 60, 20), anatomy.line.derivatives(-30.0)[0])
    n = 4
    affine = coarse.matrix
    affine[:3, :3] /= n
    affine[:3, 3] -= coarse.matrix[:3, :3] @ np.full(3, 0.5 - 0.5 / n)
    fine = Grid.of([n * s for s in coarse.shape], affine)

    def painter(grid):
        cord = Cord(tube_coverage(grid, tables, "sac", [0.0]), tube_coverage(grid, tables, "cord", [0.0]), 0)
        return lambda tissue: paint(grid, anatomy, tables, cord, {t: float(t == tissue) for t in NAMES})

    x, y, z = coarse.shape
    finer = painter(fine)
    return painter(coarse), lambda tissue: finer(tissue).reshape(x, n, y, n, z, n).mean((1, 3, 5))


@pytest.mark.parametrize("tissue", NAMES)
def test_shares_of_every_tissue_agree_with_a_finer_grid(tissue, coarse_and_fine):
    """Consistency over resolution (the painter against itself); cord and sac have an independent check above."""
    found, means = (paint_one(tissue) for paint_one in coarse_and_fine)
    assert found.min() > -1e-5
    assert found.max() < 1 + 1e-5
    exact = tissue in ("white", "grey", "csf")
    assert np.abs(found - means).mean() < (3e-4 if exact else 0.005)
    assert found.sum() == pytest.approx(means.sum(), rel=5e-3 if exact else 0.03, abs=0.1)


def test_shares_of_all_tissues_add_to_one():
    anatomy = draw_anatomy(0, 3)
    tables = anatomy.tables(LOW, HIGH)
    grid = oblique((1.6, 1.6, 4.0), (5, 0, 3), (60, 150, 100), anatomy.line.derivatives(-30.0)[0])
    cord = Cord(tube_coverage(grid, tables, "sac", [0.0]), tube_coverage(grid, tables, "cord", [0.0]), 0)
    total = paint(grid, anatomy, tables, cord, dict.fromkeys(NAMES, 1.0))
    inside = paint(grid, anatomy, tables, cord, {n: float(n != "air") for n in NAMES})
    air = paint(grid, anatomy, tables, cord, {n: float(n == "air") for n in NAMES})
    assert np.abs(inside + air - total).max() < 1e-4
    assert np.abs(total - 1).mean() < 5e-4
    assert np.abs(total - 1).max() < 0.2  # where canal, sac and bone meet within a voxel
