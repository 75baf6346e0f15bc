"""A comparison as text: rows of cells for any table, Markdown, LaTeX in a paper's form, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file

from mriad_eval.comparison.reported import HEADING, NOTE, reported_cells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad_eval.comparison.differences import Difference
    from mriad_eval.comparison.persons import Measure
    from mriad_eval.comparison.study import ComparisonResult, VariantFigures

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Column names and rows."""
INTERVALS = (
    "Intervals: t-based, level 1 − α. *These models*: persons drawn again; *the method*: persons and seeds."
)
COUNTED = "counted: failures at their worst value; with a best value, the size of the error. Tests use it."
_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$"}
_TEX |= {"²": "$^2$", "³": "$^3$", "−": "$-$", "|": "$|$", "→": r"$\to$"}


def figures_cells(result: ComparisonResult) -> Cells:
    """Mean ± SD over persons, n, misses: one row a measure and variant."""
    heads = ("metric", "variant", "mean ± SD", "n", "misses", "false pos.", "counted")
    rows: list[tuple[str, ...]] = []
    for f in result.figures:
        rows.append(
            (
                _named(f.measure, result),
                f.variant,
                mean_sd(f),
                f"{f.n}/{f.total}",
                str(f.misses),
                str(f.false_positives),
                f"{_n(f.counted)}" + (f" ({f.undefined} undefined)" if f.undefined else ""),
            )
        )
    return heads, rows


def difference_cells(found: Sequence[Difference], result: ComparisonResult) -> Cells:
    """Variant − reference with both intervals, effect sizes and p-values."""
    heads: tuple[str, ...] = (
        "metric",
        f"variant − {result.reference}",
        "difference",
        "these models",
        "the method",
    )
    heads += ("rank biserial", "d_z", "p Wilcoxon / interval", "adjusted p", "n × seeds")
    rows: list[tuple[str, ...]] = []
    for d in found:
        adjusted = "exploratory" if d.p_adjusted is None else f"{_p(d.p_adjusted)} (m = {d.m})"
        seeds = len([s for s in d.seeds if s])
        size = f"{d.n} × {seeds}" if seeds and d.all_seeds else str(d.n)
        if d.effects is None or d.wilcoxon is None:
            rows.append((_named(d.measure, result, counted=True), d.variant, *("–",) * 6, adjusted, size))
            continue
        method = "– (one seed)" if d.effects.method is None else _ends(d.effects.method)
        rows.append(
            (
                _named(d.measure, result, counted=True),
                d.variant,
                _n(d.effects.estimate, sign=True),
                _ends(d.effects.models),
                method,
                "–"
                if d.rank_biserial is None
                else f"{_n(d.rank_biserial.value)} {_ends(d.rank_biserial.interval)}",
                "–"
                if d.standardised is None
                else f"{_n(d.standardised.value)} {_ends(d.standardised.interval)}",
                f"{_p(d.wilcoxon.p)} / {_p(d.effects.p)}",
                adjusted,
                size,
            )
        )
    return heads, rows


def rank_cells(result: ComparisonResult) -> Cells:
    """Place of each variant, and what becomes of it when persons are drawn again."""
    heads = ("variant", "place", "95 % of places", "best in")
    if result.ranks is None:
        return heads, []
    r = result.ranks
    rows: list[tuple[str, ...]] = [
        (name, str(place), f"{low} to {high}", f"{share:.0%}")
        for name, place, (low, high), share in zip(r.methods, r.place, r.places, r.first, strict=True)
    ]
    return heads, rows


def compute_cells(result: ComparisonResult) -> Cells:
    """What each variant cost."""
    heads = (
        "variant",
        "trials",
        "folds",
        "seeds",
        "tuning trials",
        "steps",
        "samples",
        "training time",
        "GPU hours",
        "peak memory",
    )
    rows: list[tuple[str, ...]] = []
    for f in result.facts:
        c = f.compute
        seconds, peak = c.get("seconds"), c.get("peak_memory_bytes")
        rows.append(
            (
                f.variant,
                str(f.trials),
                ", ".join(f.folds) or "–",
                ", ".join(f.seeds) or "–",
                str(f.tuning),
                *(f"{c[key]:.0f}" if key in c else "–" for key in ("steps", "samples")),
                "–" if seconds is None else f"{seconds / 3600:.2f} h",
                "–" if "gpu_seconds" not in c else f"{c['gpu_seconds'] / 3600:.2f}",
                "–" if peak is None else f"{peak / 2**30:.2f} GiB",
            )
        )
    return heads, rows


