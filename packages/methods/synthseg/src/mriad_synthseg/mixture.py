"""Expectation–maximisation of Gaussian mixtures with spatial priors and a smooth bias; numpy only.

Letters: N voxels, D channels, C classes, G Gaussians. Voxel n has the class prior π_nc (known, from an atlas). A
class has one or several Gaussians, `owner[g]` is the class of Gaussian g; the weights of a class sum to 1:

    p(y_n) = Σ_g π_n,owner(g) · w_g · Π_d N(y_nd; μ_gd + b_nd, σ²_gd)

b is the bias, additive because y are logarithms of intensities. Each step of `em_step` maximises the expected
log-likelihood over one block given the others (an ECM scheme: Meng and Rubin, Biometrika 1993), so the
log-likelihood never decreases. The model is that of Van Leemput et al., IEEE TMI 1999, with the priors of an atlas
as in Puonti et al., NeuroImage 2016 (section 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FLOOR = 1e-3
"""Smallest variance of a Gaussian, as a share of the variance of all voxels: no Gaussian collapses on one voxel."""
FEWEST = 4.0
"""Voxels that a Gaussian must hold, in sum of responsibilities, for its mean and variance to be moved."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of all classes. means, variances: (G, D). weights, owner: (G,)."""

    means: Array
    variances: Array
    weights: Array
    owner: NDArray[np.int64]

    def log_joint(self, values: Array, log_prior: Array) -> Array:
        """log(π · w · N) for each voxel and Gaussian.

        Args:
            values: (N, D), without bias.
            log_prior: (N, C).

        Returns:
            (N, G).
        """
        out = log_prior[:, self.owner]
        with np.errstate(divide="ignore"):
            constant = np.log(self.weights) - 0.5 * np.log(2 * np.pi * self.variances).sum(1)
        out += constant
        for d in range(values.shape[1]):
            # (y − μ)²/2σ² as one square of a line, so that only one (N, G) array is made.
            scale = 1 / np.sqrt(2 * self.variances[:, d])
            part = np.multiply.outer(values[:, d], scale)
            part -= self.means[:, d] * scale
            part *= part
            out -= part
        return out

    def class_log_likelihood(self, values: Array, classes: int) -> Array:
        """log Σ_g∈c w_g N(y) for each voxel (N, C); what an atlas is deformed by."""
        flat = np.zeros((len(values), classes))
        joint = self.log_joint(values, flat)
        out = np.full((len(values), classes), -np.inf)
        for c in range(classes):
            out[:, c] = np.logaddexp.reduce(joint[:, self.owner == c], axis=1)
        return out


def start(values: Array, prior: Array, gaussians: Sequence[int], spread: float = 1.0) -> Mixture:
    """A first mixture: each class at the prior-weighted mean of its voxels.

    Several Gaussians of a class are spread evenly over mean ± `spread` standard deviations.

    Args:
        values: (N, D).
        prior: (N, C), rows sum to 1.
        gaussians: number for each class.
    """
    overall = values.var(0) + 1e-12
    floor = floor_of(values)
    means, variances, weights, owner = [], [], [], []
    for c, count in enumerate(gaussians):
        w = prior[:, c]
        total = w.sum()
        mean = (w @ values) / total if total > FEWEST else values.mean(0)
        variance = (w @ (values - mean) ** 2) / total if total > FEWEST else overall
        variance = np.maximum(variance, floor * count)
        for place in np.linspace(-1, 1, count) if count > 1 else [0.0]:
            means.append(mean + place * spread * np.sqrt(variance))
            variances.append(variance / count)
            weights.append(1 / count)
            owner.append(c)
    return Mixture(np.array(means), np.array(variances), np.array(weights), np.array(owner, np.int64))


def floor_of(values: Array) -> Array:
    """The smallest variance of a Gaussian (D,); of the values with their bias, so that it never moves."""
    floor: Array = FLOOR * (values.var(0) + 1e-12)
    return floor


def responsibilities(joint: Array) -> tuple[Array, float]:
    """(N, G) log joint → responsibilities (N, G), rows sum to 1, and the total log-likelihood; overwrites `joint`."""
    top = joint.max(axis=1, keepdims=True)
    np.subtract(joint, top, out=joint)
    np.exp(joint, out=joint)
    total = joint.sum(axis=1, keepdims=True)
    joint /= total
    return joint, float((np.log(total) + top).sum())


def maximised(values: Array, given: Array, before: Mixture, floor: Array) -> Mixture:
    """Means, variances and weights that maximise the expected log-likelihood.

    Args:
        values: (N, D), without bias.
        given: responsibilities (N, G).
        before: what a Gaussian that holds fewer than `FEWEST` voxels keeps; its weight still follows.
        floor: smallest variance (D,).
    """
    held = given.sum(0)
    means, variances = before.means.copy(), before.variances.copy()
    moved = held > FEWEST
    first = given.T @ values
    second = given.T @ (values * values)
    means[moved] = first[moved] / held[moved, None]
    spread = second[moved] / held[moved, None] - means[moved] ** 2
    variances[moved] = np.maximum(spread, floor)
    weights = before.weights.copy()
    for c in np.unique(before.owner):
        mine = before.owner == c
        total = held[mine].sum()
        if total > 0:
            weights[mine] = held[mine] / total
    return replace(before, means=means, variances=variances, weights=weights)


