"""The JSON Schema accepts and refuses what validation does; jsonschema is the judge."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest
from mriad.experiment import Experiment
from mriad.experiment.yaml_file import read_file
from mriad.interfaces import Loss
from mriad.registry import Registry
from mriad.schema import json_schema

if TYPE_CHECKING:
    from pathlib import Path
from pydantic.errors import PydanticInvalidForJsonSchema


@pytest.fixture(scope="module")
def validator(fakes_of_module) -> jsonschema.Draft202012Validator:
    schema = json_schema(fakes_of_module)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def tree(path: Path) -> Any:
    return read_file(path).root.plain()


def changed(value: Any, path: str, new: Any) -> Any:
    value = copy.deepcopy(value)
    *way, last = [int(k) if k.isdigit() else k for k in path.split(".")]
    inner = value
    for key in way:
        inner = inner[key]
    inner[last] = new
    return value


def test_the_design_is_valid(validator, softseg, cosmos):
    for path in (softseg, cosmos):
        validator.validate(tree(path))


GOOD = [
    ("loss", "softseg.adaptive_wing"),
    ("optimiser", "standard.adam"),
    ("data.labels", {"kind": "hard"}),
    ("data.labels", "soft"),
    ("optimiser", {"lr": 0.1}),
    ("data.store", {}),
    ("predict", {"head": "softseg.norm_relu", "overlap": 0.25}),
    ("schedule", None),
    ("stages.train", {"type": "core.train", "budget": {"epoch": 3}}),
    ("stages.train", {"type": "core.train", "loss": {"type": "softseg.adaptive_wing", "omega": 3}}),
    ("stages.train", {"type": "core.train", "loss": {"weights": [1, 2]}}),
    ("stages.train", {"type": "core.train", "data": ["softgt"]}),
    ("stages.train", {"type": "core.train", "data": {"channels": ["T1w"]}}),
    (
        "stages.again",
        {"repeat": "2 as i", "x": {"type": "core.train"}, "y": {"repeat": 2, "z": "core.train"}},
    ),
]
BAD = [
    ("loss", "standard.deep_supervision"),
    ("loss", {"type": "standard.deep_supervision"}),
    ("loss.type", "standard.unknown"),
    ("loss.loss.omega", -1),
    ("loss.loss.omga", 1),
    ("loss.loss", {"omega": 3}),
    ("schedule", {"type": "standard.adam"}),
    ("budget.steps", 0),
    ("budget.stepz", 1),
    ("optimizer", "standard.adam"),
    ("data.split", {"type": "data.file"}),
    ("data.dataset.root", 3),
    ("data.labels", "sof"),
    ("optimiser", {"rl": 0.1}),
    ("schedule", {}),
    ("data.labels", {"from": "softgt"}),
    ("evaluate.metrics.0", "eval.unknown"),
    ("predict.test_time", {"flips": ["w"]}),
    ("stages.train", {"type": "core.unknown"}),
    ("stages.train", {}),
    ("stages.train", {"type": "core.train", "lernr": "standard.supervised"}),
    ("stages.train", {"type": "core.train", "budget": {"stepz": 3}}),
    ("stages.train", {"type": "core.train", "learner": "standard.unknown"}),
    ("stages.again", {"repeat": "often", "x": {"type": "core.train"}}),
    ("stages.again", {"repeat": 2, "x": {"type": "core.unknown"}}),
]


@pytest.mark.parametrize(("path", "new"), GOOD, ids=[f"{p}={json.dumps(n)}" for p, n in GOOD])
def test_what_validation_takes_is_valid(validator, softseg, path, new):
    document = changed(tree(softseg), path, new)
    Experiment.model_validate(document)
    validator.validate(document)


@pytest.mark.parametrize(("path", "new"), BAD, ids=[f"{p}={json.dumps(n)}" for p, n in BAD])
def test_what_validation_refuses_is_not_valid(validator, softseg, path, new):
    document = changed(tree(softseg), path, new)
    with pytest.raises(ValueError):
        Experiment.model_validate(document)
    assert not validator.is_valid(document)


def test_a_missing_section_is_not_valid(validator, softseg):
    for section in ("name", "data"):
        document = tree(softseg)
        del document[section]
        assert not validator.is_valid(document)


def test_a_file_that_extends_needs_nothing_but_may_not_err(validator):
    validator.validate({"extends": "base.yaml"})
    validator.validate({"extends": "base.yaml", "loss": {"omega": 3}, "data": {"split": {"n": 3}}})
    validator.validate({"extends": "softseg:soft_all", "loss": {"type": "softseg.adaptive_wing"}})
    validator.validate({"extends": "base.yaml", "stages": {"train": {"budget": {"steps": 3}}}})
    assert not validator.is_valid({"extends": "base.yaml", "budgt": {}})
    assert not validator.is_valid({"extends": "base.yaml", "budget": {"steps": 0}})
    assert not validator.is_valid({"extends": "base.yaml", "loss": {"type": "standard.unknown"}})
    assert not validator.is_valid({"extends": 3})


def test_every_component_and_description_is_there(fakes):
    schema = json_schema()
    for known in fakes.components.values():
        assert set(known) <= set(schema["$defs"])
    assert (
        schema["$defs"]["softseg.adaptive_wing"]["properties"]["omega"]["description"] == "Slope; unitless."
    )
    assert schema["$defs"]["loss"]["discriminator"]["propertyName"] == "type"
    assert schema["$defs"]["sampler"] == {
        "not": {},
        "description": "No component of this interface is installed.",
    }
    assert "x-" not in json.dumps(schema)


def test_a_field_without_schema_costs_only_its_component(fakes):
    class Strange(Loss):
        type: Literal["odd.strange"] = "odd.strange"

        @classmethod
        def __get_pydantic_json_schema__(cls, schema, handler):
            raise PydanticInvalidForJsonSchema("a complex number has none")

    fakes.add(Strange, "odd", "odd")
    schema = json_schema(fakes)
    assert "a complex number has none" in schema["$defs"]["odd.strange"]["$comment"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_nothing_installed_still_gives_a_schema():
    schema = json_schema(Registry())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid(
        {"name": "x", "data": {"dataset": "data.bids"}}
    )
