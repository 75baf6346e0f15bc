"""A resolved experiment as YAML that loads as the same experiment."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment


def to_yaml(experiment: Experiment) -> str:
    """Return every value, defaults included, in the order of the sections."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 118
    stream = io.StringIO()
    writer.dump(experiment.model_dump(mode="json"), stream)
    return stream.getvalue().replace("${", "$${")  # literal text: variables are expanded already