@dataclass(frozen=True, eq=False)
class SmoothBasis:
    """Products of cosines along the axes of a grid, without the constant: a separable, smooth field.

    A field is Σ c_abk cos(πa·s) cos(πb·t) cos(πk·u), with s, t, u from 0 to 1 along the axes. Products of two cosines
    are contracted one axis at a time, so that no (N, M) matrix is ever made.

    tables: along each axis (n, m).
    """

    tables: tuple[Array, Array, Array]

    @classmethod
    def over(
        cls, positions: Sequence[Array], extents: Sequence[tuple[float, float]], kernel_mm: float
    ) -> SmoothBasis:
        """The basis at voxel positions along each axis.

        Args:
            positions: mm along each axis (n,); those beyond `extents` get the value at the end.
            extents: mm at which each axis begins and ends.
            kernel_mm: the finest cosine's half wave length.
        """
        tables = []
        for where, (low, high) in zip(positions, extents, strict=True):
            count = max(1, int(np.ceil((high - low) / kernel_mm)))
            place = np.clip((np.asarray(where, float) - low) / (high - low), 0, 1)
            tables.append(np.cos(np.pi * np.outer(place, np.arange(count))))
        return cls((tables[0], tables[1], tables[2]))

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of cosines along each axis, the constant one included."""
        a, b, c = (table.shape[1] for table in self.tables)
        return a, b, c

    def field(self, coefficients: Array) -> Array:
        """(m, m, m) → (X, Y, Z)."""
        x, y, z = self.tables
        out: Array = np.einsum("xa,abz->xbz", x, coefficients @ z.T, optimize=True)
        field: Array = np.einsum("yb,xbz->xyz", y, out, optimize=True)
        return field

    def fit(self, weights: Array, target: Array, penalty: float) -> Array:
        """Coefficients (m, m, m) that minimise Σ w (target − field)² + penalty · Σ c²; the constant's is 0.

        Args:
            weights: (X, Y, Z), not negative.
            target: (X, Y, Z); counts where the weight is positive.
            penalty: positive, in units of the weights.
        """
        pairs = [np.einsum("xa,xb->xab", t, t).reshape(len(t), -1) for t in self.tables]
        gram = _contracted(weights, pairs)
        a, b, c = self.size
        gram = gram.reshape(a, a, b, b, c, c).transpose(0, 2, 4, 1, 3, 5).reshape(a * b * c, -1)
        right = _contracted(weights * target, self.tables).reshape(-1)
        keep = slice(1, None)  # the constant belongs to the means
        out = np.zeros(a * b * c)
        if len(out) > 1:
            matrix = gram[keep, keep]
            matrix[np.diag_indices_from(matrix)] += penalty
            out[keep] = np.linalg.solve(matrix, right[keep])
        return out.reshape(a, b, c)


def _contracted(volume: Array, tables: Sequence[Array]) -> Array:
    """Σ_xyz volume · table_x · table_y · table_z → (p, q, r)."""
    x, y, z = tables
    out = np.einsum("xyr,xp->pyr", volume @ z, x, optimize=True)
    found: Array = np.einsum("pyr,yq->pqr", out, y, optimize=True)
    return found


@dataclass(frozen=True, eq=False)
class Fit:
    """Where an expectation–maximisation stands. coefficients: (D, m, m, m) of the bias; None: no bias."""

    mixture: Mixture
    coefficients: Array | None = None
    objective: float = -np.inf
    """Log-likelihood of all voxels, less the penalty on the bias."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """What is fitted. values (N, D), log_prior (N, C), mask (X, Y, Z) with N true voxels, a basis on its grid.

    bias_sd: standard deviation of the coefficients of the bias beforehand, in log units.
    """

    values: Array
    log_prior: Array
    mask: NDArray[np.bool_]
    basis: SmoothBasis | None = None
    bias_sd: float = 0.5

    def unbiased(self, coefficients: Array | None) -> Array:
        """The values less the bias."""
        if coefficients is None or self.basis is None:
            return self.values
        fields = [self.basis.field(c)[self.mask] for c in coefficients]
        return self.values - np.stack(fields, axis=1)


def em_step(voxels: Voxels, fit: Fit, bias: bool = True) -> Fit:
    """One step: responsibilities, then the Gaussians, then the bias. `objective` is that of the fit *given*.

    Args:
        voxels: see there.
        fit: mixture and bias so far.
        bias: whether the bias is fitted too.
    """
    values = voxels.unbiased(fit.coefficients)
    given, total = responsibilities(fit.mixture.log_joint(values, voxels.log_prior))
    precision = 1 / voxels.bias_sd**2
    if fit.coefficients is not None:
        total -= 0.5 * precision * float((fit.coefficients**2).sum())
    mixture = maximised(values, given, fit.mixture, floor_of(voxels.values))
    coefficients = fit.coefficients
    if bias and voxels.basis is not None:
        found = []
        for d in range(values.shape[1]):
            weight = given @ (1 / mixture.variances[:, d])
            mean = (given @ (mixture.means[:, d] / mixture.variances[:, d])) / weight
            full, target = np.zeros(voxels.mask.shape), np.zeros(voxels.mask.shape)
            full[voxels.mask] = weight
            target[voxels.mask] = voxels.values[:, d] - mean
            found.append(voxels.basis.fit(full, target, precision))
        coefficients = np.stack(found)
    return Fit(mixture, coefficients, total)


def run_em(
    voxels: Voxels, fit: Fit, steps: int, tolerance: float = 1e-4, bias: bool = True
) -> tuple[Fit, list[float]]:
    """Steps until the objective gains less than `tolerance` a voxel, or `steps` are done.

    Returns the fit, with the objective of the step before, and every objective on the way.
    """
    history: list[float] = []
    for _ in range(steps):
        fit = em_step(voxels, fit, bias)
        history.append(fit.objective)
        if len(history) > 1 and history[-1] - history[-2] < tolerance * len(voxels.values):
            break
    return fit, history
