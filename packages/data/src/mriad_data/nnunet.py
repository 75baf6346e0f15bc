"""`data.nnunet`: nnU-Net's raw data sets (both versions) and those of the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Dataset
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex


class NnunetRaw(Dataset):
    """Cases of a folder with `imagesTr`, `labelsTr` and `dataset.json`; no voxels are read.

    Understood: nnU-Net 2 (`channel_names`, labels as name → value, `imagesTr/CASE_0000.nii.gz`, the optional list
    `dataset`, the label `ignore`), nnU-Net 1 and the Decathlon (`modality`, labels as value → name, `training`;
    several modalities as one 4D file or as `CASE_0000.nii.gz`). Each case is another person unless `person` says
    otherwise.

    Raises:
        DataError: the folder or dataset.json is missing or no such description; or, in one message: channels,
            images or labels that are missing or too many, values used twice, counts that differ.
    """

    type: Literal["data.nnunet"] = "data.nnunet"
    root: Path = Field(description="The folder that holds dataset.json.")
    part: Literal["train", "test", "all"] = Field(
        "train", description="imagesTr with labels; imagesTs, with labels where labelsTs has them; or both."
    )
    person: str = Field(
        "",
        description="Regular expression whose first group is the person in a case's name, as '(sub-[^_]+)'.",
    )
    contrast: str = Field(
        "", description="Contrast of every case; default: the channel's name if there is one."
    )
    domain: str = Field("", description="Domain of every case.")

    @field_validator("person")
    @classmethod
    def _one_group(cls, text: str) -> str:
        if text and re.compile(text).groups < 1:
            raise ValueError("`person` needs a group, as in '(sub-[^_]+)_.*'")
        return text

    def build(self) -> CaseIndex:
        """Return the cases in order of their names."""
        from mriad_data.nnunet_reading import read_nnunet

        return read_nnunet(self)
