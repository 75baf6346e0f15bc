"""From an experiment to cases, task and streams: the first third of a run's data flow.

reader → cases → split by person → preprocessing → sampler → batch. Reads tables and headers, and hashes files (once,
see `mriad.filehash`) to find one scan under two names; voxels are read when a sample is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError, ExperimentError
from mriad.identity import fingerprint
from mriad.label_budget import is_partial, sparsely_labelled
from mriad.painted import channels_after, label_set_after
from mriad.same_person import renamed, unite_persons
from mriad.split_check import SIDES
from mriad.split_check import check_split as check_split
from mriad.split_check import check_voxels as check_voxels
from mriad.vocabulary import Case, CaseIndex, LabelSet, Sample, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mriad.experiment.model import Experiment, StreamSection
    from mriad.interfaces import Sampler
    from mriad.training.streams import Stream

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
    held_out: frozenset[str] = frozenset()
    """Contrasts or domains that nothing may learn from in this fold."""

    def side(self, name: str) -> list[Case]:
        """Cases of a side, in the order of the index."""
        wanted = set(self.split[name])
        if len(wanted) * 8 > len(self.index):
            return [case for case in self.index if case.id in wanted]
        return [self.index[i] for i, case in enumerate(self.index.column("id")) if case in wanted]

    def target_sources(self) -> list[Case]:
        """Cases that a stage may make targets from, such as soft labels averaged over contrasts.

        Of persons who train or validate, those on their side alone, so that the masks of a held-out contrast stay out
        of training targets; of all other persons every case, since nothing learns from what is made of them.
        """
        used = {*self.split["train"], *self.split["validation"]}
        person = dict(zip(self.index.column("id"), self.index.column("person"), strict=True))
        learns = {person[case] for case in used}
        return [case for case in self.index if case.id in used or case.person not in learns]

    @property
    def fingerprint(self) -> str:
        """Identity of the voxels that training and validation can see."""
        seen = {*self.split["train"], *self.split["validation"]}
        return self.index.select(lambda case: case.id in seen).fingerprint


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
    index = apply_domains(index, experiment.data.domains)
    _require_target(experiment, index, made_later)
    index, split, held_out = split_cases(experiment, index, fold, seed)
    return cases_of(experiment, index, split, held_out)


def split_cases(
    experiment: Experiment, index: CaseIndex, fold: int, seed: int
) -> tuple[CaseIndex, Mapping[str, tuple[str, ...]], frozenset[str]]:
    """Give each person one name, split, and check. Everything that splits does it here.

    Args:
        experiment: names the split and who is one person.
        index: with domains named (`apply_domains`), since splits deal persons by domain.
        fold: of the split.
        seed: the experiment's.

    Returns the index, case ids by side, and the contrasts or domains that nothing may learn from.

    Raises:
        SplitError: the split leaks a person, or leaves a side empty.
        DataError: a file cannot be read.
    """
    data = experiment.data
    index = unite_persons(index, data.same_person)
    split = data.split.build(index, fold, seed)
    check_split(index, split)
    if data.sparse is not None:
        name = data.labels.name or data.labels.kind
        index = sparsely_labelled(index, split["train"], name, data.sparse, seed)
    return index, split, data.split.held_out(index, fold)


def follow_persons(experiment: Experiment, derived: CaseIndex, own: Cases) -> Cases:
    """Cases that stages made, each on the side that its person has in the experiment's own split.

    They are never split anew, or a person who tests could train. Cases of a test person are on the test side and
    train nothing; those of a person whom the split leaves out are left out. Persons unknown to the experiment's data
    set come from elsewhere and train. Validation persons without a derived case validate on their own cases, so that
    the persons who validate are those of the split. Cases of a contrast or domain that the fold holds out stay out
    of training and validation.

    Args:
        experiment: names domains and target.
        derived: data sets of earlier stages.
        own: the experiment's data set in its fold, or in its member's part of it.

    Raises:
        SplitError: a derived case that would train or validate has the voxels of a test person, or none would train.
        DataError: no derived case has the target, a domain is empty, or label sets differ.
    """
    index = apply_domains(derived, experiment.data.domains)
    _require_target(experiment, index)
    index = renamed(index, own.index.aliases)
    known, made = set(own.index.persons), set(index.persons)
    side_of = {case.person: side for side in SIDES for case in own.side(side)}
    sides: dict[str, list[Case]] = {side: [] for side in SIDES}
    for case in index:
        side = side_of.get(case.person, "" if case.person in known else "train")
        held_out = side != "test" and not own.held_out.isdisjoint((case.contrast, case.domain))
        if side and not held_out:
            sides[side].append(case)
    validating = [case for case in own.side("validation") if case.person not in made]
    if validating:
        sides["validation"] += validating
        index = merge_indexes([index, CaseIndex(validating, own.index.label_set)])
    check_voxels({**sides, "test": [*sides["test"], *own.side("test")]})
    split = {side: tuple(case.id for case in cases) for side, cases in sides.items()}
    check_split(index, split)
    return cases_of(experiment, index, split, own.held_out)


def _require_target(experiment: Experiment, index: CaseIndex, made_later: bool = False) -> None:
    """Refuse an index without cases or, unless `made_later`, without the target."""
    data = experiment.data
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


def cases_of(
    experiment: Experiment, index: CaseIndex, split: Mapping[str, Sequence[str]], held_out: frozenset[str]
) -> Cases:
    """Split cases with the task of a network for them."""
    data = experiment.data
    domains = tuple(data.domains) or tuple(sorted(set(index.column("domain")) - {""}))
    slices: Slices = next((stream.slices for stream in experiment.streams.values() if stream.slices), "")
    stored = index.label_set
    wanted = label_set_after(experiment, stored)
    if wanted != stored and data.structures:
        raise ExperimentError(
            "data.structures does not go with an augmenter that changes what is segmented",
            where={"stored": ", ".join(stored.names), "segmented": ", ".join(wanted.names)},
            remedy="leave data.structures out and name the structures in the augmenter",
        )
    task = Task(
        channels=channels_after(experiment, tuple(data.channels) or _first_channels(index)),
        label_sets=label_sets_of(wanted, data.structures, domains),
        stored_label_set=stored if wanted != stored else None,
        link=experiment.predict.head.link,
        domains=domains,
        dimensions=2 if slices else 3,
        slices=slices,
    )
    label = data.labels.name or data.labels.kind
    return Cases(index, {side: tuple(split.get(side, ())) for side in SIDES}, task, label, held_out)


def _first_channels(index: CaseIndex) -> tuple[str, ...]:
    """Channels of the first case that has an image; label maps have none."""
    return next((tuple(case.channels) for case in index if case.channels), ())


def label_sets_of(
    whole: LabelSet, structures: Mapping[str, Sequence[str]], domains: Sequence[str]
) -> dict[str, LabelSet]:
    """`data.structures` as label sets by domain; the whole one for all where it is empty.

    Raises:
        ExperimentError: it names a domain that is not there, or not every domain; a structure is unknown.
    """
    if not structures:
        return {"": whole}
    missing, unknown = (
        [d for d in domains if d not in structures],
        [d for d in structures if d not in domains],
    )
    if missing or unknown:
        raise ExperimentError(
            "data.structures must name the structures of every domain",
            where={
                "domains": ", ".join(domains) or "none",
                **({"missing": ", ".join(missing)} if missing else {}),
                **({"unknown": ", ".join(unknown)} if unknown else {}),
            },
            remedy="data.domains names the domains; without it they are those of the data set",
        )
    try:
        return {domain: whole.only(structures[domain]) for domain in domains}
    except DataError as error:
        raise ExperimentError(
            f"data.structures: {error.what}", where=error.where, remedy="name structures of the data set"
        ) from error


def validating_on(values: Sequence[str], cases: Cases) -> Cases:
    """Cases of which only those of the given contrasts or domains validate; all where none is given.

    Raises:
        DataError: no validation case is of one of them.
    """
    if not values:
        return cases
    side = cases.side("validation")
    for value in values:
        if not any(value in (case.contrast, case.domain) for case in side):
            known = sorted({case.contrast for case in side} | {case.domain for case in side})
            raise DataError(
                f"no validation case has the contrast or domain '{value}' of data.validate_on",
                where={"values found": ", ".join(filter(None, known)) or "none"},
                remedy="name some of these, or leave data.validate_on out",
            )
    kept = tuple(case.id for case in side if not {case.contrast, case.domain}.isdisjoint(values))
    return replace(cases, split={**cases.split, "validation": kept})


def overfit(cases: Cases, count: int) -> Cases:
    """Train and validate on the same first `count` labelled training cases: does the set-up learn at all?"""
    labelled = [case.id for case in cases.side("train") if cases.label in case.labels]
    few = tuple((labelled or list(cases.split["train"]))[:count])
    return replace(cases, split={"train": few, "validation": few, "test": few})


def cases_of_stream(name: str, section: StreamSection, cases: Cases) -> list[str]:
    """Training cases that a stream draws from.

    A sparsely labelled case is labelled, and also belongs to the unlabelled pool. Without `labelled`, the names
    `labelled` and `unlabelled` say it; without `domain`, a stream that has a domain's name draws from it.
    """
    labelled = _labelled(name, section)
    domain = section.domain or (name if name in cases.task.domains else "")
    return [
        case.id
        for case in cases.side("train")
        if (labelled is None or (cases.label in case.labels) == labelled or _partly(case, cases, labelled))
        and (not domain or case.domain == domain)
        and (not section.contrasts or case.contrast in section.contrasts)
    ]


def _labelled(name: str, section: StreamSection) -> bool | None:
    if section.labelled is None and name in ("labelled", "unlabelled"):
        return name == "labelled"
    return section.labelled


def _partly(case: Case, cases: Cases, labelled: bool) -> bool:
    """Whether a labelled case is unlabelled data too: most of its slices may be."""
    return not labelled and is_partial(case.labels[cases.label])


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
        chosen = cases_of_stream(name, section, cases)
        labelled = _labelled(name, section)
        if labelled is not False:
            _require_one_label_set(name, chosen, cases)
        streams[name] = Stream(
            name=name,
            cases=tuple(chosen),
            groups=_groups(section.balance, chosen, cases),
            blind=labelled is False,
            load=load,
            batch=section.batch,
            seed=seed,
            patch=sampler.build(cases.task) if sampler else None,
            views={
                view: Chain.of(augmenters, cases.task, view, shared) for view, augmenters in views.items()
            },
        )
    return streams


def _groups(balance: str, chosen: Sequence[str], cases: Cases) -> dict[str, str]:
    if not balance:
        return {}
    wanted = set(chosen)
    return {case.id: getattr(case, balance) for case in cases.side("train") if case.id in wanted}


def _require_one_label_set(name: str, chosen: Sequence[str], cases: Cases) -> None:
    """Targets of a batch must mean one thing: index 1 is another structure in each label set."""
    wanted = set(chosen)
    sets = cases.task.label_sets
    found = {case.domain for case in cases.side("train") if case.id in wanted} if len(sets) > 1 else set()
    if len({sets[domain].names for domain in found}) > 1:
        raise ExperimentError(
            f"stream '{name}' mixes domains with different label sets",
            where={domain: ", ".join(sets[domain].names) for domain in sorted(found)},
            remedy=f"one stream a domain: streams: {{{', '.join(f'{d}: {{batch: 2}}' for d in sorted(found))}}}; or "
            "leave out data.structures",
        )


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
