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
    the channel's name. Channels are those of `data.channels` where it names some. Voxels that nobody annotated count
    for no class.

    Raises:
        ExperimentError: the experiment has no synthseg.generate.
        DataError: no training case with label and image is meant; one lacks a channel; an image is constant.
    """

    type: Literal["synthseg.fit_priors"] = "synthseg.fit_priors"
    version: ClassVar[int] = 2  # 2: only annotated voxels, and channels of the experiment
    makes: ClassVar[ArtefactKind] = "parameters"
    references: ClassVar[tuple[str, ...]] = ("after",)
    cases: str = Field("", description="Domain or contrast of the training cases; empty: all with an image.")
    consistency: float = Field(
        1.4826, gt=0, description="Factor of the median absolute deviation; 1: literally the public code."
    )

    def sections(self) -> tuple[str, ...]:
        """Classes are the generator's."""
        return ("augment", "streams", "data.labels", "data.channels", "data.domains", "data.sparse")

    def run(self, context: StageContext) -> Artefact:
        """Read the training images one by one, in this process."""
        from mriad.stages.artefact import Artefact

        from mriad_synthseg.fitting import fit_priors

        folder = context.folder.absolute()
        summary = fit_priors(
            self, context.experiment, context.fold, folder, context.reporter.message, _labels(context)
        )
        return Artefact("parameters", folder, context.fingerprint, summary)


class SplitBackground(Stage):
    """Cuts the unlabelled background of label maps into intensity clusters of their images; makes a data set.

    For where not everything is labelled: a generator paints one class over all that has no label, which a real image
    never shows. In each case the background's voxels, smoothed, are clustered by k-means on their intensity alone;
    the darkest cluster stays background, the others become structures `background_part_1` …, by brightness, with
    values above those of the label set. A generator paints them and segments none. Training and validation persons
    only; use it by `core.train` with `data: STAGE`. The image is the first of `data.channels`, or of the case's.

    Voxels that nobody annotated do not shape the clusters. Since they must look like something in a painted image,
    they get the part that their intensity falls into; the mask that says that nothing is known there travels along.

    Raises:
        DataError: no case with label and image; one lacks a channel; fewer intensities than clusters.
    """

    type: Literal["synthseg.split_background"] = "synthseg.split_background"
    version: ClassVar[int] = 2  # 2: only annotated voxels, and channels of the experiment
    makes: ClassVar[ArtefactKind] = "dataset"
    references: ClassVar[tuple[str, ...]] = ("after",)
    cases: str = Field("", description="Domain or contrast of the cases; empty: all with an image.")
    clusters: int = Field(6, ge=2, le=64, description="Intensity clusters, the darkest included.")
    smooth_mm: float = Field(
        1.0, ge=0, description="σ of the Gaussian before clustering, so that parts are no speckle; mm."
    )

    def sections(self) -> tuple[str, ...]:
        """Which label and channel are read."""
        return ("data.labels", "data.channels", "data.domains", "data.sparse")

    def run(self, context: StageContext) -> Artefact:
        """Write one label map a case; those that are there are kept."""
        from mriad.stages.artefact import Artefact

        from mriad_synthseg.fitting import split_background

        folder = context.folder.absolute()
        summary = split_background(
            self, context.experiment, context.fold, folder, context.reporter.message, _labels(context)
        )
        return Artefact("dataset", folder, context.fingerprint, summary)


def _labels(context: StageContext) -> str:
    """Folder of the labels that an earlier stage made; a stage that itself leads to them reads the data set's own."""
    from mriad.stages.train import labels_folder

    return labels_folder(context) if context.experiment.data.labels.from_ in context.inputs else ""
