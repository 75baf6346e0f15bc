"""`softseg.centred`: a trained network asked twice, so that the crop lies about the cord and not about the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Predictor
from pydantic import Field

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.interfaces import CasePredictor


class Centred(Predictor):
    """Finds the cord in a coarse first pass over the whole volume, then crops about it right–left and front–back.

    For scoliosis and scans in which the cord lies far off the centre (the paper's limitation, section 4.5.2). The
    first pass is the same network on the prepared volume before its `data.center_crop`, resampled to `spacing_mm`;
    of what it gives above `inside` the largest component counts, and its centre is the mean of voxels, weighted by
    the soft output. The box keeps its size, moves right–left and front–back as far as the volume reaches, and stays
    in the middle head–feet. Where no component is large enough it stays in the middle altogether, with a warning.

    `mriad softseg centre MODEL FOLDER` writes such a predictor.

    Raises:
        CheckpointError: the model beside the document is missing or another one, is an ensemble, or has not exactly
            one `data.center_crop` (`build`).
    """

    type: Literal["softseg.centred"] = "softseg.centred"
    model: str = Field(description="Predictor folder or model file in this document's folder.")
    identity: str = Field(description="Fingerprint of that model.")
    spacing_mm: float = Field(
        2.0,
        gt=0,
        description="Voxel size of the first pass in mm. The network sees the cord smaller than in training by this "
        "over the working voxel size: choose that size itself where nothing is found.",
    )
    inside: float = Field(
        0.5, gt=0, lt=1, description="Soft output above which a voxel belongs to a component."
    )
    least_mm3: float = Field(
        500.0,
        ge=0,
        description="Smallest volume of a component that is taken for the cord; 1 cm of it has 800 mm³.",
    )

    def build(self, folder: Path, device: str = "cpu") -> CasePredictor:
        """Return the predictor around the model in `folder`."""
        from mriad.errors import CheckpointError
        from mriad.inference.load import identity, load_predictor

        from mriad_softseg.centred_predictor import CentredPredictor

        place = folder / self.model
        inner = load_predictor(place, device)
        if (found := identity(place)) != self.identity:
            raise CheckpointError(
                "the model is not the one that the predictor was made with",
                where={"model": place, "fingerprint": found, "expected": self.identity},
                remedy="mriad softseg centre MODEL FOLDER",
            )
        return CentredPredictor.around(inner, self, str(place))
