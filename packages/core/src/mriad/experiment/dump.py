"""A resolved experiment as YAML that loads as the same experiment."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment


def to_yaml(experiment: Experiment) -> str:
    """Return every value, defaults included, in the order of the sections."""
    return plain_yaml(experiment.model_dump(mode="json"))


def plain_yaml(value: Any) -> str:
    """JSON values as YAML in their own order; text is literal, no variable in it is expanded again."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 118
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue().replace("${", "$${")
