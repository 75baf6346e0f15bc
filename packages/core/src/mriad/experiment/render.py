"""A resolved experiment as YAML in which each value carries its origin as a comment."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.experiment.yaml_file import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mriad.experiment.load import Loaded
    from mriad.experiment.node import KeyPath, Origin

DEFAULT = "default"
WIDEST = 60
"""Column beyond which a comment does not wait for its neighbours'."""
LONGEST_FLOW = 70
"""Characters up to which a list of scalars stays on one line."""
_PLAIN = re.compile(r"[A-Za-z0-9_./\\-][A-Za-z0-9_ ./\\+-]*(?<! )")


def render(loaded: Loaded) -> str:
    """Return YAML that loads as the same experiment, with `# file:line`, `# --set …` or `# default` behind values."""
    rows = list(_rows(loaded, loaded.experiment.model_dump(mode="json"), (), 0))
    width = min(max(len(text) for text, _ in rows), WIDEST)
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in rows)


def _rows(loaded: Loaded, value: dict[str, Any], path: KeyPath, depth: int) -> Iterator[tuple[str, str]]:
    # What a component is comes first; pydantic puts inherited fields before it.
    for key, item in sorted(value.items(), key=lambda pair: pair[0] != "type"):
        yield from _entry(loaded, f"{'  ' * depth}{_scalar(key)}:", item, (*path, key), depth)


def _entry(loaded: Loaded, head: str, value: Any, path: KeyPath, depth: int) -> Iterator[tuple[str, str]]:
    flow = _flow(value)
    if flow is not None:
        yield f"{head} {flow}", _origin(loaded.origin(path))
    elif isinstance(value, dict):
        yield head, ""
        yield from _rows(loaded, value, path, depth + 1)
    else:
        yield head, ""
        for index, item in enumerate(value):
            yield from _item(loaded, item, (*path, index), depth + 1)


def _item(loaded: Loaded, value: Any, path: KeyPath, depth: int) -> Iterator[tuple[str, str]]:
    dash = "  " * depth + "-"
    if not isinstance(value, dict) or not value:
        yield from _entry(loaded, dash, value, path, depth)
        return
    # The first key of a mapping stands behind the dash.
    for n, (text, origin) in enumerate(_rows(loaded, value, path, depth + 1)):
        yield (f"{dash} {text.lstrip()}" if n == 0 else text), origin


def _flow(value: Any) -> str | None:
    """The value on one line, if it is a scalar, empty, or a short list of scalars."""
    if isinstance(value, dict):
        return None if value else "{}"
    if not isinstance(value, list):
        return _scalar(value)
    if any(isinstance(item, (dict, list)) and item for item in value):
        return None
    text = f"[{', '.join(_flow(item) or '' for item in value)}]"
    return text if len(text) <= LONGEST_FLOW else None


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
        return repr(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and scalar(value) == value and value[0] != "-":
        return value
    text = json.dumps(value, ensure_ascii=False)  # JSON strings are YAML strings
    return text.replace("${", "$${")  # variables were replaced already: what is left is literal


def _origin(origin: Origin | None) -> str:
    if origin is None:
        return DEFAULT
    if origin.file is None:
        return str(origin).replace("\n", " ")
    here = Path.cwd()
    file = origin.file.absolute()
    return f"{file.relative_to(here) if file.is_relative_to(here) else file}:{origin.line}"
