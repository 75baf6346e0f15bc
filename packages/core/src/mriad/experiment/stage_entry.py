"""The section `stages:` as pydantic sees it: raw mappings that are checked but stay as they were written.

Values stay raw since the graph unrolls `repeat` and `members` before stages are made (`mriad.stages.blocks`).
A stage may also hold sections of the experiment for itself, as far as its class allows (`Stage.overrides`): a
training stage its learner, its streams and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from mriad.interfaces import Stage
from mriad.stages.blocks import Faults, definitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

    from mriad.stages.blocks import Definition

MARKER = {"x-stage-entry": True}
"""JSON Schema of an entry until `mriad.schema` replaces it."""


class StageEntry:
    """Marks the values of `stages:`, for `mriad.experiment.shape`."""


class StagesSchema:
    """Annotation that makes pydantic check `stages:` with `validate_stages`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Check with `validate_stages`; the mappings are dumped as they are."""
        return core_schema.no_info_plain_validator_function(validate_stages)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Entries are markers: stages are known only when the schema is asked for."""
        return {"type": "object", "additionalProperties": dict(MARKER)}


Stages = Annotated[dict[str, Annotated[Any, StageEntry()]], StagesSchema()]


def validate_stages(value: Any) -> dict[str, Any]:
    """Check blocks and stages; a bare type name becomes a mapping, all else comes back as it was.

    A null takes a stage away that another file brought: `stages: {train: null}` in a variant.

    Raises:
        pydantic.ValidationError: what is not valid, each with its place below `stages`.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("stages", "should be a mapping of names to stages")
    stages: dict[str, Any] = {name: _mapping(entry) for name, entry in value.items() if entry is not None}
    faults = Faults()
    found = _distinct(stages, faults)
    errors: list[InitErrorDetails] = []
    for place, message in faults.items():
        problem = PydanticCustomError("stages", message)
        errors.append(InitErrorDetails(type=problem, loc=tuple(place.split(".")[1:]), input=None))
    for definition in found:
        try:
            Stage.resolve(dict(definition.raw))
        except ValidationError as error:
            errors += line_errors(error, definition.path[1:])
        except PydanticCustomError as error:
            loc = (*definition.path[1:], *(["type"] if "type" in definition.raw else []))
            errors.append(InitErrorDetails(type=error, loc=loc, input=None))
    if errors:
        raise ValidationError.from_exception_data("stages", errors)
    return stages


def _mapping(entry: Any) -> Any:
    if isinstance(entry, str):
        return {"type": entry}
    if isinstance(entry, Stage):
        return entry.model_dump(mode="json", exclude_defaults=True) | {"type": entry.type_name()}
    return entry


def _distinct(stages: Mapping[str, Any], faults: Faults) -> list[Definition]:
    """One definition for each stage that is written: not one for each round and member."""
    by_path = {d.path: d for d in reversed(definitions(stages, faults))}
    return list(by_path.values())[::-1]


def training_stages(stages: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Places (below the experiment) of the stages that train, with the sections that each overrides.

    The input need not be valid; what cannot be read is left out.
    """
    from mriad.registry import registry

    for definition in _distinct(stages, Faults()) if isinstance(stages, dict) else ():
        name = definition.raw.get("type")
        found: Any = registry().find("stage", name) if isinstance(name, str) else None
        if found is not None and "learner" in found.overrides:
            yield definition.path, sections_of(found, definition.raw)


def sections_of(stage: type[Stage], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the experiment that a stage overrides.

    Where a key both refers to stages and is a section, a mapping is the section: `data: [pseudo]` names stages,
    `data: {channels: [T1w]}` overrides.
    """
    found = {k: raw[k] for k in stage.overrides if raw.get(k) is not None}
    return {k: v for k, v in found.items() if isinstance(v, dict) or k not in stage.references}


def line_errors(error: ValidationError, prefix: tuple[str | int, ...] = ()) -> list[InitErrorDetails]:
    """The errors in a form that can be raised again, below a longer path."""
    found: list[InitErrorDetails] = []
    for line in error.errors(include_url=False):
        # Without context the message is not a template, so braces in it stay as they are.
        problem = PydanticCustomError(line["type"], line["msg"])
        found.append(InitErrorDetails(type=problem, loc=(*prefix, *line["loc"]), input=line["input"]))
    return found
