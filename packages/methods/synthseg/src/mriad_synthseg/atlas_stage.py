"""`synthseg.fit_atlas` and `synthseg.atlas_em`: a Bayesian baseline that adapts to any contrast; light configs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from mriad.component import Config
from mriad.errors import DataError
from mriad.interfaces import Predictor, Stage
from mriad.stages.artefact import Artefact
from pydantic import Field

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.interfaces import CasePredictor
    from mriad.stages.artefact import ArtefactKind, StageContext

Count = Annotated[int, Field(ge=1, le=9)]


class AtlasSettings(Config):
    """How a scan is segmented with an atlas; the numbers in brackets are those of `freesurfer/samseg`."""

    classes: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Class → structures that share Gaussians. A structure in none shares with its mirror image.",
    )
    gaussians: dict[str, Count] = Field(
        default_factory=dict, description="Class → number of Gaussians, for mixed classes; others have 1."
    )
    background_gaussians: Count = Field(
        3,
        description="Gaussians of what the atlas has no name for: air, skin, skull (1 and 3 for soft tissue).",
    )
    counts_as: dict[str, str] = Field(
        default_factory=dict,
        description="Structure of the maps → structure that it counts as, or `background`; others as themselves.",
    )
    working_mm: float = Field(
        2.0, gt=0, description="Voxel size at which atlas and Gaussians are fitted, mm (2, then 1)."
    )
    coarse_mm: float = Field(
        5.0, gt=0, description="Voxel size of the first level, where only an affine is found, mm."
    )
    bias_mm: float = Field(50.0, gt=0, description="Finest half wave of the bias field's cosines, mm (50).")
    bias_sd: float = Field(
        0.5, gt=0, description="Standard deviation of a coefficient of the bias beforehand, log units."
    )
    control_mm: float = Field(
        14.0, gt=0, description="Distance of the control points of the displacement, mm."
    )
    stiffness: float = Field(
        1.0,
        ge=0,
        description="Weight of the mean squared gradient of the displacement, per voxel's log-likelihood.",
    )
    rounds: int = Field(
        4,
        ge=0,
        description="Turns of Gaussians and displacement at `working_mm` (100); ends when little is gained.",
    )


class AtlasEM(Predictor):
    """A probabilistic atlas, deformed to the scan, with Gaussian mixtures and a bias fitted to that scan alone.

    Affine alignment, B-spline deformation, Gaussians of each class and a smooth bias of the logarithms maximise the
    likelihood of the scan in turns; posteriors are evaluated on the scan's own voxels. Any contrast, any number of
    registered channels. Modelled on Van Leemput et al. (IEEE TMI 1999) and Puonti et al. (NeuroImage 2016); it is not
    SAMSEG: another deformation model, another search, an atlas of few label maps.

    Raises:
        CheckpointError: the atlas is missing or not the one that the document names.
    """

    type: Literal["synthseg.atlas_em"] = "synthseg.atlas_em"
    channels: list[str] = Field(min_length=1, description="Names of the channels of a case.")
    atlas: str = Field(description="SHA-256 of the atlas file beside this document.")
    settings: AtlasSettings = AtlasSettings()

    def build(self, folder: Path, device: str = "cpu") -> CasePredictor:
        """Return the predictor; it computes on the CPU, whatever the device."""
        from mriad.errors import CheckpointError
        from mriad.filehash import file_sha256

        from mriad_synthseg.atlas import FILE, Atlas
        from mriad_synthseg.atlas_predictor import AtlasPredictor

        atlas = Atlas.load(folder)
        found = file_sha256(folder / FILE)
        if found != self.atlas:
            raise CheckpointError(
                "the atlas is not the one that the predictor was made with",
                where={"file": folder / FILE, "sha256": found, "expected": self.atlas},
                remedy="run the stage that fits it again",
            )
        return AtlasPredictor(atlas, self.settings, tuple(self.channels))


class FitAtlas(Stage):
    """Averages the label maps of the fold's training persons to a probabilistic atlas: a predictor of any contrast.

    Maps are laid on each other by the centres of their structures (affine), averaged and smoothed. Only training
    persons enter; images are never read.

    Raises:
        DataError: no training case has the label, or a map is empty.
    """

    type: Literal["synthseg.fit_atlas"] = "synthseg.fit_atlas"
    version: ClassVar[int] = 2  # 2: what may hold a structure follows the atlas's own background
    makes: ClassVar[ArtefactKind] = "predictor"
    references: ClassVar[tuple[str, ...]] = ("after",)
    spacing_mm: float = Field(1.5, gt=0, description="Voxel size of the atlas, mm.")
    smooth_mm: float = Field(
        1.5, ge=0, description="Standard deviation of the smoothing of the average, mm; more for fewer maps."
    )
    margin_mm: float = Field(10.0, ge=0, description="Background kept around the structures, mm.")
    maps: int | None = Field(None, ge=1, description="Use only the first n training persons; null: all.")
    channels: list[str] = Field(
        default_factory=list,
        description="Channels that scans will have; empty: those of the experiment, or `image` where it has none.",
    )
    settings: AtlasSettings = Field(AtlasSettings(), description="How scans are segmented with the atlas.")

    def sections(self) -> tuple[str, ...]:
        """The target and the names of channels."""
        return ("data.labels", "data.channels", "data.domains", "data.structures", "data.sparse")

    def result(self, experiment: Experiment) -> ArtefactKind:
        """A predictor."""
        return "predictor"

    def run(self, context: StageContext) -> Artefact:
        """Build and write the atlas, in this process."""
        from mriad.atomic import atomic_file
        from mriad.filehash import file_sha256
        from mriad.flow import gather_cases
        from mriad.preparation import load_sample
        from mriad.stages.train import index_of, labels_folder

        from mriad_synthseg.atlas_building import Indexed, build_atlas

        experiment = context.experiment
        cases = gather_cases(
            experiment, index_of(experiment, labels=labels_folder(context)), context.fold, experiment.seed
        )
        label_set = cases.index.label_set
        training = [case for case in cases.side("train") if cases.label in case.labels]
        if self.maps is not None:
            persons = list(dict.fromkeys(case.person for case in training))[: self.maps]
            training = [case for case in training if case.person in persons]
        if not training:
            raise DataError(
                f"no training case has the label '{cases.label}', of which the atlas is made",
                where={"training cases": len(cases.split["train"])},
                remedy="set data.labels to a label of the training persons",
            )
        self._check(label_set.names)

        def read(place: int) -> Indexed:
            case = training[place]
            sample = load_sample(case, (), cases.label, "hard", label_set)
            assert sample.target is not None
            return Indexed(sample.target[0], sample.grid)

        atlas = build_atlas(
            len(training),
            read,
            label_set,
            self.spacing_mm,
            self.smooth_mm,
            self.margin_mm,
            context.reporter.message,
        )
        path = atlas.save(context.folder)
        channels = self.channels or list(cases.task.channels) or ["image"]
        config = AtlasEM(channels=channels, atlas=file_sha256(path), settings=self.settings)
        document = {"format": 1, **config.model_dump(mode="json")}
        with atomic_file(context.folder / "predictor.json") as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        summary = {
            "maps": len(training),
            "persons": len({case.person for case in training}),
            "structures": len(label_set),
            "atlas": atlas.grid.describe(),
        }
        return Artefact("predictor", context.folder, context.fingerprint, summary)

    def _check(self, names: tuple[str, ...]) -> None:
        """Refuse settings that name what the maps do not have, before anything is built.

        Raises:
            DataError: an unknown structure or class.
        """
        from mriad_synthseg.atlas_predictor import classes_of, counted

        try:
            classes_of(names, self.settings)
            counted(names, self.settings)
        except ValueError as error:
            raise DataError(
                f"stage '{self.type}': {error}",
                where={"structures": ", ".join(names)},
                remedy="correct stages → settings",
            ) from error
