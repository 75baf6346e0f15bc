"""What predictors give: probabilities on the case's own grid, whole or slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mriad.errors import ShapeError
from mriad.inference.slab import Slab, collect, slabs_of_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad.geometry import Grid
    from mriad.interfaces import CasePredictor
    from mriad.vocabulary import LabelSet, Volume

OnWindow = Callable[[int, int], None]
"""Called with (windows done, windows in all) while a prediction is made."""


@dataclass(eq=False)
class CasePrediction:
    """Probabilities (S, X, Y, Z) float32 in [0, 1] on the case's own grid, one channel a structure.

    `probabilities` of a large scan is a memory map of a temporary file that goes when the prediction does.
    `exclusive`: structures exclude each other, and background has what they leave (softmax); otherwise each
    structure stands for itself. `facts`: what the head says of the raw outputs, by name, one number a structure.
    """

    probabilities: NDArray[np.float32]
    grid: Grid
    label_set: LabelSet
    exclusive: bool = False
    facts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def slabs(self) -> Iterator[Slab]:
        """The probabilities piece by piece, each piece a copy."""
        return slabs_of_array(self.probabilities, largest_stride(self.probabilities))

    def hard(self) -> NDArray[np.integer[Any]]:
        """Label values (X, Y, Z) of the label set, 0 background; see `harden`."""
        return harden(self.slabs(), self.grid.shape, self.label_set, self.exclusive)


@dataclass(frozen=True, eq=False)
class PredictionStream:
    """A prediction that is made while its slabs are taken, once; nothing of it is kept.

    `facts` is complete once the slabs are taken.
    """

    slabs: Iterator[Slab]
    grid: Grid
    label_set: LabelSet
    exclusive: bool
    facts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def collect(self) -> CasePrediction:
        """Take all slabs and put them together."""
        whole = collect(self.slabs, len(self.label_set), self.grid.shape)
        return CasePrediction(whole, self.grid, self.label_set, self.exclusive, dict(self.facts))

    def hard(self) -> NDArray[np.integer[Any]]:
        """Take all slabs and keep only label values (X, Y, Z); see `harden`."""
        return harden(self.slabs, self.grid.shape, self.label_set, self.exclusive)


@runtime_checkable
class StreamingPredictor(Protocol):
    """A `CasePredictor` that can also give its result slab by slab."""

    def stream(self, channels: Mapping[str, Volume], on_window: OnWindow | None = None) -> PredictionStream:
        """Prepare the case now, predict it while the slabs are taken."""
        ...


def stream_of(
    predictor: CasePredictor, channels: Mapping[str, Volume], on_window: OnWindow | None = None
) -> PredictionStream:
    """The stream of any predictor; one that cannot stream is asked for its whole prediction.

    Raises:
        ShapeError: the prediction does not have one channel a structure on its grid.
    """
    if isinstance(predictor, StreamingPredictor):
        return predictor.stream(channels, on_window)
    made = predictor(channels)
    expected = (len(made.label_set), *made.grid.shape)
    if made.probabilities.shape != expected:
        raise ShapeError(
            "a prediction does not fit its grid and label set",
            where={"probabilities": made.probabilities.shape, "expected": expected},
        )
    axis = largest_stride(made.probabilities)
    exclusive = bool(getattr(made, "exclusive", False))
    return PredictionStream(slabs_of_array(made.probabilities, axis), made.grid, made.label_set, exclusive)


def harden(
    slabs: Iterable[Slab], shape: tuple[int, int, int], label_set: LabelSet, exclusive: bool
) -> NDArray[np.integer[Any]]:
    """Probabilities → label values (X, Y, Z) in the smallest unsigned type that holds the label set's.

    exclusive: the most probable of background and structures. Otherwise the most probable structure above 0.5. Ties
    go to background, then to the earlier structure. Signed and wider types are used where values need them.
    """
    values = np.array([s.value for s in label_set.structures])
    dtype = np.result_type(np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max())))
    lookup = values.astype(dtype)
    out = np.zeros(shape, dtype=dtype)
    for slab in slabs:
        p = slab.values
        best, which = p.max(dim=0)
        background = (1 - p.sum(dim=0)) if exclusive else 0.5
        out[slab.index[1:]] = np.where(
            (best > background).cpu().numpy(), lookup[which.cpu().numpy()], dtype.type(0)
        )
    return out


def largest_stride(array: NDArray[Any]) -> int:
    """The spatial axis of (K, X, Y, Z) whose planes lie closest together in memory."""
    return int(np.argmax(np.abs(array.strides[1:])))
