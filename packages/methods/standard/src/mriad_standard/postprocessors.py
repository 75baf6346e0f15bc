"""Postprocessors as configs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Literal

from mriad.errors import ExperimentError
from mriad.interfaces import Postprocessor
from pydantic import Field

if TYPE_CHECKING:
    import numpy as np
    from mriad.geometry import Grid
    from mriad.vocabulary import LabelSet
    from numpy.typing import NDArray


class LargestComponent(Postprocessor):
    """Keeps the largest connected component of one structure; its probability becomes 0 elsewhere.

    Components are those of the hard decision: a voxel is the structure's where its probability exceeds 0.5,
    or exceeds that of every other structure and of the background, 1 − Σ. Of two equally large the first in
    array order stays. Soft values within `rim_mm` of the kept component stay too (unless another
    component's), since cutting the partial volume at its border would shrink every soft volume. Nothing
    changes where there is no component.

    Raises:
        ExperimentError: the label set has no such structure.
    """

    type: Literal["standard.largest_component"] = "standard.largest_component"
    structure: str = Field(description="Name of the structure.")
    connectivity: Literal[6, 18, 26] = Field(
        26, description="Neighbours of a voxel: those that share a face, an edge or a corner."
    )
    rim_mm: float = Field(2.0, ge=0, description="Width in mm of the soft border that is kept around it.")

    def apply(
        self, probabilities: NDArray[np.float32], grid: Grid, label_set: LabelSet
    ) -> NDArray[np.float32]:
        """Return new probabilities (S, X, Y, Z)."""
        if self.structure not in label_set.names:
            close = difflib.get_close_matches(self.structure, label_set.names, n=1)
            raise ExperimentError(
                f"postprocessor '{self.type}': no structure '{self.structure}' in the label set",
                where={"structures": ", ".join(label_set.names)},
                remedy=f"did you mean '{close[0]}'?" if close else "use one of these names",
            )
        from mriad_standard.components import keep_largest

        return keep_largest(
            probabilities, label_set.names.index(self.structure), grid.spacing, self.connectivity, self.rim_mm
        )
