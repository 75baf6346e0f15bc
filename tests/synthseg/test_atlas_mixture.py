"""The mixture, the bias and their likelihood on data whose parameters are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad_synthseg.mixture import (
    Fit,
    Mixture,
    SmoothBasis,
    Voxels,
    em_step,
    maximised,
    responsibilities,
    run_em,
    start,
)
from scipy.special import logsumexp
from scipy.stats import norm

GRID = (24, 20, 16)
MEANS = np.array([-2.0, -0.6, 0.4])
SPREADS = np.array([0.30, 0.15, 0.10])


def slabs_of_classes(rng, sure=0.9):
    """Class priors (N, 3) by place, and classes that are drawn from them."""
    place = np.repeat(np.arange(GRID[0]) * 3 // GRID[0], GRID[1] * GRID[2])
    prior = np.full((place.size, 3), (1 - sure) / 2)
    prior[np.arange(place.size), place] = sure
    drawn = (rng.random((place.size, 1)) > prior.cumsum(1)).sum(1)
    return prior, drawn


def axes_mm(spacing=2.0):
    return [(np.arange(n) - (n - 1) / 2) * spacing for n in GRID]


def basis_over(kernel_mm=20.0, spacing=2.0):
    extents = [(-n * spacing / 2, n * spacing / 2) for n in GRID]
    return SmoothBasis.over(axes_mm(spacing), extents, kernel_mm)


def voxels_of(values, prior, basis=None):
    return Voxels(values[:, None], np.log(prior), np.ones(GRID, bool), basis)


def test_known_gaussians_are_recovered():
    """Without bias: means within 1 % of their range, standard deviations and posteriors near the truth."""
    rng = np.random.default_rng(0)
    prior, drawn = slabs_of_classes(rng)
    values = rng.normal(MEANS[drawn], SPREADS[drawn])
    voxels = voxels_of(values, prior)
    fit, _ = run_em(voxels, Fit(start(voxels.values, prior, [1, 1, 1])), 200, 1e-9)
    np.testing.assert_allclose(fit.mixture.means[:, 0], MEANS, atol=0.01 * np.ptp(MEANS))
    np.testing.assert_allclose(np.sqrt(fit.mixture.variances[:, 0]), SPREADS, rtol=0.05)
    found, _ = responsibilities(fit.mixture.log_joint(voxels.values, voxels.log_prior))
    exact = prior * norm.pdf(values[:, None], MEANS, SPREADS)
    exact /= exact.sum(1, keepdims=True)
    assert np.abs(found - exact).mean() < 0.005


def test_a_class_of_two_gaussians_is_recovered():
    rng = np.random.default_rng(1)
    n = int(np.prod(GRID))
    low = rng.random(n) < 0.3
    values = np.where(low, rng.normal(-1.0, 0.1, n), rng.normal(1.0, 0.2, n))
    prior = np.ones((n, 1))
    voxels = voxels_of(values, prior)
    fit, _ = run_em(voxels, Fit(start(voxels.values, prior, [2])), 200, 1e-9)
    order = np.argsort(fit.mixture.means[:, 0])
    np.testing.assert_allclose(fit.mixture.means[order, 0], [-1, 1], atol=0.02)
    np.testing.assert_allclose(fit.mixture.weights[order], [low.mean(), 1 - low.mean()], atol=0.01)
    assert fit.mixture.weights.sum() == pytest.approx(1)


def test_a_bias_is_recovered_up_to_a_constant():
    """log makes multiplication an addition: image × exp(field) gives the field."""
    rng = np.random.default_rng(2)
    prior, drawn = slabs_of_classes(rng, sure=0.95)
    basis = basis_over()
    coefficients = rng.normal(0, 0.08, basis.size)
    coefficients[0, 0, 0] = 0
    field = basis.field(coefficients)
    assert np.ptp(field) > 0.3
    values = rng.normal(MEANS[drawn], 0.1) + field.ravel()
    voxels = voxels_of(values, prior, basis)
    fit, _ = run_em(voxels, Fit(start(voxels.values, prior, [1, 1, 1])), 200, 1e-8)
    found = basis.field(fit.coefficients[0])
    assert np.abs((found - found.mean()) - (field - field.mean())).mean() < 0.02
    without, _ = run_em(voxels, Fit(start(voxels.values, prior, [1, 1, 1])), 200, 1e-8, bias=False)
    assert fit.objective > without.objective + 100


@given(seed=st.integers(0, 10_000), gaussians=st.tuples(*[st.integers(1, 3)] * 3), channels=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_the_objective_never_decreases(seed, gaussians, channels):
    """Any data, priors and start, bias or not, one or two channels."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(GRID))
    prior = rng.dirichlet([0.5, 0.5, 0.5], n) + 1e-6
    prior /= prior.sum(1, keepdims=True)
    values = rng.gamma(2.0, 1.0, (n, channels)) + np.linspace(0, 1, n)[:, None]
    voxels = Voxels(values, np.log(prior), np.ones(GRID, bool), basis_over())
    fit = Fit(start(values, prior, gaussians))
    objectives = []
    for _ in range(12):
        fit = em_step(voxels, fit)
        objectives.append(fit.objective)
    gains = np.diff(objectives)
    assert gains.min() >= -1e-7 * abs(objectives[-1])
    assert objectives[-1] > objectives[0]


