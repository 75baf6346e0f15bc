"""Voxels on demand: each source makes one image or label of one scan when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.identity import fingerprint
from mriad.vocabulary import Case, Label

from mriad_data.phantom.scan import BASELINE, Scan, Session, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Volume

    from mriad_data.phantom.parameters import SpineParameters

Thing = Literal["image", "hard", "soft", "truth", "discs", "levels"]


@dataclass(frozen=True)
class SpineSource:
    """An image or label of the spine phantom; pickles in a few kilobytes, and equal sources give equal voxels."""

    parameters: SpineParameters
    person: int
    contrast: str
    thing: Thing
    session: Session = BASELINE

    costly: ClassVar[bool] = True
    """Making voxels takes long: evaluation keeps them in the store (`mriad.generated`)."""

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels; the number of persons and the other contrasts asked for do not enter."""
        session = [self.session.number, self.session.atrophy_percent]
        return fingerprint([self.parameters.fingerprint, self.person, session, self.contrast, self.thing])

    @property
    def location(self) -> str:
        """A short description for messages."""
        return f"phantom.spine {case_id(self.person, self.contrast, self.session)} {self.thing}"

    def read(self) -> Volume:
        """Make the voxels (X, Y, Z): float32, or uint8 for "hard", "discs" and "levels"; see `Scan`."""
        scan = Scan(self.parameters, self.person, self.session)
        return scan.image(self.contrast) if self.thing == "image" else scan.label(self.contrast, self.thing)


def person_name(person: int) -> str:
    """The name of person n (from 1)."""
    return f"sub-{person:03d}"


def case_id(person: int, contrast: str, session: Session = BASELINE, *, named: bool = False) -> str:
    """The case's id: sub-001_T2w, or sub-001_ses-rescan1_T2w where there are several sessions."""
    visit = f"_ses-{session.name}" if named or session.number else ""
    return f"{person_name(person)}{visit}_{contrast}"


def make_cases(
    parameters: SpineParameters,
    persons: int,
    contrasts: Sequence[str],
    rescans: int = 0,
    atrophy_percent: Sequence[float] = (),
    discs: bool = False,
) -> list[Case]:
    """All cases of a data set: persons × sessions × contrasts, with labels hard, soft, truth (and discs).

    Annotations of every case: "levels" and "discs"; see `Scan.label`.
    """
    visits = sessions(rescans, atrophy_percent)
    cases = []
    for person in range(1, persons + 1):
        for visit in visits:
            scan = Scan(parameters, person, visit)
            for contrast in contrasts:

                def source(
                    thing: Thing, n: int = person, c: str = contrast, s: Session = visit
                ) -> SpineSource:
                    return SpineSource(parameters, n, c, thing, s)

                labels = {
                    "hard": Label("hard", source("hard")),
                    "soft": Label("soft", source("soft")),
                    "truth": Label("soft", source("truth")),
                }
                if discs:
                    labels["discs"] = Label("hard", source("discs"))
                cases.append(
                    Case(
                        id=case_id(person, contrast, visit, named=len(visits) > 1),
                        person=person_name(person),
                        channels={"image": source("image")},
                        labels=labels,
                        contrast=contrast,
                        domain=contrast,
                        session=visit.name if len(visits) > 1 else "",
                        numbers=scan.numbers(contrast),
                        annotations={"levels": source("levels"), "discs": source("discs")},
                    )
                )
    return cases
