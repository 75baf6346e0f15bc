"""The words of DESIGN.md section 2 as types: structure, label set, source, case, sample, task.

Nothing here reads voxels or imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from mriad.errors import DataError, ExperimentError
from mriad.identity import fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mriad.geometry import Grid

LabelKind = Literal["hard", "soft", "sparse", "none", "pseudo"]
Link = Literal["raw", "sigmoid", "softmax"]
"""How raw network outputs become probabilities: as they are, per structure, or against a background channel."""


@dataclass(frozen=True)
class Structure:
    """One thing to segment; `value` is its number in hard label files (0 is always background)."""

    name: str
    value: int


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of structures. Channel s of a soft target is `structures[s]`; index s + 1 of a hard one."""

    structures: tuple[Structure, ...]
    ignore: tuple[int, ...] = ()
    """Values of label files that mean "not annotated here": they become invalid, never background."""
    background: tuple[int, ...] = ()
    """Further values of label files that are background: structures that another domain segments."""
    merged: tuple[tuple[int, int], ...] = ()
    """(value, value of a structure): further values of label files that belong to a structure."""

    @classmethod
    def of(cls, values: Mapping[str, int], ignore: Sequence[int] = ()) -> LabelSet:
        """Make a label set from `{"cord": 1, "csf": 2}`.

        Raises:
            DataError: a value is 0 or used twice.
        """
        taken = [*values.values(), *ignore]
        if 0 in values.values() or len(set(taken)) != len(taken):
            raise DataError(
                "label values must be distinct and not 0, which is background", where={"labels": dict(values)}
            )
        return cls(tuple(Structure(n, int(v)) for n, v in values.items()), tuple(ignore))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in channel order."""
        return tuple(s.name for s in self.structures)

    def only(self, names: Sequence[str]) -> LabelSet:
        """These structures, in the order given; the values of the others are background.

        Raises:
            DataError: a name is unknown, or given twice.
        """
        known = {s.name: s for s in self.structures}
        unknown = [name for name in names if name not in known]
        if unknown or len(set(names)) < len(names):
            what = "does not have" if unknown else "was asked for twice"
            raise DataError(
                f"the label set {what} {', '.join(unknown or names)}",
                where={"structures": ", ".join(known) or "none"},
            )
        out = tuple(s.value for s in self.structures if s.name not in names)
        others = (*out, *(value for value, to in self.merged if to in out))
        merged = tuple((value, to) for value, to in self.merged if to not in out)
        return LabelSet(tuple(known[n] for n in names), self.ignore, (*self.background, *others), merged)

    def indices(self, stored: LabelSet) -> tuple[int, ...]:
        """Index in a target of this label set of each index (0 background, s + 1 structure s) of a stored one.

        Raises:
            DataError: the stored label set has a value that this one does not know.
        """
        place = {0: 0, **dict.fromkeys((*self.background, *self.ignore), 0)}
        place |= {s.value: i + 1 for i, s in enumerate(self.structures)}
        place |= {value: place[to] for value, to in self.merged}
        strange = [f"{s.value} {s.name}" for s in stored.structures if s.value not in place]
        if strange:
            raise DataError(
                "a label set does not know values of another", where={"values": ", ".join(strange)}
            )
        return (0, *(place[s.value] for s in stored.structures))

    def __len__(self) -> int:
        return len(self.structures)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid, as read from a source.

    `data`: (X, Y, Z), or (C, X, Y, Z) for a soft label of C structures; any dtype; world position by `grid`.
    """

    data: NDArray[Any]
    grid: Grid


