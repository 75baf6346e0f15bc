"""What is made of finished predictions (measurements, a page to look at): found by name, since plugins offer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mriad.component import Component
from mriad.errors import DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mriad.vocabulary import LabelSet


@dataclass(frozen=True)
class Predicted:
    """A finished prediction.

    case: its place and name below the folder of outputs. scan: file of each channel. outputs: one file, or one a
    structure.
    """

    case: str
    scan: Mapping[str, Path]
    outputs: tuple[Path, ...]


class Report(Component):
    """What is made of finished predictions, such as measurements or a page to look at.

    `mriad predict --measure --qc` writes the reports whose names end in "measure" and "qc".
    """

    interface = "report"

    def write(self, predictions: Sequence[Predicted], label_set: LabelSet, folder: Path) -> list[Path]:
        """Write into `folder`, replacing an earlier report, and return the files to open first.

        Raises:
            DataError: nothing can be made of these predictions.
            StorageError: the place is full or cannot be written.
        """
        raise NotImplementedError


def report_named(name: str, **fields: Any) -> Report:
    """Return the installed report of a full type name ("eval.measure") or of its last part ("measure").

    Args:
        name: which one.
        fields: of its config; those that are None are left to their defaults.

    Raises:
        PluginError: none is installed, or several plugins offer one.
        DataError: the report does not take a field, or not its value.
    """
    from pydantic import ValidationError

    from mriad.registry import registry

    found = [full for full in registry().names("report") if name in (full, full.split(".", 1)[1])]
    if len(found) != 1:
        raise PluginError(
            f"no plugin offers the report '{name}'" if not found else f"several plugins offer '{name}'",
            where={"installed": ", ".join(found or registry().names("report")) or "none"},
            remedy="pip install mriad-eval" if not found else "uninstall one of the plugins",
        )
    given = {key: value for key, value in fields.items() if value is not None}
    try:
        return Report.resolve({"type": found[0], **given})
    except ValidationError as error:
        faults = {".".join(map(str, e["loc"])): e["msg"] for e in error.errors()}
        raise DataError(f"the report '{found[0]}' cannot be made so", where=faults) from error
