"""Score a prediction of one case: metrics by structure, on one grid, as rows of the tidy table.

Metrics come through the registry (`experiment.evaluate.metrics`); this module knows only their interface. Values of
persons are computed from the rows of all cases: `mriad.person_rows`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from mriad import gridcheck
from mriad.case_table import FAILURES, Row, Summary, read_rows, summarise, write_rows, write_table
from mriad.errors import DataError, MriadError, ShapeError
from mriad.parallel import failure
from mriad.preparation import grid_difference
from mriad.structure_pair import StructurePair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mriad.geometry import Grid
    from mriad.interfaces import Metric
    from mriad.metric import CaseMetric, SliceMetric
    from mriad.vocabulary import Case, LabelSet, Sample

__all__ = [
    "BothEmpty",
    "EmptyPolicy",
    "OneEmpty",
    "Reference",
    "Row",
    "Summary",
    "annotations_of",
    "diagonal_mm",
    "read_rows",
    "require_same_grid",
    "score_case",
    "summarise",
    "write_rows",
    "write_table",
]

OneEmpty = Literal["exclude", "worst", "error"]
BothEmpty = Literal["exclude", "best"]

_ROUNDING = 1e-3  # probabilities may leave [0, 1] by this much: quantised files, blended windows


@dataclass(frozen=True)
class EmptyPolicy:
    """What stands in the table where a mask is empty and a metric has no value of its own.

    one: prediction or reference is empty. "exclude": no value; the row's note still makes it count as the worst
    value in comparisons. "worst": the worst value itself. "error": refuse to score.
    both: nothing to find and nothing found. "exclude": no value, and the row counts nowhere. "best": the value of
    a perfect prediction, as programs do that give Dice 1 for it.
    """

    one: OneEmpty = "exclude"
    both: BothEmpty = "exclude"

    def value(self, metric: Metric, found: float, note: str, worst: float, place: str) -> float:
        """Return the value to write down for what was measured.

        Raises:
            DataError: `one` is "error", and one side is empty.
        """
        if not math.isnan(found):
            return found
        if note == "empty" and self.both == "best" and metric.best is not None:
            return metric.best
        if note not in FAILURES:
            return found
        if self.one == "error":
            raise DataError(
                f"the {'prediction' if note == 'miss' else 'reference'} is empty, and {metric.key()} has no value",
                where={"structure": place, "found": note},
                remedy="empty: exclude counts it as the worst value in comparisons; empty: worst writes that down",
            )
        return worst if self.one == "worst" else found


@dataclass(frozen=True, eq=False)
class Reference:
    """What a case is measured against, and whose it is.

    target: integer (1, X, Y, Z), 0 background and s + 1 structure s; or float (S, X, Y, Z) in [0, 1].
    validity: None (valid everywhere) or (1, X, Y, Z), non-zero where annotated. name: which reference this
    is, such as "truth", "soft" or "own_target"; it stands in every row. annotations: other label maps (X, Y, Z)
    on the grid, such as "levels". numbers: what is known of the case without voxels, such as `area_mm2/C3`.
    """

    case: str
    target: NDArray[Any]
    grid: Grid
    validity: NDArray[Any] | None = None
    person: str = ""
    contrast: str = ""
    domain: str = ""
    name: str = ""
    annotations: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_sample(cls, sample: Sample, name: str = "") -> Reference:
        """The target of a sample; what else is known of the case comes `with_case`.

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

    def with_case(self, case: Case, metrics: Sequence[Metric]) -> Reference:
        """A copy with the case's numbers, and with those of its annotations that a metric reads.

        Raises:
            DataError: an annotation cannot be read, or lies on another grid.
        """
        annotations = annotations_of(case, metrics, self.grid)
        return replace(self, annotations=annotations, numbers=case.numbers)


