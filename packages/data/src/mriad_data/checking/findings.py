"""What a check found, and the report of all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""error: must be fixed, training would refuse or be misled; warning: look at it; note: good to know."""

CHECKS = {
    "layout": "files make cases",
    "readable": "every file can be read",
    "geometry": "labels and channels share a grid (to 0.001 mm)",
    "values": "labels hold declared values",
    "empty": "no label is empty",
    "duplicates": "no voxels under two names",
    "splits": "nobody is on two sides",
    "contrasts": "nobody lacks a contrast",
    "intensities": "no NaN, constant or clipped image",
    "spacing": "voxel sizes are alike",
    "size": "fields of view are alike",
    "resources": "disk and memory suffice",
}
"""Every check in the order of the table, and what is so where it finds nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found in one place."""

    check: str
    level: Level
    what: str
    """The same words for all findings of the kind; they are counted by it."""
    case: str = ""
    file: str = ""
    detail: str = ""
    """What is special here: values, millimetres, the other file."""
    remedy: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Figures of `detail` with their unit in the key, such as `distance_mm`."""
    others: tuple[str, ...] = ()
    """Other files that it is about, such as those with the same voxels."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is empty is left out."""
        row: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("check", "level", "what", "case", "file", "detail", "remedy")
        }
        row = {key: value for key, value in row.items() if value}
        if self.others:
            row["others"] = list(self.others)
        return row | ({"numbers": dict(self.numbers)} if self.numbers else {})


@dataclass(frozen=True)
class Report:
    """All that was found in a data set."""

    target: str
    layout: str
    cases: int
    persons: int
    files: int
    bytes: int
    """Of the files, as they lie on the disk."""
    seconds: float
    findings: Sequence[Finding]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Check → why it was not made."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Bytes that preparing needs, see `mriad_data.checking.resources`."""

    def worst(self, check: str) -> Level | None:
        """The highest level found by a check; None: nothing."""
        found = {finding.level for finding in self.findings if finding.check == check}
        return next((level for level in LEVELS if level in found), None)

    @property
    def counts(self) -> dict[Level, int]:
        """Findings by level."""
        counted = Counter(finding.level for finding in self.findings)
        return {level: counted[level] for level in LEVELS}

    @property
    def must_be_fixed(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": 1,
            "target": self.target,
            "layout": self.layout,
            "cases": self.cases,
            "persons": self.persons,
            "files": self.files,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "must_be_fixed": self.must_be_fixed,
            "counts": self.counts,
            "checks": {
                check: {"level": self.worst(check) or "ok"}
                if check not in self.skipped
                else {"level": "skipped", "reason": self.skipped[check]}
                for check in CHECKS
            },
            "resources": dict(self.resources),
            "findings": [finding.as_json() for finding in self.findings],
        }
