"""A series of DICOM slices as a source of voxels, read by SimpleITK (GDCM); imported when it is first read.

World is nibabel's RAS+; DICOM's and ITK's is LPS+: the first two world axes change sign. The voxel array is
(X, Y, Z): X along a row (columns grow), Y down a column, Z along the normal, slices sorted by position. Values are
stored value × RescaleSlope + RescaleIntercept of *their* slice, as float32 (DICOM PS3.3 C.7.6.2, C.11.1).
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError
from mriad.filehash import file_sha256
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad.memory import memory_bytes, readable_bytes
from mriad.vocabulary import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

POSITION, ORIENTATION, FRAMES = "0020|0032", "0020|0037", "0028|0008"
SERIES_NUMBER, SERIES_DESCRIPTION, PROTOCOL = "0020|0011", "0008|103e", "0018|1030"
BITS = "0028|0100"
_SYNTAX = b"\x02\x00\x10\x00UI"
_PLAIN_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose voxels are not compressed."""
_SAME_DIRECTION = 1e-4  # of a cosine
_EVEN = 0.02  # of the distance of slices: headers round positions
_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class SeriesSource:
    """The series with this SeriesInstanceUID among the DICOM files of a folder (not below it)."""

    folder: str
    series: str

    @property
    def fingerprint(self) -> str:
        """Identity of the bytes of the files, whatever their names."""
        return fingerprint(sorted(file_sha256(path) for path in series_files(self.folder, self.series)))

    @property
    def location(self) -> str:
        """The folder and the series."""
        return f"{self.folder}, series {self.series}"

    def read(self) -> Volume:
        """Return the voxels (X, Y, Z) float32.

        Raises:
            DataError: no such series, unreadable, slices missing, twice at one place, of different orientation or
                sheared, multi-frame or colour files, more voxels than files or memory hold, or values that are NaN
                or infinite.
        """
        sitk = simpleitk()
        files = _stack(series_files(self.folder, self.series), self)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        # Without it the type, and so the rounding, of all slices would follow the first one's slope.
        reader.SetOutputPixelType(sitk.sitkFloat32)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _unreadable(self, error) from error
        data = np.ascontiguousarray(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))
        if not np.isfinite(data).all():
            raise DataError("a DICOM series holds values that are NaN or infinite", where=_where(self))
        return Volume(data, Grid.of(data.shape, _affine(image)))


def simpleitk() -> Any:
    """SimpleITK, imported late (it costs a quarter of a second) and untyped."""
    return importlib.import_module("SimpleITK")


