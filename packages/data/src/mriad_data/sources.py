"""Sources of voxels as text, so that a table can hold them; and one volume of a 4D file as a source.

A cell is a path below the table's root, or an absolute one. `stacked://PATH` is a file whose fourth axis holds
structures, `frame://N/PATH` one volume of a 4D file, `dicom://UID/PATH` one series of a folder of DICOM files.
A path below a root never holds two slashes in a row, so the two kinds of text cannot be mixed up.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad.errors import DataError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.images import FileSource, read_volume
from mriad.vocabulary import Volume

if TYPE_CHECKING:
    from mriad.vocabulary import Source


@dataclass(frozen=True)
class FrameSource:
    """Volume `frame` (from 0) along the fourth axis of a 4D NIfTI, as in the Medical Segmentation Decathlon."""

    path: str
    frame: int

    @property
    def fingerprint(self) -> str:
        """Identity of the file's bytes and the volume's number."""
        return fingerprint([file_sha256(self.path), self.frame])

    @property
    def location(self) -> str:
        """The path and the volume's number."""
        return f"{self.path}, volume {self.frame}"

    def read(self) -> Volume:
        """Return the voxels (X, Y, Z).

        Raises:
            DataError: as `read_volume`, or the file has fewer volumes.
        """
        volume = read_volume(self.path, stacked=True)
        frames = volume.data.shape[0] if volume.data.ndim == 4 else 1
        if self.frame >= frames:
            raise DataError(
                "a file has fewer volumes than its data set says",
                where={
                    "file": self.path,
                    "volumes": frames,
                    "expected": f"at least {self.frame + 1}, one a channel",
                },
            )
        return Volume(volume.data[self.frame] if volume.data.ndim == 4 else volume.data, volume.grid)


def as_cell(source: Source, root: str = "") -> str:
    """A source as text; paths below `root` are written relative to it.

    Raises:
        DataError: the source is no file, or its path is not UTF-8.
    """
    from mriad_data.dicom_series import SeriesSource

    if isinstance(source, FrameSource):
        return f"frame://{source.frame}/{_relative(source.path, root)}"
    if isinstance(source, SeriesSource):
        return f"dicom://{source.series}/{_relative(source.folder, root)}"
    if not isinstance(source, FileSource):
        raise DataError(
            "only cases whose voxels lie in files can be listed in a table",
            where={"source": source.location},
        )
    place = _relative(source.path, root)
    return f"stacked://{place}" if source.stacked else place


def from_cell(cell: str, root: str = "") -> Source:
    """The source that `as_cell` wrote.

    Raises:
        DataError: the text begins like a source that this version does not know.
    """
    if "://" not in cell:
        return FileSource(os.path.join(root, cell))  # noqa: PTH118 (a million of them: Path is ten times slower)
    scheme, _, rest = cell.partition("://")
    if scheme == "stacked":
        return FileSource(os.path.join(root, rest), stacked=True)  # noqa: PTH118
    name, _, place = rest.partition("/")
    if scheme == "frame":
        return FrameSource(os.path.join(root, place), int(name))  # noqa: PTH118
    if scheme == "dicom":
        from mriad_data.dicom_series import SeriesSource

        return SeriesSource(os.path.join(root, place), name)  # noqa: PTH118
    raise DataError(
        f"a table names a kind of source that is not known: {scheme}",
        where={"cell": cell, "expected": "a path, or stacked://, frame://, dicom://"},
    )


def _relative(path: str, root: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("a path is not UTF-8", where={"path": ascii(path)}, remedy="rename it") from error
    path = os.path.normpath(path) if "//" in path or "/." in path else path
    return path[len(root) + 1 :] if root and path.startswith(f"{root}/") else path