def test_the_log_likelihood_is_that_of_scipy():
    rng = np.random.default_rng(3)
    mixture = Mixture(
        rng.normal(size=(4, 2)),
        rng.uniform(0.1, 1, (4, 2)),
        np.array([0.3, 0.7, 1, 1]),
        np.array([0, 0, 1, 2]),
    )
    values, prior = rng.normal(size=(50, 2)), rng.dirichlet([1, 1, 1], 50)
    by_hand = np.stack(
        [
            np.log(prior[:, mixture.owner[g]])
            + np.log(mixture.weights[g])
            + norm.logpdf(values, mixture.means[g], np.sqrt(mixture.variances[g])).sum(1)
            for g in range(4)
        ],
        axis=1,
    )
    np.testing.assert_allclose(mixture.log_joint(values, np.log(prior)), by_hand, rtol=1e-10)
    given_, total = responsibilities(by_hand.copy())
    assert total == pytest.approx(logsumexp(by_hand, axis=1).sum())
    np.testing.assert_allclose(given_.sum(1), 1)
    classes = mixture.class_log_likelihood(values, 3)
    np.testing.assert_allclose(
        classes[:, 0], logsumexp(by_hand[:, :2] - np.log(prior[:, :1]), axis=1), rtol=1e-10
    )


def test_the_m_step_is_weighted_moments():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(200, 1))
    shares = rng.dirichlet([1, 1, 1], 200)
    before = Mixture(np.zeros((3, 1)), np.ones((3, 1)), np.array([1, 0.5, 0.5]), np.array([0, 1, 1]))
    after = maximised(values, shares, before, np.array([1e-6]))
    for g in range(3):
        mean = np.average(values[:, 0], weights=shares[:, g])
        assert after.means[g, 0] == pytest.approx(mean)
        assert after.variances[g, 0] == pytest.approx(
            np.average((values[:, 0] - mean) ** 2, weights=shares[:, g])
        )
    assert after.weights[1] == pytest.approx(shares[:, 1].sum() / shares[:, 1:].sum())


def test_the_separable_basis_is_a_dense_least_squares():
    """Against numpy.linalg.lstsq on the full matrix of all products."""
    rng = np.random.default_rng(5)
    basis = basis_over(24.0)
    tables = basis.tables
    dense = np.einsum("xa,yb,zc->xyzabc", *tables).reshape(int(np.prod(GRID)), -1)
    coefficients = rng.normal(size=basis.size)
    np.testing.assert_allclose(basis.field(coefficients).ravel(), dense @ coefficients.ravel(), atol=1e-10)
    weights, target = rng.uniform(0, 2, GRID), rng.normal(size=GRID)
    weights[rng.random(GRID) < 0.3] = 0
    penalty = 3.0
    rows = np.sqrt(weights).ravel()[:, None] * dense[:, 1:]
    stacked = np.vstack([rows, np.sqrt(penalty) * np.eye(rows.shape[1])])
    right = np.concatenate([np.sqrt(weights).ravel() * target.ravel(), np.zeros(rows.shape[1])])
    expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
    np.testing.assert_allclose(basis.fit(weights, target, penalty).ravel()[1:], expected, atol=1e-8)


def test_a_constant_background_does_not_collapse():
    """Half of all voxels are exactly 0 (skull-stripped): variances stay positive, posteriors finite."""
    rng = np.random.default_rng(6)
    prior, drawn = slabs_of_classes(rng)
    values = np.where(drawn == 0, -3.5, rng.normal(MEANS[drawn], 0.1))
    voxels = voxels_of(values, prior)
    fit, history = run_em(voxels, Fit(start(voxels.values, prior, [3, 1, 1])), 100, 1e-9)
    assert fit.mixture.variances.min() > 0
    assert np.isfinite(history).all()
