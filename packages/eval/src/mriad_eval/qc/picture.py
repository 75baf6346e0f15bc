"""The arrays behind one case of the page, whatever grids they come on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from mriad.preparation import load_sample
from scipy import ndimage

from mriad_eval.maps import read_map

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from mriad.vocabulary import LabelSet, Source, Volume
    from numpy.typing import NDArray

    from mriad_eval.scoring import Pair

Maps = tuple["NDArray[np.float32]", "Grid"]
"""(S, X, Y, Z) in [0, 1], and where it lies."""


class CasePicture(Protocol):
    """A case that can be shown. It pickles, so that processes can share the cases."""

    @property
    def id(self) -> str:
        """The case."""
        ...

    def read(self) -> Picture:
        """Return its arrays.

        Raises:
            MriadError: a file cannot be read.
        """
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """What is shown of a case.

    reference, prediction: (S, X, Y, Z) float32 in [0, 1] on `grid`, or None. scan: (X, Y, Z) on its own grid, or
    None. At least one of the three is there.
    """

    grid: Grid
    reference: NDArray[np.float32] | None = None
    prediction: NDArray[np.float32] | None = None
    scan: Volume | None = None

    @classmethod
    def of(cls, scan: Volume | None, reference: Maps | None, prediction: Maps | None) -> Picture:
        """Bring reference and prediction to one grid: the reference's, else the prediction's, else the scan's.

        A prediction on another grid is resampled linearly, which is fit for looking and never for measuring.

        Raises:
            ValueError: there is nothing at all.
        """
        if reference is not None:
            grid = reference[1]
        elif prediction is not None:
            grid = prediction[1]
        elif scan is not None:
            grid = scan.grid
        else:
            raise ValueError("a picture needs a scan, a reference or a prediction")
        shown = None
        if prediction is not None:
            values, own = prediction
            same = own.same(grid)
            shown = values if same else np.stack([resampled(channel, own, grid) for channel in values])
        return cls(grid, None if reference is None else reference[0], shown, scan)

    def scan_on_grid(self) -> NDArray[np.float32] | None:
        """The scan (X, Y, Z) on the grid of the maps."""
        if self.scan is None:
            return None
        data = np.asarray(self.scan.data, np.float32)
        return data if self.scan.grid.same(self.grid) else resampled(data, self.scan.grid, self.grid)


def resampled(data: NDArray[Any], own: Grid, grid: Grid) -> NDArray[np.float32]:
    """Return (X, Y, Z) on another grid by linear interpolation in world space; 0 outside."""
    matrix = np.linalg.inv(own.matrix) @ grid.matrix
    out: NDArray[np.float32] = ndimage.affine_transform(
        np.asarray(data, np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=1
    )
    return out


@dataclass(frozen=True)
class PairPicture:
    """A scored pair of files or labels, with the scan if there is one."""

    pair: Pair
    label_set: LabelSet
    scan: Source | None = None

    @property
    def id(self) -> str:
        """The case."""
        return self.pair.case.id

    def read(self) -> Picture:
        """Return its arrays; a case without prediction has None there."""
        pair, reference, prediction = self.pair, None, None
        if pair.prediction:
            values, _, grid = read_map(pair.case.id, pair.prediction, self.label_set)
            prediction = (values, grid)
        if pair.reference:
            values, _, grid = read_map(pair.case.id, pair.reference, self.label_set)
            reference = (values, grid)
        elif pair.label in pair.case.labels:
            sample = load_sample(pair.case, (), pair.label, "soft", self.label_set)
            if sample.target is not None:
                reference = (sample.target, sample.grid)
        return Picture.of(self.scan.read() if self.scan is not None else None, reference, prediction)