def series_of(folder: str) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the DICOM files in a folder; other files are passed over."""
    sitk = simpleitk()
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # a folder without a series is no matter for a warning
    try:
        return tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def series_files(folder: str, series: str) -> tuple[str, ...]:
    """Files of a series.

    Raises:
        DataError: the folder holds no such series.
    """
    files = tuple(simpleitk().ImageSeriesReader.GetGDCMSeriesFileNames(folder, series))
    if not files:
        raise DataError("a folder does not hold the DICOM series", where={"folder": folder, "series": series})
    return files


def read_header(path: str) -> Any:
    """A SimpleITK reader that has read a file's header: `HasMetaDataKey`, `GetMetaData`, `GetSize`.

    Raises:
        DataError: not a DICOM file.
    """
    reader = simpleitk().ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(
            "a DICOM file cannot be read", where={"file": path, "reason": _reason(error)}
        ) from error
    return reader


def text_of(header: Any, tag: str) -> str:
    """A field of a header as text; empty where it is absent."""
    return header.GetMetaData(tag).strip() if header.HasMetaDataKey(tag) else ""


def unread_files(folder: str, files: Iterable[str], read: Iterable[str]) -> list[str]:
    """Those of the files in a folder that begin as DICOM does but belong to no series: they are damaged."""
    known = set(read)
    damaged = []
    for name in files:
        path = f"{folder}/{name}"
        if path in known:
            continue
        with open(path, "rb") as file:  # noqa: PTH123 (thousands of them)
            if file.read(132)[128:] == b"DICM":
                damaged.append(name)
    return damaged


def _stack(files: tuple[str, ...], source: SeriesSource) -> list[str]:
    """The files in order along the normal. A stack that is no lattice is refused: ITK would give it a grid."""
    headers = [read_header(path) for path in files]
    if any(header.GetNumberOfComponents() != 1 for header in headers):
        raise DataError("a DICOM series is in colour", where=_where(source))
    if any(
        int(text_of(h, FRAMES) or 1) > 1 or (h.GetDimension() > 2 and h.GetSize()[2] > 1) for h in headers
    ):
        raise DataError(
            "a DICOM file holds several frames (enhanced MR), which is not read",
            where=_where(source),
            remedy="convert it to NIfTI with dcm2niix",
        )
    _check_size(headers, files, source)
    if len({header.GetSize()[:2] for header in headers}) > 1:
        raise DataError("the slices of a DICOM series differ in size", where=_where(source))
    if len({tuple(round(s, 4) for s in header.GetSpacing()[:2]) for header in headers}) > 1:
        raise DataError("the slices of a DICOM series differ in pixel spacing", where=_where(source))
    positions = np.array([_numbers(h, POSITION, 3, path) for h, path in zip(headers, files, strict=True)])
    directions = np.array([_numbers(h, ORIENTATION, 6, path) for h, path in zip(headers, files, strict=True)])
    if np.abs(directions - directions[0]).max() > _SAME_DIRECTION:
        raise DataError(
            "the slices of a DICOM series differ in orientation, as those of a localiser do",
            where=_where(source),
            remedy="leave the series out",
        )
    along = positions @ np.cross(directions[0, :3], directions[0, 3:])
    order = np.argsort(along, kind="stable")
    if len(files) > 1:
        _check_steps(along[order], positions[order], directions[0], source)
    return [files[n] for n in order]


def _check_size(headers: Sequence[Any], files: tuple[str, ...], source: SeriesSource) -> None:
    """Refuse headers that claim more voxels than the files hold, or the machine does: ITK would allocate them."""
    total = 0
    for header, path in zip(headers, files, strict=True):
        voxels = math.prod(header.GetSize())
        total += 4 * voxels  # they are read as float32
        stored = voxels * (int(text_of(header, BITS) or 16) // 8)
        if _syntax(path) in _PLAIN_SYNTAXES and stored > Path(path).stat().st_size:
            raise DataError(
                "the header of a DICOM file claims more than the file holds",
                where={
                    "file": path,
                    "header claims": "×".join(map(str, header.GetSize()[:2])) + f" voxels, {stored} bytes",
                    "file holds": f"{Path(path).stat().st_size} bytes",
                },
                remedy="copy or export it again",
            )
    there = memory_bytes()
    if there is not None and total > there:
        raise DataError(
            "a DICOM series is larger than the memory of this machine",
            where={**_where(source), "needed": readable_bytes(total), "memory": readable_bytes(there)},
            remedy="look at the size in the headers",
        )


def _syntax(path: str) -> str:
    """The transfer syntax in a file's first bytes, which SimpleITK does not tell; empty if it is not there."""
    with open(path, "rb") as file:  # noqa: PTH123 (thousands of them)
        head = file.read(2048)
    at = head.find(_SYNTAX)
    size = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + size].strip(b"\0 ").decode("ascii", "replace") if at >= 0 else ""


def _check_steps(
    along: NDArray[np.float64],
    positions: NDArray[np.float64],
    direction: NDArray[np.float64],
    source: SeriesSource,
) -> None:
    """Check sorted slices: distances along the normal, and shifts in the plane."""
    steps = np.diff(along)
    if (np.abs(steps) < _SAME_PLACE_MM).any():
        places = len(np.unique(np.round(along, 3)))
        raise DataError(
            "a DICOM series has several images at one place: echoes, time points or directions",
            where={**_where(source), "images": len(along), "places": places},
            remedy="split it into one series an image, for example with dcm2niix",
        )
    typical = float(np.median(steps))
    if (np.abs(steps - typical) > _EVEN * abs(typical)).any():
        worst = int(np.abs(steps - typical).argmax())
        raise DataError(
            "the slices of a DICOM series are not evenly spaced; is one missing?",
            where={
                **_where(source),
                "distance": f"{typical:.4g} mm",
                "but": f"{steps[worst]:.4g} mm between slices {worst + 1} and {worst + 2}",
            },
            remedy="export the series again",
        )
    drift = np.abs(np.diff(positions @ np.stack([direction[:3], direction[3:]], 1), axis=0)).max()
    if drift > _EVEN * abs(typical):
        raise DataError(
            "the slices of a DICOM series are sheared (a tilted gantry): no grid of voxels",
            where={**_where(source), "shift": f"{drift:.4g} mm a slice"},
            remedy="resample it, for example with dcm2niix",
        )


def _numbers(header: Any, tag: str, count: int, path: str) -> list[float]:
    try:
        found = [float(part) for part in text_of(header, tag).split("\\")]
    except ValueError:
        found = []
    if len(found) != count:
        field = {POSITION: "ImagePositionPatient", ORIENTATION: "ImageOrientationPatient"}[tag]
        raise DataError(
            f"a DICOM file has no {field}, so its voxels have no place",
            where={"file": path, "found": text_of(header, tag) or "nothing"},
        )
    return found


def _affine(image: Any) -> NDArray[np.float64]:
    """Voxel (i, j, k) → RAS mm of an ITK image, which is in LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _where(source: SeriesSource) -> dict[str, object]:
    return {"folder": source.folder, "series": source.series}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]


def _unreadable(source: SeriesSource, error: Exception) -> DataError:
    return DataError("a DICOM series cannot be read", where={**_where(source), "reason": _reason(error)})
