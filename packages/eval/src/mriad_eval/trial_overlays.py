"""Overlays of test cases of a finished trial, chosen by rank so that the worst case is always seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.encoding import one_hot
from mriad.evaluation import read_rows
from mriad.flow import gather_cases
from mriad.images import read_volume
from mriad.preparation import load_sample
from mriad.stages.evaluate import PREDICTIONS
from mriad.stages.train import index_of

from mriad_eval.figures.overlay import draw_overlay

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.evaluation import Row
    from mriad.launch.trial import Trial
    from numpy.typing import NDArray


def draw_overlays(trial: Trial, folder: Path, count: int) -> list[Path]:
    """Draw `count` cases from worst to best by the first metric of the first structure."""
    tables = [a.folder for a in trial.tested if (a.folder / PREDICTIONS).is_dir()]
    if not tables:
        return []
    rows = read_rows(tables[-1] / "cases.csv")
    chosen = spread(ranked(rows), count)
    experiment = trial.experiment
    cases = gather_cases(experiment, index_of(experiment), experiment.fold, experiment.seed)
    by_id = {case.id: case for case in cases.index}
    name = experiment.evaluate.reference or cases.label
    drawn = []
    for place, row in chosen:
        case = by_id[row.case]
        reference = load_sample(
            case,
            cases.task.channels,
            name,
            case.labels[name].kind,
            cases.task.label_set(case.domain),
            cases.index.label_set,
        )
        predicted = read_volume(tables[-1] / PREDICTIONS / f"{case.id}.nii.gz", stacked=True)
        maps = predicted.data if predicted.data.ndim == 4 else predicted.data[None]
        called = trial.names.of(case.id)
        path = folder / f"overlay_{place}_{called}.png"
        unit = "" if row.unit == "1" else f" {row.unit}"
        drawn.append(
            draw_overlay(
                path,
                reference.image[0],
                reference.grid,
                reference=_maps(reference.target, len(cases.task.label_set(case.domain))),
                prediction=np.asarray(maps, np.float32),
                structures=cases.task.label_set(case.domain).names,
                title=f"{trial.experiment.name}: {called} ({place}), {row.metric} {row.value:.3g}{unit}",
            )
        )
    return drawn


def _maps(target: NDArray[Any] | None, structures: int) -> NDArray[np.float32] | None:
    """A target as one map a structure."""
    if target is None or np.issubdtype(target.dtype, np.floating):
        return target
    return one_hot(target, structures)


def ranked(rows: list[Row]) -> list[Row]:
    """Rows of the first metric and structure, worst first; undefined values, persons and slices are left out."""
    rows = [r for r in rows if r.case and not r.part and r.direction != "none"]
    first = rows[0] if rows else None
    mine = [
        r
        for r in rows
        if first
        and (r.metric, r.structure) == (first.metric, first.structure)
        and r.counted == r.counted  # not NaN
    ]
    return sorted(mine, key=lambda r: r.counted, reverse=bool(mine) and mine[0].direction != "higher")


def spread(rows: list[Row], count: int) -> list[tuple[str, Row]]:
    """`count` rows from first to last, called worst, middle (or middle2, …) and best."""
    if not rows:
        return []
    places = sorted({round(i) for i in np.linspace(0, len(rows) - 1, min(count, len(rows)))})
    middle = [f"middle{i or ''}" for i in range(len(places) - 2)]
    names = ["worst", *middle, "best"] if len(places) > 1 else ["only"]
    return [(name, rows[place]) for name, place in zip(names, places, strict=True)]
