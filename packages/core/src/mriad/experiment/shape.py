"""What the model says about a place in a tree: which keys are known there, and which values are paths.

Components are looked up by the `type` that the tree gives, so this sees as deep as validation does.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel

from mriad.component import Component
from mriad.experiment.model import Experiment, is_component_default
from mriad.experiment.node import Node
from mriad.experiment.stage_entry import StageEntry
from mriad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from mriad.experiment.node import Key, KeyPath

Types: TypeAlias = "tuple[Any, ...]"
"""The annotations that a value may meet, unions taken apart."""


def shape_at(root: Node, path: KeyPath, model: type[BaseModel] = Experiment) -> Types:
    """The annotations of the value at a path of an experiment; empty where the model knows nothing."""
    annotations: Types = (model,)
    node: Node | None = root
    for key in path:
        annotations = _descend(annotations, node, key)
        node = node.child(key) if node is not None else None
    return annotations


def fields_at(root: Node, path: KeyPath, model: type[BaseModel] = Experiment) -> dict[str, FieldInfo]:
    """The fields that may stand at a path, by the names that YAML uses; empty where any key may stand."""
    node: Node | None = root
    for key in path:
        node = node.child(key) if node is not None else None
    known: dict[str, FieldInfo] = {}
    for found in _models(shape_at(root, path, model), node):
        known |= fields_of_model(found)
        known |= {
            n: f for n, f in fields_of_model(Experiment).items() if n in getattr(found, "overrides", ())
        }
    if not known and model is Experiment and path and path[0] == "stages":
        # A section that a stage overrides without naming a type: the experiment's own section has it.
        start = next((n for n, key in enumerate(path) if n and key in fields_of_model(Experiment)), None)
        known = fields_at(root, path[start:]) if start is not None else {}
    return known


def fields_of_model(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by alias where there is one."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def resolve_paths(node: Node, annotations: Types = (Experiment,)) -> Node:
    """Make relative paths absolute: they are relative to the folder of the file that holds them, or, for
    `--set`, to the working directory. A value is a path where its annotation is `Path` and not also `str`, and
    it is none of the words that the annotation also takes (`Literal["paper"] | Path`).
    """
    flat = tuple(_alternatives(annotations))
    if isinstance(node.value, str):
        if any(get_origin(a) is Literal and node.value in get_args(a) for a in flat):
            return node
        is_path = any(isinstance(a, type) and issubclass(a, PurePath) for a in flat)
        return Node(_absolute(node), node.origin) if is_path and str not in flat else node
    if isinstance(node.value, dict):
        return Node(
            {k: resolve_paths(v, _descend(flat, node, k)) for k, v in node.value.items()}, node.origin
        )
    if isinstance(node.value, list):
        items = [resolve_paths(v, _descend(flat, node, i)) for i, v in enumerate(node.value)]
        return Node(items, node.origin)
    return node


def _absolute(node: Node) -> str:
    folder = node.origin.file.absolute().parent if node.origin.file else Path.cwd()
    return str(folder / Path(str(node.value)).expanduser())


def _alternatives(annotations: Types) -> Iterator[Any]:
    for annotation in annotations:
        origin: Any = get_origin(annotation)
        args = get_args(annotation)
        if origin is Annotated:
            if any(isinstance(a, StageEntry) for a in args[1:]):
                yield annotation
            else:
                yield from _alternatives(args[:1])
        elif origin is Union or origin is types.UnionType:
            yield from _alternatives(args)
        else:
            yield annotation


def _models(annotations: Types, node: Node | None) -> Iterator[type[BaseModel]]:
    """The classes that a mapping may become."""
    for annotation in _alternatives(annotations):
        interface = ""
        if get_origin(annotation) is Annotated:  # only an entry of `stages:` is left annotated
            interface = "stage"
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if not issubclass(annotation, Component) or annotation.type_name():
                yield annotation
                continue
            interface = annotation.interface
        name = _type_of(node)
        found = registry().find(interface, name) if interface and name else None
        if found is not None:
            yield found


def _type_of(node: Node | None) -> str:
    if node is None:
        return ""
    kind = node.child("type")
    value = kind.value if kind is not None else node.value
    return value if isinstance(value, str) else ""


def _without_type(field: FieldInfo, node: Node | None, key: Key) -> Any:
    """The annotation of a field, or the default component where only fields of it are given."""
    inside = node.child(key) if node is not None else None
    if is_component_default(field) and inside is not None and isinstance(inside.value, dict):
        interface: Any = field.annotation
        found = registry().find(interface.interface, field.default)
        if "type" not in inside.value and found is not None:
            return found
    return field.annotation


def _descend(annotations: Types, node: Node | None, key: Key) -> Types:
    """The annotations of what stands under a key."""
    found: list[Any] = []
    for annotation in _alternatives(annotations):
        origin: Any = get_origin(annotation)
        args = get_args(annotation)
        if origin is Annotated:
            if node is not None and node.child("repeat") is not None:
                found.append(annotation)
                continue
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            found += args[1:]
        elif origin is tuple and isinstance(key, int):
            found += args[:1] if args[1:] == (Ellipsis,) else args[key : key + 1]
        elif isinstance(origin, type) and issubclass(origin, (Sequence, set, frozenset)):
            found += args
        for model in _models((annotation,), node):
            field = fields_of_model(model).get(str(key)) or model.model_fields.get(str(key))
            if field is not None:
                found.append(_without_type(field, node, key))
            if key in getattr(model, "overrides", ()):
                found.append(fields_of_model(Experiment)[str(key)].annotation)
    return tuple(found)
