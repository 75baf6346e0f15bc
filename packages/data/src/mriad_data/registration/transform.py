"""`Transform`: an affine map from one world to another, as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from mriad.atomic import atomic_file
from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FORMAT = 1


@dataclass(frozen=True)
class Transform:
    """Maps points of the fixed image's world to the moving image's world, both RAS+ mm.

    `matrix` is 4 × 4, row-major. Resampling pulls: the value at a fixed point x comes from `transform(x)` in
    the moving image. `a @ b` maps by b first, then by a, so an image that is registered to a second one, which
    is registered to a third, is pulled to the third in one interpolation by
    `second_to_image @ third_to_second`.
    """

    matrix: tuple[float, ...]

    @classmethod
    def of(cls, matrix: Any) -> Self:
        """Make one from anything array-like.

        Raises:
            DataError: not an invertible finite 4 × 4 matrix with last row 0 0 0 1.
        """
        try:
            array = np.asarray(matrix, np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        sound = array.shape == (4, 4) and np.isfinite(array).all() and np.array_equal(array[3], [0, 0, 0, 1])
        if not sound or abs(np.linalg.det(array[:3, :3])) < 1e-9:
            raise DataError(
                "a transform must be an invertible affine matrix",
                where={"matrix": matrix, "expected": "4 × 4, finite, last row 0 0 0 1"},
            )
        return cls(tuple(float(v) for v in array.ravel()))

    @classmethod
    def identity(cls) -> Self:
        """The transform that moves nothing."""
        return cls.of(np.eye(4))

    @property
    def array(self) -> NDArray[np.float64]:
        """The matrix as a new (4, 4) float64 array."""
        return np.array(self.matrix, np.float64).reshape(4, 4)

    def __matmul__(self, first: Transform) -> Transform:
        return Transform.of(_with_last_row(self.array @ first.array))

    def __call__(self, points: Any) -> NDArray[np.float64]:
        """Map points (..., 3) of the fixed world to the moving world, mm."""
        array = self.array
        out: NDArray[np.float64] = np.asarray(points, np.float64) @ array[:3, :3].T + array[:3, 3]
        return out

    def inverse(self) -> Transform:
        """The transform from the moving world to the fixed one."""
        return Transform.of(_with_last_row(np.linalg.inv(self.array)))

    def distance(self, other: Transform, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far apart both put each of the points (N, 3); mm (N,)."""
        out: NDArray[np.float64] = np.linalg.norm(self(points) - other(points), axis=-1)
        return out

    @property
    def angle(self) -> float:
        """Angle of the nearest rotation in degrees, 0 to 180."""
        left, _, right = np.linalg.svd(self.array[:3, :3])
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        # From both sine and cosine: arccos alone loses everything below 1e-6 degrees.
        sine = np.linalg.norm(turn - turn.T) / np.sqrt(8)
        return float(np.degrees(np.arctan2(sine, (np.trace(turn) - 1) / 2)))

    def save(self, path: Path | str) -> Path:
        """Write it as JSON, whole or not at all; an existing file is replaced.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        path = Path(path)
        rows = self.array.tolist()
        content = {"mriad_transform": FORMAT, "maps": "fixed world to moving world, RAS+ mm", "matrix": rows}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: missing, or not such a file.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "a transform cannot be read",
                where={"file": str(path), "reason": error, "expected": "JSON by `mriad data register`"},
            ) from error
        if not isinstance(content, dict) or content.get("mriad_transform") != FORMAT:
            raise DataError(
                "this file is not a transform of this version",
                where={"file": str(path), "expected": f"JSON with mriad_transform: {FORMAT}"},
            )
        return cls.of(content.get("matrix"))


def compose(transforms: Sequence[Transform]) -> Transform:
    """One transform for a chain, in the order in which points go through it; empty: the identity."""
    result = Transform.identity()
    for transform in transforms:
        result = transform @ result
    return result


def _with_last_row(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with an exact last row, which rounding may have touched."""
    array[3] = [0, 0, 0, 1]
    return array
