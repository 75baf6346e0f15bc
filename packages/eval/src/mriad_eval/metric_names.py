"""Metrics by the names that people type: `dice`, `eval.dice`, `hd95:form=pooled`."""

from __future__ import annotations

import json
from typing import Any

from mriad.errors import DataError
from mriad.metric import Metric
from mriad.registry import registry
from pydantic import ValidationError


def metric_named(text: str) -> Metric:
    """Return the metric of a full type name ("eval.dice") or of its last part ("dice"), with its settings.

    Settings follow a colon each: "nsd:tolerance_mm=2", "assd:form=mean_of_two".

    Raises:
        PluginError: there is none; the nearest is named.
        DataError: several plugins have one of that name, or a setting is not one of the metric's.
    """
    name, *settings = text.split(":")
    found = [full for full in registry().names("metric") if name in (full, full.split(".", 1)[1])]
    if len(found) > 1:
        raise DataError(
            f"several plugins have a metric '{name}'", remedy=f"give the full name: {' or '.join(found)}"
        )
    full = found[0] if found else name if "." in name else f"eval.{name}"
    component = registry().get("metric", full)
    fields: dict[str, Any] = {"type": full}
    for setting in settings:
        key, given, value = setting.partition("=")
        if not given:
            raise DataError(
                "a setting of a metric cannot be read",
                where={"metric": text, "at": setting or "an empty part"},
                remedy="write NAME:FIELD=VALUE, such as nsd:tolerance_mm=2",
            )
        fields[key] = _value(value)
    try:
        return Metric.resolve(fields)
    except ValidationError as error:
        first = error.errors()[0]
        known = [field for field in component.model_fields if field != "type"]
        raise DataError(
            f"'{text}' is no setting of the metric {full}",
            where={".".join(map(str, first["loc"])): first["msg"]},
            remedy=f"its settings: {', '.join(known) or 'none'}",
        ) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
