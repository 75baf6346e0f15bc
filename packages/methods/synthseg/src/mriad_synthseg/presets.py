"""What `synthseg.generate` draws from: one value set a preset, from Table 1 of the paper and the public code.

The three sources disagree; docs/reference/synthseg.md lists where, and what was taken here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Range = tuple[float, float]
Preset = Literal["paper", "code2020", "head"]


@dataclass(frozen=True)
class Settings:
    """Everything that a sample's parameters are drawn from. Voxels are those of the network's grid."""

    rotation_deg: float
    """Each of three angles ~ U(−r, r), degrees."""
    scaling: float
    """Each axis ~ U(1 − s, 1 + s)."""
    shear: float
    """Each of six off-diagonal entries ~ U(−s, s)."""
    translation_voxels: float
    """Each axis ~ U(−t, t), voxels."""
    velocity_std: Range
    """σ of the stationary velocity ~ U, in full-resolution voxels."""
    velocity_nodes: int
    """Nodes of the coarse velocity grid along each axis."""
    velocity_doubled: bool
    """Whether vectors are doubled when the field goes from half to full resolution, as geometry asks."""
    flip_probability: float
    mean: Range
    """μ of each class and channel ~ U."""
    std: Range
    """σ of each class and channel ~ U."""
    background_zero_probability: float
    """The background class is 0 everywhere."""
    background_low_probability: float
    """The background class is dark: μ ~ U(0, 15), σ ~ U(0, 5)."""
    strip_probability: float
    """Labels outside the brain become background."""
    blur_voxels: float
    blur_factor: float
    """f: σ of the blur is `blur_voxels` times f^u, u ~ U(−1, 1)."""
    bias_std: Range
    """σ of the log-field's nodes ~ U."""
    bias_nodes: int
    bias_probability: float
    clip: float
    """Intensities are cut to [0, clip] before the range becomes [0, 1]."""
    gamma: float
    gamma_draw: Literal["uniform", "normal"]
    """The exponent is exp(γ), γ ~ U(−g, g) or N(0, g²)."""
    resolution_probability: float
    """A coarser acquisition is simulated."""
    resolution_isotropic_probability: float
    resolution_isotropic_mm: float
    resolution_anisotropic_mm: float


_PAPER = Settings(
    rotation_deg=10,
    scaling=0.1,
    shear=0.01,
    translation_voxels=20,
    velocity_std=(0, 3),
    velocity_nodes=10,
    velocity_doubled=True,
    flip_probability=0,
    mean=(25, 225),
    std=(5, 25),
    background_zero_probability=0,
    background_low_probability=0,
    strip_probability=0.2,
    blur_voxels=0.3,
    blur_factor=1,
    bias_std=(0, 0.5),
    bias_nodes=4,
    bias_probability=1,
    clip=300,
    gamma=0.3,
    gamma_draw="uniform",
    resolution_probability=0,
    resolution_isotropic_probability=0.1,
    resolution_isotropic_mm=4,
    resolution_anisotropic_mm=8,
)
_CODE2020 = replace(
    _PAPER,
    rotation_deg=15,
    scaling=0.15,
    translation_voxels=0,
    background_zero_probability=0.2,
    blur_factor=1.15,
    bias_std=(0, 0.3),
    gamma=0.5,
    gamma_draw="normal",
)
_HEAD = replace(
    _CODE2020,
    scaling=0.2,
    shear=0.012,
    velocity_std=(0, 4),
    velocity_nodes=7,
    flip_probability=0.5,
    mean=(0, 250),
    std=(0, 30),
    background_zero_probability=0.05,
    background_low_probability=0.25,
    strip_probability=0,
    blur_voxels=0.5,
    blur_factor=1.03,
    bias_std=(0, 0.7),
    bias_probability=0.95,
    resolution_probability=1,
)
PRESETS: dict[Preset, Settings] = {"paper": _PAPER, "code2020": _CODE2020, "head": _HEAD}
"""Each names what it changes of the one before."""
