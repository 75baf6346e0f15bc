"""One scan of one person: where the grid lies, the images, the labels and the reference numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.geometry import Grid
from mriad.vocabulary import Volume

from mriad_data.phantom.anatomy import draw_anatomy
from mriad_data.phantom.bias import shifts
from mriad_data.phantom.coverage import Coverage, tube_coverage
from mriad_data.phantom.imaging import WHITE, magnitude, point_spread, receive_field
from mriad_data.phantom.neck import Cord, paint
from mriad_data.phantom.parameters import CONTRASTS
from mriad_data.phantom.session import BASELINE, Session, rigid_pose, sessions
from mriad_data.phantom.signals import signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad_data.phantom.anatomy import Anatomy, Tables
    from mriad_data.phantom.parameters import SpineParameters

__all__ = ["BASELINE", "Scan", "Session", "sessions"]
LabelName = Literal["hard", "soft", "truth", "discs", "levels"]
PLACE, POSE, GAIN, FIELD, NOISE = 2, 3, 4, 5, 6  # purposes of draws; part of the seed
ORDER = {str(name): i for i, name in enumerate(CONTRASTS)}
ABOVE_MM = 60.0  # at most this much of the field of view lies above the disc C2-C3
REACH_MM = 60.0  # tables of profiles go on this far beyond the field of view
LEVEL_RADIUS_MM = 15.0  # the map of levels reaches this far from the centre line: beyond the sac


@dataclass(frozen=True)
class Scan:
    """Person n (from 1) in one session. Making one is cheap; voxels come with `image` and `label`."""

    parameters: SpineParameters
    person: int
    session: Session = BASELINE

    @property
    def anatomy(self) -> Anatomy:
        """The person's anatomy, with the session's atrophy: every cord section times (1 − percent/100)."""
        factor = 1 - self.session.atrophy_percent / 100
        return draw_anatomy(self.parameters.seed, self.person, factor)

    def pose(self) -> NDArray[np.float64]:
        """Anatomy → world, a rigid (4, 4) matrix in mm: identity at baseline, drawn in other sessions."""
        if not self.session.number:
            return np.eye(4)
        return rigid_pose(self._rng(POSE), self._centre(), self.parameters.pose_deg, self.parameters.pose_mm)

    def grid(self, contrast: str) -> Grid:
        """The world grid of a contrast: axes to R, A, S; all contrasts of a session share the field's centre."""
        spacing = np.array(self.parameters.spacing(contrast))
        shape = np.maximum(np.round(np.array(self.parameters.size_mm) / spacing).astype(int), 1)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = self._centre() - spacing * (shape - 1) / 2
        return Grid.of([int(n) for n in shape], affine)

    def image(self, contrast: str) -> Volume:
        """The image, float32 (X, Y, Z) in scanner units (white matter near 400 times the session's gain)."""
        p, sequence = self.parameters, self.parameters.sequences.of(contrast)
        grid, tables = self._anatomy_grid(contrast), self._tables()
        cord = Cord(self._tube("sac", contrast), self._cord(contrast), _image_column(contrast))
        clean = paint(
            grid,
            self.anatomy,
            tables,
            cord,
            signals(p.tissues, sequence),
            sequence.chemical_shift_mm if p.mode != "none" else 0.0,
            sequence.csf_flow if p.mode != "none" else 0.0,
        )
        data = point_spread(clean, [p.point_spread * s for s in sequence.point_spread])
        gain = float(self._rng(GAIN, contrast).uniform(0.8, 1.25)) * WHITE
        data *= np.float32(gain)
        if p.bias_field > 0:
            data *= receive_field(data.shape, p.bias_field, self._rng(FIELD, contrast))
        return Volume(
            magnitude(data, gain * p.noise / sequence.snr, self._rng(NOISE, contrast)), self.grid(contrast)
        )

    def label(self, contrast: str, name: LabelName) -> Volume:
        """A reference on the contrast's grid.

        truth: float32, the share of each voxel in the cord. hard: uint8, 1 where the share in the cord *as drawn on
        this contrast* is above ½ (a tie is background). soft: float32, the mean of that share over the masks of
        `soft_contrasts`, evaluated on this grid: the spinal cord paper's shared target (specs/softgt.md) without its
        registration error, as the contrasts of a session are aligned in world space and cover one field of view.
        discs: uint8, single voxels at the posterior tips with the disc's number (3 is C2-C3). levels: uint8, the
        vertebral level (C1 is 1, T1 is 8) of the nearest point of the centre line, within 15 mm of it; 0 elsewhere.
        """
        grid = self.grid(contrast)
        if name == "levels":
            return Volume(self._levels(contrast), grid)
        if name == "discs":
            return Volume(self._discs(grid), grid)
        cord = self._cord(contrast)
        if name == "truth":
            return Volume(cord.dense(TRUTH), grid)
        if name == "hard":
            drawn = cord.values[:, _label_column(contrast)]
            return Volume(cord.fill((drawn > 0.5).astype(np.uint8)), grid)
        columns = [_label_column(c) for c in self.parameters.soft_contrasts]
        return Volume(cord.fill(cord.values[:, columns].mean(1)), grid)

    def numbers(self, contrast: str) -> dict[str, float]:
        """References known without voxels.

        `area_mm2/C3`: mean area of the sections normal to the centre line over the level, weighted by arc length,
        for every level that lies wholly in the field of view, and `area_mm2/C2-C3` over both. `drawn_area_mm2/…`:
        the same of the cord as drawn on this contrast. `image_shift_mm`, `label_shift_mm`: this contrast's boundary
        shifts. `disc_mm/3/x` (y, z): world position of the posterior tip of disc 3 (C2-C3).
        """
        anatomy, shift = self.anatomy, shifts(self.parameters, self.person)[contrast]
        out = {"image_shift_mm": shift.image, "label_shift_mm": shift.label}
        whole = {n: (top, bottom) for n, top, bottom in _whole_levels(self, self.grid(contrast))}
        if "C2" in whole and "C3" in whole:
            whole["C2-C3"] = (whole["C2"][0], whole["C3"][1])
        for name, (top, bottom) in whole.items():
            out[f"area_mm2/{name}"] = _mean_area(anatomy, top, bottom, 0.0)
            out[f"drawn_area_mm2/{name}"] = _mean_area(anatomy, top, bottom, shift.label)
        for number, point in self.disc_points(contrast).items():
            out |= {f"disc_mm/{number}/{axis}": float(x) for axis, x in zip("xyz", point, strict=True)}
        return out

    def disc_points(self, contrast: str) -> dict[int, NDArray[np.float64]]:
        """World positions (3,) of the posterior disc tips inside a contrast's field of view, by number."""
        pose, grid = self.pose(), self.grid(contrast)
        points = {n: pose[:3, :3] @ p + pose[:3, 3] for n, p in self.anatomy.disc_points().items()}
        last = np.array(grid.shape) - 0.5
        return {n: p for n, p in points.items() if ((v := grid.voxels(p)) >= -0.5).all() and (v < last).all()}

    def _cord(self, contrast: str) -> Coverage:
        return self._tube("cord", contrast)

    def _tube(self, tube: str, contrast: str) -> Coverage:
        """Coverage of a contrast's grid; remembered, as images and labels on one grid share it."""
        shift = [0.0]
        if tube == "cord":
            by = shifts(self.parameters, self.person)
            shift += [by[c].image for c in CONTRASTS] + [by[c].label for c in CONTRASTS]
        seed, factor = self.parameters.seed, self.anatomy.area_factor
        grid = self._anatomy_grid(contrast)
        return _remembered(seed, self.person, factor, self._span(), grid, tube, tuple(shift))

    def _centre(self) -> NDArray[np.float64]:
        """World mm of the centre of the field of view; placed by hand at the scanner, so not quite the same."""
        size = np.array(self.parameters.size_mm)
        anatomy = draw_anatomy(self.parameters.seed, self.person)
        height = min(ABOVE_MM, size[2] / 2) - size[2] / 2
        position, _, _ = anatomy.line.derivatives(height)
        jitter = np.clip(
            np.random.default_rng([self.parameters.seed, self.person, PLACE]).standard_normal(3), -2, 2
        )
        jitter *= np.minimum(1.0, size / 150) * np.array([1.0, 1.5, 1.5])
        out: NDArray[np.float64] = position + np.array([0, 0.02 * size[1], 0]) + jitter
        return out

    def _anatomy_grid(self, contrast: str) -> Grid:
        """The contrast's grid seen from the anatomy's frame: oblique when the pose is."""
        grid = self.grid(contrast)
        if not self.session.number:
            return grid
        return Grid.of(grid.shape, np.linalg.inv(self.pose()) @ grid.matrix)

    def _span(self) -> tuple[float, float]:
        """Heights between which profiles are tabulated."""
        height, half = float(self._centre()[2]), self.parameters.size_mm[2] / 2 + REACH_MM
        return round(height) - half, round(height) + half

    def _tables(self) -> Tables:
        return self.anatomy.tables(*self._span())

    def _discs(self, grid: Grid) -> NDArray[np.uint8]:
        out = np.zeros(grid.shape, dtype=np.uint8)
        pose = self.pose()
        for number, point in self.anatomy.disc_points().items():
            i, j, k = np.round(grid.voxels(pose[:3, :3] @ point + pose[:3, 3])).astype(int)
            if 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1] and 0 <= k < grid.shape[2]:
                out[i, j, k] = number
        return out

    def _levels(self, contrast: str) -> NDArray[np.uint8]:
        grid, line, discs = self._anatomy_grid(contrast), self.anatomy.line, np.array(self.anatomy.discs)
        out = np.zeros(grid.shape, dtype=np.uint8)
        reach = 2 * LEVEL_RADIUS_MM  # in the slice; enough for slices tilted by the pose
        for k in range(grid.shape[2]):
            height = grid.world([grid.shape[0] / 2, grid.shape[1] / 2, k])[2]
            middle = grid.voxels(line.derivatives(height)[0])
            ranges = [
                np.arange(max(0, int(middle[i] - reach / h)), min(n, int(middle[i] + reach / h) + 1))
                for i, (n, h) in enumerate(zip(grid.shape[:2], grid.spacing[:2], strict=True))
            ]
            pixels = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 2)
            places = grid.world(np.insert(pixels, 2, k, axis=1))
            z = places[:, 2].copy()
            for _ in range(4):  # Newton's steps to where the offset is perpendicular to the line
                position, first, second = line.derivatives(z)
                offset = places - position
                slope = (offset * second).sum(-1) - (first**2).sum(-1)
                z = z - (offset * first).sum(-1) / slope
            position, _, _ = line.derivatives(z)
            level = np.searchsorted(-discs, -z, side="left")  # discs fall; level n lies below disc n
            level[(z <= discs[-1]) | (np.linalg.norm(places - position, axis=1) > LEVEL_RADIUS_MM)] = 0
            out[pixels[:, 0], pixels[:, 1], k] = level
        return out

    def _rng(self, purpose: int, contrast: str | None = None) -> np.random.Generator:
        """A generator of its own for every purpose, session and contrast of a person."""
        which = ORDER.get(contrast or "", len(CONTRASTS))
        return np.random.default_rng([self.parameters.seed, self.person, purpose, self.session.number, which])


