"""Spreads over contrasts: a constant answer has none, so they are described beside agreement and never claimed.

Which metrics these are they declare themselves (`Metric.constant_wins`), a plugin's like our own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad.errors import DataError, PluginError
from mriad.metric import Metric
from mriad.registry import registry
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mriad_eval.csa_agreement import agreement_of
from mriad_eval.csa_metrics import CsaStd
from mriad_eval.metrics_person import VolumeSpread, VolumeVariation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.evaluation import Row

    from mriad_eval.comparison.persons import Measure
    from mriad_eval.comparison.trials import TrialTable

_OURS: tuple[Metric, ...] = (
    CsaStd(),
    CsaStd(mask="binary"),
    VolumeSpread(),
    VolumeSpread(volume="soft"),
    VolumeVariation(),
    VolumeVariation(volume="soft"),
)
"""In every form, for tables that come without the metrics' settings."""
_Place = tuple[str, str]
"""Person and case."""


@dataclass(frozen=True)
class SpreadAgreement:
    """How a variant's areas or volumes agree with the reference's between persons.

    quantity: "csa" or "volume". slope, r2: of the measured values on the reference's; icc: ICC(A,1). n: persons;
    left_out: those whose value or reference is not known.
    """

    variant: str
    metric: str
    structure: str
    quantity: str
    slope: float
    r2: float
    icc: float
    n: int
    left_out: int


def declared(configs: Iterable[object]) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """What metrics say of themselves: key → `constant_wins`; and the types of those that cannot be asked.

    Args:
        configs: as records hold them, {"type": "eval.csa_std", …}.
    """
    found: dict[str, tuple[str, str]] = {}
    unknown: dict[str, None] = {}
    for config in configs:
        metric = _resolved(config)
        if metric is None:
            unknown[str(config.get("type", "")) if isinstance(config, dict) else str(config)] = None
        elif (pair := metric.constant_wins()) is not None:
            found[metric.key()] = pair
    return found, tuple(unknown)


def resolved(configs: Iterable[object]) -> list[Metric]:
    """The metrics of configs, without those whose plugin cannot be asked (`declared` names them)."""
    return [metric for config in configs if (metric := _resolved(config)) is not None]


def _resolved(config: object) -> Metric | None:
    try:
        return Metric.resolve(config)
    except (PluginError, ValidationError, PydanticCustomError):  # not installed, or another version of it
        return None


def spread_of(metric: str, table: TrialTable) -> tuple[str, str] | None:
    """`Metric.constant_wins` of a metric by its key: as a table's trials recorded it, else by its type's defaults."""
    if metric in table.spreads:
        return table.spreads[metric]
    ours = {known.key(): known.constant_wins() for known in _OURS}
    installed, _ = declared({"type": name} for name in registry().names("metric"))
    return (installed | ours).get(metric)


def spread_agreement(
    table: TrialTable, measure: Measure, variants: Sequence[str], same: Mapping[str, str]
) -> tuple[list[SpreadAgreement], list[str]]:
    """Slope, r² and ICC of each variant beside a spread, and what a reader must know about them.

    Values are averaged over seeds, then over a person's cases; a miss measures 0, as in `csa_abs_error`. The
    reference's value v of a case follows from the tables: v = V/(1 + rve/100) for volumes; for areas |a − v| = e in
    every trial, which the row's worst value (the true area), a miss, or two trials with different a settle.

    Args:
        table: of finished and missing trials.
        measure: a spread, see `Measure.spread`.
        variants: those with finished trials.
        same: names that stand for another person, see `persons.same_persons`.
    """
    if measure.spread is None:
        return [], []
    rows = [row for variant in variants for trial in table.finished(variant) for row in trial.rows]
    quantity, error = measure.spread[0], _measured_error(measure.spread[1], rows)
    structures = dict.fromkeys(row.structure for row in rows if row.metric == measure.metric)
    found: list[SpreadAgreement] = []
    notes: list[str] = []
    for structure in [s for s in structures if measure.structure in ("", s)]:
        about = f"{measure.metric}/{structure}"
        first = len(found)
        why = f"{quantity} and {error} of the same cases are needed"
        truth = _reference_values(table, variants, (quantity, error, structure, measure.reference))
        for variant in variants:
            measured = _means(
                (row for trial in table.finished(variant) for row in trial.rows),
                (quantity, structure, measure.reference),
            )
            try:
                a = agreement_of(*_by_person(truth, measured, same))
            except DataError as problem:
                if truth and measured:
                    why = f"{variant}: {problem.what}"
                continue
            found.append(
                SpreadAgreement(
                    variant,
                    measure.metric,
                    structure,
                    quantity,
                    a.fit.slope,
                    a.fit.r2,
                    a.icc.value,
                    len(a.persons),
                    len(a.left_out),
                )
            )
        mine = found[first:]
        if mine:
            each = "; ".join(_text(a) for a in mine)
            against = measure.reference or "the reference"
            notes.append(f"beside {about}, {quantity} on that of {against}, between persons: {each}")
        lacking = [v for v in variants if v not in {a.variant for a in mine}]
        if lacking:
            notes.append(
                f"{about} rewards a constant, and its agreement with the reference (slope, r², ICC) is missing for "
                f"{', '.join(lacking)}: {why}"
            )
        notes.append(
            f"the share of detected 2 % atrophy, which belongs beside {about}, is not in these tables"
        )
    return found, notes


