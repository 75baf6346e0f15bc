"""The disk and memory that `mriad data check` says preparing needs, against what preparing takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.memory import readable_bytes
from mriad.preparation import Recipe, prepare
from mriad_data.checking import resources
from mriad_data.checking.resources import check_resources
from mriad_data.checking.run import check_data

YAML = """
name: sizes
data:
  dataset: {type: data.manifest, path: manifest.csv}
  labels: %s
  preprocessing: %s
  split: {type: data.k_fold, k: 3}
model: {type: standard.plain_unet, features: [4, 8]}
loss: {type: standard.dice_ce}
"""
CHAINS = {
    "resampled": "[{type: data.orient, axes: PIR}, {type: data.resample, spacing_mm: [0.7, 2, 1]}, "
    "{type: data.z_score}]",
    "cropped": "[{type: data.center_crop, size: [20, 24, full]}, {type: data.pad, multiple: [16, 16, 16]}]",
    "none": "[]",
}


@pytest.fixture
def place(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["id,person,image:T1w,image:T2w,label:hard"]
    for i in range(4):
        grid = Grid.of((40, 44 + 4 * i, 36), np.diag([1, 1, 1.5, 1]))
        for name in ("t1", "t2"):
            write_like(tmp_path / f"{name}{i}.nii.gz", rng.normal(size=grid.shape), grid)
        label = np.zeros(grid.shape, np.uint8)
        label[10:20, 10:20, 10 + i : 20] = 1 + i % 2
        write_like(tmp_path / f"l{i}.nii.gz", label, grid, "labels")
        rows.append(f"c{i},p{i},t1{i}.nii.gz,t2{i}.nii.gz,l{i}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "labels.yaml").write_text("structures: {cord: 1, csf: 2}\n")
    return tmp_path


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("labels", ["hard", "{kind: soft, name: hard}", "none"])
def test_the_figures_are_what_preparing_takes(place, chain, labels):
    (place / "e.yaml").write_text(YAML % (labels, CHAINS[chain]))
    checked = check_data(str(place / "e.yaml"))
    assert not checked.report.must_be_fixed, checked.report.findings
    data = checked.gathered.experiment.data
    index = data.dataset.build()
    store = data.store.build(place / "store")
    recipe = Recipe(
        ("T1w", "T2w"),
        index.label_set,
        data.labels.name or data.labels.kind,
        data.labels.kind,
        tuple(data.preprocessing),
        (None,) * len(data.preprocessing),
        store,
    )
    prepare(list(index)[:1], recipe)  # imports and first use
    tracemalloc.start()
    prepare(list(index), recipe)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    on_disk = sum(f.stat().st_size for f in (place / "store").rglob("*.npy"))
    needs = checked.report.resources
    assert needs["store_bytes"] == pytest.approx(on_disk, rel=0.01)
    assert 0.8 * peak < needs["case_bytes"] < 6 * peak
    assert not needs["upper_bound"]


def test_a_step_that_crops_to_what_it_sees_makes_it_an_upper_bound(place):
    (place / "e.yaml").write_text(YAML % ("hard", "[{type: data.crop_to_foreground}]"))
    report = check_data(str(place / "e.yaml")).report
    assert report.resources["upper_bound"]
    (row,) = [f for f in report.findings if f.check == "resources"]
    assert row.detail.startswith("at most ")


def test_too_little_disk_and_memory_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "memory_bytes", lambda: 1000)
    needs = {"store_bytes": 2.0**70, "case_bytes": 2000.0, "voxels_largest": 10.0, "upper_bound": False}
    rows = list(check_resources(needs, tmp_path / "not" / "yet"))
    assert [(f.level, f.what) for f in rows] == [
        ("error", "prepared cases do not fit on the disk"),
        ("error", "the largest case does not fit into memory"),
        ("note", "preparing needs"),
    ]
    assert readable_bytes(2000) in rows[1].detail
