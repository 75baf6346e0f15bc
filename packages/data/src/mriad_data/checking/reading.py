"""One read of each file of a case: everything that the checks need to know of its voxels."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import MriadError
from mriad.images import FileSource, read_grid, read_volume
from mriad.vocabulary import Volume

from mriad_data.sources import FrameSource

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from mriad.vocabulary import Case, Source
    from numpy.typing import NDArray

Role = Literal["channel", "label", "validity", "confidence", "annotation"]
MOST_VALUES = 1000
"""Different values that are kept of a label map."""


@dataclass(frozen=True)
class VolumeFacts:
    """What is known of one image or label map after it was read."""

    role: Role
    name: str
    kind: str
    """Of a label: hard, soft, sparse, pseudo."""
    place: str
    """File, and what of it."""
    grid: Grid | None = None
    fault: str = ""
    """Why it cannot be read; empty: it was."""
    detail: str = ""
    remedy: str = ""
    not_finite: bool = False
    warning: str = ""
    """What reading warned of: forms of the header that disagree."""
    mark: str = ""
    """Identity of shape and voxels as float32, whatever their type, header and compression."""
    low: float = 0.0
    high: float = 0.0
    nonzero: int = 0
    at_high: int = 0
    """Voxels that have the highest value."""
    voxels: int = 0
    structures: int = 1
    values: tuple[int, ...] = ()
    """Of a hard label, with 0 where it occurs; at most MOST_VALUES."""
    fractions: tuple[float, ...] = ()
    """A few values of a hard label that are not whole numbers."""
    bytes: int = 0
    """Voxels in memory, in the type of the file."""

    @property
    def drawn(self) -> bool:
        """Whether this is a map of numbered structures."""
        return self.role == "annotation" or (self.role == "label" and self.kind != "soft")


@dataclass(frozen=True)
class Seen:
    """A case and the facts of its volumes: channels, labels with what goes with them, annotations."""

    case: Case
    volumes: tuple[VolumeFacts, ...]

    def of(self, *roles: Role) -> list[VolumeFacts]:
        """Those of some roles that could be read."""
        return [v for v in self.volumes if v.role in roles and not v.fault]

    @property
    def reference(self) -> VolumeFacts | None:
        """The volume on whose grid the others must lie: the first channel with a grid, else the first label."""
        with_grid = [v for v in self.volumes if v.grid is not None]
        channels = [v for v in with_grid if v.role == "channel"]
        return next(iter(channels or with_grid), None)


def sources_of(case: Case) -> list[tuple[Role, str, str, Source]]:
    """Role, name, label kind and source of everything that a case refers to."""
    found: list[tuple[Role, str, str, Source]] = [("channel", n, "", s) for n, s in case.channels.items()]
    for name, label in case.labels.items():
        found.append(("label", name, label.kind, label.source))
        if label.validity is not None:
            found.append(("validity", name, "", label.validity))
        if label.confidence is not None:
            found.append(("confidence", name, "", label.confidence))
    return found + [("annotation", name, "", source) for name, source in case.annotations.items()]


def read_case(case: Case) -> tuple[VolumeFacts, ...]:
    """Read every volume of a case, one at a time; what goes wrong is a fact, not an error."""
    frames = _Frames()
    return tuple(_facts(role, name, kind, source, frames) for role, name, kind, source in sources_of(case))


class _Frames:
    """Reads a 4D file once, whose volumes are the channels of a case."""

    def __init__(self) -> None:
        self.path = ""
        self.whole: Volume | None = None

    def read(self, source: Source) -> Volume:
        """The voxels of a source."""
        if not isinstance(source, FrameSource):
            return source.read()
        if self.path != source.path or self.whole is None:
            self.path, self.whole = source.path, read_volume(source.path, stacked=True)
        whole = self.whole
        if whole.data.ndim == 4 and source.frame < len(whole.data):
            return Volume(whole.data[source.frame], whole.grid)
        return source.read()


def _facts(role: Role, name: str, kind: str, source: Source, frames: _Frames) -> VolumeFacts:
    place = source.location
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            volume = frames.read(source)
        except MriadError as error:
            return _fault(role, name, kind, source, error)
        except Exception as error:  # a guest's source may raise anything; the file is what the reader needs
            text = f"{type(error).__name__}: {error}"
            return VolumeFacts(role, name, kind, place, fault="a volume cannot be read", detail=text)
    said = next((str(w.message) for w in told if issubclass(w.category, RuntimeWarning)), "")
    data = volume.data
    low, high = (float(data.min()), float(data.max())) if data.size else (0.0, 0.0)
    drawn = role == "annotation" or (role == "label" and kind != "soft")
    values, fractions = _values(data) if drawn else ((), ())
    return VolumeFacts(
        role,
        name,
        kind,
        place,
        volume.grid,
        warning=said.removeprefix(f"{place}: "),
        mark=_mark(data),
        low=low,
        high=high,
        nonzero=int(np.count_nonzero(data)),
        at_high=int(np.count_nonzero(data == data.max())) if role == "channel" and data.size else 0,
        voxels=int(data.size),
        structures=len(data) if data.ndim == 4 else 1,
        values=values,
        fractions=fractions,
        bytes=int(data.nbytes),
    )


def _fault(role: Role, name: str, kind: str, source: Source, error: MriadError) -> VolumeFacts:
    grid = None
    if isinstance(source, FileSource):  # its place in space may still be told, from the header
        with contextlib.suppress(MriadError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grid = read_grid(source.path, source.stacked)
    told = {key: value for key, value in error.where.items() if key not in ("file", "expected")}
    return VolumeFacts(
        role,
        name,
        kind,
        source.location,
        grid,
        fault=error.what,
        detail="; ".join(str(value) if key == "reason" else f"{key} {value}" for key, value in told.items()),
        remedy=error.remedy,
        not_finite="NaN" in error.what,
    )


def _mark(data: NDArray[Any]) -> str:
    """Hash of shape and values. Files hold the first axis fastest: transposed, they need no copy."""
    digest = hashlib.blake2b(repr(data.shape).encode(), digest_size=16)
    plain = np.ascontiguousarray(data.T, np.float32)
    if np.issubdtype(data.dtype, np.floating):
        plain = plain + np.float32(0)  # -0 and 0 are one value
    digest.update(plain.data)
    return digest.hexdigest()


def _values(data: NDArray[Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Whole values of a label map, and a few of those that are none."""
    fractions: tuple[float, ...] = ()
    if not np.issubdtype(data.dtype, np.integer):
        whole = np.rint(data)
        odd = data != whole
        if odd.any():
            fractions = tuple(float(v) for v in np.unique(data[odd])[:8])
        data = whole.astype(np.int64)
    if not data.size:
        return (), fractions
    low, high = int(data.min()), int(data.max())
    if high - low < 1 << 16:
        # Counting is several times faster than sorting, which np.unique does.
        found = np.flatnonzero(np.bincount(np.subtract(data, low, dtype=np.int64).ravel(order="K"))) + low
    else:
        found = np.unique(data)
    return tuple(int(v) for v in found[:MOST_VALUES]), fractions


def file_bytes(case: Case) -> dict[str, int]:
    """Files of a case and their sizes on the disk."""
    sizes = {}
    for _, _, _, source in sources_of(case):
        path = getattr(source, "path", "")
        with contextlib.suppress(OSError):
            if path:
                sizes[path] = Path(path).stat().st_size
    return sizes
