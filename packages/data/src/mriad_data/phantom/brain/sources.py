"""Voxels on demand: each source makes one image or label of one brain scan when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.identity import fingerprint
from mriad.vocabulary import Case, Label

from mriad_data.phantom.brain.scan import BrainScan
from mriad_data.phantom.session import BASELINE, Session, sessions
from mriad_data.phantom.sources import case_id, person_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Volume

    from mriad_data.phantom.brain.parameters import BrainParameters

Thing = Literal["image", "hard", "truth"]


@dataclass(frozen=True)
class BrainSource:
    """An image or label of the brain phantom; pickles in a few kilobytes, and equal sources give equal voxels."""

    parameters: BrainParameters
    person: int
    contrast: str
    thing: Thing
    session: Session = BASELINE

    costly: ClassVar[bool] = True
    """Making voxels takes long: evaluation keeps them in the store (`mriad.generated`)."""

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels; the number of persons and the other contrasts asked for do not enter."""
        contrast: object = self.contrast
        if self.thing != "image":  # labels are those of the grid, whatever contrast lies on it
            contrast = list(self.parameters.spacing(self.contrast))
        parts = [self.parameters.fingerprint, self.person, self.session.number, contrast, self.thing]
        return fingerprint(parts)

    @property
    def location(self) -> str:
        """A short description for messages."""
        return f"phantom.brain {case_id(self.person, self.contrast or 'dseg', self.session)} {self.thing}"

    def read(self) -> Volume:
        """Make the voxels: float32, or int16 for "hard"; see `BrainScan`."""
        scan = BrainScan(self.parameters, self.person, self.session)
        return scan.image(self.contrast) if self.thing == "image" else scan.label(self.contrast, self.thing)


def make_cases(
    parameters: BrainParameters,
    persons: int,
    contrasts: Sequence[str],
    rescans: int = 0,
    volumes: bool = True,
) -> list[Case]:
    """All cases of a data set: persons × sessions × contrasts, with the labels hard and truth.

    Without contrasts: a case a person and session, with no channel and the label hard (numbers of the label map).
    """
    visits = sessions(rescans, ())
    several = len(visits) > 1
    cases = []
    for person in range(1, persons + 1):
        for visit in visits:
            scan = BrainScan(parameters, person, visit)
            for contrast in contrasts or ("",):

                def source(
                    thing: Thing, n: int = person, c: str = contrast, s: Session = visit
                ) -> BrainSource:
                    return BrainSource(parameters, n, c, thing, s)

                labels = {"hard": Label("hard", source("hard"))}
                if contrast:
                    labels["truth"] = Label("soft", source("truth"))
                cases.append(
                    Case(
                        id=case_id(person, contrast or "dseg", visit, named=several),
                        person=person_name(person),
                        channels={"image": source("image")} if contrast else {},
                        labels=labels,
                        contrast=contrast,
                        domain=contrast,
                        session=visit.name if several else "",
                        numbers=scan.numbers(contrast) if volumes else {},
                    )
                )
    return cases
