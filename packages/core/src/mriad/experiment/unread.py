"""Fields that the experiment's shape has and no part of mriad reads: set, they must not pass in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mriad.errors import ExperimentError
from mriad.experiment.stage_entry import training_stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mriad.experiment.model import Experiment

_FIELDS: tuple[tuple[str, str, object], ...] = (("predict", "type", "network"),)
"""Section, field, and the value that means the same as leaving it out."""


def unread_fields(experiment: Experiment) -> list[str]:
    """Places of fields that are set, in the experiment or in a training stage's own sections, and have no effect."""
    whole = experiment.model_dump(mode="json", include={section for section, _, _ in _FIELDS})
    found = list(_set(whole, ()))
    for path, sections in training_stages(experiment.stages):
        found += _set(sections, path)
    return found


def refuse_unread(experiment: Experiment) -> None:
    """Refuse to run an experiment that asks for what nothing does.

    Raises:
        ExperimentError: such a field is set; every one is named.
    """
    found = unread_fields(experiment)
    if found:
        raise ExperimentError(
            f"experiment '{experiment.name}' sets fields that have no effect",
            where=dict.fromkeys(found, "no part of mriad reads it yet"),
            remedy=f"leave {'it' if len(found) == 1 else 'them'} out",
        )


def _set(sections: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for section, field, idle in _FIELDS:
        given = sections.get(section)
        value = given.get(field, idle) if isinstance(given, dict) else idle
        if isinstance(value, dict):
            value = {key: item for key, item in value.items() if item}  # `at: {levels: []}` asks for nothing
        if value != idle:
            yield ".".join((*path, section, field))