def test_cells(result: ComparisonResult) -> Cells:
    """The exploratory tests that were asked for."""
    heads = ("test", "about", "statistic", "p", "n", "note")
    return heads, [
        (t.test, t.about, t.statistic or "–", "–" if math.isnan(t.p) else _p(t.p), t.n, t.reason or t.note)
        for t in result.exploratory.tests
    ]


FILES = ("comparison.md", "comparison.csv", "comparison.tex", "comparison.json")


def write_files(result: ComparisonResult, folder: Path) -> list[Path]:
    """Write the comparison as Markdown, CSV, LaTeX and JSON, each whole or not at all.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    for name, write in zip(FILES, (markdown, csv_text, latex, json_text), strict=True):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(write(result), encoding="utf-8")
    return [folder / name for name in FILES]


def markdown(result: ComparisonResult) -> str:
    """The whole comparison as one document."""
    against = result.primary.reference or "the reference"
    parts = [f"# Comparison: {result.primary.name} against {against}", "", "## Verdict", ""]
    parts += [f"- {v.text}" for v in result.verdicts]
    parts += [f"- note: {note}" for note in result.notes]
    parts += ["", f"## Values over {result.unit}", "", *_markdown_table(figures_cells(result)), "", COUNTED]
    parts += ["", f"## Primary metric, differences to {result.reference}", ""]
    parts += [*_markdown_table(difference_cells(result.differences, result)), "", INTERVALS]
    if result.ranks is not None:
        parts += ["", "## Stability of the ranks", "", *_markdown_table(rank_cells(result)), ""]
        parts += [
            f"{result.ranks.resamples} draws of {result.ranks.n} {result.unit}; "
            f"mean agreement with the observed ranking (Kendall's τ) {result.ranks.kendall_tau:.2f}."
        ]
    parts += ["", "## Compute", "", *_markdown_table(compute_cells(result))]
    if result.exploratory.differences:
        parts += ["", "## Exploratory: other metrics", "", "Uncorrected; nothing here is claimed.", ""]
        parts += _markdown_table(difference_cells(result.exploratory.differences, result))
    if result.exploratory.tests:
        parts += ["", "## Exploratory: other tests of the primary metric", ""]
        parts += ["Uncorrected; nothing here is claimed.", "", *_markdown_table(test_cells(result))]
    if result.question.reported:
        parts += [
            "",
            f"## {HEADING}",
            "",
            *_markdown_table(reported_cells(result.question.reported)),
            "",
            NOTE,
        ]
    return "\n".join(parts) + "\n"


def latex(result: ComparisonResult) -> str:
    """A paper's table: variants by metrics, mean ± SD (n, misses); needs the package booktabs."""
    measures = list(dict.fromkeys(f.measure for f in result.figures))
    variants = list(dict.fromkeys(f.variant for f in result.figures))
    by = {(f.variant, f.measure): f for f in result.figures}
    claimed = {v.variant for v in result.verdicts if v.claim}
    lines = [f"% {v.text}" for v in result.verdicts]
    lines += [r"\begin{tabular}{l" + "c" * len(measures) + "}", r"\toprule"]
    lines.append(" & ".join(["variant", *(_tex(_named(m, result)) for m in measures)]) + r" \\")
    lines.append(r"\midrule")
    for variant in variants:
        cells = [_tex(variant) + (r"$^{\dagger}$" if variant in claimed else "")]
        for measure in measures:
            f = by.get((variant, measure))
            if f is None:
                cells.append("--")
                continue
            mean, sd = _same_decimals(f.mean, f.sd)
            value = "--" if math.isnan(f.mean) else f"${mean}$" if not sd else rf"${mean} \pm {sd}$"
            cells.append(f"{value} ({f.n}/{f.total}, {f.misses})")
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    legend = f"Mean ± SD over {result.unit} (n of total, misses). Primary: {result.primary.name}."
    if claimed:
        legend += f" Dagger: differs from {result.reference}, adjusted p ≤ {result.question.alpha:g}."
    return "\n".join([*lines, f"% {legend}"]) + "\n"


