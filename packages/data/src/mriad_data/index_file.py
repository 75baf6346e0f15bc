"""`data.index`: an index that was written to a file, for collections too large to list at each start."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Dataset
from pydantic import Field

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex


class IndexFile(Dataset):
    """Cases of a Parquet or Arrow file that `mriad_data.index.TableIndex.write` wrote.

    No file that it names is looked for: a million of them would take minutes.

    Raises:
        DataError: missing, damaged, or no index.
    """

    type: Literal["data.index"] = "data.index"
    path: Path = Field(description="A .parquet or .arrow file; the latter is mapped into memory.")
    root: Path | None = Field(
        None, description="Folder that file names are relative to; default: as written."
    )
    contrasts: list[str] = Field(default_factory=list, description="Only these; empty: all.")
    domains: list[str] = Field(default_factory=list, description="Only these; empty: all.")

    def build(self) -> CaseIndex:
        """Return the cases."""
        from mriad_data.index import TableIndex

        index = TableIndex.open(self.path, self.root)
        chosen = {"contrast": self.contrasts, "domain": self.domains}
        return index.where(**{name: values for name, values in chosen.items() if values})