TRUTH = 0
"""Column of the cord's coverage without shift; those of the images and of the labels follow."""


def _image_column(contrast: str) -> int:
    return 1 + ORDER[contrast]


def _label_column(contrast: str) -> int:
    return 1 + len(CONTRASTS) + ORDER[contrast]


@lru_cache(maxsize=16)
def _remembered(
    seed: int,
    person: int,
    factor: float,
    span: tuple[float, float],
    grid: Grid,
    tube: str,
    shift: tuple[float, ...],
) -> Coverage:
    return tube_coverage(grid, draw_anatomy(seed, person, factor).tables(*span), tube, shift)


@lru_cache(maxsize=256)
def _whole_levels(scan: Scan, grid: Grid) -> tuple[tuple[str, float, float], ...]:
    """Levels (name, upper end, lower end) of which every section of the cord lies in a grid's field of view."""
    anatomy, pose = scan.anatomy, scan.pose()
    levels = anatomy.levels()
    z = np.array([np.linspace(bottom, top, 17) for top, bottom in levels.values()])
    centre, _, _ = anatomy.line.derivatives(z)
    _, lateral, anterior = anatomy.line.frame(z)
    a, b = anatomy.cord(z)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None, None, None]
    rim = centre + a[..., None] * np.cos(turn) * lateral + b[..., None] * np.sin(turn) * anterior
    voxels = grid.voxels(rim @ pose[:3, :3].T + pose[:3, 3])
    inside = np.all((voxels >= -0.5) & (voxels <= np.array(grid.shape) - 0.5), axis=(0, 2, 3))
    return tuple((n, *ends) for (n, ends), keep in zip(levels.items(), inside.tolist(), strict=True) if keep)


@lru_cache(maxsize=4096)
def _mean_area(anatomy: Anatomy, top: float, bottom: float, shift_mm: float) -> float:
    return anatomy.mean_area(top, bottom, shift_mm)
