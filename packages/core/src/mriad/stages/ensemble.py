"""`core.ensemble`: several predictors that become one, their probabilities averaged."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mriad.atomic import atomic_file
from mriad.interfaces import Stage
from mriad.stages.artefact import Artefact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.stages.artefact import ArtefactKind, StageContext


class Ensemble(Stage):
    """Writes the folder of a predictor that averages the probabilities of others.

    `members: {folds: n}` and `members: {seeds: [..]}` on a stage append one of these by themselves.
    """

    type: Literal["core.ensemble"] = "core.ensemble"
    references: ClassVar[tuple[str, ...]] = ("after", "of")
    accepts: ClassVar[Mapping[str, tuple[ArtefactKind, ...]]] = {"of": ("predictor",)}
    makes: ClassVar[ArtefactKind] = "predictor"
    of: list[str] = Field(min_length=1, description="Stages whose predictors are averaged.")

    def run(self, context: StageContext) -> Artefact:
        """Write `predictor.json`; members are named by paths from here, so that the runs folder can be moved.

        Raises:
            StorageError: the folder cannot be written.
        """
        folders = [context.inputs[name].folder for name in self.of]
        members = [os.path.relpath(folder.resolve(), context.folder.resolve()) for folder in folders]
        with atomic_file(context.folder / "predictor.json") as path:
            path.write_text(json.dumps({"type": "core.ensemble", "members": members}, indent=1), "utf-8")
        return Artefact("predictor", context.folder, context.fingerprint, {"members": len(members)})
