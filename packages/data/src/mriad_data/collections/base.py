"""What named collections share: a root, exclusions, and what may be missing."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from mriad.interfaces import Dataset
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

    from mriad_data.layout import Choices, Layout


class Collection(Dataset):
    """A published collection in its published layout; each has a page in docs/data.

    Raises:
        DataError: the folder is missing or of another layout; or all that is missing, in one message.
    """

    licence: ClassVar[str] = "not stated"
    """What the publisher says; ask there before you pass anything on."""
    persons: ClassVar[int | None] = None
    """Number of persons as published; None where it is not stated."""

    root: Path = Field(description="The folder as it was published.")
    exclude: list[str] = Field(default_factory=list, description="Persons or cases to leave out.")
    complete: bool = Field(False, description="Refuse a folder that has not the published number of persons.")

    @model_validator(mode="after")
    def _can_be_complete(self) -> Self:
        if self.complete and self.published() is None:
            raise ValueError("the number of persons is not stated, so `complete` cannot be checked")
        return self

    def published(self) -> int | None:
        """Number of persons in what these fields choose; None where it is not stated."""
        return self.persons


class ImageCollection(Collection):
    """Images, of which all or some have labels."""

    missing_image: Literal["refuse", "leave_out"] = Field(
        "refuse", description="Where an image is absent: an error, or the case is left out."
    )
    missing_label: Literal["refuse", "leave_out", "keep"] = Field(
        "refuse",
        description="Where a promised label is absent: an error, the case is left out, or has no label.",
    )

    def layout(self) -> Layout:
        """Where the files lie."""
        raise NotImplementedError

    def choices(self) -> Choices:
        """What the fields say may be missing."""
        from mriad_data.layout import Choices

        return Choices(tuple(self.exclude), self.missing_image, self.missing_label, self.complete)

    def build(self) -> CaseIndex:
        """Return the cases in order of persons and sessions."""
        from mriad_data.layout import read_layout

        return read_layout(self.root, self.layout(), self.choices())


def check_complete(index: CaseIndex, collection: Collection, title: str) -> CaseIndex:
    """The index, if it need not be complete or has the published number of persons.

    Raises:
        DataError: another number.
    """
    from mriad.errors import DataError

    expected = collection.published()
    if collection.complete and len(index.persons) != expected:
        raise DataError(
            f"{title} is not complete",
            where={"folder": str(collection.root), "persons": len(index.persons), "published": expected},
            remedy="fetch the rest, or leave out `complete`",
        )
    return index
