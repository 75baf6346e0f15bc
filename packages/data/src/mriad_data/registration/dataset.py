"""`data.registered`: another data set, with each person's contrasts registered onto one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003 (pydantic reads the annotations)
from typing import TYPE_CHECKING, Literal, TypeVar

from mriad.component import Config
from mriad.errors import DataError
from mriad.images import FileSource
from mriad.interfaces import Dataset
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet
from pydantic import Field

from mriad_data.registration.settings import Registration
from mriad_data.registration.sources import Link, Part, RegisteredSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.vocabulary import Source

TEMPLATE = "template"
"""Name of the label that a template's own label map becomes."""
_T = TypeVar("_T")
_SHOWN = 20  # faults in one report


class Template(Config):
    """An image that every person is registered to; voxels come to lie on its grid."""

    image: Path = Field(description="NIfTI file of the template.")
    labels: Path | None = Field(
        None, description=f"Its hard label map, on its grid; every case gets it as pseudo label '{TEMPLATE}'."
    )
    structures: dict[str, int] = Field(
        default_factory=dict, description="Structure → value in `labels`; must be the data set's own."
    )
    registration: Registration = Field(
        default_factory=lambda: Registration(kind="affine", start="centres"),
        description="Search from the template to the reference contrast.",
    )


class Registered(Dataset):
    """A person's contrasts on one grid: a multi-channel case made of scans that lie where the scanner put them.

    Channels other than `reference` are registered to it when they are read, and interpolated once, also
    where a template follows (the transforms are composed). Voxels outside a contrast's own field of view are
    `fill`. Labels move with the contrast that they were drawn on, and are valid only where it was acquired.
    Transforms belong to a case alone: nothing is fitted, so all splits share them.

    Raises:
        DataError: cases without the reference or a contrast, two scans of one contrast in a session, labels
            that `join` would lose, or a template on another label set; all faulty cases in one message.
    """

    type: Literal["data.registered"] = "data.registered"
    dataset: Dataset = Field(description="The data set whose cases are registered.")
    reference: str = Field(
        description="Channel (or contrast, with `join`) that the others are registered to."
    )
    contrasts: list[str] = Field(
        default_factory=list, description="Channels of a case, the reference among them; default: all it has."
    )
    join: bool = Field(
        False,
        description="Make one case of the cases of a person and session, each with one channel, its contrast; "
        "a label or annotation is that of the contrast in `drawn_on`.",
    )
    drawn_on: dict[str, str] = Field(
        default_factory=dict,
        description="Label or annotation → channel on whose grid it lies; default: reference.",
    )
    registration: Registration = Field(
        default_factory=Registration, description="Search between the contrasts of a person."
    )
    template: Template | None = Field(None, description="Go on to the grid of a template.")
    image_order: int = Field(3, ge=0, le=5, description="Spline order for images; labels are linear.")
    fill: float = Field(0.0, description="Intensity outside a contrast's field of view.")
    cache: Path | None = Field(
        None,
        description="Folder that keeps the transforms; default: searched again by each process (about 1 s).",
    )

    def build(self) -> CaseIndex:
        """Return the registered cases and the data set's label set; no voxel is read."""
        index = self.dataset.build()
        self._check_template(index.label_set)
        faults: dict[str, str] = {}
        cases = list(_joined(index, self.reference, self.drawn_on, faults) if self.join else index)
        for case in cases:
            missing = {self.reference, *self.contrasts} - set(case.channels)
            if missing:
                faults[case.id] = (
                    f"no {', '.join(sorted(missing))}; it has {', '.join(case.channels) or 'none'}"
                )
        if faults:
            raise _fault(faults, self.join)
        return CaseIndex([self._registered(case) for case in cases], index.label_set)

    def _registered(self, case: Case) -> Case:
        names = self.contrasts or list(case.channels)
        channels = {name: self._moved(case, case.channels[name], name) for name in names}
        labels = {name: self._label(case, name, label) for name, label in case.labels.items()}
        annotations = {
            name: self._moved(case, source, self.drawn_on.get(name, self.reference), "hard")
            for name, source in case.annotations.items()
        }
        if self.template is not None and self.template.labels is not None:
            labels[TEMPLATE] = Label("pseudo", FileSource(str(self.template.labels)))
        return replace(case, channels=channels, labels=labels, annotations=annotations)

    def _label(self, case: Case, name: str, label: Label) -> Label:
        channel = self.drawn_on.get(name, self.reference)
        valid = label.validity
        kind: Part = "soft" if label.kind == "soft" else "hard"
        source = self._moved(case, label.source, channel, kind, valid)
        if not isinstance(source, RegisteredSource):
            return label
        confidence = label.confidence
        if confidence is not None:
            confidence = self._moved(case, confidence, channel, "soft", valid)
        moved = source.as_coverage() if valid is None else self._moved(case, valid, channel, "hard")
        return replace(label, source=source, validity=moved, confidence=confidence)

    def _moved(
        self, case: Case, source: Source, channel: str, part: Part = "image", validity: Source | None = None
    ) -> Source:
        """A source on the grid of `channel` moved to the target; itself where there is nothing to do."""
        if channel not in case.channels:
            raise DataError(
                f"a label is said to be drawn on '{channel}', which a case does not have",
                where={"case": case.id, "channels": ", ".join(case.channels)},
                remedy="correct `drawn_on`",
            )
        cache = str(self.cache) if self.cache is not None else ""
        image, reference = case.channels[channel], case.channels[self.reference]
        target, links = reference, []
        if self.template is not None:
            target = FileSource(str(self.template.image))
            links.append(Link(target, reference, self.template.registration, cache))
        if channel != self.reference:
            links.append(Link(reference, image, self.registration, cache))
        if not links:
            return source
        drawn_on = None if part == "image" else image
        return RegisteredSource(
            source, target, tuple(links), part, self.image_order, self.fill, drawn_on, validity
        )

    def _check_template(self, label_set: LabelSet) -> None:
        """Files exist, and the label map means what the data set's labels mean.

        Raises:
            DataError: a file is missing, or the label sets differ.
        """
        if self.template is None:
            return
        for path in (self.template.image, self.template.labels):
            if path is not None and not path.is_file():
                raise DataError("a file of the template is missing", where={"file": str(path)})
        if self.template.labels is None:
            return
        own = {s.name: s.value for s in label_set.structures}
        if self.template.structures != own:
            raise DataError(
                "the template is on another label set than the data set",
                where={
                    "template": _listed(self.template.structures),
                    "data set": _listed(own),
                    "file": str(self.template.labels),
                },
                remedy="map the template's values to the data set's in a new file, or leave `labels` out",
            )


