"""What a case metric measures: one structure of one case, and the work that several metrics share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from mriad.geometry import Grid

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class StructurePair:
    """Prediction and reference of one structure on one grid. Arrays are never written to.

    prediction, reference: (X, Y, Z) float32 in [0, 1]. validity: bool (X, Y, Z), None where all is annotated.
    annotations: further label maps (X, Y, Z) on the same grid by name, such as "levels" (vertebral levels).
    numbers: reference numbers of the case that are known without voxels, such as `area_mm2/C3`.
    at_levels: where morphometrics are taken, such as ("C2", "C3"); empty: everywhere.
    """

    prediction: NDArray[np.float32]
    reference: NDArray[np.float32]
    grid: Grid
    validity: NDArray[np.bool_] | None = None
    structure: str = ""
    case: str = ""
    annotations: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    at_levels: tuple[str, ...] = ()
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def shared(self, key: str, make: Callable[[StructurePair], Value]) -> Value:
        """Return `make(self)`, computed once: several metrics read one distance transform.

        `key` begins with the plugin's name, so that two plugins cannot meet: "eval.distances".
        """
        if key not in self._made:
            self._made[key] = make(self)
        return self._made[key]  # type: ignore[no-any-return]