def csv_text(result: ComparisonResult) -> str:
    """One row a variant and measure: every number of the tables, in full digits."""
    found = {(d.variant, d.measure): d for d in (*result.differences, *result.exploratory.differences)}
    out = io.StringIO()
    names = "metric,structure,measured_against,unit,direction,variant,reference_variant,role,mean,sd,n,total,misses"
    names += ",false_positives,undefined,counted,counted_sd,difference,models_low,models_high,method_low,method_high"
    names += ",rank_biserial,rank_biserial_low,rank_biserial_high,d_z,d_z_low,d_z_high,p_wilcoxon,p_interval"
    names += ",p_adjusted,m,correction,pairs,seeds"
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names.split(","))
    for f in result.figures:
        m = f.measure
        role = "primary" if m == result.primary else "exploratory"
        row: list[Any] = [
            m.metric,
            m.structure,
            m.reference,
            m.unit,
            m.direction,
            f.variant,
            result.reference,
            role,
        ]
        row += [f.mean, f.sd, f.n, f.total, f.misses, f.false_positives, f.undefined, f.counted, f.counted_sd]
        writer.writerow(row + _difference_values(found.get((f.variant, m))))
    return out.getvalue()


def json_text(result: ComparisonResult) -> str:
    """Everything, for programs; what is not defined is null."""
    content = asdict(result)
    for trial in content["missing"]:
        trial.pop("rows")
    for d in (*content["differences"], *content["exploratory"]["differences"]):
        d["measure"]["name"] = next(
            x.measure.name
            for x in (*result.differences, *result.exploratory.differences)
            if asdict(x.measure) == {k: v for k, v in d["measure"].items() if k != "name"}
        )
    return json.dumps({"format": 1, **_finite(content)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _difference_values(d: Difference | None) -> list[Any]:
    if d is None or d.effects is None or d.wilcoxon is None:
        return [""] * 18
    e, method = d.effects, d.effects.method
    out: list[Any] = [e.estimate, e.models.low, e.models.high]
    out += ["", ""] if method is None else [method.low, method.high]
    for size in (d.rank_biserial, d.standardised):
        out += ["", "", ""] if size is None else [size.value, size.interval.low, size.interval.high]
    out += [d.wilcoxon.p, e.p, "" if d.p_adjusted is None else d.p_adjusted]
    primary = d.p_adjusted is not None
    return [*out, d.m if primary else "", d.correction if primary else "", d.n, " ".join(d.seeds)]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _named(measure: Measure, result: ComparisonResult, *, counted: bool = False) -> str:
    """`rve (%)`, or `|rve − 0| (%)` where counted values stand, and the labels where they are other ones."""
    unit = "" if measure.unit in ("", "1") else f" ({measure.unit})"
    other = "" if measure.reference == result.primary.reference else f" vs {measure.reference}"
    own = measure.metric + (f"/{measure.structure}" if measure.structure else "")
    return f"{measure.name if counted else own}{unit}{other}"


def mean_sd(f: VariantFigures) -> str:
    """`0.912 ± 0.034` with the digits that the SD needs; – for no value."""
    if math.isnan(f.mean):
        return "–"
    mean, sd = _same_decimals(f.mean, f.sd)
    return mean.replace("-", "−") + (f" ± {sd}" if sd else "")


def _n(value: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    plus = "+" if sign and value > 0 else ""
    return plus + _plain(value).replace("-", "−")


def _plain(value: float) -> str:
    return f"{value:.{_decimals(value)}f}"


def _same_decimals(mean: float, sd: float) -> tuple[str, str]:
    """Mean and SD with the decimals that the SD needs; "" for no SD."""
    if math.isnan(sd):
        return _plain(mean), ""
    decimals = _decimals(sd) if sd else _decimals(mean)
    return f"{mean:.{decimals}f}", f"{sd:.{decimals}f}"


def _decimals(value: float) -> int:
    """Three, fewer above 10, more for what three would show as zero."""
    size = abs(value)
    if 0 < size < 0.0095:
        return min(7, 1 - math.floor(math.log10(size)))
    return 1 if size >= 100 else 2 if size >= 10 else 3


def _ends(interval: Any) -> str:
    return f"[{_n(interval.low)}, {_n(interval.high)}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def _markdown_table(cells: Cells) -> list[str]:
    heads, rows = cells

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"

    return [line(heads), "|" + "---|" * len(heads), *(line(row) for row in rows)]


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)
