"""What a stage takes from the experiment: sections with overrides, canonical forms, references in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from mriad.component import Component, Config
from mriad.filehash import file_sha256

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment

COVERED = {"data": ("dataset", "split", "store"), "data.labels": ("from",), "predict": ("with",)}
"""Fields that stay out of a fingerprint, by section: what they lead to (voxels, ids, upstream) is in it."""
LATER = ("data.validate_on",)
"""Fields that fingerprints did not have at first: left out where they are empty, so that stages keep their names."""


def overridden(experiment: Experiment, sections: Mapping[str, Any]) -> Experiment:
    """The experiment with sections overridden by raw values; the same object where there is nothing to do.

    Raises:
        pydantic.ValidationError: the merged experiment is not valid.
    """
    return experiment.with_sections(sections) if sections else experiment


def section(experiment: Config, path: str) -> Any:
    """The value of a dotted path such as "data.labels" or "evaluate.metrics.0" (None past the end of a list).

    Raises:
        AttributeError: there is no such section.
    """
    value: Any = experiment
    for part in path.split("."):
        if isinstance(value, (list, tuple)) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = getattr(value, part if part in getattr(type(value), "model_fields", ()) else part + "_")
    return value


def canonical(value: Any, path: str = "") -> Any:
    """Return JSON-like data that stands for what a value does.

    Components carry the `version` of their class. Names of stages are left out, since the fingerprints of
    those stages are given beside; so are the fields in `COVERED`.
    """
    if isinstance(value, Config):
        hidden = type(value).references if isinstance(value, Component) else ()
        files = type(value).files if isinstance(value, Component) else ()
        out: dict[str, Any] = {}
        for name, info in type(value).model_fields.items():
            key = info.serialization_alias or info.alias or name
            if name not in hidden and key not in COVERED.get(path, ()):
                found = getattr(value, name)
                if not found and f"{path}.{key}" in LATER:
                    continue
                out[key] = content(found) if name in files else canonical(found, f"{path}.{key}")
        version = getattr(type(value), "version", None)
        return out if version is None else {**out, "$version": version}
    if isinstance(value, Mapping):
        return {str(key): canonical(v, f"{path}.{key}") for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(v, f"{path}.") for v in value]
    return to_jsonable_python(value)


def content(path: Any) -> Any:
    """What stands for a file in a fingerprint: its SHA-256; a folder's by name; for a path to nothing, itself."""
    if path is None:
        return None
    place = Path(path)
    if place.is_file():
        return file_sha256(place)
    if place.is_dir():
        return {p.name: file_sha256(p) for p in sorted(place.iterdir()) if p.is_file()}
    return str(path)


def names(value: Any) -> list[str]:
    """The names in a reference field: one, several, or none (a mapping is an override)."""
    if isinstance(value, str):
        return [value]
    return [v for v in value if isinstance(v, str)] if isinstance(value, (list, tuple)) else []


def references(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every (place, stage name) that components inside a section refer to."""
    if isinstance(value, Config):
        for name in type(value).model_fields:
            field = getattr(value, name)
            if isinstance(value, Component) and name in type(value).references:
                yield from (((*path, name), target) for target in names(field) if target)
            else:
                yield from references(field, (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from references(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from references(item, (*path, str(i)))
