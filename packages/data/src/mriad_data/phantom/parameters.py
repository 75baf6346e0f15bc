"""Everything that decides the voxels of the spine phantom: frozen, validated, hashed.

Tissue values are for 3 T. Sources, by key:

- cord: Smith et al., Magn Reson Med 2008, "Measurement of T1 and T2 in the cervical spinal cord at 3 tesla" (white
  876/73 ms, grey 973/76 ms). T2*: near the brain values of Wansapura et al., J Magn Reson Imaging 1999.
  Diffusion of white matter from FA .69 and MD .93e-3 mm²/s (Bosma and Stroman, Radiol Res Pract 2012); that of
  grey matter is set near it, as published values hold CSF.
- csf: T1 Lin et al., J Magn Reson Imaging 2001 (4.16 s); T2 Spijkerman et al., MAGMA 2018 (2.0 s); D free water.
- muscle: Stanisz et al., Magn Reson Med 2005 (1412/50 ms). fat: Gold et al., AJR 2004 (371/133 ms).
- marrow: de Bazelaire et al., Radiology 2004 (586/49 ms). Proton density, T2* outside the cord, MT saturation and
  the disc are set within the usual range; no claim rests on them.

Of these, the cord's T1 and T2 and the FA and MD of its white matter were checked against the abstracts; the
others are quoted as commonly cited and should be checked against the papers before a claim is made to rest on them.

Sequence timings are near those in the sidecars of two participants of the spine-generic data set (sub-amu01,
sub-unf01; Cohen-Adad et al., Nature Protocols 2021): TR, TI, flip angles, b and echo times. Set here: the single
echoes of T2star (the sidecar gives their mean, 14 ms) and the TR of DWI (from its slice timing, as it is triggered).
Resolutions are those of section 2.1 of the spinal cord paper. SNR, point spread and CSF flow are set by eye.
"""

from __future__ import annotations

from typing import Literal

from mriad.component import Config
from mriad.identity import fingerprint
from pydantic import Field, model_validator

from mriad_data.phantom.tissue import Timing, Tissue

VERSION = 1
"""Raised when voxels change for equal parameters; part of every fingerprint."""

Contrast = Literal["T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI"]
CONTRASTS: tuple[Contrast, ...] = ("T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI")
BiasMode = Literal[
    "published", "none", "image_only", "labels_zero_mean", "labels_same_sign", "random_per_person"
]


class Tissues(Config):
    """The tissues of the phantom."""

    white: Tissue = Tissue(
        proton_density=0.71,
        t1_s=0.876,
        t2_s=0.073,
        t2star_s=0.040,
        mt_saturation=0.050,
        diffusion_along=1.83e-3,
        diffusion_across=0.48e-3,
    )
    grey: Tissue = Tissue(
        proton_density=0.78,
        t1_s=0.973,
        t2_s=0.076,
        t2star_s=0.046,
        mt_saturation=0.040,
        diffusion_along=1.42e-3,
        diffusion_across=0.72e-3,
    )
    csf: Tissue = Tissue(
        proton_density=1.0,
        t1_s=4.16,
        t2_s=2.0,
        t2star_s=0.25,
        mt_saturation=0.001,
        diffusion_along=3.0e-3,
        diffusion_across=3.0e-3,
    )
    disc: Tissue = Tissue(
        proton_density=0.80,
        t1_s=1.20,
        t2_s=0.085,
        t2star_s=0.030,
        mt_saturation=0.030,
        diffusion_along=1.6e-3,
        diffusion_across=1.6e-3,
    )
    marrow: Tissue = Tissue(
        proton_density=0.60,
        t1_s=0.586,
        t2_s=0.049,
        t2star_s=0.012,
        mt_saturation=0.010,
        diffusion_along=0.4e-3,
        diffusion_across=0.4e-3,
    )
    cortical: Tissue = Tissue(proton_density=0.10, t1_s=0.30, t2_s=0.001, t2star_s=0.001)
    muscle: Tissue = Tissue(
        proton_density=0.75,
        t1_s=1.412,
        t2_s=0.050,
        t2star_s=0.028,
        mt_saturation=0.045,
        diffusion_along=1.5e-3,
        diffusion_across=1.5e-3,
    )
    fat: Tissue = Tissue(proton_density=0.90, t1_s=0.371, t2_s=0.133, t2star_s=0.025, fat=True)
    air: Tissue = Tissue(proton_density=0.0, t1_s=1.0, t2_s=1.0, t2star_s=1.0)


class Sequence(Timing):
    """One contrast: its equation, timing, resolution, image quality, and where its cord boundary seems to lie.

    The two shifts are those of the default mode; `mriad_data.phantom.bias` says where they come from.
    """

    spacing_mm: tuple[float, float, float] = Field(description="Voxel size R-L, A-P, I-S in mm.")
    snr: float = Field(gt=0, description="Signal of white matter over the noise's standard deviation; 1.")
    point_spread: tuple[float, float, float] = Field(
        (0.42, 0.42, 0.42), description="Standard deviation of the point spread beyond the voxel, in voxels."
    )
    chemical_shift_mm: float = Field(0.0, description="Displacement of fat towards anterior, in mm.")
    csf_flow: float = Field(0.0, ge=0, lt=1, description="Largest loss of CSF signal by pulsatile flow; 1.")
    image_shift_mm: float = Field(0.0, description="Apparent minus true cord boundary in the image, in mm.")
    rater_shift_mm: float = Field(0.0, description="Mean drawn minus apparent boundary, in mm.")


