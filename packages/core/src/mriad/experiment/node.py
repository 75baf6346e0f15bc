"""A tree of values that know where they were written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Scalar: TypeAlias = "str | int | float | bool | None"
Key: TypeAlias = "str | int"
KeyPath: TypeAlias = "tuple[Key, ...]"
"""The way to a value: keys of mappings and indices of lists."""


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file with line and column (from 1), or an override."""

    file: Path | None = None
    line: int = 0
    column: int = 0
    override: str = ""
    """The text after `--set`, such as "budget.steps=10"; empty for a file."""

    def __str__(self) -> str:
        return f"--set {self.override}" if self.override else f"{self.file}:{self.line}"


@dataclass
class Node:
    """A value with its origin; the values inside a mapping or list are nodes too.

    The origin of an entry of a mapping is that of its key, which is where a reader looks.
    """

    value: dict[str, Node] | list[Node] | Scalar
    origin: Origin

    def plain(self) -> object:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def plain_mapping(self) -> dict[str, Any]:
        """`plain` of a node that is a mapping."""
        assert isinstance(self.value, dict)
        return {key: node.plain() for key, node in self.value.items()}

    def child(self, key: Key) -> Node | None:
        """The node under a key or index, or None."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def walk(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
        """This node and every node inside it, outermost first, with their paths."""
        yield path, self
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.walk((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.walk((*path, index))


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with an experiment, and where."""

    origin: Origin | None
    path: KeyPath
    message: str

    def __str__(self) -> str:
        field = ".".join(map(str, self.path))
        return f"{field}: {self.message}" if field else self.message


NOWHERE = Origin()
"""The origin of values that came from no file."""


def located(value: Any, origin: Origin = NOWHERE) -> Node:
    """Plain values as nodes of one origin."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, dict):
        return Node({str(key): located(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, (list, tuple)):
        return Node([located(item, origin) for item in value], origin)
    return Node(value, origin)
