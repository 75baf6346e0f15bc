"""Which figures a study gets: those that its table can fill, and why the others are not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.errors import DataError

from mriad_eval.figures.agreement import draw_agreement, draw_agreement_grid
from mriad_eval.figures.bland_altman import draw_bland_altman
from mriad_eval.figures.boxes import draw_boxes
from mriad_eval.figures.calibration import QUANTITIES, draw_calibration
from mriad_eval.figures.domains import draw_domains
from mriad_eval.figures.learning import draw_learning_curves
from mriad_eval.figures.paired import draw_paired
from mriad_eval.figures.plane import draw_plane
from mriad_eval.figures.points import points_of
from mriad_eval.figures.violin import draw_violins

if TYPE_CHECKING:
    from collections.abc import Callable

    from mriad_eval.comparison.study import ComparisonResult
    from mriad_eval.comparison.trials import TrialTable

_METRICS = "metrics.jsonl"
_DISTANCES = ("assd", "asd", "hd95", "hd")
"""What stands beside Dice in a plane, the first that was measured."""
_GRID = 8  # contrasts; a grid of more is not legible


@dataclass(frozen=True)
class StudyFigure:
    """One figure: its heading, what it shows, and its files; without files, `problem` says why it is not there.

    wide: takes the page's whole width.
    """

    heading: str
    caption: str
    files: tuple[Path, ...] = ()
    problem: str = ""
    wide: bool = False

    @property
    def vector(self) -> Path | None:
        """The SVG."""
        return next((path for path in self.files if path.suffix == ".svg"), None)


def draw_study(
    folder: Path, table: TrialTable, result: ComparisonResult | None = None, metric: str = ""
) -> list[StudyFigure]:
    """Draw all figures that fit the table as PNG and SVG into `folder`; names of cases are in none.

    Args:
        folder: of the files.
        table: the trials.
        result: their comparison, for the primary metric and the reference; None for a single variant.
        metric: drawn where there is no comparison.

    Raises:
        DataError: no case has the metric. StorageError: the place is full or cannot be written.
    """
    name = metric
    against = reference = ""
    if result is not None:
        against, reference = result.primary.reference, result.reference
        name = result.primary.metric + (f"/{result.primary.structure}" if result.primary.structure else "")
    found = points_of(table, name, against)
    contrasts, domains = found.names("contrast"), found.names("domain")
    stem = name.replace("/", "_")
    drawn: list[StudyFigure] = []

    def add(heading: str, caption: str, draw: Callable[[], list[Path]], *, wide: bool = False) -> None:
        try:
            drawn.append(StudyFigure(heading, caption, tuple(draw()), wide=wide))
        except DataError as error:  # a statistic that so few persons do not allow; it is said in its place
            drawn.append(StudyFigure(heading, caption, problem=error.what))

    add(
        f"{name} by variant",
        "Points: cases and seeds. Triangle: mean over persons.",
        lambda: draw_violins(folder / f"violin_{stem}", table, name, against=against),
    )
    several = len(found.variants) > 1
    if several and found.measure.direction != "none":
        add(
            f"{name} person by person",
            "Counted values, as tests use them: cases and seeds averaged within the person, failures at their worst.",
            lambda: draw_paired(folder / f"paired_{stem}", table, name, reference, against=against),
        )
    if len(contrasts) > 1:
        add(
            f"{name} by contrast",
            "As above, for each contrast.",
            lambda: draw_violins(
                folder / f"violin_{stem}_by_contrast", table, name, by="contrast", against=against
            ),
            wide=True,
        )
    if all(point.domain == point.contrast for point in found.points):
        domains = []  # the same figure twice
    for by, names in (("domain", domains), ("contrast", contrasts)):
        if len(names) > 1 and found.measure.direction != "none":
            add(
                f"{name}: worst {by}",
                f"Mean over persons with failures at their worst; each variant's worst {by} is marked.",
                lambda by=by: draw_domains(  # type: ignore[misc]
                    folder / f"{by}s_{stem}", table, name, by=by, against=against
                ),
            )
    if len(found.names("structure")) > 1:
        add(
            f"{name} by structure",
            "Quartiles over cases and seeds.",
            lambda: draw_boxes(folder / f"boxes_{stem}", table, name, against=against),
        )
    area = _area(table) or name
    if several:
        add(
            f"{area}: agreement with {reference or found.variants[0]}",
            "Each case and seed against the same of the reference variant. The line is identity.",
            lambda: draw_agreement(folder / f"agreement_{area.replace('/', '_')}", table, area, reference),
        )
        add(
            f"{area}: Bland–Altman",
            "Difference to the reference variant, a point a person; bias and limits without failures.",
            lambda: draw_bland_altman(
                folder / f"bland_altman_{area.replace('/', '_')}", table, area, reference
            ),
        )
    if 2 <= len(contrasts) <= _GRID:
        for variant in found.variants if area != name else found.variants[:1]:
            add(
                f"{area}: agreement between contrasts, {variant}",
                "Points: persons and seeds. A method that does not depend on contrast is on the lines of identity.",
                lambda variant=variant: draw_agreement_grid(  # type: ignore[misc]
                    folder / f"contrasts_{area.replace('/', '_')}_{_plain(variant)}",
                    table,
                    area,
                    variant=variant,
                ),
                wide=len(contrasts) > 4,
            )
    measured = {row.metric for trial in table.trials for row in trial.rows}
    distance = next((d for d in _DISTANCES if d in measured), "")
    if "dice" in measured and distance:
        add(
            f"dice and {distance}",
            "Cases and seeds; large signs: mean ± SD over persons. Better is to the right and up.",
            lambda: draw_plane(folder / f"plane_dice_{distance}", table, "dice", distance),
        )
    if set(QUANTITIES) <= measured:
        add(
            "calibration",
            "Of soft output near the reference's boundary. On the line, the mean target equals the prediction.",
            lambda: draw_calibration(folder / "calibration", table, against=against),
        )
    runs = _metrics_of(table)
    units = {row.metric: row.unit for trial in table.trials for row in trial.rows}
    if runs:
        add(
            "learning curves",
            "Losses differ in scale and validation is against each variant's own labels: neither decides.",
            lambda: draw_learning_curves(folder / "learning_curves", runs, units=units),
            wide=True,
        )
    return drawn


def _area(table: TrialTable) -> str:
    """A measured area, whose agreement says more than that of a score; "" for none."""
    rows = [row for trial in table.trials for row in trial.rows]
    areas = [r for r in rows if r.direction == "none" and r.unit in ("mm²", "mm2") and r.case]
    references = {r.reference for r in areas}
    if not areas or (len(references) > 1 and "truth" not in references):
        return ""
    structures = {r.structure for r in areas}
    return areas[0].metric + (f"/{areas[0].structure}" if len(structures) > 1 else "")


def _metrics_of(table: TrialTable) -> dict[str, list[Path]]:
    """Variant → logs of its finished trials, for those that were trained."""
    found = {
        v: [
            Path(t.name) / _METRICS
            for t in table.finished(v)
            if t.name and (Path(t.name) / _METRICS).is_file()
        ]
        for v in table.variants
    }
    return {v: files for v, files in found.items() if files}


def _plain(variant: str) -> str:
    """A variant's name as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_=." else "_" for c in variant)
