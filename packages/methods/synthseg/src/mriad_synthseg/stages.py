"""Stages that fit something for the generator on training persons."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.interfaces import Stage
from pydantic import Field

if TYPE_CHECKING:
    from mriad.stages.artefact import Artefact, ArtefactKind, StageContext


class FitPriors(Stage):
    """Learns intensity priors for SynthSeg-rule from labelled images of training persons; makes `priors.tsv`.

    Each image is rescaled to [0, 255]; of each class of the experiment's generator the median and the median absolute
    deviation of positive voxels are taken; over the images of a contrast, mean and standard deviation of both are the
    priors (Billot et al., MIDL 2020, section 3.2). The public code takes the deviation as it is; by default it is
    multiplied by 1.4826, so that it is the standard deviation of a Gaussian. The contrast of a case is its own, or
    the channel's name.

    Raises:
        ExperimentError: the experiment has no synthseg.generate.
        DataError: no training case with label and image is meant; an image is constant.
    """

    type: Literal["synthseg.fit_priors"] = "synthseg.fit_priors"
    makes: ClassVar[ArtefactKind] = "parameters"
    references: ClassVar[tuple[str, ...]] = ("after",)
    cases: str = Field("", description="Domain or contrast of the training cases; empty: all with an image.")
    consistency: float = Field(
        1.4826, gt=0, description="Factor of the median absolute deviation; 1: literally the public code."
    )

    def sections(self) -> tuple[str, ...]:
        """Classes are the generator's."""
        return ("augment", "streams", "data.labels", "data.channels", "data.domains")

    def run(self, context: StageContext) -> Artefact:
        """Read the training images one by one, in this process."""
        from mriad.stages.artefact import Artefact

        from mriad_synthseg.fitting import fit_priors

        folder = context.folder.absolute()
        summary = fit_priors(self, context.experiment, context.fold, folder, context.reporter.message)
        return Artefact("parameters", folder, context.fingerprint, summary)


class SplitBackground(Stage):
    """Cuts the unlabelled background of label maps into intensity clusters of their images; makes a data set.

    For where not everything is labelled: a generator paints one class over all that has no label, which a real image
    never shows. In each case the background's voxels, smoothed, are clustered by k-means on their intensity alone;
    the darkest cluster stays background, the others become structures `background_part_1` …, by brightness, with
    values above those of the label set. A generator paints them and segments none. Training and validation persons
    only; use it by `core.train` with `data: STAGE`.

    Raises:
        DataError: no case with label and image; fewer intensities than clusters.
    """

    type: Literal["synthseg.split_background"] = "synthseg.split_background"
    makes: ClassVar[ArtefactKind] = "dataset"
    references: ClassVar[tuple[str, ...]] = ("after",)
    cases: str = Field("", description="Domain or contrast of the cases; empty: all with an image.")
    clusters: int = Field(6, ge=2, le=64, description="Intensity clusters, the darkest included.")
    smooth_mm: float = Field(
        1.0, ge=0, description="σ of the Gaussian before clustering, so that parts are no speckle; mm."
    )

    def sections(self) -> tuple[str, ...]:
        """Which label and channel are read."""
        return ("data.labels", "data.channels", "data.domains")

    def run(self, context: StageContext) -> Artefact:
        """Write one label map a case; those that are there are kept."""
        from mriad.stages.artefact import Artefact

        from mriad_synthseg.fitting import split_background

        folder = context.folder.absolute()
        summary = split_background(self, context.experiment, context.fold, folder, context.reporter.message)
        return Artefact("dataset", folder, context.fingerprint, summary)