def _joined(
    index: Iterable[Case], reference: str, drawn_on: Mapping[str, str], faults: dict[str, str]
) -> Sequence[Case]:
    """One case a person and session; channels are named by contrast. Faults are noted by case."""
    groups: dict[tuple[str, str], dict[str, Case]] = {}
    for case in index:
        name = case.contrast or next(iter(case.channels), "")
        group = groups.setdefault((case.person, case.session), {})
        if len(case.channels) != 1:
            faults[case.id] = f"{len(case.channels)} channels, where `join` expects one"
        elif name in group:
            faults[case.id] = f"a second {name} of {case.person}, {case.session or 'one session'}"
        else:
            group[name] = case
    cases = []
    for (person, session), group in groups.items():
        main = group.get(reference)
        if main is None:
            if group:
                faults[next(iter(group.values())).id] = f"no {reference}; it has {', '.join(group)}"
            continue
        channels = {name: next(iter(case.channels.values())) for name, case in group.items()}
        name = f"{person}_ses-{session}" if session else person
        labels, lost = _collected({n: c.labels for n, c in group.items()}, reference, drawn_on)
        annotations, more = _collected({n: c.annotations for n, c in group.items()}, reference, drawn_on)
        astray = [
            f"'{what}' lies on {', '.join(others)}, not on {drawn_on.get(what, reference)}"
            for what, others in (lost | more).items()
        ]
        if astray:
            faults[main.id] = f"{'; '.join(astray)}: say so in `drawn_on`"
        cases.append(
            replace(main, id=name, channels=channels, labels=labels, annotations=annotations, contrast="")
        )
    return cases


def _collected(
    by_contrast: Mapping[str, Mapping[str, _T]], reference: str, drawn_on: Mapping[str, str]
) -> tuple[dict[str, _T], dict[str, list[str]]]:
    """Labels or annotations of a joined case, each from the contrast that it is drawn on.

    And those that this contrast does not have, with the contrasts that do.
    """
    kept: dict[str, _T] = {}
    lost: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for found in by_contrast.values() for name in found):
        there = by_contrast.get(drawn_on.get(name, reference), {})
        if name in there:
            kept[name] = there[name]
        else:
            lost[name] = [contrast for contrast, found in by_contrast.items() if name in found]
    return kept, lost


def _fault(faults: dict[str, str], join: bool) -> DataError:
    shown: dict[str, object] = dict(list(faults.items())[:_SHOWN])
    if len(faults) > _SHOWN:
        shown["…"] = f"and {len(faults) - _SHOWN} more"
    remedy = "name contrasts that every case has, or leave these cases out"
    if not join:
        remedy += "; `join: true` makes one case of a person's scans of several contrasts"
    return DataError(f"{len(faults)} cases cannot be registered", where=shown, remedy=remedy)


def _listed(structures: dict[str, int]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in structures.items()) or "none"
