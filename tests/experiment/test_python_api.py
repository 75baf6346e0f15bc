"""`import mriad` from Python."""

from __future__ import annotations

import subprocess
import sys

import mriad
import pytest
from mriad.errors import ExperimentError
from mriad.experiment.load import load


def test_components_by_interface_and_name(fakes):
    loss = mriad.component(
        "loss", "standard.deep_supervision", loss={"type": "softseg.adaptive_wing", "omega": 3}
    )
    assert loss.loss.omega == 3
    inner = mriad.component("loss", "softseg.adaptive_wing")
    assert mriad.component("loss", "standard.deep_supervision", loss=inner).loss == inner


@pytest.mark.parametrize(
    ("interface", "name", "fields", "message"),
    [
        ("los", "softseg.adaptive_wing", {}, "there is no interface 'los'"),
        ("loss", "softseg.adaptive_win", {}, "did you mean 'softseg.adaptive_wing'"),
        ("loss", "other.loss", {}, "pip install mriad-other"),
        ("loss", "softseg.adaptive_wing", {"omga": 3}, "omga +Extra inputs are not permitted"),
        ("loss", "standard.deep_supervision", {}, r"loss +Field required"),
    ],
)
def test_what_cannot_be_made_says_why(fakes, interface, name, fields, message):
    with pytest.raises(ExperimentError, match=message):
        mriad.component(interface, name, **fields)


def test_experiment_by_name(softseg):
    assert mriad.Experiment.load(softseg) == load(softseg)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'traain'"):
        _ = mriad.traain
    assert {"component", "train", "predict", "Experiment", "__version__"} <= set(dir(mriad))


def test_import_is_light():
    """Neither a library nor our own modules; `mriad.component` works before and after its module is imported."""
    code = """
import sys, mriad
assert not [m for m in sys.modules if m.split(".")[0] in ("pydantic", "torch", "numpy", "typer")]
assert callable(mriad.component)
import mriad.component
from mriad.component import Config
assert callable(mriad.component) and mriad.__version__
assert mriad.Experiment.__name__ == "Experiment"
heavy = {"torch", "ray", "mlflow", "monai", "scipy", "pandas", "matplotlib"}
assert not heavy & {m.split(".")[0] for m in sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sections_of_a_stage(cosmos):
    experiment = load(cosmos)
    one = experiment.with_sections({"streams": {"a": {"batch": 4}, "labelled": {}}, "budget": {"steps": 3}})
    assert list(one.streams) == ["a", "labelled"]
    assert (one.streams["a"].batch, one.budget.steps, one.stages) == (4, 3, {})
    with pytest.raises(ValueError, match="reads the streams source, target"):
        experiment.with_sections({"learner": "cosmos.target_aware_cyclegan"})
