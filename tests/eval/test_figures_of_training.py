"""Calibration curves, learning curves and maps of features."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from figure_tables import CONTRASTS, features, phantom_table
from matplotlib.figure import Figure
from mriad.errors import DataError
from mriad_eval.figures.calibration import draw_calibration, pooled_bins
from mriad_eval.figures.embedding import (
    Embeddings,
    draw_embedding,
    principal_components,
    project,
    read_embeddings,
    same_domain,
)
from mriad_eval.figures.learning import draw_learning_curves

if TYPE_CHECKING:
    from pathlib import Path

TABLE = phantom_table(persons=4, contrasts=("T1w", "T2w"), structures=("cord",), misses=False)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    saved: list[Figure] = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (saved.append(self), original(self, *a, **k))[1]
    )
    return saved


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(mpl.text.Text))


class TestCalibration:
    def test_bins_are_weighted_by_voxels(self) -> None:
        cells: dict[int, list[tuple[float, float, float]]] = {}
        for trial in TABLE.finished("soft_all"):
            rows = {(r.case, r.part, r.metric): r.value for r in trial.rows if r.part}
            for case, part in {(c, p) for c, p, _ in rows}:
                q = [rows[case, part, f"calibration_{n}"] for n in ("predicted", "target", "voxels")]
                cells.setdefault(int(part), []).append(tuple(q))
        found = pooled_bins(TABLE, "soft_all")
        assert found is not None
        for b in range(10):
            p, g, n = np.array(cells[b]).T
            assert found.predicted[b] == pytest.approx(np.average(p, weights=n))
            assert found.target[b] == pytest.approx(np.average(g, weights=n))
            assert found.voxels[b] == n.sum()
        assert found.error == pytest.approx(
            np.average(np.abs(found.predicted - found.target), weights=found.voxels)
        )
        assert (found.cases, found.persons, found.misses) == (8, 4, 0)

    def test_figure(self, tmp_path: Path, figures: list[Figure]) -> None:
        files = draw_calibration(tmp_path / "c", TABLE)
        assert [f.suffix for f in files] == [".png", ".svg"]
        told = texts(figures[-1])
        for variant in TABLE.variants:
            found = pooled_bins(TABLE, variant)
            assert found is not None
            assert f"{variant}: error of these bins {found.error:.3f}, 8 cases, 0 misses" in told

    def test_misses_are_counted(self) -> None:
        table = phantom_table(contrasts=CONTRASTS, structures=("cord",))
        found = pooled_bins(table, "hard_all")
        assert found is not None
        assert found.misses == 2

    def test_not_measured(self, tmp_path: Path) -> None:
        trials = tuple(replace(t, rows=tuple(r for r in t.rows if not r.part)) for t in TABLE.trials)
        with pytest.raises(DataError, match=r"(?s)no calibration curve.*eval\.calibration_curve"):
            draw_calibration(tmp_path / "c", replace(TABLE, trials=trials))

    def test_several_references(self, tmp_path: Path) -> None:
        trials = tuple(
            replace(t, rows=(*t.rows, *(replace(r, reference="soft") for r in t.rows))) for t in TABLE.trials
        )
        table = replace(TABLE, trials=trials)
        with pytest.raises(DataError, match=r"(?s)several references.*soft, truth"):
            draw_calibration(tmp_path / "c", table)
        assert draw_calibration(tmp_path / "c", table, against="soft")


class TestLearningCurves:
    def log(self, path: Path, offset: float, steps: int = 5) -> Path:
        lines = [
            {"step": s, "values": {"train/loss": 1.0 + offset, "val/dice/cord": 0.1 * s + offset}}
            for s in range(steps)
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        return path

    def test_mean_of_a_variants_trials(self, tmp_path: Path, figures: list[Figure]) -> None:
        runs = {
            "soft": [self.log(tmp_path / "a", 0.0), self.log(tmp_path / "b", 0.2)],
            "hard": [self.log(tmp_path / "c", 0.1, steps=3)],
        }
        draw_learning_curves(tmp_path / "l", runs, units={"dice": "1"})
        left, right = figures[-1].axes
        thick = [line for line in right.lines if line.get_linewidth() == 2.0]
        assert thick[0].get_ydata() == pytest.approx([0.1 * s + 0.1 for s in range(5)])
        assert len([line for line in right.lines if line.get_linewidth() < 1]) == 3
        assert right.get_ylabel() == "dice (1)"
        told = texts(figures[-1])
        assert "soft (2 trials)" in told
        assert "3 trials" in told
        assert "own labels" in told
        assert [line.get_ydata()[0] for line in left.lines if line.get_linewidth() == 2.0] == pytest.approx(
            [1.1, 1.1]
        )

    def test_nothing_logged(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("")
        with pytest.raises(DataError, match="no training loss and no validation value"):
            draw_learning_curves(tmp_path / "l", {"soft": [tmp_path / "empty"]})


class TestFeatures:
    def test_components_against_numpys_eigenvectors(self) -> None:
        x = np.random.default_rng(0).normal(size=(40, 6)) * [5, 4, 3, 2, 1, 0.5]
        scores = principal_components(x, 3)
        values, vectors = np.linalg.eigh(np.cov(x.T))
        expected = (x - x.mean(axis=0)) @ vectors[:, ::-1][:, :3]
        assert np.abs(scores) == pytest.approx(np.abs(expected))
        assert scores.var(axis=0, ddof=1) == pytest.approx(values[::-1][:3])

    def test_mixing_is_measured_in_the_features(self) -> None:
        vectors = np.array([[0.0], [0.1], [5.0], [5.1]])
        assert same_domain(vectors, np.array(["a", "a", "b", "b"])) == (1.0, pytest.approx(1 / 3))
        assert same_domain(vectors, np.array(["a", "b", "a", "b"]))[0] == 0.0

    @pytest.mark.parametrize("method", ["PCA", "t-SNE"])
    def test_a_panel_an_epoch(self, tmp_path: Path, figures: list[Figure], method: str) -> None:
        if method == "t-SNE":
            pytest.importorskip("sklearn", reason="scikit-learn makes t-SNE")
        found = features(persons=4)
        files = draw_embedding(tmp_path / "e", found, method=method)
        assert [f.suffix for f in files] == [".png", ".svg"]
        told = texts(figures[-1])
        for epoch in (1, 10, 50):
            assert f"epoch {epoch}, n = 24" in told
        assert all(contrast in told for contrast in CONTRASTS)
        assert ("distances between groups mean nothing" in told) == (method == "t-SNE")
        drawn = sum(len(line.get_xdata()) for axes in figures[-1].axes for line in axes.lines)
        assert drawn == 72

    def test_tsne_keeps_groups_together_and_repeats(self) -> None:
        pytest.importorskip("sklearn", reason="scikit-learn makes t-SNE")
        found = features(persons=4, epochs=(1, 2))
        first = np.array([e == "1" for e in found.epochs])
        at, _ = project(found.vectors[first])
        again, _ = project(found.vectors[first])
        assert (at == again).all()
        assert same_domain(at, np.array(found.domains)[first])[0] == 1.0

    def test_without_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
        with pytest.raises(DataError, match=r'(?s)t-SNE needs scikit-learn.*method="PCA"'):
            project(features(persons=2).vectors)

    def test_a_table_of_features(self, tmp_path: Path) -> None:
        path = tmp_path / "features.csv"
        path.write_text("case,domain,epoch,f0,f1\na,T1w,1,0.5,1\nb,T2w,1,2,3\n")
        found = read_embeddings(path)
        assert found.vectors.tolist() == [[0.5, 1.0], [2.0, 3.0]]
        assert (found.cases, found.domains, found.epochs) == (("a", "b"), ("T1w", "T2w"), ("1", "1"))
        path.write_text("case,epoch,f0\na,1,0.5\n")
        with pytest.raises(DataError, match=r"(?s)lacks columns.*domain"):
            read_embeddings(path)
        path.write_text("case,domain,epoch,f0\na,T1w,1,x\n")
        with pytest.raises(DataError, match="no number"):
            read_embeddings(path)
        with pytest.raises(DataError, match="cannot be read"):
            read_embeddings(tmp_path / "nothing.csv")

    def test_bad_features(self) -> None:
        with pytest.raises(DataError, match=r"(?s)not finite.*b"):
            Embeddings(np.array([[0.0], [np.nan]]), ("a", "b"), ("x", "y"), ("1", "1"))
        with pytest.raises(DataError, match="do not belong together"):
            Embeddings(np.zeros((3, 2)), ("a",), ("x",), ("1",))
        with pytest.raises(DataError, match="too few features"):
            project(np.zeros((3, 2)))
        with pytest.raises(DataError, match="no such method: UMAP"):
            project(np.zeros((30, 2)), method="UMAP")
