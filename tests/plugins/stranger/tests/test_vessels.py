"""The contracts of mriad's interfaces, on every component of this plugin."""

import torch
from mriad.api import component
from mriad.testing import a_task, check_augmenter, check_dataset, check_learner, check_loss, check_model
from mriad.training.algorithm import LearnerSetup
from mriad_vessels.plugin import Bias, Consistent, Net, Phantom, Tversky


def test_dataset():
    check_dataset(Phantom())


def test_augmenter():
    check_augmenter(Bias())


def test_model():
    check_model(Net())


def test_loss():
    check_loss(Tversky())


def test_learner():
    setup = LearnerSetup(
        task=a_task(),
        model=Net(),
        loss=Tversky(),
        optimiser=component("optimiser", "standard.adam"),
        schedule=None,
        device=torch.device("cpu"),
        seed=0,
        updates=4,
    )
    check_learner(Consistent(), setup)
