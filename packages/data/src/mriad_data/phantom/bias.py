"""Where the cord's boundary seems to lie, and where it is drawn, in each contrast of each person.

A shift of δ mm turns the section's ellipse (a, b) into (a + δ, b + δ), so its area is π (a + δ)(b + δ) exactly.
Two shifts are kept apart (EVIDENCE.md section 5):

- *image*: image formation. Between the true and the apparent boundary the image shows cord (δ > 0) or CSF (δ < 0):
  blur against dark CSF (T1w), CSF flow void and pia (T2w, MTon), susceptibility rim (T2star), in-plane blur (DWI).
- *rater*: drawn minus apparent boundary, a mean per contrast and a draw per contrast and person.

Magnitudes. For a cervical cord dA/dδ = π (a + b) ≈ 32 mm²/mm, so .19 mm between T1w and T2w make their areas
differ by 8 %, the difference that the spinal cord paper quotes (section 1: T2w larger). Two tables among the test
fixtures of spine-generic (docs/data/phantom-spine.md) have the same sign and 11 % (SD 4.7 %). Kim et al., BMC Neurol
2015, report 7.0 mm² or 8.9 % with the *opposite* sign, for an active surface at 1.5 T.
`labels_same_sign` and `random_per_person` show what rests on signs. Papinutto and Henry (J Magn Reson Imaging 2019)
find that areas on T2* and T1w differ with one program and not with another, without sizes; those for T2star, MTon,
GRE-T1w and DWI are assumptions between T1w and T2w + 1 %, as no source that we found gives numbers. The mean over the
six contrasts is +.09 mm, about +3.6 % of area. The raters' spread of .03 mm is about 1.2 % of area, a little above
the coefficients of variation of .3 to 1.0 % in Kim 2015. How a shift splits into image and rater is an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriad_data.phantom.parameters import CONTRASTS

if TYPE_CHECKING:
    from mriad_data.phantom.parameters import SpineParameters

RATER, PERMUTATION = 11, 12  # purposes of draws; part of the seed


@dataclass(frozen=True)
class Shift:
    """Boundary shifts of one contrast of one person in mm, relative to the true boundary; > 0 is outwards."""

    image: float
    """Apparent boundary in the image."""
    label: float
    """Boundary that the rater draws."""


def shifts(parameters: SpineParameters, person: int) -> dict[str, Shift]:
    """The shifts of all six contrasts of a person (numbered from 1).

    - published: label = image + rater.
    - none: all zero; labels and images agree with the truth.
    - image_only: label = image; the rater adds nothing.
    - labels_zero_mean: published labels minus their mean over this person's six contrasts.
    - labels_same_sign: absolute values of the published ones; every contrast errs outwards.
    - random_per_person: the published label shifts, dealt out to the contrasts anew for each person, so that a
      contrast predicts nothing.

    Images are those of "published" in every mode but "none".
    """
    sequences = [parameters.sequences.of(c) for c in CONTRASTS]
    if parameters.mode == "none":
        return {c: Shift(0.0, 0.0) for c in CONTRASTS}
    image = np.array([s.image_shift_mm for s in sequences])
    if parameters.mode == "image_only":
        label = image
    else:
        draw = np.random.default_rng([parameters.seed, person, RATER]).standard_normal(len(CONTRASTS))
        rater = np.array([s.rater_shift_mm for s in sequences]) + parameters.rater_sd_mm * draw
        label = image + rater
        if parameters.mode == "labels_zero_mean":
            label = label - label.mean()
        elif parameters.mode == "labels_same_sign":
            label = np.abs(label)
        elif parameters.mode == "random_per_person":
            label = np.random.default_rng([parameters.seed, person, PERMUTATION]).permutation(label)
    return {c: Shift(float(i), float(drawn)) for c, i, drawn in zip(CONTRASTS, image, label, strict=True)}
