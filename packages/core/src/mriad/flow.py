"""From an experiment to cases, task and streams: the first third of a run's data flow.

reader → cases → split by person → preprocessing → sampler → batch. Reads tables and headers, and hashes files (once,
see `mriad.filehash`) to find one scan under two names; voxels are read when a sample is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError, ExperimentError, SplitError
from mriad.identity import fingerprint
from mriad.vocabulary import Case, CaseIndex, Sample, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mriad.experiment.model import Experiment, StreamSection
    from mriad.interfaces import Sampler
    from mriad.training.streams import Stream

SIDES = ("train", "validation", "test")
Slices = Literal["", "axial", "coronal", "sagittal"]


@dataclass(frozen=True)
class Cases:
    """The cases of an experiment in one fold, with what a network is built for."""

    index: CaseIndex
    split: Mapping[str, tuple[str, ...]]
    """Case ids under "train", "validation" and "test"."""
    task: Task
    label: str
    """Name of the target among a case's labels."""

    def side(self, name: str) -> list[Case]:
        """Cases of a side, in the order of the index."""
        wanted = set(self.split[name])
        return [case for case in self.index if case.id in wanted]

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels that training and validation can see."""
        seen = {*self.split["train"], *self.split["validation"]}
        return self.index.select(lambda case: case.id in seen).fingerprint


def check_split(index: CaseIndex, split: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split that leaks.

    Raises:
        SplitError: a person is on two sides, or the same voxels are under two persons' names; a case is unknown, or
            training has none.
    """
    person = {case.id: case.person for case in index}
    unknown = [c for side in SIDES for c in split.get(side, ()) if c not in person]
    if unknown:
        raise SplitError(
            "the split names cases that the data set lacks", where={"cases": ", ".join(unknown[:8])}
        )
    sides: dict[str, dict[str, str]] = {}
    for side in SIDES:
        for case in split.get(side, ()):
            sides.setdefault(person[case], {}).setdefault(side, case)
    for who, found in sides.items():
        if len(found) > 1:
            raise SplitError(
                f"person '{who}' is in two splits",
                where={side: f"case {case}" for side, case in found.items()},
                remedy="split by person: data.split {type: data.k_fold} does, or correct the split file",
            )
    if not split.get("train"):
        raise SplitError("no case is left for training", where={s: len(split.get(s, ())) for s in SIDES})
    of_id = {case.id: case for case in index}
    check_voxels({side: [of_id[c] for c in split.get(side, ())] for side in SIDES})


def check_voxels(sides: Mapping[str, Iterable[Case]]) -> None:
    """Refuse one scan on two sides, whatever the persons are called: two names of one scan are one person.

    Raises:
        SplitError: a channel of a case has the fingerprint of a channel on another side.
    """
    seen: dict[str, tuple[str, Case]] = {}
    for side, cases in sides.items():
        for case in cases:
            for source in case.channels.values():
                where, other = seen.setdefault(source.fingerprint, (side, case))
                if where != side:
                    raise SplitError(
                        "the same voxels under two names are in two splits",
                        where={
                            where: f"case {other.id} of person '{other.person}'",
                            side: f"case {case.id} of person '{case.person}'",
                            "file": source.location,
                        },
                        remedy="give both cases one person in the data set, or remove one of them",
                    )


def apply_domains(index: CaseIndex, domains: Mapping[str, str]) -> CaseIndex:
    """Name the domains of cases by contrast or domain value; cases of no named domain are left out.

    Raises:
        DataError: a named domain has no case.
    """
    if not domains:
        return index
    cases = []
    for case in index:
        name = next((d for d, value in domains.items() if value in (case.domain, case.contrast)), None)
        if name is not None:
            cases.append(replace(case, domain=name))
    for name, value in domains.items():
        if not any(case.domain == name for case in cases):
            known = sorted({c.contrast for c in index} | {c.domain for c in index})
            raise DataError(
                f"no case has the contrast or domain '{value}' of data.domains.{name}",
                where={"values found": ", ".join(filter(None, known))},
            )
    return CaseIndex(cases, index.label_set)


def merge_indexes(indexes: Sequence[CaseIndex]) -> CaseIndex:
    """One index over several; their label sets must be equal.

    Raises:
        DataError: label sets differ, or a case is in two.
    """
    first = indexes[0]
    for other in indexes[1:]:
        if other.label_set != first.label_set:
            raise DataError(
                "data sets with different label sets cannot be trained together",
                where={"first": first.label_set.names, "other": other.label_set.names},
            )
    return CaseIndex([case for index in indexes for case in index], first.label_set)


def gather_cases(
    experiment: Experiment, index: CaseIndex, fold: int, seed: int, made_later: bool = False
) -> Cases:
    """Split an index and say what a network for it looks like.

    `made_later`: the target may be missing still, because a stage makes it.

    Raises:
        SplitError: the split leaks a person or leaves training empty.
        DataError: no case has the label that is the target, or a domain is empty.
    """
    index = _usable(experiment, index, made_later)
    split = experiment.data.split.build(index, fold, seed)
    check_split(index, split)
    return _cases(experiment, index, split)


