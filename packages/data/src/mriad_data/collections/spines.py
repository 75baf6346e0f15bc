"""Spinal cords: spine-generic (multi-subject), and the external test folders of the spinal cord paper."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mriad_data.collections.base import ImageCollection, check_complete

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

CORD = {"cord": 1}
SIX = {
    "T1w": ["T1w"],
    "T2w": ["T2w"],
    "T2star": ["T2star", "T2starw"],
    "MTon": ["flip-1_mt-on_MTS", "acq-MTon_MTS", "MTon"],
    "GRE-T1w": ["flip-2_mt-off_MTS", "acq-T1w_MTS", "acq-gre_T1w"],
    "DWI": ["rec-average_dwi", "DWImean"],
}
"""Contrast → endings of the images' names, the present ones first."""
SEGMENTATIONS = ["label-SC_seg", "label-cord_seg", "seg-manual"]
SOFT = ["label-SC_softseg", "softseg", "label-cord_desc-soft_probseg"]
DISCS = ["label-discs_dlabel", "label-discs_desc-warp_dlabel", "labels-disc-manual", "label-discs_points"]
LEVELS = ["label-levels_seg", "label-levels_dseg", "label-vert_dseg"]


class SpineGeneric(ImageCollection):
    """The spine-generic public database, multi-subject: 267 persons of many sites, six contrasts, each a case.

    The spinal cord paper keeps 243 of them: `persons_of: paper`, to be split by `data.published_split`.
    Page: docs/data/spine-generic.md.
    """

    type: Literal["data.spine_generic"] = "data.spine_generic"
    licence: ClassVar[str] = "CC0 (dataset_description.json)"
    persons: ClassVar[int | None] = 267
    contrasts: list[Literal["T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI"]] = Field(
        ["T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI"], min_length=1, description="Contrasts to take."
    )
    soft: bool = Field(False, description="Take the published soft masks too, as the label \"soft\".")  # fmt: skip
    persons_of: Literal["paper"] | Path | None = Field(
        None,
        description="Whoever is not named is left out. `paper`: the 243 of the spinal cord paper; else a YAML or "
        "JSON file with lists of persons, as {train: [...], val: [...], test: [...]}.",
    )
    domain: str = Field("contrast", description="As in data.bids, such as participants:manufacturer.")

    def build(self) -> CaseIndex:
        """Return persons × contrasts with the label "hard", and discs and levels where they were marked."""
        from mriad_data.bids import Bids

        index: Any = Bids(
            root=self.root,
            contrasts={name: SIX[name] for name in self.contrasts},
            labels={"hard": SEGMENTATIONS, **({"soft": SOFT} if self.soft else {})},
            structures=CORD,
            annotations={"discs": DISCS, "levels": LEVELS},
            domain=self.domain,
            exclude=[*self.exclude, *self._not_named()],
            missing_image=self.missing_image,
            missing_label=self.missing_label,
        ).build()
        return check_complete(index, self, "spine-generic")

    def published(self) -> int | None:
        """267, or the 243 of the paper."""
        return 243 if self.persons_of else self.persons

    def _not_named(self) -> list[str]:
        """Persons in the folder that the paper's list does not name.

        Raises:
            DataError: the list cannot be read, or names persons that are not in the folder.
        """
        if self.persons_of is None:
            return []
        from mriad.errors import DataError

        from mriad_data.splits.published import SPINE_GENERIC

        named = read_persons(SPINE_GENERIC if self.persons_of == "paper" else self.persons_of)
        if not self.root.is_dir():
            return []  # the reader says so
        here = {path.name for path in self.root.glob("sub-*") if path.is_dir()}
        if lacking := sorted(named - here):
            raise DataError(
                f"{len(lacking)} of {len(named)} listed persons are not in spine-generic as it lies here",
                where={
                    "folder": str(self.root),
                    "list": str(self.persons_of),
                    "missing": ", ".join(lacking[:20]),
                },
                remedy="fetch them, or shorten the list",
            )
        return sorted(here - named)


class SpineExternal(ImageCollection):
    """Data sets on which the spinal cord paper tests without training: one image a session with a cord mask.

    None of them is public as a whole; the expected layout is BIDS. Page: docs/data/spine-external.md.
    """

    type: Literal["data.spine_external"] = "data.spine_external"
    licence: ClassVar[str] = "not stated; on request from their owners"
    dataset: Literal["sci-t2w", "ms-mp2rage", "radiculopathy-epi"] = Field(
        description="Which one lies in root."
    )
    images: list[str] = Field(
        default_factory=list,
        description="Endings of the images' names instead of those on the page; the first that is there counts.",
    )
    missing_image: Literal["refuse", "leave_out"] = Field(
        "leave_out", description="Where a session has none of the images: it is left out, or an error."
    )

    def build(self) -> CaseIndex:
        """Return one case a session; contrast and domain say the data set."""
        from mriad_data.bids import Bids

        endings = {
            "sci-t2w": ["acq-sag_T2w", "acq-ax_T2w", "T2w"],
            "ms-mp2rage": ["UNIT1", "acq-mp2rage_T1w"],
            "radiculopathy-epi": [
                "task-rest_bold",
                "task-rest_desc-mocomean_bold",
                "desc-mocomean_bold",
                "bold",
            ],
        }[self.dataset]
        contrast = {"sci-t2w": "T2w", "ms-mp2rage": "UNIT1", "radiculopathy-epi": "EPI"}[self.dataset]
        index = Bids(
            root=self.root,
            contrasts={contrast: self.images or endings},
            labels={"hard": [*SEGMENTATIONS, "seg"]},
            structures=CORD,
            annotations={"discs": DISCS, "levels": LEVELS},
            domain=f"name:{self.dataset}",
            exclude=self.exclude,
            missing_image=self.missing_image,
            missing_label=self.missing_label,
        ).build()
        return check_complete(index, self, self.dataset)

    def published(self) -> int | None:
        """As the paper counts."""
        return {"sci-t2w": 80, "ms-mp2rage": 283, "radiculopathy-epi": 52}[self.dataset]


def read_persons(path: Path) -> set[str]:
    """All persons in the lists of a YAML or JSON file; entries may be paths that hold a `sub-…`.

    Raises:
        DataError: unreadable, or without lists of persons.
    """
    import re

    from mriad.errors import DataError

    from mriad_data.manifest import read_yaml

    if path.suffix == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "a list of persons cannot be read", where={"file": str(path), "reason": error}
            ) from error
    else:
        content = read_yaml(path)
    lists = content.values() if isinstance(content, dict) else [content]
    found = {
        match[0]
        for entries in lists
        if isinstance(entries, list)
        for entry in entries
        if (match := re.search(r"sub-[A-Za-z0-9]+", json.dumps(entry)))
    }
    if not found:
        raise DataError(
            "a list of persons names nobody",
            where={"file": str(path), "expected": "{train: [sub-a, …], val: [sub-b, …], test: [sub-c, …]}"},
        )
    return found
