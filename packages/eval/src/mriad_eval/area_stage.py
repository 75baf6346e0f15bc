"""Config of `eval.area_control`; the work is in `area_controls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.interfaces import Stage
from mriad.stages.artefact import Artefact
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.stages.artefact import ArtefactKind, StageContext


class AreaControl(Stage):
    """Areas that a trivial rule gives, as a table like that of a model: what any method of area must beat.

    per_contrast: the areas of the table `of`, times one factor a contrast that makes the contrasts' mean areas equal
    in the table `fit`. constant: one area for everybody, the mean of `fit`. Rows of other metrics than area, its
    absolute error and its spread are left out, since there is no mask.
    """

    type: Literal["eval.area_control"] = "eval.area_control"
    makes: ClassVar[ArtefactKind] = "table"
    seeded: ClassVar[bool] = False
    references: ClassVar[tuple[str, ...]] = ("after", "of", "fit")
    accepts: ClassVar[Mapping[str, tuple[ArtefactKind, ...]]] = {"of": ("table",), "fit": ("table",)}

    of: str = Field(description="Stage whose table of test cases is controlled.")
    fit: str = Field(description="Stage whose table of training cases the rule is fitted on.")
    rule: Literal["per_contrast", "constant"] = Field(description="A factor a contrast, or one area for all.")

    def sections(self) -> tuple[str, ...]:
        """The metrics, whose values of persons are computed anew."""
        return ("evaluate",)

    def run(self, context: StageContext) -> Artefact:
        """Fit the rule, apply it, write the table."""
        from mriad.case_table import read_rows, write_table
        from mriad.person_rows import person_rows, with_needed
        from mriad.stages.evaluate import TABLE

        from mriad_eval.area_controls import controlled, fitted

        tested, seen = (read_rows(context.inputs[name].folder / TABLE) for name in (self.of, self.fit))
        rules = fitted(seen, self.rule)
        rows = controlled(tested, seen, rules)
        metrics = with_needed(context.experiment.evaluate.metrics)
        write_table(context.folder / TABLE, [*rows, *person_rows(rows, metrics)])
        return Artefact("table", context.folder, context.fingerprint, {"rules": [r.told() for r in rules]})
