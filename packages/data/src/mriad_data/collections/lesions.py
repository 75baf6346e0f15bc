"""White-matter lesions: UMCL (Ljubljana), ISBI 2015, MSSEG 2016, and a 7T folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mriad_data.collections.base import ImageCollection, check_complete

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

    from mriad_data.layout import Layout

LESION = {"lesion": 1}
NII = r"\.nii(?:\.gz)?"


class UmclMs(ImageCollection):
    """30 persons with MS, 3T: T1w, T2w and FLAIR on one grid, and the consensus of several raters.

    Source: Lesjak et al., Neuroinformatics 2018 (published online 2017). Page: docs/data/umcl-ms.md.
    """

    type: Literal["data.umcl_ms"] = "data.umcl_ms"
    licence: ClassVar[str] = "CC-BY, version not stated; cite Lesjak et al."
    persons: ClassVar[int | None] = 30
    channels: list[Literal["T1w", "T2w", "FLAIR", "T1w-Gd"]] = Field(
        ["T1w", "T2w", "FLAIR"], min_length=1, description="Channels of a case, in this order."
    )

    def layout(self) -> Layout:
        """`coregistered/patient01/FLAIR.nii.gz`, with or without the patient's name before; or the same as BIDS."""
        from mriad_data.layout import Layout

        def files(name: str, bids: str) -> tuple[str, ...]:
            return (
                rf"(?P<person>patient\d+)/(?:patient\d+_)?{name}{NII}",
                rf"(?P<person>sub-[^_/]+)_{bids}{NII}",
            )

        images = {
            "T1w": files("T1W", "T1w"),
            "T2w": files("T2W", "T2w"),
            "FLAIR": files("FLAIR", "FLAIR"),
            "T1w-Gd": files("T1WKS", "ce-gd_T1w"),
        }
        return Layout(
            title="the UMCL MS data",
            images={name: images[name] for name in self.channels},
            expected="patient01/{FLAIR,T1W,T2W,consensus_gt,brainmask}.nii.gz",
            labels={"hard": files("consensus_gt", "label-lesion_seg")},
            annotations={"brain_mask": files("brainmask", "label-brain_mask")},
            structures=LESION,
            persons=self.published(),
        )


class Isbi2015(ImageCollection):
    """Longitudinal MS lesions, 3T: 5 persons with 21 scans and two raters, 14 test persons with 61 scans.

    Page: docs/data/isbi2015.md.
    """

    type: Literal["data.isbi2015"] = "data.isbi2015"
    licence: ClassVar[str] = "not stated here; registration with the organisers"
    part: Literal["training", "test", "all"] = Field("training", description="Test scans have no masks.")
    rater: Literal[1, 2] = Field(1, description='Whose masks are the label "hard"; both are there by name.')
    channels: list[Literal["T1w", "T2w", "PDw", "FLAIR"]] = Field(
        ["T1w", "FLAIR"], min_length=1, description="Channels of a case, in this order."
    )

    def published(self) -> int | None:
        """5 for training, 14 for testing."""
        return {"training": 5, "test": 14, "all": 19}[self.part]

    def layout(self) -> Layout:
        """`training01/preprocessed/training01_01_flair_pp.nii` and `training01/masks/training01_01_mask1.nii`."""
        from mriad_data.layout import Layout

        part = {"training": "training", "test": "test", "all": "(?:training|test)"}[self.part]
        words = {"T1w": "mprage", "T2w": "t2", "PDw": "pd", "FLAIR": "flair"}

        def file(ending: str) -> tuple[str, ...]:
            return (rf"(?P<person>{part}\d+)_(?P<session>\d+)_{ending}{NII}",)

        masks = {f"rater{n}": file(f"mask{n}") for n in (1, 2)}
        labels = {"hard": file(f"mask{self.rater}"), **masks}
        return Layout(
            title="the ISBI 2015 challenge",
            images={name: file(f"{words[name]}_pp") for name in self.channels},
            expected="training01/preprocessed/training01_01_flair_pp.nii, training01/masks/training01_01_mask1.nii",
            labels={} if self.part == "test" else labels,
            structures={} if self.part == "test" else LESION,
            unlabelled=r"^test\d",
            persons=self.published(),
        )


class Msseg2016(ImageCollection):
    """MS lesions of several centres: 15 training persons, a consensus of seven raters.

    The domain is the centre. Page: docs/data/msseg2016.md.
    """

    type: Literal["data.msseg2016"] = "data.msseg2016"
    licence: ClassVar[str] = "not stated here; registration with the organisers"
    persons: ClassVar[int | None] = 15
    images: Literal["preprocessed", "raw"] = Field(
        "preprocessed", description="Raw contrasts lie on different grids: only with one channel."
    )
    channels: list[Literal["T1w", "T2w", "PDw", "FLAIR", "T1w-Gd"]] = Field(
        ["T1w", "FLAIR"], min_length=1, description="Channels of a case, in this order."
    )

    def layout(self) -> Layout:
        """`Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz` and `…/Masks/Consensus.nii.gz`."""
        from mriad_data.layout import Layout

        person = r"(?P<person>(?P<domain>Cent(?:er|re)_\d+)/Patient_\d+)"
        words = {"T1w": "T1", "T2w": "T2", "PDw": "DP", "FLAIR": "FLAIR", "T1w-Gd": "GADO"}
        place = r"Preprocessed_Data/{}_preprocessed" if self.images == "preprocessed" else r"Raw_Data/{}"
        return Layout(
            title="the MSSEG 2016 challenge",
            images={name: (rf"{person}/{place.format(words[name])}{NII}",) for name in self.channels},
            expected="Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz, …/Masks/Consensus.nii.gz",
            labels={"hard": (rf"{person}/Masks/Consensus{NII}",)},
            annotations={"brain_mask": (rf"{person}/Masks/Brain_Mask{NII}",)},
            structures=LESION,
            persons=self.published(),
        )


class Ms7t(ImageCollection):
    """7T: MP2RAGE (T1w) and FLAIR of persons with MS, some with lesion masks; BIDS, no published set.

    The SSL² paper's has 37 persons, 14 of them labelled. Page: docs/data/ms7t.md.
    """

    type: Literal["data.ms7t"] = "data.ms7t"
    licence: ClassVar[str] = "not public"
    persons: ClassVar[int | None] = 37
    missing_label: Literal["refuse", "leave_out", "keep"] = Field(
        "keep",
        description="Where a mask is absent: an error, the case is left out, or it is an unlabelled one.",
    )

    def build(self) -> CaseIndex:
        """Return one case a session with the channels T1w and FLAIR; domain "7T"."""
        from mriad_data.bids import Bids

        index = Bids(
            root=self.root,
            channels={"T1w": ["UNIT1", "acq-mp2rage_T1w", "acq-MP2RAGE_T1w", "T1w"], "FLAIR": "FLAIR"},
            labels={"hard": ["label-lesion_seg", "label-lesion_mask", "desc-lesion_mask"]},
            structures=LESION,
            annotations={"brain_mask": ["label-brain_mask", "desc-brain_mask"]},
            domain="name:7T",
            exclude=self.exclude,
            missing_image=self.missing_image,
            missing_label=self.missing_label,
        ).build()
        return check_complete(index, self, "the 7T folder")
