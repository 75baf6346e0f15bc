"""File names of the Brain Imaging Data Structure: `sub-01_ses-2_acq-gre_T1w.nii.gz`."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from mriad.errors import DataError

LABEL_SUFFIXES = frozenset(
    {"seg", "dseg", "probseg", "softseg", "prob", "mask", "label", "dlabel", "points", "lesion", "xfm"}
)
"""Endings of files that hold labels or fields, not images."""
SOFT_SUFFIXES = ("probseg", "softseg", "prob")


@dataclass(frozen=True)
class BidsName:
    """A parsed name. `entities` are key and value in the order of the name, subject and session apart."""

    stem: str
    subject: str
    session: str
    entities: tuple[tuple[str, str], ...]
    suffix: str

    @property
    def person(self) -> str:
        """sub-X."""
        return f"sub-{self.subject}"

    @property
    def visit(self) -> str:
        """sub-X, or sub-X_ses-Y."""
        return f"{self.person}_ses-{self.session}" if self.session else self.person

    @property
    def ending(self) -> str:
        """What follows subject and session: "acq-gre_T1w"."""
        return "_".join([*(f"{k}-{v}" for k, v in self.entities), self.suffix])


def parse_name(stem: str) -> BidsName | None:
    """Parse a name without its ending; None where it is not `sub-X[_key-value …]_suffix`.

    A name with a second suffix in it (`sub-01_T2w_label-cord_seg`) is no image's: None.
    """
    parts = stem.split("_")
    if len(parts) < 2 or not parts[0].startswith("sub-") or len(parts[0]) < 5 or "-" in parts[-1]:
        return None
    session = ""
    entities = []
    for part in parts[1:-1]:
        key, dash, value = part.partition("-")
        if not (key and dash and value):
            return None
        if key == "ses":
            session = value
        else:
            entities.append((key, value))
    return BidsName(stem, parts[0][4:], session, tuple(entities), parts[-1]) if parts[-1] else None


@dataclass(frozen=True)
class Pattern:
    """The ending of an image's name: its suffix and exactly these entities; values may hold * and ?."""

    entities: tuple[tuple[str, str], ...]
    suffix: str

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Read "T1w", "flip-1_mt-on_MTS" or "run-*_T1w".

        Raises:
            DataError: not such an ending.
        """
        name = parse_name(f"sub-x_{text}")
        if name is None or name.session:
            raise DataError(
                "the ending of an image's name is not understood",
                where={
                    "found": text,
                    "expected": "a suffix with its entities, such as acq-gre_T1w or run-*_T1w",
                },
            )
        return cls(name.entities, name.suffix)

    def fits(self, name: BidsName) -> bool:
        """Whether a name has this suffix and these entities, in any order, and no other."""
        if name.suffix != self.suffix or len(name.entities) != len(self.entities):
            return False
        if not self.entities:
            return True
        given = dict(name.entities)
        return all(k in given and (given[k] == v or fnmatchcase(given[k], v)) for k, v in self.entities)

    def varying(self, name: BidsName) -> str:
        """The entities of a fitting name whose value the pattern leaves open, as part of a case's id."""
        open_keys = {k for k, v in self.entities if "*" in v or "?" in v}
        return "".join(f"_{k}-{v}" for k, v in name.entities if k in open_keys)
