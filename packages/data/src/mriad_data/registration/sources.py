"""Voxels that are registered when they are read: a contrast on the grid of another, or of a template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.errors import DataError, MriadError
from mriad.gridcheck import require_same_grid
from mriad.identity import fingerprint
from mriad.images import FileSource, read_grid
from mriad.vocabulary import Volume

from mriad_data.registration.match import register
from mriad_data.registration.settings import VERSION, Registration
from mriad_data.registration.transform import Transform, compose

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from mriad.vocabulary import Source

Part = Literal["image", "soft", "hard", "covered"]


@dataclass(frozen=True)
class Link:
    """One registration in a chain: points of `fixed` go to points of `moving`."""

    fixed: Source
    moving: Source
    settings: Registration
    cache: str = ""
    """Folder in which transforms are kept, a JSON file each; "": in memory, for this process."""

    @property
    def fingerprint(self) -> str:
        """Identity of the transform: both images, the settings and the version of the search."""
        return fingerprint([VERSION, self.fixed.fingerprint, self.moving.fingerprint, self.settings])

    def transform(self) -> Transform:
        """Search, or recall what was found for the same images and settings.

        Raises:
            DataError: as `register`; both images are named.
        """
        key = self.fingerprint
        if key not in _known:
            _known[key] = self._kept(key) or self._searched(key)
        return _known[key]

    def _file(self, key: str) -> Path | None:
        return Path(self.cache) / f"{key}.json" if self.cache else None

    def _kept(self, key: str) -> Transform | None:
        file = self._file(key)
        if file is None or not file.is_file():
            return None
        try:
            return Transform.load(file)
        except DataError:  # damaged: searched again and replaced
            return None

    def _searched(self, key: str) -> Transform:
        try:
            found = register(self.moving.read(), self.fixed.read(), self.settings).transform
        except MriadError as error:
            files = {"fixed image": self.fixed.location, "moving image": self.moving.location}
            where = {**files, **error.where}
            raise type(error)(error.what, where=where, remedy=error.remedy) from error
        file = self._file(key)
        if file is not None:
            found.save(file)
        return found


_known: dict[str, Transform] = {}
"""Transforms of this process by fingerprint: 128 bytes each."""


@dataclass(frozen=True)
class RegisteredSource:
    """A source pulled through a chain of registrations onto the grid of another, interpolated once.

    The fingerprint covers all images of the chain, settings and version; nothing is read for it but hashes.
    Where every link kept its start and the grids are one, the voxels are returned as they are.
    """

    source: Source
    target: Source
    """Whose grid the voxels lie on."""
    links: tuple[Link, ...]
    """In the order in which points go from the target's world to the source's."""
    part: Part = "image"
    """image, soft, hard: see `pulled`; covered: uint8, 1 where the source's field of view reaches."""
    order: int = 3
    fill: float = 0.0
    drawn_on: Source | None = None
    """For a label: the image on whose grid it must lie."""
    validity: Source | None = None
    """For a label: a mask on its grid, not 0 where it is annotated; nothing else is mixed into the result."""

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels."""
        parts = [
            VERSION,
            self.source.fingerprint,
            self.target.fingerprint,
            [link.fingerprint for link in self.links],
            [self.part, self.order, self.fill],
        ]
        if self.validity is not None:
            parts.append(self.validity.fingerprint)
        return fingerprint(parts)

    @property
    def location(self) -> str:
        """The source and what it is registered to."""
        return f"{self.source.location}, registered to {self.target.location}"

    def read(self) -> Volume:
        """Return the voxels on the target's grid.

        Raises:
            LabelGeometryError: a label does not lie on the grid of the image that it was drawn on, or its validity
                mask on another grid than the label.
            DataError: a file cannot be read, or a registration failed (both images are named).
        """
        from mriad_data.registration.resampling import covered, pulled

        grid = grid_of(self.target)
        transform = compose([link.transform() for link in self.links])
        if self.part == "covered":
            return Volume(covered(grid_of(self.source), transform, grid).astype(np.uint8), grid)
        volume = self.source.read()
        if self.drawn_on is not None:
            require_same_grid("label", volume.grid, grid_of(self.drawn_on), self.source.location)
        valid = None
        if self.validity is not None:
            mask = self.validity.read()
            require_same_grid("validity", mask.grid, volume.grid, self.validity.location)
            valid = mask.data != 0
        return pulled(volume, transform, grid, self.part, self.order, self.fill, valid)

    def as_coverage(self) -> RegisteredSource:
        """Where this source's field of view reaches, as a mask."""
        return replace(self, part="covered", drawn_on=None, validity=None)


def grid_of(source: Source) -> Grid:
    """The grid of a source, from the header alone where it is a NIfTI file."""
    return read_grid(source.path) if isinstance(source, FileSource) else source.read().grid
