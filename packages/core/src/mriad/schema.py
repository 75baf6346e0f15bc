"""The JSON Schema (Draft 2020-12) of an experiment, with every component that is installed.

Definitions: each component under its type name, each interface under its own (`loss`: one of the components,
or the bare name of one whose fields all have defaults), `stage-entry` for what `stages:` holds, and everything
again under `partial.`, where nothing is required: that is what a file with `extends:` and a stage's overrides
are held to, since the rest is merged in from elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from mriad.experiment.model import Experiment
from mriad.experiment.stage_entry import MARKER
from mriad.interfaces import INTERFACES
from mriad.registry import registry as installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from mriad.registry import Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"
_PARTIAL = "partial."


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return the schema of experiment files.

    Args:
        registry: what counts as installed; default: the plugins of this process.
    """
    known = registry if registry is not None else installed()
    defs: dict[str, Any] = {}
    experiment = _model(Experiment, "experiment", defs)
    bare: dict[str, list[str]] = {}
    for interface in INTERFACES:
        for name in known.names(interface.interface):
            component = known.components[interface.interface][name].component
            defs[name] = _component(component, name, defs)
            if set(defs[name].get("required", [])) <= {"type"}:
                bare.setdefault(interface.interface, []).append(name)
    for interface in INTERFACES:
        names = known.names(interface.interface)
        defs[interface.interface] = _interface(names, bare.get(interface.interface, []))
    defs["experiment"] = experiment
    for schema in [d for name, d in defs.items() if name.partition(".")[0] == "experiment"]:
        _let_defaults_change(schema, defs)
    _let_stages_override(known, defs, experiment)
    defs["stage-entry"] = _stage_entry()
    defs = {name: _resolve_markers(schema) for name, schema in defs.items()}
    defs |= {_PARTIAL + name: _partial(name, schema, known) for name, schema in defs.items()}
    for name in ("experiment", _PARTIAL + "experiment"):
        defs[name]["properties"]["extends"] = {
            "type": "string",
            "description": "An experiment that this one changes: a file beside it, or `plugin:name`.",
        }
    return {
        "$schema": DIALECT,
        "title": "mriad experiment",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{_DEFS}{_PARTIAL}experiment"},
        "else": {"$ref": f"{_DEFS}experiment"},
        "$defs": dict(sorted(defs.items())),
    }


