from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.case_table import read_rows, summarise, write_rows
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.segmenter import Segmenter
from mriad.stages.evaluate import fact_rows
from mriad.vocabulary import Case, LabelSet, Sample, Task
from mriad_softseg import Clamp, NormReLU, RobustMaximum
from mriad_softseg.normalised import norm_relu

TASK = Task(("c",), {"": LabelSet.of({"cord": 1})}, "raw")
HEADS = {"norm_relu": NormReLU(), "clamp": Clamp(), "robust_maximum": RobustMaximum()}


def tube(length=120, width=48, seed=0):
    """Raw output like a trained network's: a cord of 80 mm² with a soft rim, a plateau near 1, and noise."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width), np.arange(width), indexing="ij")
    z = np.arange(length)
    centre = width / 2 + 3 * np.sin(z / 25)
    radius = np.sqrt(80 / np.pi)
    distance = np.hypot(x[..., None] - centre, y[..., None] - width / 2)
    soft = np.clip(radius + 0.5 - distance, 0, 1)
    return (soft * 0.97 + rng.normal(0, 0.015, soft.shape)).astype(np.float32)[None]


def area(mask):
    """Mean soft area of the middle 40 slices, in mm²: the part that every field of view holds."""
    middle = mask.shape[-1] // 2
    return float(mask[..., middle - 20 : middle + 20].sum() / 40)


def moved(head, changed, raw):
    built = head.build(TASK)
    before, after = area(built(torch.from_numpy(raw))), area(built(torch.from_numpy(changed)))
    return abs(after - before) / before


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.integers(1, 3))
def test_norm_relu_properties(seed, scale, structures):
    raw = torch.randn(structures, 4, 5, 3, generator=torch.Generator().manual_seed(seed))
    out = NormReLU().build(TASK)(raw)
    assert out.min() >= 0
    assert out.flatten(1).amax(1).tolist() == [1.0 if top > 0 else 0.0 for top in raw.flatten(1).amax(1)]
    torch.testing.assert_close(NormReLU().build(TASK)(raw * scale), out, rtol=1e-5, atol=1e-6)
    expected = (
        np.clip(raw.double().numpy(), 0, None) / raw.double().clamp(min=0).amax((1, 2, 3), True).numpy()
    )
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6)


def test_norm_relu_of_nothing_is_nothing_and_a_batch_is_its_samples():
    assert (NormReLU().build(TASK)(-torch.rand(1, 3, 3, 3)) == 0).all()
    assert (NormReLU().build(TASK)(torch.zeros(1, 3, 3, 3)) == 0).all()
    raw = torch.randn(4, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 10, 0.1, 3]
    ).reshape(4, 1, 1, 1, 1)
    torch.testing.assert_close(norm_relu(raw), torch.stack([NormReLU().build(TASK)(r) for r in raw]))


@pytest.mark.parametrize("name", HEADS)
def test_what_every_head_keeps(name):
    head = HEADS[name]
    raw = torch.from_numpy(tube())
    before = raw.clone()
    out = head.build(TASK)(raw.bfloat16())
    assert out.dtype == torch.float32
    assert out.shape == raw.shape
    assert 0 <= out.min() <= out.max() <= 1
    head.build(TASK)(raw)
    assert torch.equal(raw, before)
    assert head.link == "raw"
    assert not head.voxelwise
    assert head.facts(raw) == {"raw_maximum": [raw.max().item()]}


def test_robust_maximum_against_numpy():
    raw = tube()
    head = RobustMaximum(quantile=0.9, inside=0.4)
    divisor = np.quantile(raw[raw > 0.4].astype(np.float64), 0.9)
    found = head.build(TASK)(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(found, np.clip(raw / divisor, 0, 1), atol=1e-6)
    faint = raw * 0.3  # nothing inside: left as it is
    np.testing.assert_array_equal(head.build(TASK)(torch.from_numpy(faint)).numpy(), np.clip(faint, 0, 1))


def test_one_bright_voxel_elsewhere_moves_norm_relu_only():
    """EVIDENCE section 2: soft area must move less than 0.5 %."""
    raw = tube()
    bright = raw.copy()
    bright[0, 2, 3, 4] = 1.3
    found = {name: moved(head, bright, raw) for name, head in HEADS.items()}
    assert found["norm_relu"] > 0.15  # 1.3 against a maximum near 1.03: a fifth of the area is gone
    assert found["clamp"] == 0
    assert found["robust_maximum"] < 1e-4


def test_a_cropped_field_of_view():
    raw = tube()
    cropped = raw[..., 30:-30].copy()
    found = {name: moved(head, cropped, raw) for name, head in HEADS.items()}
    assert found["clamp"] == 0
    assert found["robust_maximum"] < 0.001
    # Where the brightest voxel lies beyond the crop NormReLU follows it.
    raw[0, 24, 24, 5] = 1.2
    found = {name: moved(head, raw[..., 30:-30].copy(), raw) for name, head in HEADS.items()}
    assert found["norm_relu"] > 0.1
    assert found["clamp"] == 0
    assert found["robust_maximum"] < 0.001


class Doubler(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def test_the_raw_maximum_reaches_the_table(tmp_path):
    grid = Grid.of((12, 10, 9), np.diag([1, 1, 2, 1]))
    image = np.random.default_rng(0).random((1, 12, 10, 9)).astype(np.float32)
    predict = PredictSection(head={"type": "softseg.norm_relu"}, window=[8, 8, "full"], overlap=0)
    segmenter = Segmenter([Doubler()], TASK, predict)
    stream = segmenter.stream(Sample("a", image, grid))
    assert stream.facts == {}
    found = stream.collect()
    assert found.facts["raw_maximum"] == [pytest.approx(2 * image.max())]
    np.testing.assert_allclose(found.probabilities, image / image.max(), atol=1e-6)
    case = Case("a", "person", {}, contrast="T1w")
    rows = fact_rows(case, "truth", LabelSet.of({"cord": 1}), found.facts)
    write_rows(tmp_path / "cases.csv", rows)
    (row,) = read_rows(tmp_path / "cases.csv")
    assert (row.metric, row.structure, row.reference, row.direction) == (
        "raw_maximum",
        "cord",
        "truth",
        "none",
    )
    assert row.value == pytest.approx(2 * image.max())
    (summary,) = summarise([row])
    assert (summary.n, summary.misses) == (1, 0)
