"""Figures of a comparison: every value is there, misses at their worst and marked, numbers those of the tables."""

from __future__ import annotations

import math
import statistics
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from figure_tables import VARIANTS, by_hand, phantom_table, rows_of
from matplotlib.figure import Figure
from mriad.errors import DataError
from mriad_eval.comparison import Question, TrialTable, compare
from mriad_eval.figures.agreement import draw_agreement, draw_agreement_grid
from mriad_eval.figures.bland_altman import draw_bland_altman
from mriad_eval.figures.boxes import draw_boxes
from mriad_eval.figures.domains import draw_domains
from mriad_eval.figures.paired import draw_paired
from mriad_eval.figures.plane import draw_plane
from mriad_eval.figures.style import COLOURS, HATCHES, MARKERS, pick, sign
from mriad_eval.figures.violin import draw_violins, spread
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRASTS = ("DWI", "T1w", "T2w")
SMALL = phantom_table(persons=6, contrasts=("T1w", "T2w"), structures=("cord",), misses=False)


@pytest.fixture(scope="module")
def table() -> TrialTable:
    return phantom_table(contrasts=CONTRASTS)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Every figure that was saved."""
    saved: list[Figure] = []
    original = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def crosses(figure: Figure) -> list[tuple[float, float]]:
    """Places of all failures that are drawn, without the legend's."""
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() == "x":
                found += list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found


@pytest.mark.parametrize(
    ("draw", "arguments"),
    [
        (draw_violins, {"metric": "assd/cord"}),
        (draw_violins, {"metric": "dice/cord", "by": "contrast"}),
        (draw_agreement, {"metric": "csa/cord", "reference": "hard_all"}),
        (draw_bland_altman, {"metric": "csa/cord", "reference": "hard_all"}),
        (draw_boxes, {"metric": "assd"}),
        (draw_plane, {"first": "dice/cord", "second": "assd/cord"}),
    ],
)
def test_misses_are_drawn_and_counted(table, tmp_path, figures, draw, arguments) -> None:
    """As many crosses as misses (for pairs: pairs with one), never inside the scale of ordinary values."""
    files = draw(tmp_path / "figure", table, **arguments)
    assert [f.name for f in files] == ["figure.png", "figure.svg"]
    assert b"<svg" in files[1].read_bytes()
    assert Image.open(files[0]).width > 500
    expected = {draw_boxes: 6, draw_agreement: 2 + 5, draw_bland_altman: 2 + 5}.get(draw, 5)
    assert len(crosses(figures[-1])) == expected
    told = texts(figures[-1])
    assert "n = 12 persons × 3 contrasts × 2 seeds, against truth" in told
    assert f"{6 if draw is draw_boxes else 5} misses in all" in told


def test_violins_print_the_table(table, tmp_path, figures) -> None:
    draw_violins(tmp_path / "v", table, "assd/cord")
    told = texts(figures[-1])
    for variant in VARIANTS:
        mean, sd = by_hand(table, variant, "assd", structure="cord")
        assert f"{variant}\n{mean:.3f} ± {sd:.3f}" in told
    assert "assd of cord (mm), lower is better" in told
    persons: dict[str, list[float]] = {}
    for r in rows_of(table, "hard_all", "assd", structure="cord"):
        persons.setdefault(r.person, []).append(70.0 if r.note == "miss" else r.value)
    assert f"counted {statistics.fmean(map(statistics.fmean, persons.values())):.3g}" in told
    (axes,) = figures[-1].axes
    triangles = [line for line in axes.lines if line.get_marker() == "^" and line.get_color() == "black"]
    assert sorted(float(t.get_ydata()[0]) for t in triangles) == pytest.approx(
        sorted(by_hand(table, v, "assd", structure="cord")[0] for v in VARIANTS)
    )
    # Every ordinary value of a variant is one of its points.
    drawn = np.sort(np.concatenate([line.get_ydata() for line in axes.lines if line.get_markersize() == 3.4]))
    values = [r.value for v in VARIANTS for r in rows_of(table, v, "assd", structure="cord")]
    assert drawn == pytest.approx(np.sort([v for v in values if not math.isnan(v)]))


def test_few_values_have_no_violin(tmp_path, figures) -> None:
    tiny = phantom_table(persons=3, seeds=1, contrasts=("T1w",), structures=("cord",), misses=False)
    draw_violins(tmp_path / "v", tiny, "dice")
    (axes,) = figures[-1].axes
    assert not axes.collections
    assert "n = 3 persons × 1 seed, against truth; no misses" in texts(figures[-1])


def test_points_fill_evenly_and_the_same_each_time() -> None:
    assert len(set(spread(64).tolist())) == 64
    assert np.abs(spread(64)).max() <= 0.28
    assert abs(spread(64).mean()) < 0.01
    assert (spread(10) == spread(64)[:10]).all()


