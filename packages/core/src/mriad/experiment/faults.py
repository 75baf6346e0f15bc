"""Everything that is wrong with an experiment in one report: where, which field, what was expected."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pydantic import BaseModel

from mriad.errors import ExperimentError
from mriad.experiment.model import Experiment
from mriad.experiment.node import Fault
from mriad.experiment.shape import fields_at, fields_of_model
from mriad.stages.graph import expand

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from mriad.experiment.node import Key, KeyPath, Node, Origin

LONGEST_VALUE = 60
"""Characters of a refused value that are shown."""


def faults_of(error: ValidationError, root: Node, model: type[BaseModel] = Experiment) -> list[Fault]:
    """Translate pydantic's errors into faults with the origins of `root`, the tree that was validated."""
    messages: dict[KeyPath, list[str]] = {}
    for line in error.errors(include_url=False):
        path, message = _explain(line, root, model)
        # The branches of a union are reported one by one, at one place: `epoch` is a word or a number.
        if message not in messages.setdefault(path, []):
            messages[path].append(message)
    return [Fault(_origin(root, path), path, _either(found)) for path, found in messages.items()]


def graph_faults(experiment: Experiment, root: Node) -> list[Fault]:
    """What is wrong with the stages as a graph: names that nothing has, wrong kinds of artefact, cycles."""
    try:
        expand(experiment)
    except ExperimentError as error:
        # The graph names places by dots: "stages.rounds.teacher.with".
        places = {place: _place(root, tuple(_key(k) for k in place.split("."))) for place in error.where}
        return [Fault(_origin(root, p), p, str(error.where[place])) for place, p in places.items()]
    return []


def _key(text: str) -> Key:
    return int(text) if text.isdigit() else text


def report(faults: Iterable[Fault], source: object, what: str = "experiment") -> ExperimentError:
    """One error that lists every fault, in the order of the files, overrides last."""
    ordered = sorted(faults, key=_order)
    where = {
        str(n): f"{fault.origin}  {fault}" if fault.origin else str(fault)
        for n, fault in enumerate(ordered, 1)
    }
    count = f"{len(ordered)} faults" if len(ordered) > 1 else "a fault"
    return ExperimentError(
        f"{what} {source} has {count}",
        where=where,
        remedy="`mriad schema --out F` tells an editor every key; `mriad plugins show TYPE` a component's",
    )


def suggestion(word: str, known: Sequence[str]) -> str:
    """`did you mean …?`, or what there is to choose from."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(known)}" if known else ""


def _order(fault: Fault) -> tuple[bool, str, int]:
    if fault.origin is None or fault.origin.override:
        return (True, "", 0)
    return (False, str(fault.origin.file), fault.origin.line)


def _either(messages: list[str]) -> str:
    """Join what the branches of a union expected, and say once what was found."""
    parts = [m.partition(", not ") for m in messages]
    if len(parts) > 1 and len({found for _, _, found in parts}) == 1:
        wanted = " or ".join(p[0] if i == 0 else p[0].removeprefix("should be ") for i, p in enumerate(parts))
        return f"{wanted}{parts[0][1]}{parts[0][2]}"
    return "; or ".join(messages)


def _explain(line: ErrorDetails, root: Node, model: type[BaseModel]) -> tuple[KeyPath, str]:
    kind = line["type"]
    names_key = kind in ("extra_forbidden", "missing")
    path = _place(root, line["loc"][:-1] if names_key else line["loc"])
    if names_key:
        key = line["loc"][-1]
        known = fields_at(root, path, model)
        path = (*path, key)
        if kind == "extra_forbidden":
            return path, _unknown(str(key), list(known), path)
        field = known.get(str(key))
        what = f": {field.description}" if field is not None and field.description else ""
        return path, f"is missing{what}"
    message = line["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return path, message + _found(line)


def _unknown(key: str, known: list[str], path: KeyPath) -> str:
    elsewhere = [
        section
        for section, field in fields_of_model(Experiment).items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and key in fields_of_model(field.annotation)
    ]
    if len(path) == 1 and elsewhere:
        return f"unknown key; it belongs under '{elsewhere[0]}'"
    hint = suggestion(key, known)
    return f"unknown key{'; ' if hint else ''}{hint}"


def _found(line: ErrorDetails) -> str:
    """The refused value, where the message does not show it already."""
    value = line["input"]
    if not line["msg"].startswith("Input ") or isinstance(value, (BaseModel, dict, list)):
        return ""
    text = repr(value)
    return f", not {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}"


def _place(root: Node, loc: tuple[Key, ...]) -> KeyPath:
    """The part of pydantic's location that is in the tree: names of a union's branches are not."""
    path: list[Key] = []
    node: Node | None = root
    for key in loc:
        names = [key, key.removesuffix("_")] if isinstance(key, str) else [key]  # `from_` is `from` in YAML
        for name in names:
            inside = node.child(name) if node is not None else None
            if inside is not None:
                path.append(name)
                node = inside
                break
    return tuple(path)


def _origin(root: Node, path: KeyPath) -> Origin:
    """The origin of the deepest node on the way to a path."""
    node = root
    for key in path:
        inside = node.child(key)
        if inside is None:
            break
        node = inside
    return node.origin
