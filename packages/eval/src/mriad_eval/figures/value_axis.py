"""An axis with ordinary values to scale and failures at their worst value, in a strip where that is far away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

_MARGIN = 0.06  # of the span, beyond the outermost value
_STRIP = 0.2  # of the span, the width of a strip beyond that
_NEAR = 0.35  # of the span: a worst value so near is drawn to scale


@dataclass(frozen=True)
class ValueAxis:
    """Ends of the scale, and beside it the labels of strips for failures far below and far above; "" is no strip."""

    low: float
    high: float
    below: str = ""
    above: str = ""

    @classmethod
    def of(cls, ordinary: Iterable[float], failures: Iterable[float] = (), word: str = "worst") -> ValueAxis:
        """Make an axis for values, and failures at their worst; both in the metric's unit. word: names a strip."""
        bad = [v for v in failures if math.isfinite(v)]
        values = [v for v in ordinary if math.isfinite(v)] or bad or [0.0]
        low, high = min(values), max(values)
        span = (high - low) or abs(high) * 0.1 or 1.0
        under = [v for v in bad if v < low - _NEAR * span]
        over = [v for v in bad if v > high + _NEAR * span]
        near = [v for v in bad if v not in under and v not in over]
        low, high = min([low, *near]), max([high, *near])
        return cls(low - _MARGIN * span, high + _MARGIN * span, _range(word, under), _range(word, over))

    @property
    def ends(self) -> tuple[float, float]:
        """Limits with the strips."""
        width = _STRIP * (self.high - self.low)
        return self.low - (width if self.below else 0), self.high + (width if self.above else 0)

    def place(self, value: float, *, failed: bool = False) -> float:
        """Where a value stands: where it is, and a failure off the scale in the middle of its strip."""
        if not failed or self.holds(value):
            return value
        start, stop = self.ends
        return (start + self.low) / 2 if value < self.low else (self.high + stop) / 2

    def holds(self, value: float) -> bool:
        """Whether a value is on the scale."""
        return self.low <= value <= self.high

    def apply(self, axes: Axes, which: Literal["x", "y"] = "y") -> None:
        """Set limits and ticks, and shade the strips. Call it after the values are drawn."""
        axis = axes.yaxis if which == "y" else axes.xaxis
        start, stop = self.ends
        (axes.set_ylim if which == "y" else axes.set_xlim)(start, stop)
        if not self.below and not self.above:
            return
        room = 0.05 * (self.high - self.low)  # a label at the edge would run into the strip's
        first, last = self.low + (room if self.below else 0), self.high - (room if self.above else 0)
        ticks = [t for t in MaxNLocator(6).tick_values(self.low, self.high) if first <= t <= last]
        places, labels = list(ticks), [f"{t:.{_decimals(ticks)}f}" for t in ticks]
        span = axes.axhspan if which == "y" else axes.axvspan
        line = axes.axhline if which == "y" else axes.axvline
        for text, outer, inner in ((self.below, start, self.low), (self.above, stop, self.high)):
            if text:
                places.append((outer + inner) / 2)
                labels.append(text)
                span(min(outer, inner), max(outer, inner), color="#EFEFEF", linewidth=0, zorder=0)
                line(inner, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axis.set_ticks(places, [text.replace("-", "−") for text in labels])


def _range(word: str, values: list[float]) -> str:
    """`worst 70`, or `worst 66 to 72` where it depends on the case; "" for none."""
    if not values:
        return ""
    ends = f"{min(values):.3g}", f"{max(values):.3g}"
    return f"{word}\n" + (ends[0] if ends[0] == ends[1] else " to ".join(ends))


def _decimals(ticks: list[float]) -> int:
    """How many digits tell all ticks exactly."""
    return next((d for d in range(8) if all(abs(round(t, d) - t) < 1e-9 * max(1, abs(t)) for t in ticks)), 8)
