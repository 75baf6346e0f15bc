"""The contract checks that every plugin can run, on each component of `standard`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mriad.plugins import discover
from mriad.testing import a_task, check_augmenter, check_learner, check_loss, check_model
from mriad.training.algorithm import LearnerSetup
from mriad_standard import (
    MSE,
    SGD,
    Augment,
    Cosine,
    CrossEntropy,
    DeepSupervision,
    Dice,
    DiceCE,
    Monai,
    PlainUNet,
    ResidualUNet,
    Supervised,
    TorchIO,
)


@pytest.mark.parametrize("deep", [False, True])
def test_models(deep):
    check_model(PlainUNet(features=[4, 6, 8], deep_supervision=deep))
    check_model(ResidualUNet(features=[4, 6, 8], blocks_per_stage=[1, 1, 1], deep_supervision=deep))


@pytest.mark.parametrize(
    "loss",
    [
        DiceCE(),
        DiceCE(link="sigmoid", form="squared"),
        Dice(),
        CrossEntropy(),
        CrossEntropy(link="sigmoid"),
        MSE(),
        MSE(link="sigmoid"),
        DeepSupervision(loss=DiceCE()),
    ],
    ids=lambda loss: f"{loss.type_name()}-{loss.link}",
)
def test_losses(loss):
    check_loss(loss)


@pytest.mark.parametrize(
    "augmenter",
    [
        Augment(),
        Augment(
            flip_probability=0.5,
            affine_probability=1,
            gamma_probability=1,
            scaling_probability=1,
            noise_probability=1,
        ),
        Monai(transform="RandAffined", arguments={"prob": 1, "rotate_range": 0.3}),
        Monai(transform="RandGaussianNoised", arguments={"prob": 1}),
        TorchIO(transform="RandomAffine"),
        TorchIO(transform="RandomBiasField"),
    ],
    ids=["identity", "all", "monai-affine", "monai-noise", "torchio-affine", "torchio-bias"],
)
def test_augmenters(augmenter):
    check_augmenter(augmenter)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_learner(decay):
    setup = LearnerSetup(
        task=a_task(),
        model=PlainUNet(features=[4, 6], deep_supervision=True),
        loss=DeepSupervision(loss=DiceCE()),
        optimiser=SGD(lr=0.01),
        schedule=Cosine(warmup=1),
        device=torch.device("cpu"),
        seed=0,
        updates=4,
    )
    check_learner(Supervised(ema_decay=decay), setup)


def test_everything_is_registered_by_the_plugin():
    (standard,) = [p for p in discover().loaded if p.name == "standard"]
    registry = discover().registry
    names = {
        name
        for known in registry.components.values()
        for name, entry in known.items()
        if entry.plugin == "standard"
    }
    import mriad_standard

    assert names == {getattr(mriad_standard, n).model_fields["type"].default for n in mriad_standard.__all__}
    assert registry.commands["quickstart"].target == "mriad_standard.quickstart:quickstart"
    assert standard.module.MRIAD_API == 1


def test_configs_are_light():
    code = (
        "import sys, mriad_standard, mriad_standard.plugin; "
        "print([m for m in ('torch', 'numpy', 'scipy', 'monai', 'torchio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
