"""`synthseg.samseg`: FreeSurfer's run_samseg as a predictor and as a stage; light configs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from mriad.errors import DataError, LaunchError
from mriad.interfaces import Predictor, Stage
from mriad.stages.artefact import Artefact
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.interfaces import CasePredictor
    from mriad.stages.artefact import ArtefactKind, StageContext

COMMAND = Field("run_samseg", description="Name or path of the program.")
THREADS = Field(1, ge=1, description="Threads of the program.")
TIMEOUT = Field(4 * 3600.0, gt=0, description="Seconds after which one scan is given up.")
MAPPING: Any = Field(
    default_factory=dict,
    description="FreeSurfer value → value of the label set, 0 for background; others that the label set has stay.",
)
Value = Annotated[int, Field(ge=0)]


class Samseg(Predictor):
    """Segments with FreeSurfer's `run_samseg`, which must be installed; its labels are mapped to the label set.

    Each case runs in a folder of its own that is removed afterwards, in a process group that ends with this process.
    The output is laid on the scan's own grid by nearest neighbour where the program left it on another. Its result is
    hard: probabilities are 0 or 1. Puonti et al., NeuroImage 2016; the licence of FreeSurfer is the user's to get.

    Raises:
        LaunchError: the program is not there, fails, or takes too long; the end of its output is shown.
        DataError: it wrote no segmentation, or labels that neither `mapping` nor the label set knows.
    """

    type: Literal["synthseg.samseg"] = "synthseg.samseg"
    channels: list[str] = Field(min_length=1, description="Names of the channels of a case.")
    structures: dict[str, int] = Field(min_length=1, description="Structure → value: the label set.")
    mapping: dict[int, Value] = MAPPING
    command: str = COMMAND
    threads: int = THREADS
    timeout_s: float = TIMEOUT

    def build(self, folder: Path, device: str = "cpu") -> CasePredictor:
        """Return the predictor; the program is looked for now."""
        from mriad_synthseg.samseg_program import SamsegPredictor, find_program

        return SamsegPredictor(self, find_program(self.command))


class SamsegStage(Stage):
    """Makes a predictor of FreeSurfer's `run_samseg`, for an experiment's label set. Nothing is learnt.

    Raises:
        LaunchError: the program is not on PATH.
        DataError: `mapping` names a value that the label set does not have.
    """

    type: Literal["synthseg.samseg"] = "synthseg.samseg"
    makes: ClassVar[ArtefactKind] = "predictor"
    references: ClassVar[tuple[str, ...]] = ("after",)
    channels: list[str] = Field(
        default_factory=list, description="Channels of a case; empty: those of the experiment."
    )
    structures: list[str] = Field(
        default_factory=list, description="What is segmented, of the label set; empty: all of it."
    )
    mapping: dict[int, Value] = MAPPING
    command: str = COMMAND
    threads: int = THREADS
    timeout_s: float = TIMEOUT

    def sections(self) -> tuple[str, ...]:
        """The names of channels and structures."""
        return ("data.channels", "data.domains", "data.structures")

    def contents(self) -> Mapping[str, str]:
        """The program's version, so that another FreeSurfer measures anew."""
        from mriad_synthseg.samseg_program import version_of

        return {"program": version_of(self.command)}

    def result(self, experiment: Experiment) -> ArtefactKind:
        """A predictor."""
        return "predictor"

    def run(self, context: StageContext) -> Artefact:
        """Check that the program is there and write the predictor's document."""
        from mriad.atomic import atomic_file
        from mriad.stages.train import index_of

        from mriad_synthseg.samseg_program import find_program, version_of

        program = find_program(self.command)
        index = index_of(context.experiment)
        label_set = index.label_set.only(self.structures) if self.structures else index.label_set
        values = {s.name: s.value for s in label_set.structures}
        wrong = sorted({v for v in self.mapping.values() if v} - set(values.values()))
        if wrong:
            raise DataError(
                f"stage '{self.type}': `mapping` leads to values that the label set does not have",
                where={"values": ", ".join(map(str, wrong)), "label set": values},
            )
        channels = self.channels or context.experiment.data.channels or list(index[0].channels)
        if not channels:
            raise LaunchError(
                f"stage '{self.type}' does not know what the channels of a case are called",
                remedy=f"stages: {{{context.name}: {{channels: [T1w]}}}}",
            )
        config = Samseg(
            channels=channels,
            structures=values,
            mapping=self.mapping,
            command=self.command,
            threads=self.threads,
            timeout_s=self.timeout_s,
        )
        with atomic_file(context.folder / "predictor.json") as temporary:
            temporary.write_text(
                json.dumps({"format": 1, **config.model_dump(mode="json")}, indent=1), "utf-8"
            )
        summary = {"program": str(program), "version": version_of(self.command)}
        return Artefact("predictor", context.folder, context.fingerprint, summary)
