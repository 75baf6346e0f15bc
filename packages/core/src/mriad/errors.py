"""One exception tree. A message says what was wrong, where, what was expected and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class MriadError(Exception):
    """Root of every error that mriad raises for a person to read.

    Args:
        what: one line, what was wrong.
        where: facts that locate it (file, case, field, shape seen, what was expected), printed one a line.
        remedy: what to do next; printed last.
    """

    def __init__(self, what: str, *, where: Mapping[str, object] | None = None, remedy: str = "") -> None:
        self.what = what
        self.where = dict(where or {})
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        rows = {**self.where, **({"try": self.remedy} if self.remedy else {})}
        width = max((len(key) for key in rows), default=0)
        below = "\n" + " " * (width + 4)  # what takes several lines stays in its column
        lines += [f"  {key:<{width}}  {str(value).replace(chr(10), below)}" for key, value in rows.items()]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not pickle by themselves
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _rebuild(kind: type[MriadError], what: str, where: dict[str, object], remedy: str) -> MriadError:
    return kind(what, where=where, remedy=remedy)


class ExperimentError(MriadError):
    """An experiment file, an override or a combination of components is not valid."""


class PluginError(MriadError):
    """A plugin cannot be loaded, or its component cannot be found."""


class DataError(MriadError):
    """A file, case or data set cannot be used."""


class LabelGeometryError(DataError):
    """Image and label do not share a voxel grid."""


class SplitError(DataError):
    """A split would leak a person, or cannot be made."""


class ShapeError(MriadError):
    """Two tensors, or a tensor and its declaration, differ in shape."""


class NonFiniteError(MriadError):
    """A loss or gradient is NaN or infinite; the weights were not changed."""


class CheckpointError(MriadError):
    """A checkpoint or model file is damaged, of another architecture, or holds code."""


class StorageError(MriadError):
    """A place cannot be written: full, read-only, or not a folder."""


class LaunchError(MriadError):
    """A run cannot be started as asked, or is already running elsewhere."""


class StageError(MriadError):
    """A stage raised an error of its own, or left no sound result; the stage and its folder are named."""


class StoppedEarlyError(MriadError):
    """A search gave a training up, since others were better at the same step; nothing is wrong with it."""


class TrackingError(MriadError):
    """The tracking store cannot be reached or refuses what is sent."""
