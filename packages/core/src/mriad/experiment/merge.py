"""How one tree is laid over another: for `extends:`, `--set`, and the sections that a stage overrides.

- Mappings merge key by key. One whose `type` differs replaces the other: fields of two components do not mix.
- A bare component name (`loss: standard.mse`) counts as a mapping with that `type`.
- Lists and scalars replace.
"""

from __future__ import annotations

from typing import Any

from mriad.experiment.node import Node, located


def merge(base: Node | None, over: Node) -> Node:
    """Return `over` laid on `base`; neither is changed.

    A mapping that both share keeps the origin of `base`, where its section is to be found.
    """
    if base is None:
        return over
    if isinstance(base.value, dict) and _is_component_name(over.value):
        kind = base.value.get("type")
        return base if kind is not None and kind.value == over.value else over
    if not isinstance(over.value, dict):
        return over
    below = as_mapping(base)
    if below is None or _changes_type(below, over.value):
        return over
    merged = dict(below)
    for key, node in over.value.items():
        merged[key] = merge(below.get(key), node)
    return Node(merged, base.origin)


def merge_plain(base: Any, over: Any) -> Any:
    """`merge` for values without origins; pydantic models in them count as what was set on them."""
    below = None if base is None else located(base)
    return merge(below, located(over)).plain()


def _is_component_name(value: object) -> bool:
    """Whether a value looks like `plugin.name`."""
    return isinstance(value, str) and all(part.isidentifier() for part in value.split(".")) and "." in value


def as_mapping(node: Node) -> dict[str, Node] | None:
    """The entries of a mapping or of a bare component name; None for anything else."""
    if isinstance(node.value, dict):
        return node.value
    return {"type": Node(node.value, node.origin)} if _is_component_name(node.value) else None


def _changes_type(base: dict[str, Node], over: dict[str, Node]) -> bool:
    return "type" in base and "type" in over and base["type"].value != over["type"].value
