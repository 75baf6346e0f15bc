"""The contract checks of `mriad.testing` on every component that our own plugins offer.

Each component of an interface that has a check is here, with a configuration that makes it do something: a new one
without an entry fails `test_every_component_is_checked`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mriad.api import component
from mriad.interfaces import INTERFACES
from mriad.registry import registry
from mriad.testing import (
    a_sample,
    a_task,
    check_augmenter,
    check_dataset,
    check_learner,
    check_loss,
    check_metric,
    check_model,
    check_preprocessing,
)
from mriad.testing.contract import check_config
from mriad.testing.samples import STRUCTURES
from mriad.training.algorithm import LearnerSetup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


OURS = ("core", "data", "eval", "standard")
Fields = dict[str, Any]
EVERYTHING: Fields = {
    "flip_probability": 0.5,
    "affine_probability": 1,
    "gamma_probability": 1,
    "scaling_probability": 1,
    "noise_probability": 1,
}
COLLECTIONS = ("brats2021", "crossmoda", "hippocampus", "isbi2015", "ixi", "joint", "ms7t", "msseg2016")
COLLECTIONS += ("spine_external", "spine_generic", "synthseg_maps", "umcl_ms")
PHANTOM: Fields = {"persons": 2, "contrasts": ["T1w", "T2w"], "size_mm": [32, 40, 40], "spacing_mm": 2}
CONFIGS: dict[str, dict[str, list[Fields]]] = {
    "preprocessing": {
        "data.orient": [{"axes": "RAS"}, {"axes": "SPL"}],
        "data.resample": [
            {"spacing_mm": [1.5, "keep", 1]},
            {"spacing_mm": [2, 2, 2], "image_order": 1, "label_order": 0},
            {
                "spacing_mm": [0.7, 0.7, 0.9],
                "through_image_order": 0,
                "anisotropy": 1.2,
                "slice_profile": True,
            },
        ],
        "data.center_crop": [{"size": [12, 20, "full"]}],
        "data.crop": [
            {"low": [2, "edge", 3], "high": [14, 15, "edge"]},
            {"low": ["edge", -10, -9], "high": [12, 10, "edge"], "unit": "mm"},
        ],
        "data.crop_to_foreground": [{"above": 0.5, "margin_mm": 3}],
        "data.pad": [{"margin": [2, 0, 1], "multiple": [8, 1, 16], "fill": -1}],
        "data.z_score": [{}],
        "data.min_max": [{}, {"low": -1, "per_channel": False}],
        # The check marks 27 voxels of an image of 0, which is constant between most percentiles.
        "data.percentile": [{"lower": 0, "upper": 100}],
        "data.histogram_match": [{"over": "field", "percentiles": [0, 25, 50, 75, 100], "unit": True}],
        "data.n4": [],  # divides by a field that a mark of 27 voxels cannot show: tests/data/test_bias_field.py
        "data.skull_strip": [],  # needs a program: tests/data/test_skull_strip.py
    },
    "augmenter": {
        "standard.augment": [{}, EVERYTHING],
        "standard.monai": [
            {"transform": "RandAffined", "arguments": {"prob": 1, "rotate_range": 0.3}},
            {"transform": "RandGibbsNoised", "arguments": {"prob": 1}},
        ],
        "standard.torchio": [{"transform": "RandomAffine"}, {"transform": "RandomBiasField"}],
    },
    "model": {
        "standard.plain_unet": [{"features": [4, 6, 8]}, {"features": [4, 6], "deep_supervision": True}],
        "standard.residual_unet": [{"features": [4, 6], "blocks_per_stage": [1, 2]}],
    },
    "loss": {
        "standard.dice_ce": [{}, {"link": "sigmoid", "form": "squared"}],
        "standard.dice": [{}, {"form": "squared"}],
        "standard.cross_entropy": [{}, {"link": "sigmoid"}],
        "standard.mse": [{}, {"link": "sigmoid"}],
        "standard.deep_supervision": [{"loss": "standard.dice_ce"}],
    },
    "metric": {
        "eval.dice": [{}],
        "eval.soft_dice": [{}, {"form": "squared"}],
        "eval.asd": [{}, {"start": "reference"}],
        "eval.assd": [{}, {"form": "mean_of_two"}],
        "eval.rve": [{}, {"volume": "soft"}],
        "eval.ravd": [{}, {"volume": "soft"}],
        "eval.sensitivity": [{}],
        "eval.specificity": [{}],
        "eval.precision": [{}],
        "eval.volume": [{}, {"of": "reference"}],
        "eval.soft_volume": [{}, {"of": "reference"}],
        "eval.hd": [{}],
        "eval.mssd": [{}],
        "eval.hd95": [{}, {"form": "pooled"}, {"percentile": 50}],
        "eval.nsd": [{}, {"tolerance_mm": 2.5}],
        "eval.lesion_f1": [{}, {"alpha": 0.5}],
        "eval.lesion_sensitivity": [{}],
        "eval.lesion_ppv": [{}],
        "eval.lesion_false_positives": [{}],
        "eval.lesion_count": [{}, {"of": "reference"}],
        "eval.lesion_load": [{}, {"of": "reference"}],
        "eval.calibration_error": [{}, {"bins": 5, "within_mm": 1.5}],
        "eval.calibration_curve": [{}, {"quantity": "predicted"}, {"quantity": "voxels"}],
        "eval.slices": [{}, {"metric": "eval.assd"}, {"metric": "eval.rve", "across": 1}],
        "eval.volume_sd": [{}, {"volume": "soft"}],
        "eval.volume_cv": [{}, {"volume": "soft"}],
        "eval.anima_literal_asd": [{}],
        "eval.synthseg_literal_surface": [{}, {"quantity": "hd95"}],
        "eval.synthseg_literal_dice": [{}],
        "eval.ssl4mis_literal_hd95": [{}],
        "eval.csa_sct6_literal": [{}],
        "eval.csa_std": [{}],
        "eval.csa_abs_error": [{}],
        "eval.csa": [{}],
    },
    "head": {"standard.softmax": [{}], "standard.sigmoid": [{}], "standard.identity": [{}]},
    "learner": {"standard.supervised": [{}, {"ema_decay": 0.9}]},
    "sampler": {
        "data.patch": [{"size": [8, 8, 12]}],
        "data.slice": [{"axis": "axial", "size": [8, 8]}],
        "data.every_slice": [{"axis": "axial", "size": [8, 8]}, {"axis": "sagittal", "slices": "foreground"}],
    },
    "postprocessor": {"standard.largest_component": [{"structure": "box"}]},
    "dataset": {
        "data.manifest": [],  # needs files: see below
        "data.registered": [],  # needs files: tests/data/test_registration_dataset.py
        # These read files too: tests/data/test_{bids,nnunet_reader,label_maps,dicom,index,collections}*.py, and
        # tests/eval/test_qc_verdicts.py of the last.
        **{f"data.{name}": [] for name in ("bids", "nnunet", "label_maps", "dicom", "index")},
        **{f"data.{name}": [] for name in COLLECTIONS},
        "data.without": [],
        "data.phantom_spine": [PHANTOM],
        "data.phantom_brain": [
            {"persons": 1, "size_mm": (80, 96, 64), "spacing_mm": 8, "contrasts": c, "volumes": False}
            for c in (("T1w", "FLAIR"), ())
        ],
        "data.map_labels": [
            {"dataset": {"type": "data.phantom_spine", **PHANTOM}, "ontology": {"canal": 9, "cord": 7}}
        ],
        "data.union": [
            {
                "of": [{"type": "data.phantom_spine", **PHANTOM, "seed": n} for n in (0, 1)],
                "prefixes": ["a-", "b-"],
                "domains": ["a", "b"],
            }
        ],
    },
}


def configured() -> list[Any]:
    return [
        pytest.param(interface, name, fields, id=f"{name}-{number}")
        for interface, known in CONFIGS.items()
        for name, variants in known.items()
        for number, fields in enumerate(variants)
    ]


def test_every_component_is_checked() -> None:
    for interface in CONFIGS:
        known = registry().components[interface]
        ours = {name for name, entry in known.items() if entry.plugin in OURS}
        assert ours == set(CONFIGS[interface]), interface


@pytest.mark.parametrize(("interface", "name", "fields"), configured())
def test_contract(interface: str, name: str, fields: Fields) -> None:
    made = component(interface, name, **fields)
    CHECKS[interface](made)


def _loss(loss: Any) -> None:
    check_loss(loss, a_task(loss.link))


def _learner(learner: Any) -> None:
    setup = LearnerSetup(
        task=a_task(),
        model=component("model", "standard.plain_unet", features=[4, 6]),
        loss=component("loss", "standard.dice_ce"),
        optimiser=component("optimiser", "standard.adamw"),
        schedule=component("schedule", "standard.cosine"),
        device=torch.device("cpu"),
        seed=0,
        updates=4,
    )
    check_learner(learner, setup)


def _head(head: Any) -> None:
    """(O, *D) raw → (S, *D) in [0, 1], higher where the output of that structure is."""
    check_config(head)
    task = a_task(head.link)
    raw = torch.randn((task.outputs(), 5, 6, 7), generator=torch.Generator().manual_seed(0)) * 3
    before = raw.clone()
    out = head.build(task)(raw)
    assert torch.equal(raw, before)
    assert out.shape == (len(STRUCTURES), 5, 6, 7)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    louder = raw.clone()
    louder[-1] += 2
    assert bool((head.build(task)(louder)[-1] >= out[-1]).all())
    if head.voxelwise:
        assert torch.allclose(head.build(task)(raw[:, :2]), out[:, :2], atol=1e-6)


def _sampler(sampler: Any) -> None:
    """Same generator state, same patch; the input stays; image, target and grid go together."""
    check_config(sampler)
    draw = sampler.build(a_task())
    for kind in ("hard", "soft"):
        sample = a_sample(0, kind)
        before = sample.image.copy()
        one = {"item": 1} if hasattr(draw, "items") else {}
        patch = draw(sample, np.random.default_rng(3), (0, 0, 0), **one)
        again = draw(sample, np.random.default_rng(3), (0, 0, 0), **one)
        assert np.array_equal(patch.image, again.image)
        assert np.array_equal(sample.image, before)
        if patch.image.ndim == 3:  # a slice
            patch = replace(patch, image=patch.image[..., None], target=patch.target[..., None])
        assert patch.image.shape[1:] == patch.target.shape[1:] == patch.grid.shape
        # A voxel of the patch is the voxel of the sample that lies at the same place in the world.
        middle = [n // 2 for n in patch.grid.shape]
        there = np.rint(sample.grid.voxels(patch.grid.world(middle))).astype(int)
        assert np.array_equal(patch.image[(slice(None), *middle)], sample.image[(slice(None), *there)])
        assert np.array_equal(patch.target[(slice(None), *middle)], sample.target[(slice(None), *there)])


def _postprocessor(postprocessor: Any) -> None:
    """New probabilities of the same shape in [0, 1]; the input stays."""
    check_config(postprocessor)
    sample = a_sample(0, "soft")
    given = np.array(sample.target)
    out = postprocessor.apply(given, sample.grid, STRUCTURES)
    assert np.array_equal(given, sample.target)
    assert out.shape == given.shape
    assert out.dtype == np.float32
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


CHECKS: dict[str, Callable[[Any], None]] = {
    "dataset": check_dataset,
    "preprocessing": check_preprocessing,
    "augmenter": check_augmenter,
    "model": check_model,
    "loss": _loss,
    "metric": check_metric,
    "head": _head,
    "learner": _learner,
    "sampler": _sampler,
    "postprocessor": _postprocessor,
}


def test_manifest(tmp_path: Path) -> None:
    import nibabel as nib

    rows = ["id,person,image:T1w,label:hard"]
    for n in range(3):
        sample = a_sample(n)
        affine = sample.grid.matrix
        nib.save(nib.Nifti1Image(sample.image[0], affine), tmp_path / f"i{n}.nii.gz")
        assert sample.target is not None
        nib.save(nib.Nifti1Image(sample.target[0], affine), tmp_path / f"l{n}.nii.gz")
        rows.append(f"c{n},p{n},i{n}.nii.gz,l{n}.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    structures = {s.name: s.value for s in STRUCTURES.structures}
    check_dataset(
        component("dataset", "data.manifest", path=str(tmp_path / "cases.csv"), structures=structures)
    )


def test_what_has_no_check_is_at_least_a_sound_config() -> None:
    from mriad.cli.plugin_doctor import component_faults

    for base in INTERFACES:
        for entry in registry().components.get(base.interface, {}).values():
            if entry.plugin in OURS:
                assert component_faults(entry.component) == []
