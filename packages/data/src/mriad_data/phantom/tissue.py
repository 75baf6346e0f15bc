"""What signal equations need: a tissue's relaxation and a sequence's timing. Shared by the phantoms."""

from __future__ import annotations

from typing import Literal

from mriad.component import Config
from pydantic import Field

Equation = Literal["mprage", "spin_echo", "inversion_spin_echo", "multi_echo_gre", "mt_gre", "gre", "dwi"]


class Tissue(Config):
    """What a signal equation needs to know of a tissue at 3 T."""

    proton_density: float = Field(ge=0, le=1, description="Relative to water; 1.")
    t1_s: float = Field(gt=0, description="Longitudinal relaxation time in s.")
    t2_s: float = Field(gt=0, description="Transverse relaxation time in s.")
    t2star_s: float = Field(gt=0, description="Effective transverse relaxation time in s.")
    mt_saturation: float = Field(0.0, ge=0, lt=1, description="Saturation per MT pulse (Helms 2008); 1.")
    diffusion_along: float = Field(0.0, ge=0, description="Diffusivity along the fibres in mm²/s.")
    diffusion_across: float = Field(0.0, ge=0, description="Diffusivity across the fibres in mm²/s.")
    fat: bool = Field(False, description="Resonates at the fat frequency: displaced, and saturated in DWI.")


class Timing(Config):
    """One contrast: its signal equation and what that needs."""

    equation: Equation
    tr_s: float = Field(gt=0, description="Repetition time (of one slice) in s.")
    te_s: tuple[float, ...] = Field(
        description="Echo times in s; several are combined by root sum of squares."
    )
    ti_s: float = Field(0.0, ge=0, description="Inversion time in s; 0 where there is no inversion.")
    flip_deg: float = Field(90.0, gt=0, le=180, description="Excitation flip angle in degrees.")
    b_s_mm2: float = Field(0.0, ge=0, description="Diffusion weighting in s/mm².")
