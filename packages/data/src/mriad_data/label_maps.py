"""`data.label_maps`: a folder of label maps without images, from which a generator paints them."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal, Self

from mriad.interfaces import Dataset
from pydantic import Field, field_validator, model_validator

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex


class LabelMaps(Dataset):
    """Cases with the label "hard" and no channel; no voxels are read.

    A case's id is the file's name; its person is the BIDS subject in it, or what `person` finds, or the id. One
    person may lie here as a label map and elsewhere as an image: the same name keeps both on one side of a split.

    Raises:
        DataError: the folder or the table is missing, or no file fits; or faults, all in one message: links to
            nothing, names that clash, persons that are not found, two files of one name.
    """

    type: Literal["data.label_maps"] = "data.label_maps"
    root: Path = Field(description="The folder; files below it count too.")
    pattern: str = Field("*.nii*", description="Which files are label maps, by their names (* and ?).")
    table: Path | None = Field(
        None,
        description="Table of labels, or SynthSeg's folder of arrays: see mriad_data.label_table. Relative to root.",
    )
    structures: dict[str, int] = Field(
        default_factory=dict, description="Instead of `table`: structure → value in the maps."
    )
    ignore: list[int] = Field(default_factory=list, description='Values that mean "not annotated".')
    person: str = Field(
        "", description="Regular expression whose first group is the person in a file's name."
    )
    domain: str = Field("", description="Domain of every case.")
    exclude: list[str] = Field(default_factory=list, description="Cases or persons to leave out.")

    @field_validator("person")
    @classmethod
    def _one_group(cls, text: str) -> str:
        if text and re.compile(text).groups < 1:
            raise ValueError("`person` needs a group, as in '(sub-[^_]+)_.*'")
        return text

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.table is None) == (not self.structures):
            raise ValueError("give one of `table` and `structures`")
        return self

    def build(self) -> CaseIndex:
        """Return the cases in order of their names."""
        from fnmatch import fnmatchcase

        from mriad.errors import DataError
        from mriad.vocabulary import LabelSet

        from mriad_data.faults import Faults
        from mriad_data.index import Columns
        from mriad_data.label_table import read_label_table
        from mriad_data.tree import list_tree, nifti_stem

        faults = Faults()
        root = self.root.absolute()
        tree = list_tree(root, faults)
        if self.table is not None:
            label_set = read_label_table(root / self.table).label_set
            label_set = LabelSet(label_set.structures, tuple(self.ignore))
        else:
            label_set = LabelSet.of(self.structures, self.ignore)
        columns = Columns()
        seen: dict[str, str] = {}
        out = set(self.exclude)
        used = set()
        for folder, name in tree.files():
            case = nifti_stem(name)
            if not case or not fnmatchcase(name, self.pattern):
                continue
            path = tree.path(folder, name)
            person = self._person(case)
            if person is None:
                faults.add(path, f"its name does not fit person: '{self.person}'")
                continue
            if hit := {case, person} & out:
                used |= hit
                continue
            if case in seen:
                faults.add(path, f"has the name of {seen[case]}")
                continue
            if path in tree.missing:
                faults.add(path, "a link to nothing; get the file's content first")
            seen[case] = path
            columns.add(
                {
                    "id": case,
                    "person": person,
                    "domain": self.domain,
                    "label:hard": path,
                    "kind:hard": "hard",
                }
            )
        for entry in sorted(out - used):
            faults.add("exclude", f"'{entry}' names no case or person")
        faults.raise_any(f"folder of label maps {root}")
        if not len(columns):
            raise DataError(
                "a folder holds no label map",
                where={"folder": str(root), "pattern": self.pattern, "files": sum(1 for _ in tree.files())},
            )
        return columns.index(label_set, root)

    def _person(self, case: str) -> str | None:
        if self.person:
            match = re.search(self.person, case)
            return match[1] if match else None
        subject = re.match(r"sub-[^_]+", case)
        return subject[0] if subject else case
