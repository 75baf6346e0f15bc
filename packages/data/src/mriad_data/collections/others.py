"""crossMoDA (two contrasts of different persons), joints of children (one label set each), the hippocampus."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mriad_data.collections.base import ImageCollection

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

    from mriad_data.layout import Choices, Layout

NII = r"\.nii(?:\.gz)?"


class CrossModa(ImageCollection):
    """Vestibular schwannoma and cochlea: labelled ceT1 (source), unlabelled hrT2 of other persons (target).

    Contrast and domain are ceT1 or hrT2. 2021: 105 source, 105 target, 32 validation persons.
    Page: docs/data/crossmoda.md.
    """

    type: Literal["data.crossmoda"] = "data.crossmoda"
    licence: ClassVar[str] = "not stated here; terms of the challenge"
    parts: list[Literal["source_training", "target_training", "target_validation"]] = Field(
        ["source_training", "target_training"], min_length=1, description="Folders to take."
    )

    def published(self) -> int | None:
        """Of the folders taken, in 2021."""
        counts = {"source_training": 105, "target_training": 105, "target_validation": 32}
        return sum(counts[part] for part in self.parts)

    def layout(self) -> Layout:
        """`source_training/crossmoda_1_{ceT1,Label}.nii.gz` and `target_training/crossmoda_106_hrT2.nii.gz`."""
        from mriad_data.layout import Layout

        person = r"(?P<person>crossmoda(?:\d{4}_[a-z]+)?_\d+)"

        def files(ending: str) -> tuple[str, ...]:
            # The folders are called source_training or training_source, by the year.
            folders = [rf"(?:{a}_{b}|{b}_{a})" for a, b in (part.split("_") for part in self.parts)]
            return (rf"(?:{'|'.join(folders)})/{person}_{ending}{NII}",)

        return Layout(
            title="crossMoDA",
            images={"ceT1": files("ceT1"), "hrT2": files("hrT2")},
            expected="source_training/crossmoda_1_{ceT1,Label}.nii.gz, target_training/crossmoda_106_hrT2.nii.gz",
            labels={"hard": files("(?:ceT1_)?Label")},
            structures={"vs": 1, "cochlea": 2},
            cases="image",
            labelled=("ceT1",),
            domain="contrast",
            persons=self.published(),
        )


class Joint(ImageCollection):
    """A folder of one joint: `images/NAME.nii.gz` and `labels/NAME.nii.gz`, with that joint's bones.

    Several joints make a multi-task data set: one `data.joint` each, side by side in `data.union`. The multi-domain
    paper has 17 ankles and 15 shoulders of children, which are not public. Page: docs/data/joints.md.
    """

    type: Literal["data.joint"] = "data.joint"
    licence: ClassVar[str] = "not public"
    joint: Literal["ankle", "shoulder", "other"] = Field(description="Which bones; the domain's name.")
    structures: dict[str, int] = Field(
        default_factory=dict, description="Structure → value, instead of the joint's own."
    )

    def published(self) -> int | None:
        """Of the paper's joints."""
        return {"ankle": 17, "shoulder": 15}.get(self.joint)

    def layout(self) -> Layout:
        """Names are persons."""
        from mriad_data.layout import Layout

        bones = {
            "ankle": {"calcaneus": 1, "talus": 2, "tibia": 3},
            "shoulder": {"scapula": 1, "humerus": 2},
            "other": {},
        }[self.joint]
        return Layout(
            title=f"a folder of the {self.joint}" if self.joint != "other" else "a folder of a joint",
            images={"image": (rf"images/(?P<person>[^/]+?){NII}",)},
            expected="images/NAME.nii.gz and labels/NAME.nii.gz",
            labels={"hard": (rf"labels/(?P<person>[^/]+?){NII}",)},
            structures=self.structures or bones,
            domain=self.joint,
            persons=self.published(),
        )


class Hippocampus(ImageCollection):
    """Task 4 of the Medical Segmentation Decathlon: crops around the hippocampus, anterior and posterior part.

    The domain is the intensity group of participants.tsv where that file is there. Page: docs/data/hippocampus.md.
    """

    type: Literal["data.hippocampus"] = "data.hippocampus"
    licence: ClassVar[str] = "CC-BY-SA 4.0"
    part: Literal["train", "test"] = Field("train", description="The 130 test images have no labels.")

    def published(self) -> int | None:
        """260 for training, 130 for testing."""
        return 260 if self.part == "train" else 130

    def layout(self) -> Layout:
        """`imagesTr/hippocampus_001.nii.gz` with `labelsTr/hippocampus_001.nii.gz`."""
        from mriad_data.layout import Layout

        end = {"train": "Tr", "test": "Ts"}[self.part]
        person = r"(?P<person>hippocampus_\d+)"
        return Layout(
            title="the Decathlon's hippocampus",
            images={"MRI": (rf"images{end}/{person}(?:_0000)?{NII}",)},
            expected=f"images{end}/hippocampus_001.nii.gz, labels{end}/hippocampus_001.nii.gz",
            labels={"hard": (rf"labelsTr/{person}{NII}",)} if self.part == "train" else {},
            structures={"anterior": 1, "posterior": 2},
            persons=self.published(),
        )

    def choices(self) -> Choices:
        """With the domains of participants.tsv."""
        import csv
        from dataclasses import replace

        path = self.root / "participants.tsv"
        if not path.is_file():
            return super().choices()
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        groups = {str(row.get("id")): str(row.get("intensity_group") or "") for row in rows}
        return replace(super().choices(), domains=groups)

    def build(self) -> CaseIndex:
        """Return one case a person; a dataset.json that says other labels is refused."""
        import json

        from mriad_data.faults import Faults
        from mriad_data.layout import read_layout

        faults = Faults()
        path = self.root / "dataset.json"
        if path.is_file():
            try:
                labels = json.loads(path.read_text(encoding="utf-8-sig"))["labels"]
                said = {str(k).lower(): str(v).lower() for k, v in labels.items()}
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                faults.add("dataset.json", f"cannot be read: {type(error).__name__} {error}")
                said = {}
            pairs = {(v, k) if k.isdigit() else (k, v) for k, v in said.items()}
            if said and not {("anterior", "1"), ("posterior", "2")} <= pairs:
                faults.add("dataset.json", f"labels are {said}, not Anterior 1 and Posterior 2")
        return read_layout(self.root, self.layout(), self.choices(), faults)