def test_paired_lines(table, tmp_path, figures) -> None:
    draw_paired(tmp_path / "p", table, "dice/cord", "hard_all")
    told = texts(figures[-1])
    result = compare(table, Question("dice/cord", "hard_all"))
    for d in result.differences:
        assert f"{d.variant} − hard_all: {d.effects.estimate:+.3g}".replace("-", "−") in told
        panel = next(a for a in figures[-1].axes if a.get_title().startswith(d.variant))
        assert (
            sum(list(line.get_xdata()) == [0, 1] and line.get_linewidth() >= 1 for line in panel.lines) == 12
        )
    assert "12 better, 0 worse of 12" in told
    with pytest.raises(DataError, match="better or worse"):
        draw_paired(tmp_path / "p", table, "csa/cord", "hard_all")
    with pytest.raises(DataError, match=r"(?s)reference.*nobody"):
        draw_paired(tmp_path / "p", table, "dice", "nobody")


def test_bland_altman_by_hand(tmp_path, figures) -> None:
    draw_bland_altman(tmp_path / "b", SMALL, "csa", "hard_all")
    persons = sorted({r.person for r in rows_of(SMALL, "soft_all", "csa")})
    d = [
        statistics.fmean(r.value for r in rows_of(SMALL, "soft_all", "csa", person=p))
        - statistics.fmean(r.value for r in rows_of(SMALL, "hard_all", "csa", person=p))
        for p in persons
    ]
    bias, sd = statistics.fmean(d), statistics.stdev(d)
    told = texts(figures[-1])
    for text in (
        f"bias: {bias:+.3g}",
        f"+1.96 SD: {bias + 1.96 * sd:+.3g}",
        f"−1.96 SD: {bias - 1.96 * sd:+.3g}",
    ):
        assert text.replace("-", "−") in told
    assert "n = 6 persons" in told
    with pytest.raises(DataError, match="needs a reference and another"):
        draw_bland_altman(
            tmp_path / "b", phantom_table({"alone": 0.0}, persons=4, contrasts=("T1w",)), "dice"
        )
    two = phantom_table(persons=2, contrasts=("T1w",), structures=("cord",), misses=False)
    with pytest.raises(DataError, match="Bland–Altman limits"):
        draw_bland_altman(tmp_path / "b", two, "csa")


def test_agreement_grid_of_contrasts(table, tmp_path, figures) -> None:
    draw_agreement_grid(tmp_path / "g", table, "csa/cord", variant="hard_all")
    told = texts(figures[-1])
    persons = [f"p{i:02d}" for i in range(12)]

    def mean(person: str, contrast: str) -> float:
        found = rows_of(table, "hard_all", "csa", structure="cord", person=person, contrast=contrast)
        return statistics.fmean(r.value for r in found)

    x = np.array([mean(p, "T1w") for p in persons])
    y = np.array([mean(p, "DWI") for p in persons])
    r2 = np.corrcoef(x, y)[0, 1] ** 2
    assert f"difference {(y - x).mean():+.3g}\nslope {np.polyfit(x, y, 1)[0]:.2f}, r² {r2:.2f}" in told
    assert told.count("n = 11 persons, 2 failed (×)") == 2  # T2w against the two others
    assert len(crosses(figures[-1])) == 4
    with pytest.raises(DataError, match="two contrasts or more"):
        draw_agreement_grid(
            tmp_path / "g", phantom_table(persons=3, contrasts=("T1w",), structures=("cord",)), "csa"
        )


def test_agreement_grid_of_variants(table, tmp_path, figures) -> None:
    draw_agreement_grid(tmp_path / "g", table, "dice/cord", across="variant")
    assert [t for t in VARIANTS if t in texts(figures[-1])] == list(VARIANTS)
    assert len(crosses(figures[-1])) == 2 + 3 + 5


def test_the_worst_domain_is_marked(table, tmp_path, figures) -> None:
    draw_domains(tmp_path / "d", table, "assd/cord", by="contrast")
    axes = figures[-1].axes[0]
    marked = {
        (round(t.get_position()[0] - 0.5), round(t.get_position()[1] - 0.36))
        for t in axes.texts
        if t.get_text().startswith("▼")
    }

    def counted(variant: str, contrast: str) -> float:
        persons: dict[str, list[float]] = {}
        for r in rows_of(table, variant, "assd", structure="cord", contrast=contrast):
            persons.setdefault(r.person, []).append(70.0 if r.note == "miss" else r.value)
        return statistics.fmean(map(statistics.fmean, persons.values()))

    expected = set()
    for v, variant in enumerate(VARIANTS):
        values = [counted(variant, c) for c in CONTRASTS]
        expected.add((v, int(np.argmax(values))))
        assert all(f"{value:.3f}" in texts(figures[-1]) for value in values)
    assert marked == expected
    assert "worst contrast" in texts(figures[-1])
    with pytest.raises(DataError, match="is a measurement"):
        draw_domains(tmp_path / "d", table, "csa")


