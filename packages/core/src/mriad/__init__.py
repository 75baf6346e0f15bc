"""mriad: MRI segmentation that survives a change of contrast, scanner, site or label budget.

From Python::

    import mriad

    experiment = mriad.Experiment.load("x.yaml", ["budget.steps=100"])
    run = mriad.train(experiment)
    prediction = mriad.predict("MODEL", "scan.nii.gz")
    loss = mriad.component("loss", "standard.dice_ce").build(task)

Names are imported when they are used: `import mriad` alone loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriad.api import component
    from mriad.errors import MriadError
    from mriad.experiment.model import Experiment
    from mriad.inference.api import predict

_HOMES = {
    "Experiment": "mriad.experiment.model",
    "MriadError": "mriad.errors",
    "predict": "mriad.inference.api",
    "train": "mriad.launch.api",
}
__all__ = ["Experiment", "MriadError", "component", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name == "component":  # the module of that name, which can be called; see its end
        return import_module("mriad.component")
    if name == "__version__":
        from importlib.metadata import version

        return version("mriad")
    if name not in _HOMES:
        raise AttributeError(f"module 'mriad' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