def _measured_error(error: str, rows: Iterable[Row]) -> str:
    """The error that was measured: `csa_abs_error`, or else that against a number (`csa_abs_error_of_area_mm2`)."""
    names = dict.fromkeys(row.metric for row in rows)
    stem, binary = error.removesuffix("_binary"), error.endswith("_binary")
    against = (n for n in names if n.startswith(f"{stem}_of_") and n.endswith("_binary") == binary)
    return error if error in names else next(against, error)


def _text(a: SpreadAgreement) -> str:
    """`base slope 0.98, r² 0.97, ICC 0.95 (12 persons)`."""
    left_out = f", {a.left_out} left out" if a.left_out else ""
    numbers = f"slope {a.slope:.2f}, r² {a.r2:.2f}, ICC {a.icc:.2f}".replace("-", "−")
    return f"{a.variant} {numbers} ({a.n} persons{left_out})"


def _means(rows: Iterable[Row], wanted: tuple[str, str, str]) -> dict[_Place, float]:
    """Values by case, averaged over a variant's seeds."""
    values: dict[_Place, list[float]] = defaultdict(list)
    for row in rows:
        if row.case and not row.part and (row.metric, row.structure, row.reference) == wanted:
            values[row.person, row.case].append(0.0 if row.note == "miss" else row.value)
    return {place: sum(v) / len(v) for place, v in values.items()}


def _by_person(
    truth: Mapping[_Place, float], measured: Mapping[_Place, float], same: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Both sides averaged over the same cases; a person with a value that is not known has NaN."""
    cases: dict[str, list[_Place]] = defaultdict(list)
    for place in measured:
        cases[same.get(place[0], place[0])].append(place)
    sides = [
        {p: sum(side.get(place, math.nan) for place in places) / len(places) for p, places in cases.items()}
        for side in (truth, measured)
    ]
    return sides[0], sides[1]


def _reference_values(
    table: TrialTable, variants: Sequence[str], wanted: tuple[str, str, str, str]
) -> dict[_Place, float]:
    """Case → the reference's value, where the trials' values and errors leave one only."""
    quantity, error, structure, reference = wanted
    possible: dict[_Place, list[float]] = {}
    for variant in variants:
        for trial in table.finished(variant):
            values: dict[_Place, dict[str, Row]] = defaultdict(dict)
            for row in trial.rows:
                fits = (row.structure, row.reference, row.part) == (structure, reference, "")
                if fits and row.case and row.metric in (quantity, error):
                    values[row.person, row.case][row.metric] = row
            for place, pair in values.items():
                if len(pair) == 2 and (options := _options(pair[quantity], pair[error])):
                    known = possible.get(place, options)
                    possible[place] = [v for v in known if any(_equal(v, other) for other in options)]
    return {
        place: options[0]
        for place, options in possible.items()
        if options and all(_equal(v, options[0]) for v in options)
    }


def _options(value: Row, error: Row) -> list[float]:
    """What the reference may measure; [] where this trial does not tell."""
    if math.isnan(error.value) or error.note == "false positive":
        return []
    if error.unit == "%":
        factor = 1 + error.value / 100
        return [value.value / factor] if factor > 0 and math.isfinite(value.value) else []
    if error.note == "miss":
        return [error.value]
    if math.isnan(value.value):
        return []
    ends = (value.value - error.value, value.value + error.value)
    return [v for v in ends if _equal(v, error.worst)] or [v for v in ends if v >= 0]


def _equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6)
