"""`data.bids`: a folder in the Brain Imaging Data Structure, raw images with labels as derivatives.

Reads names, participants.tsv and, where asked for, JSON sidecars; never an image.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal, Self

from mriad.interfaces import Dataset
from pydantic import Field, field_validator, model_validator

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

Names = str | list[str]
"""One ending of a file's name, or several of which the first that is there counts."""

CONTRASTS: dict[str, list[str]] = {
    "T2star": ["T2star", "T2starw"],
    "MTon": ["flip-1_mt-on_MTS", "acq-MTon_MTS"],
    "MToff": ["flip-1_mt-off_MTS", "acq-MToff_MTS"],
    "GRE-T1w": ["flip-2_mt-off_MTS", "acq-T1w_MTS"],
    "DWI": ["rec-average_dwi"],
}
"""Endings of contrasts whose name is not their suffix, as in the spine-generic data set, newest first."""


class Bids(Dataset):
    """Cases from a BIDS folder; no voxels are read.

    With `contrasts` (or neither) each image is a case of its own; with `channels` the images of a session, which
    must lie on one grid, are the channels of one case. A case's id is its person, session and contrast; the
    contrast of `channels` cases is empty. Labels and annotations are found by name under derivatives/ or beside the
    image: the image's name and the ending, or, with `channels`, the session's or the person's name and the ending.

    Raises:
        DataError: the folder is missing or holds no BIDS image; or all of these in one message: images or labels
            that are promised and absent, links to nothing, sidecars without image, names that clash, exclusions
            that name nothing, a domain that is not there.
    """

    type: Literal["data.bids"] = "data.bids"
    root: Path = Field(description="The folder that holds sub-*.")
    contrasts: list[str] | dict[str, Names] = Field(
        default_factory=list,
        description="Contrast → ending of its image's name, as {MTon: flip-1_mt-on_MTS}; a list takes contrasts by "
        "their suffix or by names of the spine-generic set. Empty, without `channels`: every image.",
    )
    channels: dict[str, Names] = Field(
        default_factory=dict,
        description="Channel → ending of its image's name, as {T1w: T1w, FLAIR: FLAIR}: one case a session.",
    )
    labels: dict[str, Names] = Field(
        default_factory=dict,
        description="Label → what is added to the image's name, as {hard: label-cord_seg}.",
    )
    validity: dict[str, Names] = Field(
        default_factory=dict,
        description="Label → ending of a mask that is not 0 where this label is annotated; taken where it exists.",
    )
    kinds: dict[str, Literal["hard", "soft", "sparse", "pseudo"]] = Field(
        default_factory=dict,
        description="Label → kind; default: soft where the ending says probseg, softseg or prob, else hard.",
    )
    structures: dict[str, int] = Field(
        default_factory=dict, description="Structure → value in hard label files."
    )
    ignore: list[int] = Field(
        default_factory=list, description='Values of label files that mean "not annotated".'
    )
    annotations: dict[str, Names] = Field(
        default_factory=dict,
        description="Label maps that are no targets, as {discs: label-discs_dlabel}; taken where they exist.",
    )
    derivatives: list[str] = Field(
        default_factory=list, description="Folders under derivatives/ to look in; empty: all of them."
    )
    domain: str = Field(
        "contrast",
        description="What a case's domain is: `contrast`; `participants:COLUMN` of participants.tsv; `sidecar:KEY` "
        "of the JSON sidecars; `entity:KEY` of the image's name; `name:TEXT` for all.",
    )
    exclude: list[str] = Field(
        default_factory=list, description="Persons, cases or image names (without .nii.gz) to leave out."
    )
    missing_image: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="Where a session lacks a contrast or channel: an error, or the case is left out.",
    )
    missing_label: Literal["refuse", "leave_out", "keep"] = Field(
        "refuse",
        description="Where a label is absent: an error, the case is left out, or it has no such label.",
    )

    @field_validator("domain")
    @classmethod
    def _known_domain(cls, text: str) -> str:
        kind, colon, rest = text.partition(":")
        if text == "contrast" or (colon and rest and kind in ("participants", "sidecar", "entity", "name")):
            return text
        raise ValueError(f"'{text}' is none of contrast, participants:…, sidecar:…, entity:…, name:…")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.contrasts and self.channels:
            raise ValueError("give `contrasts` (a case an image) or `channels` (a case a session), not both")
        if self.labels and not self.structures:
            raise ValueError("`labels` need `structures`, such as {cord: 1}")
        for field in ("kinds", "validity"):
            if unknown := set(getattr(self, field)) - set(self.labels):
                raise ValueError(
                    f"`{field}` names labels that `labels` does not: {', '.join(sorted(unknown))}"
                )
        sparse = [n for n, kind in self.kinds.items() if kind == "sparse" and n not in self.validity]
        if sparse and not self.ignore:
            raise ValueError(f"sparse labels need a mask in `validity`, or `ignore`: {', '.join(sparse)}")
        return self

    def endings(self) -> dict[str, list[str]]:
        """Contrast or channel → endings of its image's name; empty: every image is taken."""
        if self.channels:
            return {name: _listed(names) for name, names in self.channels.items()}
        if isinstance(self.contrasts, dict):
            return {name: _listed(names) for name, names in self.contrasts.items()}
        return {name: CONTRASTS.get(name, [name]) for name in self.contrasts}

    def build(self) -> CaseIndex:
        """Return the cases, persons and sessions in order of their names."""
        from mriad_data.bids_reading import read_bids

        return read_bids(self)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