@runtime_checkable
class Source(Protocol):
    """Where voxels come from: a file, a stored array, a generator with config and seed. Must pickle."""

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels: equal fingerprints mean equal data. May hash a file (remembered)."""
        ...

    @property
    def location(self) -> str:
        """A file path or a short description, for messages."""
        ...

    def read(self) -> Volume:
        """Return the voxels.

        Raises:
            DataError: unreadable, not a NIfTI, 4D where 3D is meant, or not finite.
        """
        ...


@dataclass(frozen=True)
class Label:
    """A reference segmentation of a case.

    hard, sparse, pseudo: integers (X, Y, Z) with the label set's values. soft: float in [0, 1], (X, Y, Z) for
    one structure or (S, X, Y, Z) in label-set order. `validity`: a mask (X, Y, Z), non-zero where annotated.
    `confidence`: of a pseudo-label, float in [0, 1] (X, Y, Z): how far the loss may trust a voxel.
    """

    kind: LabelKind
    source: Source
    validity: Source | None = None
    confidence: Source | None = None
    annotated: tuple[str, ...] | None = None
    """Structures that were looked for; None: all of the label set. Where others are wanted too, what is none of
    these is not annotated rather than background."""


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True)
class Case:
    """What is segmented as one: registered channels of one session of one person on one grid."""

    id: str
    person: str
    channels: Mapping[str, Source]
    labels: Mapping[str, Label] = field(default_factory=dict)
    """By name, usually the kind: a phantom case has "hard", "soft" and "truth"."""
    contrast: str = ""
    domain: str = ""
    session: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Reference numbers known without voxels, such as `area_mm2/C3`."""
    annotations: Mapping[str, Source] = field(default_factory=dict)
    """Label maps that are no targets, by name: "levels" and "discs" (vertebrae), "brain_mask"."""

    def __post_init__(self) -> None:
        # Files are named after cases, so an id must not lead out of a folder.
        if not self.id or self.id.startswith(".") or any(c in self.id for c in "/\\\0"):
            raise DataError(
                f"{self.id!r} cannot be the id of a case",
                where={"expected": "text without / and \\ that does not begin with a full stop"},
            )
        for name in ("channels", "labels", "numbers", "annotations"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not pickle
        values = (dict(self.channels), dict(self.labels), self.contrast, self.domain, self.session)
        return (Case, (self.id, self.person, *values, dict(self.numbers), dict(self.annotations)))

    def with_labels(self, **labels: Label) -> Case:
        """A copy with these labels added or replaced."""
        return replace(self, labels={**self.labels, **labels})


class CaseIndex(Sequence[Case]):
    """An ordered index of cases with one label set; no voxels are read.

    A reader of large collections may subclass it with a columnar store: cases are made on access.

    Raises:
        DataError: two cases have one id.
    """

    aliases: Mapping[str, str] = MappingProxyType({})
    """Another name of a person → the one that stands in the index; see `mriad.same_person`."""

    def __init__(self, cases: Sequence[Case], label_set: LabelSet) -> None:
        self._cases = tuple(cases)
        self.label_set = label_set
        seen: set[str] = set()
        for case in self._cases:
            if case.id in seen:
                raise DataError("two cases have one id", where={"case": case.id})
            seen.add(case.id)

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: Any) -> Any:
        return self._cases[index]

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def select(self, keep: Callable[[Case], bool]) -> CaseIndex:
        """The cases for which `keep` is true, in order."""
        chosen = CaseIndex([case for case in self if keep(case)], self.label_set)
        chosen.aliases = self.aliases
        return chosen

    def column(self, name: Literal["id", "person", "contrast", "domain", "session"]) -> list[str]:
        """One attribute of every case, in order; a columnar index answers without making cases."""
        return [getattr(case, name) for case in self]

    def codes(
        self, name: Literal["person", "contrast", "domain", "session"]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """A column as numbers (n,) of words; a columnar index has them already. Every word occurs."""
        import numpy as np

        column = self.column(name)
        words = list(dict.fromkeys(column))
        number = {word: i for i, word in enumerate(words)}
        return np.fromiter(map(number.__getitem__, column), np.int64, len(column)), words

    @property
    def persons(self) -> tuple[str, ...]:
        """Distinct persons in order of appearance."""
        return tuple(dict.fromkeys(self.column("person")))

    @property
    def fingerprint(self) -> str:
        """Identity of index and voxels (asks each source for its fingerprint)."""
        return fingerprint(
            {
                "label_set": [[s.name, s.value] for s in self.label_set.structures],
                "ignore": list(self.label_set.ignore),
                "cases": [
                    {
                        "id": case.id,
                        "person": case.person,
                        "contrast": case.contrast,
                        "domain": case.domain,
                        "session": case.session,
                        "channels": {name: s.fingerprint for name, s in case.channels.items()},
                        "labels": {
                            name: [
                                label.kind,
                                label.source.fingerprint,
                                label.validity.fingerprint if label.validity else None,
                                *([label.confidence.fingerprint] if label.confidence else []),
                                *([list(label.annotated)] if label.annotated is not None else []),
                            ]
                            for name, label in case.labels.items()
                        },
                        "numbers": dict(case.numbers),
                        "annotations": {name: s.fingerprint for name, s in case.annotations.items()},
                    }
                    for case in self
                ],
            }
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """Arrays of one case or patch, before they become a batch.

    image: (C, X, Y, Z) float32, channels in task order.
    target: None; or integer (1, X, Y, Z), 0 background and s + 1 structure s; or float (S, X, Y, Z) in [0, 1].
    validity: None (valid everywhere) or uint8 (1, X, Y, Z), 1 where annotated; float32 in [0, 1] where a
    pseudo-label's confidence weighs it.
    field: None (everything was acquired) or uint8 (1, X, Y, Z), 0 where a step padded: not acquired.
    grid: of the spatial axes; a pixel of these arrays lies where the grid says.
    Arrays may be read-only memory maps: never write into them.
    """

    case: str
    image: NDArray[np.float32]
    grid: Grid
    target: NDArray[Any] | None = None
    validity: NDArray[np.uint8] | None = None
    field: NDArray[np.uint8] | None = None
    person: str = ""
    contrast: str = ""
    domain: str = ""


@dataclass(frozen=True)
class Task:
    """What a network is built for.

    `label_sets` has one entry a domain, or the single key "" when all domains share one. Outputs of a softmax
    task start with background; sigmoid and raw tasks have one channel a structure.
    """

    channels: tuple[str, ...]
    label_sets: Mapping[str, LabelSet]
    link: Link
    domains: tuple[str, ...] = ()
    dimensions: Literal[2, 3] = 3
    slices: Literal["", "axial", "coronal", "sagittal"] = ""
    """Which slices of a volume a network of 2 dimensions reads."""
    stored_label_set: LabelSet | None = None
    """Label set of targets before augmentation, where an augmenter changes it (SynthSeg); None: the task's."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Folders of artefacts that components refer to, by stage name as written in the experiment."""

    def label_set(self, domain: str = "") -> LabelSet:
        """The label set of a domain (or the shared one).

        Raises:
            ExperimentError: each domain has its own, and this is none of them.
        """
        for name in (domain, ""):
            if name in self.label_sets:
                return self.label_sets[name]
        raise ExperimentError(
            f"there is no label set for domain '{domain}'" if domain else "each domain has its own label set",
            where={"domains": ", ".join(self.label_sets)},
            remedy="use a model and a learner with domain-specific outputs, or leave out `data.structures`",
        )

    def outputs(self, domain: str = "") -> int:
        """Number of raw output channels."""
        return len(self.label_set(domain)) + (self.link == "softmax")
