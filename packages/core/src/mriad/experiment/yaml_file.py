"""YAML 1.2 in which every value knows where it was written.

Plain scalars follow the core schema of YAML 1.2.2 (section 10.3.2) to the letter: `1e-4` is a number, `no`
and `2024-01-01` are strings, `010` is ten. Mapping keys are always strings. Duplicate keys, tags, merge keys
and several documents in one file are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

from mriad.errors import ExperimentError
from mriad.experiment.node import Fault, Node, Origin

if TYPE_CHECKING:
    from pathlib import Path

    from ruamel.yaml.events import Event

    from mriad.experiment.node import KeyPath, Scalar

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)")
_NAN = re.compile(r"\.nan|\.NaN|\.NAN")


@dataclass
class Document:
    """What a file holds, and the faults that did not stop the reading of it (duplicate keys, tags)."""

    root: Node
    faults: list[Fault] = field(default_factory=list)


def scalar(text: str) -> Scalar:
    """Return what a plain (unquoted) scalar means in YAML 1.2's core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _OCT.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return float("-inf" if text.startswith("-") else "inf")
    if _NAN.fullmatch(text):
        return float("nan")
    return text


def read_file(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ExperimentError: the file is absent, not text, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExperimentError(
            "the experiment file is not UTF-8 text", where={"file": path, "byte": error.start}
        ) from error
    except OSError as error:
        raise ExperimentError(
            "the experiment file cannot be read", where={"file": path, "reason": error.strerror}
        ) from error
    document = _parse(text, path)
    if not isinstance(document.root.value, dict):
        raise ExperimentError(
            "an experiment file holds a mapping",
            where={"file": path, "found": "nothing" if document.root.value is None else "another value"},
            remedy="begin with a line such as `name: my_experiment`",
        )
    return document


def read_value(text: str, override: str) -> Document:
    """Parse the value of `--set KEY=VALUE` as YAML; every origin is the override.

    Raises:
        ExperimentError: the text is not YAML.
    """
    return _parse(text, None, override)


def _parse(text: str, file: Path | None, override: str = "") -> Document:
    reader = _Reader(file, override)
    try:
        events = list(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ExperimentError(
            f"not valid YAML: {error.problem or error.context}",
            where={"at": reader.origin(mark)} if mark else {"file": file},
            remedy="check indentation, brackets and colons near there; quote strings that hold `: ` or ` #`",
        ) from error
    except YAMLError as error:  # a character that YAML does not allow
        raise ExperimentError(
            f"not valid YAML: {str(error).splitlines()[0]}", where={"at": reader.origin(None)}
        ) from error
    return reader.read(events)


class _Reader:
    """Builds nodes from parser events, which unlike composed nodes still know what was quoted."""

    def __init__(self, file: Path | None, override: str) -> None:
        self.file = file
        self.override = override
        self.faults: list[Fault] = []
        self.anchors: dict[str, Node] = {}

    def origin(self, mark: object) -> Origin:
        if self.override or mark is None:
            return Origin(self.file, override=self.override)
        return Origin(self.file, getattr(mark, "line", 0) + 1, getattr(mark, "column", 0) + 1)

    def read(self, events: list[Event]) -> Document:
        content = [e for e in events if not type(e).__name__.startswith(("Stream", "Document"))]
        documents = sum(type(e).__name__ == "DocumentStartEvent" for e in events)
        if documents > 1:
            raise ExperimentError(
                "a file holds one experiment", where={"file": self.file, "documents": documents}
            )
        if not content:
            return Document(Node(None, self.origin(None)))
        root, _ = self._node(content, 0, ())
        return Document(root, self.faults)

    def _node(self, events: list[Event], at: int, path: KeyPath) -> tuple[Node, int]:
        """Return the node that starts at event `at`, and the position behind it."""
        event = events[at]
        origin = self.origin(event.start_mark)
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                self._fault(origin, path, f"the alias *{event.anchor} has no anchor before it")
                return Node(None, origin), at + 1
            return self.anchors[event.anchor], at + 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._fault(origin, path, f"tags such as {tag} are not read; quote a value to make it a string")
        node = Node(None, origin)
        if isinstance(event, ScalarEvent):
            node.value = scalar(event.value) if event.implicit[0] else event.value
            end = at + 1
        elif isinstance(event, SequenceStartEvent):
            node.value, end = self._list(events, at + 1, path)
        else:
            assert isinstance(event, MappingStartEvent)
            node.value, end = self._mapping(events, at + 1, path)
        if event.anchor:
            self.anchors[event.anchor] = node  # after its content: an alias inside itself has no anchor yet
        return node, end

    def _list(self, events: list[Event], at: int, path: KeyPath) -> tuple[list[Node], int]:
        items: list[Node] = []
        while not type(events[at]).__name__.endswith("EndEvent"):
            item, at = self._node(events, at, (*path, len(items)))
            items.append(item)
        return items, at + 1

    def _mapping(self, events: list[Event], at: int, path: KeyPath) -> tuple[dict[str, Node], int]:
        entries: dict[str, Node] = {}
        while not type(events[at]).__name__.endswith("EndEvent"):
            key_event, key = events[at], getattr(events[at], "value", None)
            origin = self.origin(key_event.start_mark)
            if not isinstance(key, str):
                self._fault(origin, path, "a key is a plain word, not a list or mapping")
                key = f"<key at line {origin.line}>"
                _, at = self._node(events, at, path)
            else:
                at += 1
            value, at = self._node(events, at, (*path, key))
            if key == "<<":
                self._fault(origin, path, "merge keys (<<) are not part of YAML 1.2; use `extends:`")
            elif key in entries:
                first = entries[key].origin
                self._fault(origin, (*path, key), f"this key is there twice, first at {first}")
            else:
                entries[key] = Node(value.value, origin)
        return entries, at + 1

    def _fault(self, origin: Origin, path: KeyPath, message: str) -> None:
        self.faults.append(Fault(origin, path, message))