def test_higher_is_better_marks_the_lowest(table, tmp_path, figures) -> None:
    draw_domains(tmp_path / "d", table, "dice/cord")
    axes = figures[-1].axes[0]
    for v, variant in enumerate(VARIANTS):
        column = {
            t.get_text(): t
            for t in axes.texts
            if round(t.get_position()[0] - 0.5) == v and "n " not in t.get_text()
        }
        worst = next(text for text in column if text.startswith("▼"))
        assert float(worst.removeprefix("▼ ")) == min(float(text.removeprefix("▼ ")) for text in column), (
            variant
        )


def test_plane_turns_errors_so_that_better_is_up(table, tmp_path, figures) -> None:
    draw_plane(tmp_path / "p", table, "dice/cord", "assd/cord")
    (axes,) = figures[-1].axes
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert axes.get_xlim()[0] < axes.get_xlim()[1]
    mean, sd = by_hand(table, "soft_all", "dice", structure="cord")
    assert f"dice {mean:.3f} ± {sd:.3f}, n 12/12, 0 misses" in texts(figures[-1])
    with pytest.raises(DataError, match="no case has the metric 'hd95'"):
        draw_plane(tmp_path / "p", table, "dice", "hd95")


def test_the_same_table_gives_the_same_files(tmp_path) -> None:
    first = [f.read_bytes() for f in draw_violins(tmp_path / "a", SMALL, "dice")]
    assert [f.read_bytes() for f in draw_violins(tmp_path / "b", SMALL, "dice")] == first


def test_signs_differ_without_colour() -> None:
    assert len(set(MARKERS)) == len(MARKERS) == 7
    assert len(set(HATCHES)) == len(HATCHES) == 7


def test_no_figure_names_a_case_or_person(table, tmp_path, figures) -> None:
    """They go to tracking stores that others read."""
    draw_violins(tmp_path / "a", table, "dice/cord", by="contrast")
    draw_paired(tmp_path / "b", table, "dice/cord")
    draw_agreement(tmp_path / "c", table, "csa/cord")
    told = "\n".join(texts(f) for f in figures)
    assert not any(f"p{i:02d}" in told for i in range(12))


@pytest.mark.parametrize("draw", [draw_agreement, draw_bland_altman, draw_paired])
def test_headings_do_not_overlap(table, tmp_path, figures, draw) -> None:
    draw(tmp_path / "a", table, "dice/cord", "hard_all")
    figure = figures[-1]
    panels = [axes.title.get_window_extent() for axes in figure.axes]
    head = figure._suptitle.get_window_extent()
    assert not any(head.overlaps(panel) for panel in panels)
    assert not any(a.overlaps(b) for i, a in enumerate(panels) for b in panels[:i])
    for axes in figure.axes:
        assert not axes.xaxis.label.get_window_extent().overlaps(figure.legends[0].get_window_extent())


@pytest.mark.parametrize("draw", [draw_agreement, draw_bland_altman, draw_paired, draw_violins, draw_domains])
def test_headings_of_two_variants_are_whole(tmp_path, figures, draw) -> None:
    """Narrow figures, the same long line of n."""
    two = phantom_table({"soft_all": 0.02, "hard_all": 0.0}, contrasts=CONTRASTS, structures=("cord",))
    draw(tmp_path / "a", two, "dice")
    figure = figures[-1]
    for text in (figure._suptitle, *figure.legends):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.get_figwidth() * figure.dpi


def test_many_variants_have_signs_of_their_own_and_room(tmp_path, figures) -> None:
    """13 variants: no two share colour and marker, and the table and the legend lie under the plot."""
    signs = {(pick(COLOURS, i), sign(MARKERS, i)) for i in range(13)}
    assert len(signs) == 13
    many = {f"variant_{i:02d}": 0.02 - 0.003 * i for i in range(13)}
    table = phantom_table(many, persons=4, contrasts=CONTRASTS, structures=("cord",), misses=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_violins(tmp_path / "v", table, "dice", by="contrast")
    figure = figures[0]
    (axes,) = figure.axes
    plot, (legend,) = axes.get_window_extent(), figure.legends
    assert plot.height > 2.5 * figure.dpi
    numbers = [t.get_window_extent() for t in axes.texts if "n 4/4" in t.get_text()]
    assert len(numbers) == 13 * len(CONTRASTS)
    assert max(box.y1 for box in numbers) < plot.y0
    assert legend.get_window_extent().y1 <= min(box.y0 for box in numbers)
    assert min(box.y0 for box in numbers) > 0
