"""`mriad data check --fix geometry`: copies on the image's grid, the originals as they were, and a record."""

from __future__ import annotations

import hashlib
import json
import warnings

import numpy as np
import pytest
import SimpleITK
from mriad.cli.app import main
from mriad.errors import StorageError
from mriad.geometry import Grid
from mriad.images import read_volume, write_like
from mriad_data.checking.fixing import fix_geometry
from mriad_data.checking.run import check_data
from mriad_data.manifest import Manifest

SHAPE = (12, 14, 16)


def placed(x=0.0, spacing=(1.0, 1.0, 1.0), angle=0.0):
    matrix = np.eye(4)
    turn = np.radians(angle)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, :3] *= np.array(spacing)
    matrix[0, 3] = x
    return matrix


def block(shape=SHAPE, values=(1, 3)):
    data = np.zeros(shape, np.uint8)
    data[3:8, 4:10, 4:8] = values[0]
    data[3:8, 4:10, 8:12] = values[1]
    return data


@pytest.fixture
def folder(tmp_path):
    """near: 0.2 mm off. far: 3 mm off. turned: another shape and direction. good: as it should be."""
    place = tmp_path / "set"
    place.mkdir()
    draw = np.random.default_rng(2)
    labels = {
        "good": (block(), placed()),
        "near": (block(), placed(0.2)),
        "far": (block(), placed(3)),
        "turned": (block((16, 14, 20)), placed(1, (0.8, 1, 0.8), 10)),
    }
    for name, (data, affine) in labels.items():
        write_like(place / f"{name}.nii.gz", draw.normal(size=SHAPE), Grid.of(SHAPE, placed()))
        write_like(place / f"{name}_seg.nii.gz", data, Grid.of(data.shape, affine), "labels")
    return place


def hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def run(*arguments) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SystemExit) as done:
            main(["data", "check", *map(str, arguments)])
    return int(done.value.code or 0)


def test_what_differs_by_header_keeps_its_voxels_and_takes_the_grid(folder, tmp_path):
    before = hashes(folder)
    made = fix_geometry(check_data(str(folder)), tmp_path / "out", tolerance_mm=0.5)
    assert [(c.case, c.method) for c in made.copies] == [("far", None), ("near", "header"), ("turned", None)]
    copy = read_volume(tmp_path / "out" / "near_seg.nii.gz")
    assert copy.grid.same(Grid.of(SHAPE, placed()))
    assert np.array_equal(copy.data, block())
    assert hashes(folder) == before


def test_resampled_labels_hold_no_new_value_and_lie_where_they_were(folder, tmp_path):
    before = hashes(folder)
    made = fix_geometry(check_data(str(folder)), tmp_path / "out", tolerance_mm=0.5, resample=True)
    assert {c.case: c.method for c in made.copies} == {
        "near": "header",
        "far": "resampled",
        "turned": "resampled",
    }
    assert hashes(folder) == before
    far = read_volume(tmp_path / "out" / "far_seg.nii.gz")
    assert np.array_equal(far.data[3:], block()[:-3])  # three whole voxels: exact
    turned = read_volume(tmp_path / "out" / "turned_seg.nii.gz")
    assert set(np.unique(turned.data)) == {0, 1, 3}
    # An independent program that interpolates labels alike; ours smooths a little first, since voxels get larger.
    image = SimpleITK.ReadImage(str(folder / "turned.nii.gz"))
    label = SimpleITK.ReadImage(str(folder / "turned_seg.nii.gz"))
    theirs = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(label, image, SimpleITK.Transform(), SimpleITK.sitkLabelLinear)
    ).T
    overlap = (
        2 * ((theirs == turned.data) & (theirs > 0)).sum() / ((theirs > 0).sum() + (turned.data > 0).sum())
    )
    assert overlap > 0.97
    before_grid = Grid.of((16, 14, 20), placed(1, (0.8, 1, 0.8), 10))
    for value in (1, 3):
        here = before_grid.world(np.argwhere(block((16, 14, 20)) == value)).mean(0)
        there = turned.grid.world(np.argwhere(turned.data == value)).mean(0)
        assert np.abs(here - there).max() < 0.5  # mm: half a voxel, since edges fall between voxels


