"""Contract checks for plugin authors: each raises `ContractError` with what is wrong and what was expected.

Call them in a plugin's tests; mriad's own plugins do. None needs a GPU or a network.
"""

from mriad.testing.contract import ContractError
from mriad.testing.data import check_augmenter, check_dataset, check_preprocessing
from mriad.testing.metrics import check_metric
from mriad.testing.results import check_predictor, check_stage
from mriad.testing.samples import a_batch, a_sample, a_task
from mriad.testing.training import check_learner, check_loss, check_model

__all__ = [
    "ContractError",
    "a_batch",
    "a_sample",
    "a_task",
    "check_augmenter",
    "check_dataset",
    "check_learner",
    "check_loss",
    "check_metric",
    "check_model",
    "check_predictor",
    "check_preprocessing",
    "check_stage",
]
