"""`data.published_split`: the split of a paper, by name; who is who lies in this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Split
from pydantic import Field

from mriad_data.splits.file import FileSplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import CaseIndex

SPINE_GENERIC = Path(__file__).parents[1] / "collections" / "spine_generic_paper.yaml"
"""Persons of the spinal cord paper by side, those left out with the reason, and where each fact is from."""


class PublishedSplit(Split):
    """The split that a paper used: persons as it names them, one fold.

    `spine_generic`: the spinal cord paper's 145, 49 and 49 persons (seed 15). Its sources are named in
    `collections/spine_generic_paper.yaml` and on docs/data/spine-generic.md. The data set must hold all of them;
    `data.spine_generic` leaves the other 24 out with `persons_of: paper`.
    """

    type: Literal["data.published_split"] = "data.published_split"
    of: Literal["spine_generic"] = Field(description="Whose split.")
    others: Literal["refuse", "leave_out", "test"] = Field(
        "refuse", description="What happens to cases of other persons, as in data.file."
    )

    def folds(self) -> int:
        """One."""
        return 1

    def build(self, index: CaseIndex, fold: int, seed: int) -> Mapping[str, tuple[str, ...]]:
        """Return case ids under "train", "validation" and "test".

        Raises:
            SplitError: a person of the paper is not in the data set, or a case belongs to none of them.
        """
        return FileSplit(path=SPINE_GENERIC, others=self.others).build(index, fold, seed)
