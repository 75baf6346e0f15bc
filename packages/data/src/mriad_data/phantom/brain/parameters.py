"""Everything that decides the voxels of the brain phantom: frozen, validated, hashed.

Tissue values are for 3 T. Sources, by key:

- white, cortex: Wansapura et al., J Magn Reson Imaging 1999, "NMR relaxation times in the human brain at 3.0 tesla"
  (T1 832 and 1331 ms, T2 80 and 110 ms, T2* near 45 and 50 ms).
- csf: as in the spine phantom (T1 Lin et al., J Magn Reson Imaging 2001; T2 Spijkerman et al., MAGMA 2018).
- thalamus, caudate, putamen, pallidum: T1 between white and cortex in the order of Gelman et al., Magn Reson Med 2001
  ("Interregional variation of longitudinal relaxation rates in human brain at 3.0 T": relaxation is faster where
  there is more iron and myelin: pallidum, thalamus, putamen, caudate, cortex); T2 and T2* shorter with iron. The
  figures themselves are set by hand, as are those of the brain stem, the cerebellum and the hippocampus, and all
  proton densities (white .69, grey .82: ratios as in Tofts, Quantitative MRI of the Brain, 2003).
- muscle, fat, marrow, bone: those of the spine phantom. The eye is set like free water.

They are quoted as commonly cited and were not read at the source for this file: check them before a claim rests on
one. Texture, noise, point spread, motion and distortion are set by eye.

Sequences: T1w near the ADNI protocol's MPRAGE; T2w, PD and FLAIR common turbo spin echoes (FLAIR's inversion time
nulls CSF with the T1 above); DBS after FGATIR, the white-matter-nulled sequence for planning deep brain stimulation
(Sudhyadhom et al., NeuroImage 2009), with the inversion time that nearly nulls white matter under this equation.
"""

from __future__ import annotations

from typing import Literal

from mriad.component import Config
from mriad.identity import fingerprint
from pydantic import Field, model_validator

from mriad_data.phantom.tissue import Timing, Tissue

VERSION = 1
"""Raised when voxels change for equal parameters; part of every fingerprint."""

Contrast = Literal["T1w", "T2w", "PD", "FLAIR", "DBS"]
CONTRASTS: tuple[Contrast, ...] = ("T1w", "T2w", "PD", "FLAIR", "DBS")
LEAST_MM = 48.0
Triple = tuple[float, float, float]


class BrainTissue(Tissue):
    """A tissue with the texture that it shows."""

    texture: float = Field(0.02, ge=0, le=0.5, description="Standard deviation of its signal; relative.")


class BrainTissues(Config):
    """The tissues of the phantom."""

    white: BrainTissue = BrainTissue(
        proton_density=0.69, t1_s=0.832, t2_s=0.080, t2star_s=0.045, texture=0.02
    )
    cortex: BrainTissue = BrainTissue(
        proton_density=0.82, t1_s=1.331, t2_s=0.110, t2star_s=0.050, texture=0.035
    )
    csf: BrainTissue = BrainTissue(proton_density=1.0, t1_s=4.16, t2_s=2.0, t2star_s=0.25, texture=0.01)
    cerebellar_white: BrainTissue = BrainTissue(
        proton_density=0.70, t1_s=0.86, t2_s=0.082, t2star_s=0.046, texture=0.025
    )
    cerebellar_cortex: BrainTissue = BrainTissue(
        proton_density=0.82, t1_s=1.30, t2_s=0.102, t2star_s=0.050, texture=0.04
    )
    thalamus: BrainTissue = BrainTissue(
        proton_density=0.76, t1_s=1.05, t2_s=0.085, t2star_s=0.045, texture=0.04
    )
    caudate: BrainTissue = BrainTissue(
        proton_density=0.81, t1_s=1.25, t2_s=0.092, t2star_s=0.045, texture=0.03
    )
    putamen: BrainTissue = BrainTissue(
        proton_density=0.80, t1_s=1.15, t2_s=0.080, t2star_s=0.036, texture=0.03
    )
    pallidum: BrainTissue = BrainTissue(
        proton_density=0.74, t1_s=0.95, t2_s=0.062, t2star_s=0.024, texture=0.03
    )
    hippocampus: BrainTissue = BrainTissue(
        proton_density=0.83, t1_s=1.34, t2_s=0.112, t2star_s=0.050, texture=0.035
    )
    ventral: BrainTissue = BrainTissue(
        proton_density=0.74, t1_s=0.95, t2_s=0.073, t2star_s=0.034, texture=0.045
    )
    stem: BrainTissue = BrainTissue(proton_density=0.73, t1_s=0.93, t2_s=0.080, t2star_s=0.042, texture=0.04)
    eye: BrainTissue = BrainTissue(proton_density=1.0, t1_s=4.0, t2_s=1.0, t2star_s=0.3, texture=0.01)
    muscle: BrainTissue = BrainTissue(
        proton_density=0.75, t1_s=1.412, t2_s=0.050, t2star_s=0.028, texture=0.12
    )
    fat: BrainTissue = BrainTissue(
        proton_density=0.90, t1_s=0.371, t2_s=0.133, t2star_s=0.025, fat=True, texture=0.10
    )
    marrow: BrainTissue = BrainTissue(
        proton_density=0.60, t1_s=0.586, t2_s=0.049, t2star_s=0.012, texture=0.12
    )
    bone: BrainTissue = BrainTissue(proton_density=0.10, t1_s=0.30, t2_s=0.001, t2star_s=0.001, texture=0.0)
    air: BrainTissue = BrainTissue(proton_density=0.0, t1_s=1.0, t2_s=1.0, t2star_s=1.0, texture=0.0)


