"""One scan of one person's brain: where the grid lies, the images, the labels and the true volumes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.geometry import Grid
from mriad.vocabulary import Volume

from mriad_data.phantom.brain.acquisition import (
    distort,
    move,
    off_resonance,
    texture_field,
    trajectory,
)
from mriad_data.phantom.brain.anatomy import draw_brain
from mriad_data.phantom.brain.mixture import mix
from mriad_data.phantom.brain.parameters import CONTRASTS
from mriad_data.phantom.brain.regions import BRAIN, INDEX, REGIONS
from mriad_data.phantom.brain.volumes import true_volumes
from mriad_data.phantom.imaging import WHITE, magnitude, point_spread, receive_field
from mriad_data.phantom.session import BASELINE, Session, rigid_pose
from mriad_data.phantom.signals import signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad_data.phantom.brain.anatomy import Brain
    from mriad_data.phantom.brain.mixture import Mixture
    from mriad_data.phantom.brain.parameters import BrainParameters, BrainTissues

LabelName = Literal["hard", "truth"]
F = np.float32
# purposes of draws; part of the seed
PLACE, POSE, GAIN, FIELD, NOISE, TISSUE, TEXTURE, MOTION, DISTORTION = 2, 3, 4, 5, 6, 8, 9, 10, 11
ORDER = {str(name): i for i, name in enumerate(CONTRASTS)}
PHASE_AXIS = 1
"""Anterior-posterior: of phase encoding and of distortion."""
VALUES = np.array([region.value for region in REGIONS], np.int16)


@dataclass(frozen=True)
class BrainScan:
    """Person n (from 1) in one session. Making one is cheap; voxels come with `image` and `label`."""

    parameters: BrainParameters
    person: int
    session: Session = BASELINE

    @property
    def brain(self) -> Brain:
        """The person's anatomy, the same in every session."""
        return draw_brain(self.parameters.seed, self.person)

    def pose(self) -> NDArray[np.float64]:
        """Person → world, a rigid (4, 4) matrix in mm: identity at baseline, drawn in other sessions."""
        if not self.session.number:
            return np.eye(4)
        return rigid_pose(self._rng(POSE), self._centre(), self.parameters.pose_deg, self.parameters.pose_mm)

    def grid(self, contrast: str = "") -> Grid:
        """The world grid of a contrast (or of label maps): axes to R, A, S, one centre for all of a person."""
        spacing = np.array(self.parameters.spacing(contrast))
        shape = np.maximum(np.round(np.array(self.parameters.field_mm) / spacing).astype(int), 1)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = self._centre() - spacing * (shape - 1) / 2
        return Grid.of([int(n) for n in shape], affine)

    def image(self, contrast: str) -> Volume:
        """The image, float32 (X, Y, Z) in scanner units (cortex near 400 times the session's gain)."""
        p, sequence = self.parameters, self.parameters.sequences.of(contrast)
        grid, mine = self.grid(contrast), self._own_grid(contrast)
        mixture = self.mixture(contrast)
        tissues = self.tissues()
        names = tuple(type(tissues).model_fields)
        signal = signals(tissues, sequence, names, unit="cortex")
        values = np.array([signal[region.tissue] for region in REGIONS], F)
        data = mixture.mean(values)
        if p.texture > 0:
            rough = np.array([getattr(tissues, region.tissue).texture for region in REGIONS], F)
            pattern = mixture.mean(values * rough)
            first, second = _textures(p.seed, self.person, mine)
            a, b = sequence.texture_mix
            pattern *= F(p.texture) * (F(a) * first + F(b) * second)
            data += pattern
            np.maximum(data, 0, out=data)
        if p.distortion > 0 and sequence.distortion_mm > 0:
            size = p.distortion * sequence.distortion_mm / grid.spacing[PHASE_AXIS]
            sign = self._rng(DISTORTION, contrast).choice((-1.0, 1.0))
            data = distort(data, off_resonance(mine) * F(size * sign), PHASE_AXIS)
        if p.motion_mm > 0:
            path = trajectory(data.shape[PHASE_AXIS], p.motion_mm, self._rng(MOTION, contrast))
            data = move(data, path, grid.spacing, PHASE_AXIS)
        data = point_spread(data, [p.point_spread * s for s in sequence.point_spread])
        gain = float(self._rng(GAIN, contrast).uniform(0.8, 1.25)) * WHITE
        data *= F(gain)
        if p.bias_field > 0:
            data *= receive_field(data.shape, p.bias_field, self._rng(FIELD, contrast), to_anterior=0.0)
        return Volume(magnitude(data, gain * p.noise / sequence.snr, self._rng(NOISE, contrast)), grid)

    def label(self, contrast: str, name: LabelName) -> Volume:
        """A reference on the contrast's grid; it knows no distortion and no motion.

        hard: int16 (X, Y, Z), the FreeSurfer number of each voxel's largest share (of equal ones the region that
        comes first in `REGIONS`). truth: float32 (S, X, Y, Z), the share of each structure in label-set order.
        """
        mixture = self.mixture(contrast)
        if name == "hard":
            return Volume(VALUES[mixture.whole], self.grid(contrast))
        parts = np.stack([mixture.fraction(INDEX[region.name]) for region in BRAIN])
        return Volume(parts, self.grid(contrast))

    def mixture(self, contrast: str) -> Mixture:
        """Shares of the contrast's voxels; remembered, as contrasts on one grid share it."""
        return _remembered(self.parameters.seed, self.person, self.parameters.head, self._own_grid(contrast))

    def tissues(self) -> BrainTissues:
        """The person's tissues: T1, T2 and T2* of each differ a little from the mean, log-normally."""
        mean, sd = self.parameters.tissues, self.parameters.tissue_sd
        rng = np.random.default_rng([self.parameters.seed, self.person, TISSUE])
        own = {}
        for name in type(mean).model_fields:
            tissue = getattr(mean, name)
            factor = np.exp(sd * np.clip(rng.standard_normal(3), -2, 2))
            times = zip(("t1_s", "t2_s", "t2star_s"), factor, strict=True)
            own[name] = tissue.model_copy(update={t: getattr(tissue, t) * float(f) for t, f in times})
        return mean.model_copy(update=own)

    def numbers(self, contrast: str) -> dict[str, float]:
        """References known without voxels: `volume_mm3/left_thalamus` and so on.

        Of every structure that lies wholly in the field of view; see `mriad_data.phantom.brain.volumes`.
        """
        pose, grid = self.pose(), self.grid(contrast)
        last = np.array(grid.shape) - 0.5
        out = {}
        for name, known in true_volumes(self.parameters.seed, self.person).items():
            voxels = grid.voxels(known.extremes @ pose[:3, :3].T + pose[:3, 3])
            if (voxels >= -0.5).all() and (voxels <= last).all():
                out[f"volume_mm3/{name}"] = known.volume_mm3
        return out

    def _centre(self) -> NDArray[np.float64]:
        """World mm of the centre of the field of view; placed by hand at the scanner, so not quite the same."""
        p = self.parameters
        middle = np.array([0.0, -8.0, -22.0] if p.head else [0.0, -18.0, 6.0])
        jitter = np.clip(np.random.default_rng([p.seed, self.person, PLACE]).standard_normal(3), -2, 2)
        out: NDArray[np.float64] = middle * np.array(self.brain.scale) + jitter
        return out

    def _own_grid(self, contrast: str) -> Grid:
        """The contrast's grid seen from the person's frame: oblique when the pose is."""
        grid = self.grid(contrast)
        if not self.session.number:
            return grid
        return Grid.of(grid.shape, np.linalg.inv(self.pose()) @ grid.matrix)

    def _rng(self, purpose: int, contrast: str | None = None) -> np.random.Generator:
        """A generator of its own for every purpose, session and contrast of a person."""
        which = ORDER.get(contrast or "", len(CONTRASTS))
        return np.random.default_rng([self.parameters.seed, self.person, purpose, self.session.number, which])


@lru_cache(maxsize=2)
def _remembered(seed: int, person: int, head: bool, grid: Grid) -> Mixture:
    return mix(grid, draw_brain(seed, person), head)


@lru_cache(maxsize=2)
def _textures(seed: int, person: int, grid: Grid) -> tuple[Any, Any]:
    first, second = (np.random.default_rng([seed, person, TEXTURE, n]) for n in range(2))
    return texture_field(grid, first), texture_field(grid, second)
