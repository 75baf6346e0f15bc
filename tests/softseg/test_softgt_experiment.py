"""From YAML: soft targets, training on them, and a test against them, on a small phantom; and on real masks."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from mriad.cli import main
from mriad.errors import DataError
from mriad.stages.dataset import open_dataset
from mriad_data.manifest import Manifest
from mriad_softseg.average import build, carry_back
from mriad_softseg.gate import agreement, faults
from mriad_softseg.masks import Mask
from mriad_softseg.soft_ground_truth import SoftGroundTruth

YAML = """
name: soft_small
data:
  dataset:
    type: data.phantom_spine
    persons: 3
    contrasts: [T2w, T1w, DWI]
    size_mm: [32, 40, 40]
    spacing_mm: 2
  labels: {kind: soft, from: softgt}
  split: {type: data.random_split, validation: 1, test: 1}
  preprocessing:
    - {type: data.orient, axes: RPI}
    - {type: data.z_score}
streams: {labelled: {batch: 2}}
model: {type: standard.plain_unet, features: [4, 8]}
loss: {type: standard.mse}
optimiser: {type: standard.adam, lr: 1e-3}
budget: {steps: 2, validate_every: 2}
predict: {head: {type: standard.identity}}
evaluate: {metrics: [eval.dice]}
stages:
  softgt: {type: softseg.soft_ground_truth, trim_mm: 4, gate: {dice: 0.7}}
  train: {type: core.train, after: softgt}
  test: {type: core.evaluate, with: train}
"""


@pytest.mark.slow
def test_the_whole_path_from_yaml(tmp_path, capsys):
    path = tmp_path / "soft.yaml"
    path.write_text(YAML)
    with pytest.raises(SystemExit) as ended:
        main(["train", str(path), "--launcher", "inline", "--runs", str(tmp_path / "runs")])
    assert not ended.value.code, capsys.readouterr().out
    (made,) = (tmp_path / "runs" / "stages").glob("softgt-*")
    (tested,) = (tmp_path / "runs" / "stages").glob("test-*")
    assert json.loads((made / "done.json").read_text())["summary"]["images"] == 9
    cases = open_dataset(made)
    for case in cases:
        soft = case.labels["soft"].source.read().data
        assert 0 <= soft.min() < soft.max() <= 1
        assert set(np.unique(case.labels["soft"].validity.read().data)) <= {0, 1}
    rows = list(csv.DictReader((tested / "cases.csv").open(newline="")))
    assert {row["contrast"] for row in rows if row["case"]} == {"T2w", "T1w", "DWI"}
    assert {row["reference"] for row in rows if row["case"]} == {"soft"}


@pytest.fixture
def real_masks(real_data):
    found: dict[str, dict[str, Mask]] = {}
    for case in Manifest(packaged="mriad_data:manifests/spine", root=real_data / "spine").build():
        volume = case.labels["hard"].source.read()
        found.setdefault(case.person, {})[case.contrast] = Mask.of(volume.data, volume.grid)
    return found


class TestRealScans:
    """errsm30: five contrasts on grids from 1 mm to slices 17 mm apart; unf01: one mask for both contrasts."""

    def test_one_mask_for_all_is_the_target_itself(self, real_masks):
        for person in ("sub-unf01", "sub-fakelesion"):
            masks = real_masks[person]
            shared = build(masks, "T2w", SoftGroundTruth(trim_mm=0))
            for name, mask in masks.items():
                target = carry_back(shared, name)
                assert np.array_equal(target.soft, mask.back(mask.inside).astype(np.float32))
                assert np.array_equal(target.slices, mask.annotated)

    def test_contrasts_on_grids_of_their_own(self, real_masks):
        masks = real_masks["sub-errsm30"]
        shared = build(masks, "T2w", SoftGroundTruth(trim_mm=0))
        assert shared.common.sum() > 20
        areas = np.array([w.segmentation.sum(axis=(0, 1)) for w in shared.warped.values()])[:, shared.common]
        target = shared.soft.sum(axis=(0, 1))[shared.common]
        assert np.abs(target / areas.mean(axis=0) - 1).max() < 1e-6
        plane = shared.grid.voxel_volume / shared.grid.spacing[2]
        assert 55 < target.mean() * plane < 110  # mm², of an adult's cervical cord
        for name in masks:
            found = agreement(shared, name)
            assert found.dice > 0.9, name
            back = carry_back(shared, name)
            assert 0 <= back.soft.min() <= back.soft.max() <= 1
            assert 0.3 < back.slices.mean() <= 1

    def test_another_persons_mask_is_refused_by_its_contrast(self, real_masks):
        masks = dict(real_masks["sub-errsm30"])
        own = masks["T1w"]
        masks = {"T2w": masks["T2w"], "MTon": masks["MTon"], "T1w": real_masks["sub-unf01"]["T1w"]}
        how = SoftGroundTruth(trim_mm=0)
        try:
            shared = build(masks, "T2w", how)
        except DataError as error:
            refused = str(error)
        else:
            refused = str(faults(shared, {name: agreement(shared, name) for name in masks}, how.gate))
        assert "T1w" in refused
        assert "MTon" not in refused
        masks["T1w"] = own
        shared = build(masks, "T2w", how)
        assert not faults(shared, {name: agreement(shared, name) for name in masks}, how.gate)
