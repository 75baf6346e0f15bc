"""The identity of what a stage makes: everything that it depends on, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.errors import CheckpointError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.stages.leaks import Seen, check_stages
from mriad.stages.sections import COVERED, LATER, canonical, names, section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mriad.experiment.model import Experiment
    from mriad.stages.graph import Graph, Node

FORMAT = 1


@dataclass(frozen=True)
class DataIdentity:
    """What an experiment's `data` section leads to.

    data: fingerprint of the voxels that training and validation may see. training, validation: case ids of
    the fold. test: fingerprint of the test cases; only stages that make a table (they measure) depend on it.
    unlearned: of all cases that neither train nor validate; for stages that say `reads_unlearned`.
    cases: persons and voxels under "training", "validation" and "test", to find leaks between stages.
    held_out: contrasts and domains that nothing may learn from. aliases: other names of persons.
    """

    data: str
    training: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: str = ""
    cases: Mapping[str, tuple[Seen, ...]] = dataclasses.field(default_factory=dict)
    held_out: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unlearned: str = ""


def identify(experiment: Experiment) -> DataIdentity:
    """Read the experiment's index, make the split of its fold, and hash what lies on each side.

    Raises:
        DataError: the data set cannot be read.
        SplitError: the split leaks a person.
    """
    from mriad.flow import apply_domains, split_cases

    index = apply_domains(experiment.data.dataset.build(), experiment.data.domains)
    index, split, held_out = split_cases(experiment, index, experiment.fold, experiment.seed)
    _say_who_is_one(experiment, index.aliases)
    training, validation, test = (tuple(split.get(s, ())) for s in ("train", "validation", "test"))
    seen, unseen = {*training, *validation}, set(test)
    of_id = {case.id: case for case in index}
    tested = index.select(lambda case: case.id in unseen).fingerprint
    rest = len(of_id) > len(seen) + len(unseen)
    sides = {"training": training, "validation": validation, "test": test}
    return DataIdentity(
        data=index.select(lambda case: case.id in seen).fingerprint,
        training=training,
        validation=validation,
        test=tested,
        unlearned=index.select(lambda case: case.id not in seen).fingerprint if rest else tested,
        cases={side: Seen.of(of_id[c] for c in ids) for side, ids in sides.items()},
        held_out=held_out,
        aliases=index.aliases,
    )


def _say_who_is_one(experiment: Experiment, aliases: Mapping[str, str]) -> None:
    """Warn of persons whom nobody said to be one, but who have the same voxels."""
    told = [set(group) for group in experiment.data.same_person]
    found = [f"{old} = {new}" for old, new in aliases.items() if not any({old, new} <= g for g in told)]
    if found:
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        warnings.warn(
            f"names with the same voxels count as one person: {', '.join(found[:6])}{more}; "
            "data.same_person says so without this warning",
            RuntimeWarning,
            stacklevel=3,
        )


def fingerprints(graph: Graph, identify: Callable[[Experiment], DataIdentity] = identify) -> dict[str, str]:
    """Return the SHA-256 of each node, by name.

    It covers the stage's type, version and fields, the sections of the experiment that it declares (its
    own overrides merged in), the fingerprints of all that it refers to, data, split, seed (unless the
    stage says that it uses none) and fold. Names of stages are no part of it, so that a stage that two
    experiments share has one fingerprint in both.

    Args:
        graph: of one experiment, fold and seed.
        identify: reads the index and makes the split of an experiment; called once for each different
            `data` section (a stage may override it).

    Raises:
        SplitError: a stage before a table learns from a person or scan that the table tests.
    """
    known: dict[str, DataIdentity] = {}
    data: dict[str, DataIdentity] = {}
    made: dict[str, str] = {}
    for node in graph:
        key = fingerprint([node.experiment.data, node.experiment.seed, node.experiment.fold])
        if key not in known:
            known[key] = identify(node.experiment)
        data[node.name] = known[key]
        made[node.name] = node_fingerprint(node, known[key], made)
    check_stages(graph, data)
    return made


def node_fingerprint(node: Node, identity: DataIdentity, upstream: Mapping[str, str]) -> str:
    """Return the fingerprint of one node, given those of the nodes that it refers to."""
    experiment = node.experiment
    contents = dict(node.stage.contents())
    return fingerprint(
        {
            **({"contents": contents} if contents else {}),
            "format": FORMAT,
            "stage": _own_fields(node),
            "sections": _sections(node),
            "upstream": _upstream(node, upstream),
            "data": identity.data,
            "training": list(identity.training),
            "validation": list(identity.validation),
            "test": identity.test if node.kind == "table" else "",
            **({"unlearned": identity.unlearned} if node.stage.reads_unlearned else {}),
            "split_seed": experiment.seed if node.stage.seeded else 0,
            "seed": node.seed if node.stage.seeded else 0,
            "fold": experiment.fold,
            "inner": list(node.inner or ()),
        }
    )


def _upstream(node: Node, fingerprints: Mapping[str, str]) -> dict[str, list[str]]:
    """Fingerprints by field, in the order of the field, which matters (except for `after`)."""
    found: dict[str, list[str]] = {}
    for reference in node.references:
        found.setdefault(reference.field, []).append(fingerprints[reference.node])
    if "after" in found:
        found["after"].sort()
    return found


def _own_fields(node: Node) -> Any:
    """The stage without overrides (they are in the sections), and without names of stages."""
    stage = node.stage
    value = canonical(stage)
    resolved = {(r.field, r.written) for r in node.references}
    for field in type(stage).references:
        info = type(stage).model_fields.get(field)
        if info is not None:
            # Words that are no stages stay: `cases: target`, `from: scratch`.
            words = [w for w in names(getattr(stage, field)) if (field, w) not in resolved]
            value[info.alias or field] = [_content(word, field) for word in words]
    for field in type(stage).overrides:
        if field not in type(stage).references:
            value.pop(field, None)
    return value


def _content(word: str, field: str) -> str:
    """A file stands for what is in it, and so does a model that `from` names; any other word for itself."""
    if field == "from_" and word not in ("", "scratch"):
        from mriad.stages.starting import start_identity

        # What cannot be read is an error of the stage that reads it.
        with contextlib.suppress(CheckpointError):
            return start_identity(word)
    return file_sha256(word) if Path(word).is_file() else word


def _covered(path: str) -> bool:
    above, _, last = path.rpartition(".")
    return last in COVERED.get(above, ())


def _sections(node: Node) -> dict[str, Any]:
    found = {path: _section(node, path) for path in node.stage.sections() if not _covered(path)}
    return {path: value for path, value in found.items() if value or path not in LATER}


def _section(node: Node, path: str) -> Any:
    value = canonical(section(node.experiment, path), path)
    if path == "streams" and "learner" in node.stage.sections():
        # A learner draws only from the streams that it names.
        return {name: value[name] for name in node.experiment.learner.streams() if name in value}
    return value
