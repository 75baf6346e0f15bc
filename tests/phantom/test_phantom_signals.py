"""Signal equations against values worked out apart, and the order of tissues in each contrast."""

import math

import numpy as np
import pytest
from mriad_data.phantom.parameters import CONTRASTS, Sequence, SpineParameters, Tissue
from mriad_data.phantom.signals import EQUATIONS, signals

TISSUE = Tissue(
    proton_density=0.7,
    t1_s=1.0,
    t2_s=0.08,
    t2star_s=0.05,
    mt_saturation=0.05,
    diffusion_along=1.7e-3,
    diffusion_across=0.4e-3,
)
ONE = (1.0, 1.0, 1.0)


def sequence(equation, **values):
    return Sequence(equation=equation, spacing_mm=ONE, snr=10, **values)


def test_inversion_recovery_by_bloch_steps():
    s = sequence("mprage", tr_s=2.0, te_s=(0.005,), ti_s=1.0, flip_deg=90)
    before = 0.0  # saturated by the 90° read-out, then recovers until the inversion, then until the read-out
    before = 1 - (1 - before) * math.exp(-(s.tr_s - s.ti_s))
    after = 1 - (1 + before) * math.exp(-s.ti_s)
    assert EQUATIONS["mprage"](TISSUE, s) == pytest.approx(0.7 * abs(after) * math.exp(-0.1))


@pytest.mark.parametrize("equation", ["gre", "multi_echo_gre"])
def test_spoiled_gradient_echo_by_iterating_to_the_steady_state(equation):
    s = sequence(equation, tr_s=0.03, te_s=(0.004,), flip_deg=20)
    m = 1.0
    for _ in range(2000):
        m = 1 - (1 - m * math.cos(math.radians(20))) * math.exp(-0.03)
    expected = 0.7 * m * math.sin(math.radians(20)) * math.exp(-0.004 / 0.05)
    assert EQUATIONS[equation](TISSUE, s) == pytest.approx(expected, rel=1e-9)


def test_echoes_combine_by_root_sum_of_squares():
    one = EQUATIONS["gre"](TISSUE, sequence("gre", tr_s=0.6, te_s=(0.01,), flip_deg=30))
    two = EQUATIONS["gre"](TISSUE, sequence("gre", tr_s=0.6, te_s=(0.02,), flip_deg=30))
    both = EQUATIONS["multi_echo_gre"](
        TISSUE, sequence("multi_echo_gre", tr_s=0.6, te_s=(0.01, 0.02), flip_deg=30)
    )
    assert both == pytest.approx(math.hypot(one, two) / math.sqrt(2))


def test_mt_without_saturation_is_the_ernst_equation_for_small_angles():
    s = {"tr_s": 0.01, "te_s": (0.003,), "flip_deg": 3}
    plain = TISSUE.model_copy(update={"mt_saturation": 0.0})
    free = EQUATIONS["mt_gre"](plain, sequence("mt_gre", **s))
    assert free == pytest.approx(EQUATIONS["gre"](plain, sequence("gre", **s)), rel=0.01)
    assert EQUATIONS["mt_gre"](TISSUE, sequence("mt_gre", **s)) < 0.3 * free


def test_diffusion_average_by_quadrature_over_the_sphere():
    s = sequence("dwi", tr_s=4.0, te_s=(0.06,), b_s_mm2=800)
    cosines, weights = np.polynomial.legendre.leggauss(60)
    along, across = TISSUE.diffusion_along, TISSUE.diffusion_across
    mean = (weights * np.exp(-800 * (across + (along - across) * cosines**2))).sum() / 2
    base = EQUATIONS["spin_echo"](TISSUE, sequence("spin_echo", tr_s=4.0, te_s=(0.06,)))
    assert base == pytest.approx(0.7 * (1 - math.exp(-4)) * math.exp(-0.06 / 0.08))
    assert EQUATIONS["dwi"](TISSUE, s) == pytest.approx(base * mean, rel=1e-9)
    free = TISSUE.model_copy(update={"diffusion_along": 1e-3, "diffusion_across": 1e-3})
    assert EQUATIONS["dwi"](free, s) == pytest.approx(base * math.exp(-0.8), rel=1e-9)


def test_order_of_tissues():
    p = SpineParameters()
    s = {c: signals(p.tissues, p.sequences.of(c)) for c in CONTRASTS}
    for dark in ("T1w", "GRE-T1w", "DWI"):
        assert s[dark]["csf"] < 0.6 * s[dark]["white"], dark
    for bright in ("T2w", "T2star", "MTon"):
        assert s[bright]["csf"] > s[bright]["white"], bright
    assert s["T2w"]["csf"] > 2 * s["T2w"]["white"]
    assert s["T2star"]["grey"] > 1.1 * s["T2star"]["white"]
    assert s["T1w"]["white"] > s["T1w"]["grey"]
    assert s["T1w"]["fat"] > s["T1w"]["muscle"]
    assert s["DWI"]["fat"] < 0.5  # what fat saturation leaves
    assert all(v["air"] == 0 and v["white"] == 1 for v in s.values())