def annotations_of(case: Case, metrics: Iterable[Metric], grid: Grid) -> dict[str, NDArray[Any]]:
    """Return the annotations (X, Y, Z) of a case that a metric reads, by name; absent ones are left out.

    Raises:
        DataError: one cannot be read, or lies on another grid than `grid`; the case is named.
    """
    wanted = dict.fromkeys(name for metric in metrics for name in metric.reads)
    found = {}
    try:
        for name in wanted:
            if name in case.annotations:
                volume = case.annotations[name].read()
                gridcheck.require_same_grid(
                    f"annotation '{name}'", volume.grid, grid, case.annotations[name].location
                )
                found[name] = volume.data
    except MriadError as error:
        raise failure(case.id, error) from error
    return found


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
        remedy="predict on the reference's own scan; or `mriad evaluate --resample`, which puts the prediction on "
        "the reference's grid and says so in run.json",
    )


def score_case(
    probabilities: NDArray[Any],
    grid: Grid,
    reference: Reference,
    label_set: LabelSet,
    metrics: Sequence[Metric],
    *,
    at_levels: Sequence[str] = (),
    empty: EmptyPolicy = EmptyPolicy(),
) -> list[Row]:
    """Measure one case with every metric of level "case" or "slice", for every structure.

    Args:
        probabilities: (S, X, Y, Z) in [0, 1], one channel a structure of `label_set`, on `grid`.
        grid: where the prediction lies; must be the reference's.
        reference: the target, with its grid, validity, annotations and numbers.
        label_set: names the structures, in channel order.
        metrics: configs; each is built once here. Those of other levels are passed over.
        at_levels: vertebral levels where morphometrics are taken; empty: everywhere.
        empty: what stands where a mask is empty.

    Raises:
        DataError: different grids; a prediction that is not finite or outside [0, 1]; two metrics of one key; an
            empty mask where the policy is "error".
        ShapeError: channels or voxels do not match the label set or the grid.
    """
    require_same_grid(reference.case, grid, reference.grid)
    _require_shapes(probabilities, grid, reference, label_set)
    _require_probabilities(reference.case, probabilities)
    metrics = [metric for metric in metrics if metric.level in ("case", "slice")]
    _require_distinct(metrics)
    built = [(metric, metric.build()) for metric in metrics]
    validity = None if reference.validity is None else np.asarray(reference.validity[0]) != 0
    diagonal = diagonal_mm(grid)
    rows = []
    for s, structure in enumerate(label_set.names):
        pair = StructurePair(
            prediction=np.asarray(probabilities[s], dtype=np.float32),
            reference=_target_of(reference.target, s),
            grid=grid,
            validity=validity,
            structure=structure,
            case=reference.case,
            annotations=reference.annotations,
            numbers=reference.numbers,
            at_levels=tuple(at_levels),
        )
        for metric, measure in built:
            worst = worst_of(metric, diagonal, measure, pair)
            for place, found, note in _measured(metric, measure, pair):
                where = f"{structure} of {reference.case}"
                rows.append(
                    Row(
                        case=reference.case,
                        person=reference.person or reference.case,
                        contrast=reference.contrast,
                        domain=reference.domain,
                        structure=structure,
                        metric=metric.key(),
                        value=empty.value(metric, found, note, worst, where),
                        unit=metric.unit,
                        direction=direction_of(metric),
                        worst=worst,
                        note=note,
                        reference=reference.name,
                        part=place,
                    )
                )
    return rows


def _measured(metric: Metric, measure: Any, pair: StructurePair) -> list[tuple[str, float, str]]:
    """Part ("" for the whole), value and note."""
    if metric.level == "slice":
        parts = cast("SliceMetric", measure)(pair)
        return [(str(index), float(value), note) for index, value, note in parts]
    value, note = cast("CaseMetric", measure)(pair)
    return [("", float(value), note)]


def worst_of(
    metric: Metric, diagonal: float, measure: object = None, pair: StructurePair | None = None
) -> float:
    """What a failure counts as: the metric's own worst value, else the image diagonal; NaN for measurements.

    A function `measure` with a method `worst_in(pair) -> float | None` says what it is in this pair (None: as
    elsewhere).
    """
    if metric.direction == "none":
        return math.nan
    worst_in = getattr(measure, "worst_in", None)
    if worst_in is not None and pair is not None:
        own = worst_in(pair)
        if own is not None:
            return float(own)
    return diagonal if metric.worst is None else metric.worst


def direction_of(metric: Metric) -> str:
    """The direction as it stands in a row: "toward 0" names the best value."""
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