class BrainSequence(Timing):
    """One contrast: its equation, timing, resolution and image quality."""

    spacing_mm: Triple = Field((1.0, 1.0, 1.0), description="Voxel size R-L, A-P, I-S in mm.")
    snr: float = Field(gt=0, description="Signal of cortex over the noise's standard deviation; 1.")
    point_spread: Triple = Field(
        (0.42, 0.42, 0.42), description="Standard deviation of the point spread beyond the voxel, in voxels."
    )
    distortion_mm: float = Field(
        0.0, ge=0, le=3, description="Largest displacement along A-P by field inhomogeneity, in mm."
    )
    texture_mix: tuple[float, float] = Field(
        (1.0, 0.0), description="How a person's two texture fields show; the sum of squares is 1."
    )


class BrainSequences(Config):
    """The five contrasts."""

    t1w: BrainSequence = BrainSequence(
        equation="mprage", tr_s=2.3, te_s=(0.003,), ti_s=0.9, flip_deg=9, snr=18, distortion_mm=0.4
    )
    t2w: BrainSequence = BrainSequence(
        equation="spin_echo", tr_s=3.2, te_s=(0.100,), snr=20, distortion_mm=0.4, texture_mix=(-0.6, 0.8)
    )
    pd: BrainSequence = BrainSequence(
        equation="spin_echo", tr_s=2.6, te_s=(0.012,), snr=24, distortion_mm=0.4, texture_mix=(-0.28, 0.96)
    )
    flair: BrainSequence = BrainSequence(
        equation="inversion_spin_echo",
        tr_s=9.0,
        te_s=(0.090,),
        ti_s=2.43,
        snr=22,
        point_spread=(0.5, 0.5, 0.5),
        distortion_mm=0.5,
        texture_mix=(-0.8, 0.6),
    )
    dbs: BrainSequence = BrainSequence(
        equation="mprage",
        tr_s=3.0,
        te_s=(0.0044,),
        ti_s=0.50,
        flip_deg=8,
        snr=14,
        distortion_mm=0.8,
        texture_mix=(-0.96, 0.28),
    )

    def of(self, contrast: str) -> BrainSequence:
        """The sequence of a contrast such as "FLAIR"."""
        found: BrainSequence = getattr(self, contrast.lower())
        return found


class BrainParameters(Config):
    """Decides every voxel of person n of the brain phantom, whatever the number of persons; frozen and hashed."""

    seed: int = Field(0, ge=0, description="Of all draws; a person is drawn from (seed, person).")
    head: bool = Field(False, description="Skull, eyes, airways, muscle, skin and neck around the brain.")
    size_mm: Triple | None = Field(
        None,
        description="Field of view R-L, A-P, I-S in mm; default: 160, 192, 160, or 192, 240, 240 with a head.",
    )
    spacing_mm: Triple | None = Field(None, description="Voxel size in mm for every contrast.")
    noise: float = Field(1.0, ge=0, description="Factor on the noise of every contrast; 0 switches it off.")
    bias_field: float = Field(
        1.0, ge=0, description="Factor on the exponent of the bias field; 0 switches it off."
    )
    point_spread: float = Field(1.0, ge=0, description="Factor on the width of the point spread.")
    texture: float = Field(1.0, ge=0, description="Factor on the texture within tissues.")
    tissue_sd: float = Field(
        0.03, ge=0, le=0.2, description="Relative standard deviation over persons of each relaxation time."
    )
    motion_mm: float = Field(
        0.3, ge=0, le=10, description="Usual motion during a scan in mm; each scan draws its own around it."
    )
    distortion: float = Field(1.0, ge=0, le=4, description="Factor on the geometric distortion.")
    pose_deg: float = Field(
        3.0, ge=0, le=15, description="Standard deviation of a rescan's rotations in degrees."
    )
    pose_mm: float = Field(2.0, ge=0, le=20, description="Standard deviation of a rescan's shifts in mm.")
    tissues: BrainTissues = BrainTissues()
    sequences: BrainSequences = BrainSequences()

    @model_validator(mode="after")
    def _sizes(self) -> BrainParameters:
        for size, axis in zip(self.field_mm, ("R-L", "A-P", "I-S"), strict=True):
            if not LEAST_MM <= size <= 400:
                raise ValueError(f"size_mm {axis} is {size:g}; the phantom needs {LEAST_MM:g} to 400 mm")
        if self.spacing_mm is not None and not all(
            0.3 <= s <= z / 8 for s, z in zip(self.spacing_mm, self.field_mm, strict=True)
        ):
            raise ValueError("spacing_mm must lie between 0.3 mm and an eighth of size_mm on every axis")
        return self

    @property
    def fingerprint(self) -> str:
        """Identity of these parameters and of the program's version."""
        return fingerprint({"phantom.brain": VERSION, "parameters": self})

    @property
    def field_mm(self) -> Triple:
        """The field of view in mm."""
        return self.size_mm or ((192.0, 240.0, 240.0) if self.head else (160.0, 192.0, 160.0))

    def spacing(self, contrast: str) -> Triple:
        """Voxel size of a contrast in mm; "" stands for label maps without an image."""
        return self.spacing_mm or (self.sequences.of(contrast).spacing_mm if contrast else (1.0, 1.0, 1.0))
