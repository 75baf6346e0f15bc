"""Scoring one case: rows, channels, validity, and every refusal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
from mriad.errors import DataError, ShapeError
from mriad.evaluation import Reference, annotations_of, diagonal_mm, score_case
from mriad.geometry import Grid
from mriad.metric import Metric
from mriad.vocabulary import Case, LabelSet, Sample, Volume
from mriad_eval.metrics import AverageSurfaceDistance, Dice, RelativeVolumeError, SoftDice

if TYPE_CHECKING:
    from mriad.metric import Direction
    from mriad.structure_pair import StructurePair

GRID = Grid.of((6, 7, 5), np.diag([1, 1, 2, 1]))
LABELS = LabelSet.of({"cord": 3, "csf": 9})
METRICS = [Dice(), AverageSurfaceDistance(), RelativeVolumeError()]


def index_target() -> np.ndarray:
    target = np.zeros((1, *GRID.shape), dtype=np.uint8)
    target[0, 1:3, 2:4, 1:3] = 1
    target[0, 3:5, 2:4, 1:3] = 2
    return target


def one_hot(target: np.ndarray) -> np.ndarray:
    return np.stack([target[0] == 1, target[0] == 2]).astype(np.float32)


REFERENCE = Reference("sub-1_T1w", index_target(), GRID, person="sub-1", contrast="T1w", name="truth")


def test_rows_of_a_perfect_prediction() -> None:
    rows = score_case(one_hot(index_target()), GRID, REFERENCE, LABELS, METRICS)
    assert [(r.structure, r.metric, r.value) for r in rows] == [
        (s, m, v) for s in ("cord", "csf") for m, v in [("dice", 1), ("asd", 0), ("rve", 0)]
    ]
    first = rows[0]
    assert (first.case, first.person, first.contrast, first.reference) == (
        "sub-1_T1w",
        "sub-1",
        "T1w",
        "truth",
    )
    assert [(r.unit, r.direction, r.worst) for r in rows[:3]] == [
        ("1", "higher", 0.0),
        ("mm", "lower", pytest.approx(np.sqrt(36 + 49 + 100))),
        ("%", "toward 0", -100.0),
    ]
    assert diagonal_mm(GRID) == rows[1].worst


def test_a_missed_structure_says_so() -> None:
    p = one_hot(index_target())
    p[1] = 0
    rows = score_case(p, GRID, REFERENCE, LABELS, METRICS)
    assert [r.note for r in rows] == ["", "", "", "miss", "miss", "miss"]
    assert rows[4].counted == diagonal_mm(GRID)


def test_hard_and_soft_targets_of_the_same_voxels_agree() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((2, *GRID.shape)).astype(np.float32)
    hard = score_case(p, GRID, REFERENCE, LABELS, METRICS)
    soft = score_case(p, GRID, replace(REFERENCE, target=one_hot(index_target())), LABELS, METRICS)
    assert hard == soft


def test_validity_reaches_the_metric() -> None:
    p = one_hot(index_target())
    p[0, :, :, 4] = 1  # beyond the annotation
    validity = np.ones((1, *GRID.shape), dtype=np.uint8)
    validity[..., 4] = 0
    reference = replace(REFERENCE, validity=validity)
    (dice,) = score_case(p[:1], GRID, reference, LabelSet.of({"cord": 3}), [Dice()])
    assert dice.value == 1.0


def test_a_sample_is_a_reference() -> None:
    image = np.zeros((1, *GRID.shape), dtype=np.float32)
    sample = Sample("a", image, GRID, index_target(), person="p", contrast="T2w", domain="site")
    reference = Reference.of_sample(sample, "own_target")
    assert (reference.case, reference.person, reference.contrast) == ("a", "p", "T2w")
    assert (reference.domain, reference.name) == ("site", "own_target")
    with pytest.raises(DataError, match=r"(?s)without a label.*case\s+a"):
        Reference.of_sample(replace(sample, target=None))


def test_the_case_stands_for_an_unnamed_person() -> None:
    rows = score_case(one_hot(index_target()), GRID, replace(REFERENCE, person=""), LABELS, [Dice()])
    assert {r.person for r in rows} == {"sub-1_T1w"}


def test_other_grids_are_refused_and_it_says_by_how_much() -> None:
    p = one_hot(index_target())
    shifted = Grid.of(GRID.shape, GRID.matrix + np.eye(4, k=3) * 0.25)
    with pytest.raises(
        DataError, match=r"(?s)different grids.*case\s+sub-1_T1w.*\+0\.25 mm along world x.*try "
    ):
        score_case(p, shifted, REFERENCE, LABELS, METRICS)
    stretched = Grid.of(GRID.shape, np.diag([1, 1, 2.02, 1]))
    with pytest.raises(DataError, match=r"axis 2 by 0\.02 mm; voxels lie up to 0\.08 mm apart"):
        score_case(p, stretched, REFERENCE, LABELS, METRICS)
    flipped = Grid.of(GRID.shape, np.diag([-1, 1, 2, 1]))
    with pytest.raises(DataError, match="axis 0 differs by 180°"):
        score_case(p, flipped, REFERENCE, LABELS, METRICS)
    smaller = Grid.of((6, 7, 4), GRID.matrix)
    with pytest.raises(DataError, match="axis 2: 4 instead of 5"):
        score_case(p[..., :4], smaller, REFERENCE, LABELS, METRICS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 2.0])
def test_values_that_are_no_probabilities(value: float) -> None:
    p = one_hot(index_target())
    p[0, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"(?s)finite values in \[0, 1\].*case\s+sub-1_T1w"):
        score_case(p, GRID, REFERENCE, LABELS, METRICS)


def test_channels_must_be_the_structures() -> None:
    p = one_hot(index_target())
    with pytest.raises(ShapeError, match=r"(?s)prediction does not.*expected.*cord, csf"):
        score_case(p[:1], GRID, REFERENCE, LABELS, METRICS)
    with pytest.raises(ShapeError, match="reference does not"):
        score_case(p, GRID, replace(REFERENCE, target=p[:1]), LABELS, METRICS)
    with pytest.raises(ShapeError, match="validity does not"):
        score_case(p, GRID, replace(REFERENCE, validity=np.ones(GRID.shape)), LABELS, METRICS)


def test_two_metrics_of_one_key() -> None:
    twice = [SoftDice(), SoftDice(form="squared"), SoftDice()]
    with pytest.raises(DataError, match=r"(?s)share a column.*soft_dice"):
        score_case(one_hot(index_target()), GRID, REFERENCE, LABELS, twice)


class Held:
    """A source of voxels in memory."""

    fingerprint = location = "held"

    def __init__(self, data: np.ndarray, grid: Grid = GRID) -> None:
        self.volume = Volume(data, grid)

    def read(self) -> Volume:
        return self.volume


class Seen(Metric):
    """Keeps the pair that it was given."""

    type: Literal["test.seen"] = "test.seen"
    reads: ClassVar[tuple[str, ...]] = ("levels", "discs")
    direction: ClassVar[Direction] = "none"

    def build(self) -> Any:
        def look(pair: StructurePair) -> tuple[float, str]:
            pairs.append(pair)
            return 1.0, ""

        return look


pairs: list[StructurePair] = []


def test_what_a_metric_reads_is_what_it_gets() -> None:
    pairs.clear()
    levels = np.full(GRID.shape, 3, np.uint8)
    annotations = {"levels": Held(levels), "brain_mask": Held(levels[:1])}
    case = Case("sub-1_T1w", "sub-1", {}, annotations=annotations, numbers={"area_mm2/C3": 70.0})
    reference = REFERENCE.with_case(case, [Dice(), Seen()])
    score_case(one_hot(index_target()), GRID, reference, LABELS, [Seen(), Dice()], at_levels=["C2", "C3"])
    assert [(p.structure, p.case, p.at_levels) for p in pairs] == [
        (s, "sub-1_T1w", ("C2", "C3")) for s in ("cord", "csf")
    ]
    assert list(pairs[0].annotations) == ["levels"]  # asked for, and there
    np.testing.assert_array_equal(pairs[0].annotations["levels"], levels)
    assert pairs[0].numbers == {"area_mm2/C3": 70.0}
    assert pairs[0].prediction.dtype == pairs[0].reference.dtype == np.float32


def test_an_annotation_on_another_grid() -> None:
    moved = Grid.of(GRID.shape, GRID.matrix + np.eye(4, k=3))
    case = Case("sub-1", "sub-1", {}, annotations={"levels": Held(np.zeros(GRID.shape), moved)})
    with pytest.raises(DataError, match=r"(?s)annotation 'levels'.*voxel grid.*sub-1.*\+1 mm"):
        annotations_of(case, [Seen()], GRID)
    assert annotations_of(case, [Dice()], GRID) == {}


def test_work_is_shared_between_metrics_of_a_structure() -> None:
    calls: list[str] = []

    class Sharing(Seen):
        type: Literal["test.sharing"] = "test.sharing"
        name: str = ""

        def key(self) -> str:
            return self.name

        def build(self) -> Any:
            return lambda pair: (pair.shared("test.work", lambda p: calls.append(p.structure) or 2.0), "")

    rows = score_case(
        one_hot(index_target()), GRID, REFERENCE, LABELS, [Sharing(name="a"), Sharing(name="b")]
    )
    assert calls == ["cord", "csf"]
    assert {row.value for row in rows} == {2.0}
    assert {row.direction for row in rows} == {"none"}
    assert all(np.isnan(row.worst) for row in rows)


def test_configs_and_scoring_import_nothing_heavy() -> None:
    heavy = {"torch", "monai", "ray", "mlflow", "pandas", "pyarrow", "matplotlib", "scipy", "nibabel"}
    code = (
        "import sys, mriad_eval.plugin, mriad_eval.metrics, mriad.evaluation, mriad.person_rows;"
        "from mriad_eval import metrics_lesion, metrics_literal, metrics_person, metrics_slices, metrics_soft;"
        f"found = {heavy} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
