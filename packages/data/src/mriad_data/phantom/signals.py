"""Signal equations: what each tissue looks like in each contrast. Times in s, angles in degrees, b in s/mm².

All are for the steady state with ideal spoiling and pulses. Sources by function.
"""

from __future__ import annotations

from math import cos, erf, exp, pi, radians, sin, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mriad_data.phantom.tissue import Timing, Tissue

FAT_SATURATION = 0.9
"""Share of the fat signal that the EPI sequence's fat saturation removes."""
NAMES = ("white", "grey", "csf", "disc", "marrow", "cortical", "muscle", "fat", "air")


def mprage(tissue: Tissue, sequence: Timing) -> float:
    """Magnitude inversion recovery gradient echo: PD |1 − 2 e^(−TI/T1) + e^(−TR/T1)| sin α e^(−TE/T2*).

    Haacke et al., Magnetic Resonance Imaging (1999), inversion recovery; the read-out train is taken as one pulse.
    """
    recovery = 1 - 2 * exp(-sequence.ti_s / tissue.t1_s) + exp(-sequence.tr_s / tissue.t1_s)
    return tissue.proton_density * abs(recovery) * sin(radians(sequence.flip_deg)) * _decay(tissue, sequence)


def spin_echo(tissue: Tissue, sequence: Timing) -> float:
    """PD (1 − e^(−TR/T1)) e^(−TE/T2), with the effective echo time of a turbo train (Haacke 1999)."""
    echo = exp(-sequence.te_s[0] / tissue.t2_s)
    return tissue.proton_density * (1 - exp(-sequence.tr_s / tissue.t1_s)) * echo


def inversion_spin_echo(tissue: Tissue, sequence: Timing) -> float:
    """Magnitude inversion recovery spin echo (FLAIR): PD |1 − 2 e^(−TI/T1) + e^(−TR/T1)| e^(−TE/T2) (Haacke 1999)."""
    recovery = 1 - 2 * exp(-sequence.ti_s / tissue.t1_s) + exp(-sequence.tr_s / tissue.t1_s)
    return tissue.proton_density * abs(recovery) * exp(-sequence.te_s[0] / tissue.t2_s)


def gre(tissue: Tissue, sequence: Timing) -> float:
    """Spoiled gradient echo: PD sin α (1 − E1) / (1 − E1 cos α) e^(−TE/T2*), E1 = e^(−TR/T1) (Ernst 1966)."""
    return _ernst(tissue, sequence) * _decay(tissue, sequence)


def multi_echo_gre(tissue: Tissue, sequence: Timing) -> float:
    """Root sum of squares over the echoes of a spoiled gradient echo, divided by √(number of echoes)."""
    echoes = [exp(-te / tissue.t2star_s) for te in sequence.te_s]
    return _ernst(tissue, sequence) * sqrt(sum(e * e for e in echoes) / len(echoes))


def mt_gre(tissue: Tissue, sequence: Timing) -> float:
    """Spoiled gradient echo with an MT pulse: PD α R1 TR / (α²/2 + δ + R1 TR) e^(−TE/T2*).

    δ is the saturation per MT pulse, α in rad: Helms et al., Magn Reson Med 2008, signal equation for small angles.
    """
    angle, recovery = radians(sequence.flip_deg), sequence.tr_s / tissue.t1_s
    signal = tissue.proton_density * angle * recovery / (angle**2 / 2 + tissue.mt_saturation + recovery)
    return signal * _decay(tissue, sequence)


def dwi(tissue: Tissue, sequence: Timing) -> float:
    """Spin-echo EPI averaged over diffusion directions: PD (1 − e^(−TR/T1)) e^(−TE/T2) · mean of e^(−b D(n)).

    For axially symmetric diffusion the mean over the sphere is e^(−b D⊥) √π/2 erf(√x)/√x with x = b (D∥ − D⊥)
    (Callaghan 1979; Kroenke et al., Magn Reson Med 2004). Fat is saturated.
    """
    x = sequence.b_s_mm2 * (tissue.diffusion_along - tissue.diffusion_across)
    spread = sqrt(pi) / 2 * erf(sqrt(x)) / sqrt(x) if x > 1e-9 else 1.0
    weight = exp(-sequence.b_s_mm2 * tissue.diffusion_across) * spread
    return spin_echo(tissue, sequence) * weight * (1 - FAT_SATURATION if tissue.fat else 1)


EQUATIONS: dict[str, Callable[[Tissue, Timing], float]] = {
    "mprage": mprage,
    "spin_echo": spin_echo,
    "inversion_spin_echo": inversion_spin_echo,
    "gre": gre,
    "multi_echo_gre": multi_echo_gre,
    "mt_gre": mt_gre,
    "dwi": dwi,
}


def signals(
    tissues: Any, sequence: Timing, names: Sequence[str] = NAMES, unit: str = "white"
) -> dict[str, float]:
    """Signal of every tissue in one contrast, in units of one of them (white = 1).

    `tissues` has a `Tissue` under each name.
    """
    raw = {name: EQUATIONS[sequence.equation](getattr(tissues, name), sequence) for name in names}
    return {name: value / raw[unit] for name, value in raw.items()}


def _ernst(tissue: Tissue, sequence: Timing) -> float:
    angle, e1 = radians(sequence.flip_deg), exp(-sequence.tr_s / tissue.t1_s)
    return tissue.proton_density * sin(angle) * (1 - e1) / (1 - e1 * cos(angle))


def _decay(tissue: Tissue, sequence: Timing) -> float:
    return exp(-sequence.te_s[0] / tissue.t2star_s)
