"""Every metric's contract, and the values of those that are neither distances, lesions nor calibration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mriad.case_table import Row, summarise
from mriad.errors import DataError
from mriad.evaluation import EmptyPolicy, Reference, score_case
from mriad.geometry import Grid
from mriad.metric import Metric
from mriad.person_rows import person_rows, with_needed
from mriad.registry import registry
from mriad.structure_pair import StructurePair
from mriad.testing import check_metric
from mriad.vocabulary import LabelSet
from mriad_eval.metrics import (
    AbsoluteVolumeError,
    AverageSurfaceDistance,
    AverageSymmetricSurfaceDistance,
    Dice,
    HausdorffDistance,
    Precision,
    RelativeVolumeError,
    Sensitivity,
    SoftDice,
    SoftVolume,
    Specificity,
    SurfaceDice,
    Volume,
)
from mriad_eval.metrics_literal import (
    AnimaLiteralASD,
    Ssl4misLiteralHd95,
    SynthSegLiteralDice,
    SynthSegLiteralSurface,
)
from mriad_eval.metrics_person import VolumeSpread, VolumeVariation
from mriad_eval.metrics_slices import Slices
from pydantic import ValidationError

OURS = [name for name in registry().names("metric") if name.startswith("eval.")]
LITERAL = {name for name in OURS if registry().get("metric", name).literal}  # type: ignore[attr-defined]


def pair_of(p: Any, g: Any, spacing: tuple[float, ...] = (1, 1, 1), valid: Any = None) -> StructurePair:
    grid = Grid.of(p.shape, np.diag([*spacing, 1.0]))
    return StructurePair(np.asarray(p, np.float32), np.asarray(g, np.float32), grid, valid)


def box(start: tuple[int, int, int], size: int) -> np.ndarray:
    out = np.zeros((48, 48, 48), dtype=np.float32)
    out[tuple(slice(a, a + size) for a in start)] = 1
    return out


CUBE, OUTER = box((12, 12, 12), 10), box((10, 10, 10), 14)


@pytest.mark.parametrize("name", OURS)
def test_contract(name: str) -> None:
    check_metric(Metric.resolve(name))


def test_literal_modes_are_marked_by_name() -> None:
    assert {name for name in OURS if "literal" in name} == LITERAL
    assert "eval.anima_literal_asd" in LITERAL
    assert all("literal" in Metric.resolve(name).key() for name in LITERAL)


def test_the_reference_names_every_metric() -> None:
    folder = Path(__file__).resolve().parents[2] / "docs" / "reference"
    text = "".join(
        path.read_text("utf-8") for path in folder.glob("*.md") if path.stem in ("metrics", "morphometry")
    )
    keys = {Metric.resolve(name).key() for name in OURS if "csa" not in name} - {"dice_2d"}
    assert not {key for key in keys if f"`{key}`" not in text}


def test_overlaps_by_hand() -> None:
    """P 14³ around G 10³ in 48³ voxels."""
    pair = pair_of(OUTER, CUBE)
    assert Sensitivity().build()(pair)[0] == 1.0
    assert Precision().build()(pair)[0] == 1000 / 2744
    assert Specificity().build()(pair)[0] == pytest.approx(1 - 1744 / (48**3 - 1000))
    assert AbsoluteVolumeError().build()(pair)[0] == pytest.approx(174.4)
    turned = pair_of(CUBE, OUTER)
    assert AbsoluteVolumeError().build()(turned)[0] == pytest.approx(100 * 1744 / 2744)
    assert RelativeVolumeError().build()(turned)[0] < 0
    assert (Sensitivity().build()(turned)[0], Precision().build()(turned)[0]) == (1000 / 2744, 1.0)


def test_specificity_sees_annotated_voxels_only() -> None:
    valid = CUBE > 0
    valid[0] = True  # 2304 background voxels
    p = OUTER.copy()
    p[0, :24] = 1  # half of them
    assert Specificity().build()(pair_of(p, CUBE, valid=valid))[0] == 0.5
    assert Specificity().build()(pair_of(p, CUBE, valid=CUBE > 0))[1].startswith("incomplete")


def test_finding_nothing_is_never_best() -> None:
    """TN / (TN + FP) of an empty prediction is 1; it must not count as that."""
    nothing = np.zeros_like(CUBE)
    for metric in (Specificity(), Precision(), AbsoluteVolumeError()):
        reference = Reference("a", CUBE[None], Grid.of(CUBE.shape, np.eye(4)))
        (row,) = score_case(nothing[None], reference.grid, reference, LabelSet.of({"a": 1}), [metric])
        assert row.note == "miss"
        assert row.counted == (100.0 if metric.unit == "%" else 0.0)


def test_volumes_in_mm3() -> None:
    pair = pair_of(0.75 * OUTER, CUBE, (0.5, 2, 3))
    found = {
        m.key(): m.build()(pair)[0]
        for m in (Volume(), Volume(of="reference"), SoftVolume(), SoftVolume(of="reference"))
    }
    assert found == {
        "volume": pytest.approx(2744 * 3),
        "reference_volume": pytest.approx(3000),
        "soft_volume": pytest.approx(0.75 * 2744 * 3),
        "reference_soft_volume": pytest.approx(3000),
    }
    assert Volume().build()(pair_of(0 * CUBE, CUBE)) == (0.0, "miss")
    sheared = Grid.of(CUBE.shape, [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    assert Volume().build()(StructurePair(CUBE, CUBE, sheared))[0] == pytest.approx(2000)


def test_a_measurement_has_no_worst() -> None:
    rows = [
        Row(f"c{i}", "p", "", "", "a", "volume", v, "mm3", "none", math.nan, note)
        for i, (v, note) in enumerate(
            [(10, ""), (0, "miss"), (0, "empty"), (math.nan, "incomplete: no levels")]
        )
    ]
    (found,) = summarise(rows)
    assert (found.n, found.total, found.misses, found.empty, found.incomplete) == (3, 4, 1, 1, 1)
    assert found.mean == found.with_worst == pytest.approx(10 / 3)
    assert "1 incomplete" in found.text()


def test_real_masks_against_simpleitk(real_data: Any) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = nib.load(real_data / "hippocampus" / "labelsTr" / "hippocampus_075.nii.gz")
    g = (np.asarray(image.dataobj) == 1).astype(np.uint8)
    p = (np.asarray(image.dataobj) >= 1).astype(np.uint8)
    spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
    shapes = sitk.LabelShapeStatisticsImageFilter()
    turned = sitk.GetImageFromArray(p.transpose(2, 1, 0))
    turned.SetSpacing(spacing)
    shapes.Execute(turned)
    pair = pair_of(p, g, spacing)
    assert Volume().build()(pair)[0] == pytest.approx(shapes.GetPhysicalSize(1), rel=1e-6)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(sitk.GetImageFromArray(p), sitk.GetImageFromArray(g))  # source, target
    assert Sensitivity().build()(pair)[0] == pytest.approx(1 - overlap.GetFalseNegativeError(1))
    assert Dice().build()(pair)[0] == pytest.approx(overlap.GetDiceCoefficient(1))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, (2, 5, 4, 3)), st.floats(0.2, 5))
def test_bounds_and_algebra(masks: Any, size: float) -> None:
    p, g = masks.astype(np.float32)
    pair = pair_of(p, g, (size, 1, 1))
    values = {
        m.key(): m.build()(pair)[0]
        for m in (Dice(), Sensitivity(), Precision(), Specificity(), SurfaceDice())
    }
    assert all(math.isnan(v) or 0 <= v <= 1 for v in values.values())
    s, q = values["sensitivity"], values["precision"]
    if s > 0 and q > 0:
        assert values["dice"] == pytest.approx(2 * s * q / (s + q))
    assert Volume().build()(pair)[0] == pytest.approx(size * p.sum())


# ---- empty masks by policy


def scored(p: np.ndarray, g: np.ndarray, **policy: Any) -> dict[str, tuple[float, float]]:
    grid = Grid.of(p.shape, np.eye(4))
    metrics = [Dice(), AverageSymmetricSurfaceDistance(), RelativeVolumeError()]
    rows = score_case(
        p[None],
        grid,
        Reference("a", g[None], grid),
        LabelSet.of({"a": 1}),
        metrics,
        empty=EmptyPolicy(**policy),
    )
    return {row.metric: (row.value, row.counted) for row in rows}


def test_what_is_written_for_an_empty_mask() -> None:
    nothing, diagonal = np.zeros_like(CUBE), pytest.approx(48 * math.sqrt(3))
    excluded = scored(nothing, CUBE)
    assert math.isnan(excluded["assd"][0])
    assert excluded["assd"][1] == diagonal
    assert scored(nothing, CUBE, one="worst")["assd"] == (diagonal, diagonal)
    assert scored(nothing, CUBE, one="worst")["dice"] == (0.0, 0.0)
    assert scored(CUBE, nothing, one="worst")["rve"] == (-100.0, 100.0)
    assert math.isnan(scored(nothing, nothing, one="worst")["dice"][0])
    assert scored(nothing, nothing, both="best") == {
        "dice": (1.0, 1.0),
        "assd": (0.0, 0.0),
        "rve": (0.0, 0.0),
    }
    with pytest.raises(
        DataError, match=r"(?s)prediction is empty, and assd has no value.*a of a.*empty: worst"
    ):
        scored(nothing, CUBE, one="error")
    with pytest.raises(DataError, match="reference is empty"):
        scored(CUBE, nothing, one="error")


# ---- persons


def volumes(values: dict[str, float], person: str = "p", note: str = "") -> list[Row]:
    return [
        Row(
            f"{person}_{c}",
            person,
            c,
            "site",
            "cord",
            "volume",
            v,
            "mm3",
            "none",
            math.nan,
            note if v == 0 else "",
        )
        for c, v in values.items()
    ]


def test_volume_over_contrasts() -> None:
    metrics = [VolumeSpread(), VolumeVariation()]
    rows = person_rows(volumes({"T1w": 74, "T2w": 76}) + volumes({"T1w": 50, "T2w": 50}, "q"), metrics)
    assert [(r.case, r.person, r.metric, r.contrast, r.domain) for r in rows] == [
        ("", person, metric, "", "site") for person in "pq" for metric in ("volume_sd", "volume_cv")
    ]
    assert [r.value for r in rows] == pytest.approx([math.sqrt(2), 100 * math.sqrt(2) / 75, 0, 0])
    assert [(r.unit, r.direction) for r in rows[:2]] == [("mm3", "none"), ("%", "lower")]


def test_a_contrast_scanned_twice_counts_once() -> None:
    twice = volumes({"T1w": 70, "T2w": 76}) + volumes({"T1w": 78}, "p")
    (row,) = person_rows(twice, [VolumeSpread()])
    assert row.value == pytest.approx(math.sqrt(2))


def test_persons_with_a_miss_or_one_contrast() -> None:
    missed, single = (
        person_rows(volumes(v, note="miss"), [VolumeVariation()])[0]
        for v in ({"T1w": 74, "T2w": 76, "MTon": 0}, {"T1w": 74})
    )
    assert (missed.note, missed.counted) == ("miss", 245.0)
    assert single.note == "incomplete: 1 contrast"
    assert math.isnan(single.counted)
    (s,) = summarise([missed, single])
    assert (s.misses, s.incomplete, s.with_worst) == (1, 1, 245.0)


def test_what_a_person_metric_needs_is_measured_too() -> None:
    assert [m.key() for m in with_needed([Dice(), VolumeVariation(volume="soft")])] == [
        "dice",
        "soft_volume_cv",
        "soft_volume",
    ]
    assert len(with_needed([Volume(), VolumeSpread(), VolumeVariation()])) == 3

    class Needy(VolumeSpread):
        def needs(self) -> tuple[str, ...]:
            return ("length",)

    with pytest.raises(DataError, match=r"(?s)needs the metric 'length'.*evaluate\.metrics"):
        with_needed([Needy()])


def test_rows_of_parts_and_of_other_metrics_are_not_given() -> None:
    rows = volumes({"T1w": 74, "T2w": 76})
    part = Row("p_x", "p", "x", "", "cord", "volume", 5, "mm3", "none", math.nan, part="3")
    other = Row("p_x", "p", "x", "", "cord", "dice", 0.5, "1", "higher", 0.0)
    (row,) = person_rows([*rows, part, other], [VolumeSpread()])
    assert row.value == pytest.approx(math.sqrt(2))


# ---- slices


def test_slices_of_a_volume() -> None:
    p, g = np.zeros((2, 20, 20, 6), np.float32)
    g[5:15, 5:15, 1:4] = 1
    p[5:15, 5:15, 1] = p[5:15, 7:17, 2] = p[0:5, 0:5, 4] = 1
    grid = Grid.of(p.shape, np.diag([1, 1, 5, 1]))
    metrics = [Slices(), Slices(metric=HausdorffDistance())]
    rows = score_case(p[None], grid, Reference("a", g[None], grid), LabelSet.of({"b": 1}), metrics)
    dice = [(r.part, r.value, r.note) for r in rows if r.metric == "dice_2d"]
    assert dice == [("1", 1.0, ""), ("2", 0.8, ""), ("3", 0.0, "miss"), ("4", 0.0, "false positive")]
    distance = {r.part: r for r in rows if r.metric == "hd_2d"}
    assert (distance["1"].value, distance["2"].value) == (0.0, 2.0)
    assert distance["3"].counted == pytest.approx(np.linalg.norm([20, 20, 30]))
    assert distance["1"].unit == "mm"
    summary = {s.metric: s for s in summarise(rows)}
    assert (summary["dice_2d"].n, summary["dice_2d"].persons) == (4, 1)


def test_slices_along_an_axis_and_without_annotation() -> None:
    p = np.zeros((6, 20, 20), np.float32)
    p[1:4, 5:15, 5:15] = 1
    valid = np.ones(p.shape, bool)
    valid[3] = False
    rows = Slices(across=0).build()(pair_of(p, p, valid=valid))
    assert rows == [(1, 1.0, ""), (2, 1.0, "")]
    assert len(Slices().build()(pair_of(p, p, (5, 1, 1)))) == 3  # through-plane: the thick axis
    assert len(Slices().build()(pair_of(p, p))) == 10  # of equals the last
    with pytest.raises(ValidationError, match="level person"):
        Slices(metric=VolumeSpread())
    assert Metric.resolve({"type": "eval.slices", "metric": "eval.mssd"}).key() == "mssd_2d"


def test_a_faint_reference_counts_in_its_slices_for_soft_metrics_alone() -> None:
    """A slice whose reference stays below .5: soft Dice measures it, a miss is one, and masks have nothing there."""
    g = np.zeros((8, 8, 4), np.float32)
    g[2:6, 2:6, 0], g[2:6, 2:6, 1], g[2:6, 2:6, 2] = 1, 0.4, 0.4
    p = np.zeros_like(g)
    p[2:6, 2:6, 0], p[2:6, 2:6, 1], p[2:6, 2:6, 3] = 1, 0.3, 0.2
    pair = pair_of(p, g)
    soft = Slices(metric=SoftDice()).build()(pair)
    assert soft == [
        (0, 1.0, ""),
        (1, pytest.approx(2 * 0.3 * 0.4 / 0.7), ""),  # .3 is above half of its largest value: found
        (2, 0.0, "miss"),
    ]
    assert Slices(metric=Dice()).build()(pair) == [(0, 1.0, "")]
    valid = np.ones(g.shape, bool)
    valid[..., 2] = False
    assert len(Slices(metric=SoftDice()).build()(pair_of(p, g, valid=valid))) == 2


# ---- literal modes


def test_anima_as_in_the_cord_paper() -> None:
    """The 2-voxel shift: .0031 where the distance is .6885; in voxels, whatever the spacing."""
    shifted = box((14, 12, 12), 10)
    for spacing in ((1, 1, 1), (0.5, 0.5, 3)):
        found = AnimaLiteralASD().build()(pair_of(shifted, CUBE, spacing))[0]
        assert round(found, 4) == 0.0031
    assert AverageSurfaceDistance().build()(pair_of(shifted, CUBE))[0] == pytest.approx(0.688525, abs=1e-6)


def test_anima_is_the_running_minimum() -> None:
    rng = np.random.default_rng(4)
    p, g = (rng.random((2, 9, 8, 7)) < 0.2).astype(np.float32)

    def contour(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask > 0, 1)
        inner = np.all([np.roll(padded, s, a) for a in range(3) for s in (1, -1)], axis=0)
        found = np.argwhere((padded & ~inner)[1:-1, 1:-1, 1:-1])
        return found[np.lexsort((found[:, 0], found[:, 1], found[:, 2]))]  # first axis fastest

    total, a, b = 0.0, contour(p), contour(g)
    for here, there in ((a, b), (b, a)):
        least = math.inf
        for point in here:
            least = min(least, np.sqrt(((there - point) ** 2).sum(1)).min())
            total += least
    assert AnimaLiteralASD().build()(pair_of(p, g))[0] == pytest.approx(total / (len(a) + len(b)))


def test_synthseg_and_ssl4mis_on_empty_masks() -> None:
    nothing = np.zeros((20, 30, 25), np.float32)
    full = nothing.copy()
    full[5:9, 5:9, 5:9] = 1
    assert SynthSegLiteralSurface().build()(pair_of(full, nothing))[0] == 30.0
    assert SynthSegLiteralSurface(quantity="hd95").build()(pair_of(nothing, nothing))[0] == 30.0
    assert SynthSegLiteralDice().build()(pair_of(nothing, nothing))[0] == 0.0
    assert SynthSegLiteralDice().build()(pair_of(full, full))[0] == pytest.approx(128 / (128 + 1e-5))
    assert Ssl4misLiteralHd95().build()(pair_of(nothing, full))[0] == 0.0


def test_synthseg_in_voxels_and_pooled() -> None:
    pair = pair_of(OUTER, CUBE, (1, 1, 3))
    assert SynthSegLiteralSurface().build()(pair)[0] == pytest.approx(2.099689, abs=1e-6)
    assert SynthSegLiteralSurface(quantity="hd").build()(pair)[0] == pytest.approx(3.464102, abs=1e-6)
    edge = np.zeros((10, 10, 10), np.float32)
    edge[:5] = 1  # three sides lie at the image's border and are no boundary
    assert SynthSegLiteralSurface().build()(pair_of(edge, edge))[0] == 0.0
