"""Brains for pre-training and synthesis: BraTS 2021, IXI, SynthSeg's label maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mriad_data.collections.base import Collection, ImageCollection, check_complete

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

    from mriad_data.layout import Layout


class Brats2021(ImageCollection):
    """1251 persons with glioma: T1w, T1w-Gd, T2w and FLAIR on one grid; here unlabelled, T1w and FLAIR.

    Page: docs/data/brats2021.md.
    """

    type: Literal["data.brats2021"] = "data.brats2021"
    licence: ClassVar[str] = "not stated here; terms of the challenge"
    persons: ClassVar[int | None] = 1251
    channels: list[Literal["T1w", "T1w-Gd", "T2w", "FLAIR"]] = Field(
        ["T1w", "FLAIR"], min_length=1, description="Channels of a case, in this order."
    )
    labelled: bool = Field(False, description="Take the tumour masks as the label "
    '"hard": necrotic core 1, oedema 2, enhancing 4.')  # fmt: skip

    def layout(self) -> Layout:
        """`BraTS2021_00000/BraTS2021_00000_flair.nii.gz`."""
        from mriad_data.layout import Layout

        words = {"T1w": "t1", "T1w-Gd": "t1ce", "T2w": "t2", "FLAIR": "flair"}

        def file(word: str) -> tuple[str, ...]:
            return (rf"(?P<person>BraTS2021_\d+)_{word}\.nii(?:\.gz)?",)

        tumour = {"necrotic_core": 1, "oedema": 2, "enhancing": 4}
        return Layout(
            title="BraTS 2021",
            images={name: file(words[name]) for name in self.channels},
            expected="BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz",
            labels={"hard": file("seg")} if self.labelled else {},
            structures=tumour if self.labelled else {},
            domain="brats2021",
            persons=self.published(),
        )


class Ixi(Collection):
    """About 600 healthy persons of three hospitals, each contrast a case on its own grid; no labels.

    The domain is the hospital: Guys, HH or IOP. Page: docs/data/ixi.md.
    """

    type: Literal["data.ixi"] = "data.ixi"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    contrasts: list[Literal["T1w", "T2w", "PDw", "MRA"]] = Field(
        ["T1w"], min_length=1, description="Contrasts to take."
    )

    def build(self) -> CaseIndex:
        """Return one case an image, as `IXI-T1/IXI002-Guys-0828-T1.nii.gz`."""
        from mriad_data.layout import Choices, Layout, read_layout

        words = {"T1w": "T1", "T2w": "T2", "PDw": "PD", "MRA": "MRA"}
        layout = Layout(
            title="IXI",
            images={
                c: (rf"(?P<person>IXI\d+)-(?P<domain>[A-Za-z]+)-\d+-{words[c]}\.nii(?:\.gz)?",)
                for c in self.contrasts
            },
            expected="IXI002-Guys-0828-T1.nii.gz",
            cases="image",
        )
        return read_layout(self.root, layout, Choices(tuple(self.exclude)))


class SynthSegMaps(Collection):
    """The label maps that SynthSeg was trained from (20 published): no images, one person each.

    Structures come from the lists beside them: SynthSeg's folder `labels_classes_priors`, or a table of labels.
    Page: docs/data/synthseg-maps.md.
    """

    type: Literal["data.synthseg_maps"] = "data.synthseg_maps"
    licence: ClassVar[str] = "Apache-2.0 for the repository; no separate licence of the data is stated"
    persons: ClassVar[int | None] = 20
    table: Path = Field(
        Path("../labels_classes_priors"),
        description="SynthSeg's folder of arrays or a table of labels, relative to root.",
    )

    def build(self) -> CaseIndex:
        """Return one case a map with the label "hard"."""
        from mriad_data.label_maps import LabelMaps

        index = LabelMaps(root=self.root, table=self.table, domain="synthseg", exclude=self.exclude).build()
        return check_complete(index, self, "the set of SynthSeg's label maps")
