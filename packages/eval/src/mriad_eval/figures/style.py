"""One look for every figure: colours for colour-blind readers, and a second sign that stays in grey print.

Nothing here uses pyplot, so that figures may be drawn in threads and no global state is left behind.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mriad.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Okabe and Ito, "Color Universal Design" (2008); ordered so that neighbours also differ in lightness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
ON_IMAGES = ("#56B4E9", "#F0E442", "#D55E00", "#FFFFFF", "#CC79A7", "#009E73", "#E69F00")
"""The same without those that vanish on a dark image."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
"""Of filled shapes, so that they differ in grey print."""
GREY = "#666666"
FAILURE: dict[str, Any] = {
    "marker": "x",
    "color": "black",
    "markersize": 6.5,
    "markeredgewidth": 1.5,
    "linestyle": "none",
}
"""How every figure draws a miss or a false positive."""
DPI = 150

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.facecolor": "white",
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "mriad",  # the same ids for the same figure
}


def pick(series: tuple[str, ...], index: int) -> str:
    """The colour of a series; the list starts again when it is used up."""
    return series[index % len(series)]


def sign(series: tuple[str, ...], index: int) -> str:
    """The marker, hatch or line that goes with `pick(COLOURS, index)`: another one where colours start again."""
    return series[(index + index // len(COLOURS)) % len(series)]


def halo(width: float = 1.0) -> list[Any]:
    """A dark rim, so that a line stays visible on bright tissue and on white paper."""
    return [patheffects.Stroke(linewidth=width, foreground="black"), patheffects.Normal()]


@contextlib.contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Give a figure of so many inches in mriad's style; whatever the user configured is left out."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG whole or not at all, the same bytes for the same figure; call it inside `new_figure`.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return path


def save_pair(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.svg, each whole or not at all; call it inside `new_figure`.

    The SVG carries its letters as shapes, so that it looks the same where the font is not installed.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    for _ in range(2):  # panels of fixed shape find their place only after they were drawn once
        figure.draw_without_rendering()
        _hold_headings(figure)
    figure.set_layout_engine("none")  # both files then have this layout
    vector = stem.with_name(f"{stem.name}.svg")
    with atomic_file(vector) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    return [save(figure, stem.with_name(f"{stem.name}.png")), vector]


def _hold_headings(figure: Figure) -> None:
    """Widen a figure whose heading or legend is wider than it is; they say n, so nothing may be cut off."""
    heads: list[Any] = [*figure.texts, *figure.legends]
    widest = max((head.get_window_extent().width for head in heads), default=0.0) / figure.dpi + 0.2
    if widest > figure.get_figwidth():
        figure.set_figwidth(widest)