def follow_persons(experiment: Experiment, derived: CaseIndex, own: Cases) -> Cases:
    """Cases that stages made, each on the side that its person has in the experiment's own split.

    They are never split anew, or a person who tests could train. Cases of a test person are on the test side and
    train nothing; those of a person whom the split leaves out are left out. Persons unknown to the experiment's data
    set come from elsewhere and train. Validation persons without a derived case validate on their own cases, so that
    the persons who validate are those of the split.

    Args:
        experiment: names domains and target.
        derived: data sets of earlier stages.
        own: the experiment's data set in its fold, or in its member's part of it.

    Raises:
        SplitError: a derived case that would train or validate has the voxels of a test person, or none would train.
        DataError: no derived case has the target, a domain is empty, or label sets differ.
    """
    index = _usable(experiment, derived)
    known, made = set(own.index.persons), set(index.persons)
    side_of = {case.person: side for side in SIDES for case in own.side(side)}
    sides: dict[str, list[Case]] = {side: [] for side in SIDES}
    for case in index:
        side = side_of.get(case.person, "" if case.person in known else "train")
        if side:
            sides[side].append(case)
    validating = [case for case in own.side("validation") if case.person not in made]
    if validating:
        sides["validation"] += validating
        index = merge_indexes([index, CaseIndex(validating, own.index.label_set)])
    check_voxels({**sides, "test": [*sides["test"], *own.side("test")]})
    split = {side: tuple(case.id for case in cases) for side, cases in sides.items()}
    check_split(index, split)
    return _cases(experiment, index, split)


def _usable(experiment: Experiment, index: CaseIndex, made_later: bool = False) -> CaseIndex:
    """The index with domains named; it has cases and, unless `made_later`, the target."""
    data = experiment.data
    index = apply_domains(index, data.domains)
    if not len(index):
        raise DataError("the data set has no case", where={"dataset": data.dataset.type_name()})
    label = data.labels.name or data.labels.kind
    if not made_later and data.labels.kind != "none" and not any(label in case.labels for case in index):
        known = sorted({name for case in index for name in case.labels})
        raise DataError(
            f"no case has a label '{label}'",
            where={"labels found": ", ".join(known) or "none"},
            remedy="set data.labels to one of them: {kind: hard, name: NAME}",
        )
    return index


def _cases(experiment: Experiment, index: CaseIndex, split: Mapping[str, Sequence[str]]) -> Cases:
    """Split cases with the task of a network for them."""
    data = experiment.data
    domains = tuple(data.domains) or tuple(sorted({case.domain for case in index if case.domain}))
    slices: Slices = next((stream.slices for stream in experiment.streams.values() if stream.slices), "")
    task = Task(
        channels=tuple(data.channels) or tuple(index[0].channels),
        label_sets={"": index.label_set},
        link=experiment.predict.head.link,
        domains=domains,
        dimensions=2 if slices else 3,
        slices=slices,
    )
    label = data.labels.name or data.labels.kind
    return Cases(index, {side: tuple(split.get(side, ())) for side in SIDES}, task, label)


def overfit(cases: Cases, count: int) -> Cases:
    """Train and validate on the same first `count` labelled training cases: does the set-up learn at all?"""
    labelled = [case.id for case in cases.side("train") if cases.label in case.labels]
    few = tuple((labelled or list(cases.split["train"]))[:count])
    return replace(cases, split={"train": few, "validation": few, "test": few})


def cases_of_stream(name: str, section: StreamSection, cases: Cases) -> list[str]:
    """Training cases that a stream draws from.

    Without `labelled`, the names `labelled` and `unlabelled` say it; without `domain`, a stream that has a domain's
    name draws from it.
    """
    labelled = section.labelled
    if labelled is None and name in ("labelled", "unlabelled"):
        labelled = name == "labelled"
    domain = section.domain or (name if name in cases.task.domains else "")
    return [
        case.id
        for case in cases.side("train")
        if (labelled is None or (cases.label in case.labels) == labelled)
        and (not domain or case.domain == domain)
        and (not section.contrasts or case.contrast in section.contrasts)
    ]


def make_streams(
    experiment: Experiment, cases: Cases, load: Callable[[str], Sample], seed: int
) -> dict[str, Stream]:
    """Build every stream of an experiment.

    Args:
        experiment: the streams, samplers and augmenters.
        cases: of this fold.
        load: case id → prepared sample.
        seed: of the run.

    Raises:
        ExperimentError: a stream has no case, or the learner reads one that is not declared.
    """
    from mriad.training.streams import Chain, Stream

    missing = [name for name in experiment.learner.streams() if name not in experiment.streams]
    if missing:
        raise ExperimentError(
            f"learner '{experiment.learner.type_name()}' reads streams that are not declared",
            where={"missing": ", ".join(missing), "declared": ", ".join(experiment.streams)},
            remedy=f"streams: {{{missing[0]}: {{batch: 2}}}}",
        )
    streams = {}
    for name in experiment.learner.streams():
        section = experiment.streams[name]
        shared = section.augment or [] if section.views else []
        views = section.views or {"": experiment.augment if section.augment is None else section.augment}
        sampler = section.sampler or _slice_sampler(section)
        streams[name] = Stream(
            name=name,
            cases=tuple(cases_of_stream(name, section, cases)),
            load=load,
            batch=section.batch,
            seed=seed,
            patch=sampler.build(cases.task) if sampler else None,
            views={
                view: Chain.of(augmenters, cases.task, view, shared) for view, augmenters in views.items()
            },
        )
    return streams


def _slice_sampler(section: StreamSection) -> Sampler | None:
    """The sampler that `slices: axial` stands for."""
    if not section.slices:
        return None
    from mriad.registry import registry

    sampler = registry().get("sampler", "data.slice")
    return sampler.model_validate({"type": "data.slice", "axis": section.slices})  # type: ignore[return-value]


def split_fingerprint(cases: Cases, sides: Iterable[str] = SIDES) -> str:
    """Identity of who is where."""
    return fingerprint({side: sorted(cases.split[side]) for side in sides})
