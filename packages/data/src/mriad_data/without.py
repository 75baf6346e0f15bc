"""`data.without`: another data set less the cases that a person failed."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads annotations at run time
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError
from mriad.interfaces import Dataset
from mriad.verdicts import failed, read_verdicts
from pydantic import Field

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

_SHOWN = 8


class Without(Dataset):
    """A data set less the cases that failed in a list of verdicts, as the quality-control page exports it.

    Fail a case there for what is wrong with its *scan or reference*. To leave out the cases that a network found
    hard, test cases among them, would only make its figures look better.

    Raises:
        DataError: the list cannot be read, names a failed case that the data set lacks, or leaves no case.
    """

    type: Literal["data.without"] = "data.without"
    dataset: Dataset = Field(description="The data set.")
    verdicts: Path = Field(description="qc-verdicts.csv or qc-verdicts.json.")
    others: bool = Field(False, description="The list may name failed cases of other data sets too.")

    def build(self) -> CaseIndex:
        """Return the cases that are left, in order."""
        index = self.dataset.build()
        out = {verdict.case for verdict in failed(read_verdicts(self.verdicts))}
        unknown = sorted(out - set(index.column("id")))
        if unknown and not self.others:
            raise DataError(
                "the list of verdicts names failed cases that the data set lacks",
                where={
                    "file": self.verdicts,
                    "cases": ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else ""),
                },
                remedy="give the list of this data set, or set `others: true` where it covers more than this one",
            )
        left = index.select(lambda case: case.id not in out)
        if not len(left):
            raise DataError(
                "no case is left: all have failed", where={"file": self.verdicts, "cases": len(index)}
            )
        return left