class Sequences(Config):
    """The six contrasts of the spinal cord paper."""

    t1w: Sequence = Sequence(
        equation="mprage",
        tr_s=2.0,
        te_s=(0.00372,),
        ti_s=1.0,
        flip_deg=9,
        spacing_mm=(1.0, 1.0, 1.0),
        snr=18,
        chemical_shift_mm=0.8,
        image_shift_mm=-0.04,
        rater_shift_mm=-0.02,
    )
    t2w: Sequence = Sequence(
        equation="spin_echo",
        tr_s=2.0,
        te_s=(0.120,),
        spacing_mm=(0.8, 0.8, 0.8),
        snr=16,
        chemical_shift_mm=0.5,
        csf_flow=0.25,
        image_shift_mm=0.08,
        rater_shift_mm=0.05,
    )
    t2star: Sequence = Sequence(
        equation="multi_echo_gre",
        tr_s=0.6,
        te_s=(0.006, 0.010, 0.014, 0.018, 0.022),
        flip_deg=30,
        spacing_mm=(0.5, 0.5, 3.0),
        snr=18,
        point_spread=(0.45, 0.45, 0.3),
        chemical_shift_mm=0.8,
        csf_flow=0.15,
        image_shift_mm=0.12,
        rater_shift_mm=0.04,
    )
    mton: Sequence = Sequence(
        equation="mt_gre",
        tr_s=0.035,
        te_s=(0.0032,),
        flip_deg=9,
        spacing_mm=(0.9, 0.9, 5.0),
        snr=24,
        point_spread=(0.42, 0.42, 0.3),
        chemical_shift_mm=1.0,
        csf_flow=0.10,
        image_shift_mm=0.08,
        rater_shift_mm=0.06,
    )
    gre_t1w: Sequence = Sequence(
        equation="gre",
        tr_s=0.015,
        te_s=(0.0032,),
        flip_deg=15,
        spacing_mm=(0.9, 0.9, 5.0),
        snr=20,
        point_spread=(0.42, 0.42, 0.3),
        chemical_shift_mm=1.0,
        image_shift_mm=0.06,
        rater_shift_mm=0.04,
    )
    dwi: Sequence = Sequence(
        equation="dwi",
        tr_s=4.6,
        te_s=(0.060,),
        b_s_mm2=800,
        spacing_mm=(0.9, 0.9, 5.0),
        snr=14,
        point_spread=(0.5, 0.6, 0.3),
        image_shift_mm=0.03,
        rater_shift_mm=0.02,
    )

    def of(self, contrast: str) -> Sequence:
        """The sequence of a contrast such as "GRE-T1w"."""
        found: Sequence = getattr(self, contrast.lower().replace("-", "_"))
        return found


class SpineParameters(Config):
    """Decides every voxel of person n of the spine phantom, whatever the number of persons; frozen and hashed."""

    seed: int = Field(0, ge=0, description="Of all draws; a person is drawn from (seed, person).")
    size_mm: tuple[float, float, float] = Field(
        (64.0, 192.0, 192.0), description="Field of view R-L, A-P, I-S in mm; at least 32, 40, 40."
    )
    spacing_mm: tuple[float, float, float] | None = Field(
        None, description="Voxel size in mm for every contrast, instead of those of the paper."
    )
    mode: BiasMode = Field("published", description="Boundary bias between contrasts; see phantom.bias.")
    rater_sd_mm: float = Field(
        0.03, ge=0, description="Standard deviation over persons of a rater's shift per contrast, in mm."
    )
    soft_contrasts: tuple[Contrast, ...] = Field(
        CONTRASTS, min_length=1, description="Contrasts whose masks make the shared soft target."
    )
    noise: float = Field(1.0, ge=0, description="Factor on the noise of every contrast; 0 switches it off.")
    bias_field: float = Field(
        1.0, ge=0, description="Factor on the exponent of the bias field; 0 switches it off."
    )
    point_spread: float = Field(1.0, ge=0, description="Factor on the width of the point spread.")
    pose_deg: float = Field(
        2.0, ge=0, le=15, description="Standard deviation of a rescan's rotations in degrees."
    )
    pose_mm: float = Field(2.0, ge=0, le=20, description="Standard deviation of a rescan's shifts in mm.")
    tissues: Tissues = Tissues()
    sequences: Sequences = Sequences()

    @model_validator(mode="after")
    def _sizes(self) -> SpineParameters:
        for size, least, axis in zip(self.size_mm, (32, 40, 40), ("R-L", "A-P", "I-S"), strict=True):
            if not least <= size <= 400:
                raise ValueError(f"size_mm {axis} is {size:g}; the phantom needs {least} to 400 mm")
        if self.spacing_mm is not None and not all(
            0.2 <= s <= z / 8 for s, z in zip(self.spacing_mm, self.size_mm, strict=True)
        ):
            raise ValueError("spacing_mm must lie between 0.2 mm and an eighth of size_mm on every axis")
        return self

    @property
    def fingerprint(self) -> str:
        """Identity of these parameters and of the program's version."""
        return fingerprint({"phantom.spine": VERSION, "parameters": self})

    def spacing(self, contrast: str) -> tuple[float, float, float]:
        """Voxel size of a contrast in mm."""
        return self.spacing_mm or self.sequences.of(contrast).spacing_mm
