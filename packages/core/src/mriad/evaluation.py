"""Score a prediction of one case: metrics by structure, on one grid, as rows of the tidy table.

Metrics come through the registry (`experiment.evaluate.metrics`); this module knows only their interface.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad.case_table import Row, Summary, read_rows, summarise, write_rows
from mriad.errors import DataError, ShapeError
from mriad.preparation import grid_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mriad.geometry import Grid
    from mriad.interfaces import Metric
    from mriad.vocabulary import LabelSet, Sample

__all__ = [
    "Reference",
    "Row",
    "Summary",
    "diagonal_mm",
    "read_rows",
    "require_same_grid",
    "score_case",
    "summarise",
    "write_rows",
]

_ROUNDING = 1e-3  # probabilities may leave [0, 1] by this much: quantised files, blended windows


@dataclass(frozen=True, eq=False)
class Reference:
    """What a case is measured against, and whose it is.

    target: integer (1, X, Y, Z), 0 background and s + 1 structure s; or float (S, X, Y, Z) in [0, 1].
    validity: None (valid everywhere) or (1, X, Y, Z), non-zero where annotated. name: which reference this
    is, such as "truth", "soft" or "own_target"; it stands in every row.
    """

    case: str
    target: NDArray[Any]
    grid: Grid
    validity: NDArray[Any] | None = None
    person: str = ""
    contrast: str = ""
    domain: str = ""
    name: str = ""

    @classmethod
    def of_sample(cls, sample: Sample, name: str = "") -> Reference:
        """The target of a sample.

        Raises:
            DataError: the sample has none.
        """
        if sample.target is None:
            raise DataError(
                "a case without a label cannot be scored",
                where={"case": sample.case},
                remedy="choose a label with `evaluate: {reference: NAME}`, or leave the case out",
            )
        return cls(
            case=sample.case,
            target=sample.target,
            grid=sample.grid,
            validity=sample.validity,
            person=sample.person,
            contrast=sample.contrast,
            domain=sample.domain,
            name=name,
        )


def diagonal_mm(grid: Grid) -> float:
    """Length of the image's diagonal in mm: what a distance counts as where nothing can be measured."""
    return float(np.linalg.norm(np.array(grid.shape) * np.array(grid.spacing)))


def require_same_grid(case: str, prediction: Grid, reference: Grid) -> None:
    """Refuse to compare voxels that lie in different places.

    Raises:
        DataError: shapes differ, or a corner lies more than 1 µm elsewhere; it says by how much.
    """
    if prediction.same(reference):
        return
    apart = prediction.distance(reference)
    far = "" if np.isinf(apart) else f"; voxels lie up to {apart:.3g} mm apart"
    raise DataError(
        "prediction and reference are on different grids",
        where={
            "case": case,
            "prediction": prediction.describe(),
            "reference": reference.describe(),
            "difference": f"{grid_difference(prediction, reference)}{far}",
        },
        remedy="predict on the reference's own scan, or resample one of the two to the other's grid",
    )


def score_case(
    probabilities: NDArray[Any],
    grid: Grid,
    reference: Reference,
    label_set: LabelSet,
    metrics: Sequence[Metric],
) -> list[Row]:
    """Measure one case with every metric and structure.

    Args:
        probabilities: (S, X, Y, Z) in [0, 1], one channel a structure of `label_set`, on `grid`.
        grid: where the prediction lies; must be the reference's.
        reference: the target, with its grid and validity.
        label_set: names the structures, in channel order.
        metrics: configs; each is built once here.

    Raises:
        DataError: different grids; a prediction that is not finite or outside [0, 1]; two metrics of one key.
        ShapeError: channels or voxels do not match the label set or the grid.
    """
    require_same_grid(reference.case, grid, reference.grid)
    _require_shapes(probabilities, grid, reference, label_set)
    _require_probabilities(reference.case, probabilities)
    _require_distinct(metrics)
    validity = None if reference.validity is None else np.asarray(reference.validity[0]) != 0
    built = [(metric, metric.build()) for metric in metrics]
    diagonal = diagonal_mm(grid)
    rows = []
    for s, structure in enumerate(label_set.names):
        target = _target_of(reference.target, s)
        for metric, measure in built:
            value, note = measure(probabilities[s], target, grid, validity)
            rows.append(
                Row(
                    case=reference.case,
                    person=reference.person or reference.case,
                    contrast=reference.contrast,
                    domain=reference.domain,
                    structure=structure,
                    metric=metric.key(),
                    value=float(value),
                    unit=metric.unit,
                    direction=_direction(metric),
                    worst=diagonal if metric.worst is None else metric.worst,
                    note=note,
                    reference=reference.name,
                )
            )
    return rows


def _direction(metric: Metric) -> str:
    if metric.direction != "toward":
        return metric.direction
    return f"toward {0.0 if metric.toward is None else metric.toward:g}"


def _target_of(target: NDArray[Any], s: int) -> NDArray[np.float32]:
    """The reference (X, Y, Z) of structure s."""
    if np.issubdtype(target.dtype, np.floating):
        return np.asarray(target[s], dtype=np.float32)
    mask: NDArray[np.bool_] = np.equal(target[0], s + 1)
    return mask.astype(np.float32)


def _require_shapes(
    probabilities: NDArray[Any], grid: Grid, reference: Reference, label_set: LabelSet
) -> None:
    soft = np.issubdtype(reference.target.dtype, np.floating)
    wanted = {
        "prediction": (probabilities.shape, (len(label_set), *grid.shape)),
        "reference": (reference.target.shape, (len(label_set) if soft else 1, *grid.shape)),
    }
    if reference.validity is not None:
        wanted["validity"] = (reference.validity.shape, (1, *grid.shape))
    for name, (shape, expected) in wanted.items():
        if shape != expected:
            raise ShapeError(
                f"the {name} does not have one channel a structure on its grid",
                where={
                    "case": reference.case,
                    name: shape,
                    "expected": expected,
                    "structures": ", ".join(label_set.names),
                },
            )


def _require_probabilities(case: str, probabilities: NDArray[Any]) -> None:
    low, high = float(np.min(probabilities)), float(np.max(probabilities))
    if np.isfinite(low) and np.isfinite(high) and low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return
    raise DataError(
        "a prediction must hold finite values in [0, 1]",
        where={"case": case, "values": f"from {low:g} to {high:g}"},
        remedy="give probabilities, or a label map with the label set's values",
    )


def _require_distinct(metrics: Sequence[Metric]) -> None:
    twice = [key for key, count in Counter(metric.key() for metric in metrics).items() if count > 1]
    if twice:
        raise DataError(
            "two metrics would share a column", where={"metric": ", ".join(twice)}, remedy="name each once"
        )
