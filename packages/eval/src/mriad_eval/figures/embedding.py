"""Where a network puts the domains: its features in two dimensions (PCA, then t-SNE), an epoch a panel."""

from __future__ import annotations

import csv
import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from mriad.errors import DataError

from mriad_eval.figures.points import plural
from mriad_eval.figures.style import COLOURS, MARKERS, new_figure, pick, save_pair, sign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_COMPONENTS = 50
"""Principal components that go into t-SNE, as van der Maaten and Hinton (2008) section 4 take (they use 30)."""
_LEAST = 5  # points below which neighbours mean nothing


@dataclass(frozen=True)
class Embeddings:
    """A tidy table of features.

    vectors: (N, D) float, finite. cases, domains, epochs: N labels each; an epoch is a number or "".
    """

    vectors: np.ndarray
    cases: tuple[str, ...]
    domains: tuple[str, ...]
    epochs: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.vectors) if self.vectors.ndim == 2 else -1
        if {len(self.cases), len(self.domains), len(self.epochs)} != {n}:
            raise DataError(
                "features and their labels do not belong together",
                where={
                    "vectors": "×".join(map(str, self.vectors.shape)),
                    "cases, domains, epochs": f"{len(self.cases)}, {len(self.domains)}, {len(self.epochs)}",
                },
                remedy="give one case, domain and epoch for each row of features",
            )
        if not np.isfinite(self.vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))[0])
            raise DataError(
                "features are not finite", where={"case": self.cases[bad], "epoch": self.epochs[bad]}
            )


def read_embeddings(path: Path) -> Embeddings:
    """Read a CSV with the columns case, domain, epoch, and one column a feature (any other names).

    Raises:
        DataError: not there, a column or a number missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            heads = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "a table of features cannot be read", where={"file": path, "reason": error}
        ) from error
    labels = ("case", "domain", "epoch")
    features = [name for name in heads if name not in labels]
    missing = [name for name in labels if name not in heads]
    if missing or not features or not rows:
        raise DataError(
            "a table of features lacks columns or rows",
            where={"file": path, "missing": ", ".join(missing) or "features or rows"},
            remedy="columns case, domain, epoch, and one a feature",
        )
    try:
        vectors = np.array([[float(row[name]) for name in features] for row in rows])
    except (TypeError, ValueError) as error:
        raise DataError("a feature is no number", where={"file": path, "reason": error}) from error
    return Embeddings(vectors, *(tuple(row[name] for row in rows) for name in labels))


def draw_embedding(
    stem: Path, found: Embeddings, *, method: str = "t-SNE", seed: int = 0, title: str = ""
) -> list[Path]:
    """Draw features in two dimensions, domains by colour and sign, epochs as panels; write .png and .svg.

    PCA of all epochs together, then t-SNE of their first 50 components; "PCA" leaves the second step out. t-SNE keeps
    neighbourhoods: distances between groups and their sizes mean nothing, and the figure says so. How far domains are
    mixed is printed as the share of nearest neighbours (in the features) of the same domain, beside chance.

    Args:
        stem: the files' path without ending.
        found: features of cases.
        method: "t-SNE" or "PCA".
        seed: of t-SNE; the same figure each time.
        title: of the figure.

    Raises:
        DataError: too few features; scikit-learn, which makes t-SNE, is not installed; or no such method.
        StorageError: the place is full or cannot be written.
    """
    at, axes_text = project(found.vectors, method=method, seed=seed)
    epochs = _in_order(found.epochs)
    domains = sorted(set(found.domains))
    columns = min(len(epochs), 4)
    rows = math.ceil(len(epochs) / columns)
    low, high = at.min(axis=0), at.max(axis=0)
    margin = 0.06 * np.maximum(high - low, 1e-12)
    with new_figure(max(3.0 * columns + 0.4, 4.4), 3.2 * rows + 1.2) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(epochs) :]:
            axes.set_visible(False)
        for axes, epoch in zip(panels.flat, epochs, strict=False):
            here = np.array([e == epoch for e in found.epochs])
            for i, domain in enumerate(domains):
                mine = here & np.array([d == domain for d in found.domains])
                axes.plot(
                    *at[mine].T,
                    linestyle="none",
                    marker=sign(MARKERS, i),
                    color=pick(COLOURS, i),
                    markersize=5,
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                )
            same, chance = same_domain(found.vectors[here], np.array(found.domains)[here])
            head = f"epoch {epoch}, " if epoch else ""
            axes.set_title(
                f"{head}n = {here.sum()}\nneighbours of one domain {same:.0%} (chance {chance:.0%})",
                fontsize=8,
            )
            axes.set(
                xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1])
            )
            if method == "t-SNE":
                axes.set(xticks=[], yticks=[])
        panels[-1][0].set(xlabel=f"{axes_text} 1", ylabel=f"{axes_text} 2")
        handles = [
            Line2D(
                [], [], linestyle="none", marker=sign(MARKERS, i), color=pick(COLOURS, i), label=domain or "–"
            )
            for i, domain in enumerate(domains)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
        line = f"{plural(len(set(found.cases)), 'case')}, {plural(len(domains), 'domain')}"
        if method == "t-SNE":
            line += "; distances between groups mean nothing"
        figure.suptitle(
            f"{title or 'features by domain'} ({'PCA, then t-SNE' if method == 't-SNE' else 'PCA'})\n{line}",
            fontsize=10,
        )
        return save_pair(figure, stem)


def project(vectors: np.ndarray, *, method: str = "t-SNE", seed: int = 0) -> tuple[np.ndarray, str]:
    """(N, D) features to (N, 2), and what the axes are called. See `draw_embedding`."""
    if method not in ("PCA", "t-SNE"):
        raise DataError(f"no such method: {method}", remedy="choose PCA or t-SNE")
    n = len(vectors)
    if n < _LEAST:
        raise DataError("too few features for a map", where={"features": n, "expected": f"at least {_LEAST}"})
    components = principal_components(vectors, _COMPONENTS)
    if method == "PCA":
        return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))[:, :2], "component"
    try:
        manifold: Any = importlib.import_module("sklearn.manifold")
    except ImportError as error:
        raise DataError(
            "t-SNE needs scikit-learn, which is not installed here",
            remedy='pip install scikit-learn, or draw with method="PCA"',
        ) from error
    perplexity = min(30.0, (n - 1) / 3)
    made = manifold.TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 1)))
    return np.asarray(made.fit_transform(components.astype(np.float64)), np.float64), "t-SNE"


def principal_components(vectors: np.ndarray, count: int) -> np.ndarray:
    """(N, min(count, N, D)) scores on the principal components, the largest first; signs fixed."""
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # A component's sign is free: the largest loading is made positive, so that figures stay the same.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    scores: np.ndarray = left * sizes * np.where(signs == 0, 1, signs)
    return scores[:, :count]


def same_domain(vectors: np.ndarray, domains: np.ndarray) -> tuple[float, float]:
    """Share of features whose nearest neighbour has the same domain, and that share by chance; NaN for one."""
    n = len(vectors)
    if n < 2:
        return math.nan, math.nan
    x = np.asarray(vectors, np.float64)
    square = (x * x).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    same = float(np.mean(domains[distance.argmin(axis=1)] == domains))
    _, counts = np.unique(domains, return_counts=True)
    return same, float((counts * (counts - 1)).sum() / (n * (n - 1)))


def _in_order(epochs: Sequence[str]) -> list[str]:
    """Epochs as numbers where they are, else as they came."""
    found = list(dict.fromkeys(epochs))
    try:
        return sorted(found, key=float)
    except ValueError:
        return found
