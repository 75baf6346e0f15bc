"""What may be said, in a sentence: who, what, against which reference, by how much, how sure, on whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mriad_eval.statistics.paired import smallest_wilcoxon_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad_eval.comparison.differences import Difference
    from mriad_eval.comparison.trials import Trial, TrialTable

Outcome = Literal["difference", "difference of these models", "no difference", "n too small", "spread alone"]
_CORRECTIONS = {"holm": "Holm", "bonferroni": "Bonferroni"}


@dataclass(frozen=True)
class Verdict:
    """One comparison of the primary metric in words.

    outcome: "difference of these models" where there was one seed, so that nothing is known of the method; "spread
    alone" where the metric is one that a constant answer wins. claim: whether a difference is claimed. text: the
    sentence, with data, persons, seeds, reference and evidence level.
    """

    variant: str
    reference: str
    outcome: Outcome
    claim: bool
    text: str


def verdict(found: Difference, table: TrialTable, *, alpha: float = 0.05, cases: bool = False) -> Verdict:
    """Put a corrected difference of the primary metric into words.

    A difference is claimed where Wilcoxon's p and that of persons and seeds (`CrossedEffects.p_claim`), both
    corrected, are at most α, the wider interval leaves zero out, and mean and ranks point the same way. A spread
    (`Metric.constant_wins`) is never claimed: a constant answer has the least.

    Args:
        found: from `differences.correct_all`.
        table: names data and evidence level, and the trials that are missing.
        alpha: of the corrected p.
        cases: persons are not identified, so that what is counted is cases.
    """
    unit = "cases" if cases else "persons"
    head = f"{found.measure.name} against {found.measure.reference or 'the reference'}: "
    tail = f"{_on_whom(found, unit)}, {_where(found, table)}{_missing(found, table)}"
    names = found.variant, found.reference
    if found.measure.spread:
        estimate = f"; {names[0]} and {names[1]}: {_signed(found)}, described only" if found.effects else ""
        text = (
            f"{head}a spread alone rewards a constant: {found.measure.name} is never claimed without agreement with "
            f"the reference{estimate}; {tail}"
        )
        return Verdict(*names, "spread alone", False, text)
    if found.attainable > alpha or found.effects is None or found.p_adjusted is None:
        best = min(1.0, smallest_wilcoxon_p(found.n) * found.m)
        reason = (
            f"the smallest adjusted p that {found.n} {unit} and m = {found.m} {_tests(found.m)} can reach is "
            f"{best:.3g} (α = {alpha:g})"
        )
        estimate = f"; {_signed(found)}, described only" if found.effects is not None else ""
        text = f"{head}n too small for any claim about {names[0]} and {names[1]}: {reason}{estimate}; {tail}"
        return Verdict(*names, "n too small", False, text)
    interval = found.effects.wider
    sure = found.p_adjusted <= alpha and not interval.holds(0.0) and found.agree
    one = found.effects.method is None
    corrected = f"adjusted {_p(found.p_adjusted)} ({_CORRECTIONS[found.correction]}, m = {found.m})"
    if sure:
        better = "better" if found.better else "worse"
        size = f"{_size(found)} {_way(found)} ({better}) than {names[1]} {_magnitude(found)}"
        note = "; one seed: this holds for these trained models, not for the method" if one else ""
        outcome: Outcome = "difference of these models" if one else "difference"
        return Verdict(*names, outcome, True, f"{head}{names[0]} {size}, {corrected}, {tail}{note}")
    why = _why_not(found, alpha)
    text = (
        f"{head}no difference can be claimed between {names[0]} and {names[1]}: {_signed(found)}, {corrected}"
    )
    note = "; one seed: only these trained models were looked at" if one else ""
    return Verdict(*names, "no difference", False, f"{text}{why}, {tail}{note}")


def _size(found: Difference) -> str:
    """`0.31 mm²`."""
    assert found.effects is not None
    return _number(abs(found.effects.estimate), found) + _unit(found)


def _way(found: Difference) -> str:
    assert found.effects is not None
    return "higher" if found.effects.estimate > 0 else "lower"


def _magnitude(found: Difference) -> str:
    """The wider interval of the size named in the sentence: both ends positive where the claim is sure."""
    assert found.effects is not None
    low, high = found.effects.wider.low, found.effects.wider.high
    if found.effects.estimate < 0:
        low, high = -high, -low
    return f"[{_number(low, found)}, {_number(high, found)}]"


def _signed(found: Difference) -> str:
    """`−0.02 mm² [−0.14, 0.10]`: variant minus reference."""
    assert found.effects is not None
    e = found.effects
    ends = f"[{_number(e.wider.low, found)}, {_number(e.wider.high, found)}]"
    return f"difference {_number(e.estimate, found)}{_unit(found)} {ends}"


def _unit(found: Difference) -> str:
    return "" if found.measure.unit in ("", "1") else f" {found.measure.unit}"


def _number(value: float, found: Difference) -> str:
    """Two significant digits of the interval's half-width decide how many decimals are worth reading."""
    assert found.effects is not None
    half = found.effects.wider.width / 2 or abs(found.effects.estimate) or 1.0
    decimals = next((d for d in range(7) if half * 10**d >= 5), 7)
    return f"{value + 0.0:.{decimals}f}".replace("-", "−")


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def _tests(m: int) -> str:
    return "test" if m == 1 else "tests"


def _why_not(found: Difference, alpha: float) -> str:
    """A word where one of the two conditions alone holds."""
    assert found.effects is not None
    assert found.wilcoxon is not None
    if found.wilcoxon.zeros == found.n:
        return " (every person has the same value in both)"
    ranks = found.wilcoxon_adjusted is not None and found.wilcoxon_adjusted <= alpha
    if found.effects.method is None or not ranks or found.effects.models.holds(0.0):
        return ""
    if found.effects.method.holds(0.0):
        return " (these trained models differ, but models of other seeds may not)"
    return f" (these trained models differ; {found.effects.n_seeds} seeds are too few to be sure of others)"


def _on_whom(found: Difference, unit: str) -> str:
    left_out = f" ({found.left_out} left out: without a value on one side)" if found.left_out else ""
    if not found.all_seeds:
        return f"{found.n} {unit}{left_out}, seeds incomplete"
    seeds = [seed for seed in found.seeds if seed]
    if not seeds:
        return f"{found.n} {unit}{left_out}, fixed models"
    return f"{found.n} {unit}{left_out} × {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"


def _where(found: Difference, table: TrialTable) -> str:
    level = table.evidence or "evidence level unknown"
    if table.evidence == "E2" and found.measure.reference != "truth":
        level += ", but not against the truth"
    return f"{table.data or 'data not named'} ({level})"


def _missing(found: Difference, table: TrialTable) -> str:
    lost = [t for t in table.missing() if t.variant in (found.variant, found.reference)]
    return f"; missing: {listed(lost)}" if lost else ""


def listed(trials: Sequence[Trial], shown: int = 6) -> str:
    """`hard_all fold 1 seed 2 (failed)`, at most so many, then a count."""
    names = [f"{t.text()} ({t.status})" for t in trials[:shown]]
    return ", ".join(names) + (f" and {len(trials) - shown} more" if len(trials) > shown else "")
