"""`--set a.b=c`: values laid on a tree from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mriad.experiment.merge import as_mapping, merge
from mriad.experiment.node import Fault, Node, Origin
from mriad.experiment.yaml_file import read_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.experiment.node import Key, KeyPath

Assignment: TypeAlias = "tuple[tuple[str, ...], Node]"
"""Keys from the top of a tree, and what is laid there."""


def override(root: Node, sets: Sequence[str]) -> tuple[Node, list[Fault]]:
    """Apply `KEY=VALUE` texts (keys joined by dots, indices of lists as numbers) to a tree.

    Those that choose a `type` come first, whatever their order, so that they do not wipe out the others.
    """
    faults: list[Fault] = []
    parsed: list[Assignment] = []
    for text in sets:
        name, sign, value = text.partition("=")
        origin = Origin(override=text)
        keys: tuple[str, ...] = tuple(name.strip().split("."))
        if not sign or not all(keys):
            faults.append(
                Fault(origin, (), "--set takes KEY=VALUE, such as budget.steps=100 or data.split.k=5")
            )
            continue
        document = read_value(value, text)
        faults += document.faults
        parsed.append((keys, document.root))
    root, more = assign(root, parsed)
    return root, faults + more


def assign(root: Node, assignments: Sequence[Assignment]) -> tuple[Node, list[Fault]]:
    """Lay values on a tree, each at its keys; those that choose a `type` come first."""
    faults: list[Fault] = []
    for keys, node in sorted(assignments, key=lambda a: len(a[0]) if a[0][-1] == "type" else 1_000):
        try:
            root = _assign(root, keys, node, ())
        except _NoSuchPlaceError as error:
            faults.append(Fault(node.origin, error.path, str(error)))
    return root, faults


class _NoSuchPlaceError(Exception):
    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def _assign(base: Node | None, keys: Sequence[str], node: Node, path: KeyPath) -> Node:
    if not keys:
        return merge(base, node)
    key, rest = keys[0], keys[1:]
    if base is not None and isinstance(base.value, list):
        index = _index(key, base.value, path)
        items = list(base.value)
        items[index] = _assign(items[index], rest, node, (*path, index))
        return Node(items, base.origin)
    below = {} if base is None or base.value is None else as_mapping(base)
    if below is None:
        assert base is not None
        raise _NoSuchPlaceError(
            path, f"is the value {base.value!r}, not a mapping, so it has no '{key}'; set it whole"
        )
    if not rest and key == "type":  # through `merge`, because a new type replaces the mapping
        return merge(base, Node({"type": node}, node.origin))
    mapping = dict(below)
    mapping[key] = _assign(below.get(key), rest, node, (*path, key))
    return Node(mapping, base.origin if base is not None and base.value is not None else node.origin)


def _index(key: Key, items: Sequence[Node], path: KeyPath) -> int:
    if not str(key).isdigit() or int(key) >= len(items):
        raise _NoSuchPlaceError(
            (*path, key),
            f"is not an item of the list, which has {len(items)}, numbered from 0; or set it whole",
        )
    return int(key)