def test_the_copies_are_a_data_set_that_passes(folder, tmp_path):
    out = tmp_path / "out"
    made = fix_geometry(check_data(str(folder)), out, resample=True)
    assert made.table == out / "manifest.csv"
    index = Manifest(path=out).build()
    assert [case.id for case in index] == ["far", "good", "near", "turned"]
    report = check_data(str(out)).report
    assert not [f for f in report.findings if f.check == "geometry"]
    assert not report.must_be_fixed


def test_the_record_names_sources_sizes_and_methods(folder, tmp_path):
    out = tmp_path / "out"
    fix_geometry(check_data(str(folder)), out, tolerance_mm=0.5)
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    (copy,) = record["copies"]
    assert copy["source_sha256"] == hashes(folder)["near_seg.nii.gz"]
    assert copy["distance_mm"] == pytest.approx(0.2)
    assert copy["method"] == "header"
    assert copy["marked_mm3"] == pytest.approx([240, 240])
    assert record["options"] == {"tolerance_mm": 0.5, "resample": False}
    assert {row["case"] for row in record["left"]} == {"far", "turned"}


def test_channels_and_soft_labels_are_resampled_as_what_they_are(tmp_path):
    grid = Grid.of(SHAPE, placed())
    ramp = np.add.outer(np.arange(12.0), np.zeros((14, 16)))
    write_like(tmp_path / "t1.nii.gz", ramp, grid)
    write_like(tmp_path / "t2.nii.gz", ramp, Grid.of(SHAPE, placed(0.5)))
    write_like(tmp_path / "soft.nii.gz", np.clip(ramp / 11, 0, 1), Grid.of(SHAPE, placed(0.5)))
    (tmp_path / "manifest.csv").write_text(
        "id,person,image:T1,image:T2,label:soft,kind:soft\na,a,t1.nii.gz,t2.nii.gz,soft.nii.gz,soft\n"
    )
    (tmp_path / "labels.yaml").write_text("structures: {cord: 1}\n")
    made = fix_geometry(check_data(str(tmp_path)), tmp_path / "out", tolerance_mm=0.1, resample=True)
    assert [c.method for c in made.copies] == ["resampled", "resampled"]
    t2 = read_volume(tmp_path / "out" / "t2.nii.gz").data
    assert t2[2:-2] == pytest.approx(
        ramp[2:-2] - 0.5, abs=0.05
    )  # value x − 0.5 at world x; cubic splines bend at ends
    soft = read_volume(tmp_path / "out" / "soft.nii.gz").data
    assert soft[1:-1] == pytest.approx((ramp[1:-1] - 0.5) / 11, abs=1e-4)


def test_nothing_is_written_where_nothing_differs_or_something_is_there(folder, tmp_path):
    for name in ("near", "far", "turned"):
        (folder / f"{name}_seg.nii.gz").unlink()
    made = fix_geometry(check_data(str(folder)), tmp_path / "out")
    assert made.lines() == ["geometry: nothing to fix, nothing was written"]
    assert not (tmp_path / "out").exists()
    with pytest.raises(StorageError, match="copies go into a folder of their own"):
        fix_geometry(check_data(str(folder)), folder)


def test_the_command_says_what_it_did_and_what_to_do_next(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, "--fix", "geometry", "--out", out) == 1  # the originals are as wrong as before
    text = capsys.readouterr()
    assert "fixed     1 by header: voxels as they were, moved by 0.2 mm at most" in text.out
    assert "left      far seg: 3 mm is over --tolerance-mm 1" in text.out
    assert f"next: mriad data check {out / 'manifest.csv'}" in text.err
    assert run(folder, "--fix", "geometry", "--out", out) == 1
    assert "there is something already" in capsys.readouterr().err
    assert run(folder, "--fix", "geometry") == 2
    assert "--fix geometry and --out DIR go together" in capsys.readouterr().err