def _model(model: type[BaseModel], name: str, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of one model; the models inside it go to `defs` as `name.Model`."""
    schema = model.model_json_schema(ref_template=f"{_DEFS}{name}.{{model}}")
    inner = schema.pop("$defs", {})
    defs |= {f"{name}.{key}": value for key, value in inner.items()}
    # A model that holds itself is a reference into its own definitions.
    return dict(inner[schema["$ref"].removeprefix(f"{_DEFS}{name}.")]) if "$ref" in schema else schema


def _component(component: type[BaseModel], name: str, defs: dict[str, Any]) -> dict[str, Any]:
    try:
        schema = _model(component, name, defs)
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError) as error:
        # A stranger's field type may have no JSON Schema; that must not cost everyone theirs.
        reason = str(error).splitlines()[0]
        schema = {"type": "object", "properties": {"type": {"const": name}}}
        schema["$comment"] = f"the fields of {name} are not checked: {reason}"
    required = ["type", *(key for key in schema.get("required", []) if key != "type")]
    return {**schema, "required": required}


def _interface(names: list[str], bare: list[str]) -> dict[str, Any]:
    if not names:
        return {"not": {}, "description": "No component of this interface is installed."}
    choices: list[dict[str, Any]] = [{"$ref": _DEFS + name} for name in names]
    if bare:
        choices.append({"type": "string", "enum": bare})
    mapping = {name: _DEFS + name for name in names}
    return {"oneOf": choices, "discriminator": {"propertyName": "type", "mapping": mapping}}


def _let_defaults_change(section: dict[str, Any], defs: dict[str, Any]) -> None:
    """Where a component has a default, allow its fields without the type: `optimiser: {lr: 0.1}`."""
    for name, field in section.get("properties", {}).items():
        default = field.get("default")
        if "x-interface" not in field or not isinstance(default, str) or default not in defs:
            continue
        full = defs[default]
        untyped = {
            **full,
            "properties": {k: v for k, v in full.get("properties", {}).items() if k != "type"},
            "required": [k for k in full["required"] if k != "type"],
        }
        defs[f"untyped.{default}"] = untyped
        choices = [{"x-interface": field["x-interface"]}, {"$ref": f"{_DEFS}untyped.{default}"}]
        rest = {k: v for k, v in field.items() if k != "x-interface"}
        section["properties"][name] = {"anyOf": choices, **rest}


def _let_stages_override(known: Registry, defs: dict[str, Any], experiment: dict[str, Any]) -> None:
    """Describe the sections that a stage may override by the experiment's own, with nothing required."""
    for name in known.names("stage"):
        stage: Any = known.components["stage"][name].component
        if "properties" not in defs[name]:
            continue
        for section in stage.overrides:
            own = defs[name]["properties"].get(section)
            choices: list[dict[str, Any]] = [{"$ref": f"{_DEFS}{_PARTIAL}section.{section}"}]
            if own is not None and section in stage.references:
                choices += [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            defs[name]["properties"][section] = {"anyOf": choices}
            defs[f"section.{section}"] = experiment["properties"][section]


def _stage_entry() -> dict[str, Any]:
    block = {
        "type": "object",
        "properties": {
            "repeat": {
                "type": ["string", "integer"],
                "pattern": r"^\s*\d+(\s+as\s+[A-Za-z_]\w*)?\s*$",
                "minimum": 0,
                "description": "How often, and the name of the round's number: `3 as k`.",
            }
        },
        "additionalProperties": {"$ref": f"{_DEFS}stage-entry"},
        "required": ["repeat"],
    }
    return {
        "if": {"type": "object", "required": ["repeat"]},
        "then": block,
        "else": {"$ref": f"{_DEFS}stage"},
    }


def _resolve_markers(schema: Any) -> Any:
    """Replace what `Component` and `StagesSchema` left for this module by references."""

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        rest = {k: v for k, v in node.items() if k not in ("x-interface", *MARKER)}
        if "x-interface" in node:
            return {"$ref": _DEFS + node["x-interface"], **rest}
        return {"$ref": f"{_DEFS}stage-entry", **rest} if set(MARKER) <= set(node) else node

    return _map(schema, resolve)


def _partial(name: str, schema: dict[str, Any], known: Registry) -> dict[str, Any]:
    """The schema of a value that is merged onto another, so that nothing need be there."""
    if name in {i.interface for i in INTERFACES}:
        more = {"type": "object", "not": {"required": ["type"]}, "description": "Fields that change."}
        return {"anyOf": [{"$ref": _DEFS + name}, more, {"type": "null"}]}
    if name == "stage-entry":
        return {"anyOf": [{"$ref": f"{_DEFS}stage-entry"}, {"type": "object", "not": {"required": ["type"]}}]}
    if any(name in known.names(i.interface) for i in INTERFACES):
        return {"$ref": _DEFS + name}

    def loosen(node: dict[str, Any]) -> dict[str, Any]:
        node = {k: v for k, v in node.items() if k != "required"}
        reference = node.get("$ref", "")
        if reference.startswith(_DEFS) and not reference.startswith(_DEFS + _PARTIAL):
            node["$ref"] = _DEFS + _PARTIAL + reference.removeprefix(_DEFS)
        return node

    return dict(_map(schema, loosen))


def _map(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Change every schema inside a schema, innermost first. Names of properties are left alone."""
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    named = ("properties", "$defs", "patternProperties")
    kept = ("const", "enum", "default", "examples", "mapping")
    out: dict[str, Any] = {}
    for key, item in value.items():
        if key in named and isinstance(item, dict):
            out[key] = {name: _map(inner, change) for name, inner in item.items()}
        else:
            out[key] = item if key in kept else _map(item, change)
    return change(out)
