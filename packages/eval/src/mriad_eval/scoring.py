"""Score pairs of files, every case before any fault is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError, MriadError
from mriad.evaluation import EmptyPolicy, Reference, score_case
from mriad.parallel import failure, map_cases
from mriad.person_rows import person_rows
from mriad.preparation import load_sample

from mriad_eval.maps import read_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mriad.evaluation import Row
    from mriad.interfaces import Metric
    from mriad.vocabulary import Case, LabelSet

_SHOWN = 20


@dataclass(frozen=True)
class Pair:
    """A case to score.

    prediction: its files; none where there is none, which scores as an empty one. reference: its files; none
    where the case itself names the label. label: name of the reference in the rows.
    """

    case: Case
    prediction: tuple[Path, ...]
    reference: tuple[Path, ...]
    label: str


@dataclass(frozen=True)
class Scorer:
    """Scores a pair. It pickles, so that processes can share the cases."""

    label_set: LabelSet
    metrics: tuple[Metric, ...]
    at_levels: tuple[str, ...] = ()
    empty: EmptyPolicy = field(default_factory=EmptyPolicy)
    resample: bool = False
    """Whether a prediction on another grid is put onto the reference's; else it is refused."""

    def __call__(self, pair: Pair) -> list[Row] | MriadError:
        """Return the rows of one case, or what was wrong with it."""
        try:
            return self._rows(pair)
        except MriadError as error:
            return failure(pair.case.id, error)

    def _rows(self, pair: Pair) -> list[Row]:
        reference = self._reference(pair)
        grid = reference.grid
        if pair.prediction:
            channels, _, grid = read_map(pair.case.id, pair.prediction, self.label_set)
            if self.resample:
                from mriad_eval.resample import onto_grid

                channels, grid = onto_grid(channels, grid, reference.grid), reference.grid
        else:
            channels = np.zeros((len(self.label_set), *grid.shape), dtype=np.float32)
        return score_case(
            channels,
            grid,
            reference,
            self.label_set,
            self.metrics,
            at_levels=self.at_levels,
            empty=self.empty,
        )

    def _reference(self, pair: Pair) -> Reference:
        case = pair.case
        if not pair.reference:
            kind = case.labels[pair.label].kind
            sample = load_sample(case, (), pair.label, kind, self.label_set)
            return Reference.of_sample(sample, pair.label).with_case(case, self.metrics)
        target, validity, grid = read_map(case.id, pair.reference, self.label_set)
        found = Reference(
            case.id, target, grid, validity, case.person, case.contrast, case.domain, pair.label
        )
        return found.with_case(case, self.metrics)


def score(
    pairs: Sequence[Pair],
    scorer: Scorer,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Return the rows of every case in order, then those of persons.

    Raises:
        MriadError: of the one case that cannot be scored.
        DataError: several cannot; each with its reason.
    """
    rows: list[Row] = []
    faults: list[MriadError] = []
    for found in map_cases(scorer, pairs, workers, name=lambda pair: pair.case.id, progress=progress):
        if isinstance(found, MriadError):
            faults.append(found)
        else:
            rows += found
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(
            f"{len(faults)} of {len(pairs)} cases cannot be scored",
            where={str(fault.where["case"]): _one_line(fault) for fault in faults[:_SHOWN]},
            remedy=faults[0].remedy,
        )
    return rows + person_rows(rows, scorer.metrics)


def _one_line(fault: MriadError) -> str:
    facts = "; ".join(f"{key} {value}" for key, value in fault.where.items() if key != "case")
    return f"{fault.what}: {facts}" if facts else fault.what
