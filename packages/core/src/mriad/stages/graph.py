"""From `stages:` to a static graph of nodes: expanded, resolved, checked, in order."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mriad.errors import ExperimentError
from mriad.experiment.stage_entry import sections_of
from mriad.identity import fingerprint
from mriad.interfaces import Stage
from mriad.stages.blocks import Definition, Faults, definitions
from mriad.stages.sections import names, overridden, references, section

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment
    from mriad.stages.artefact import ArtefactKind

EVALUATE = "core.evaluate"
_MEASURE = (EVALUATE, "core.evaluate_imported", "core.evaluate_label")
_SECTION_KINDS: Mapping[str, tuple[ArtefactKind, ...]] = {"data.labels.from": ("dataset",)}
SELECTORS = ("all", "labelled", "unlabelled")
"""Words that `cases` takes besides domains, contrasts and stages."""


@dataclass(frozen=True)
class Reference:
    """An edge: the field that names a stage, the name as written, and the node that it means."""

    field: str
    written: str
    node: str


@dataclass(frozen=True, eq=False)
class Node:
    """One stage of the graph, ready to be fingerprinted and run.

    experiment: with the stage's own overrides merged in. seed: for weights and draws; the experiment's,
    except that rounds and members by seed get seeds of their own. inner: see `StageContext`.
    """

    name: str
    stage: Stage
    experiment: Experiment
    kind: ArtefactKind
    references: tuple[Reference, ...]
    seed: int
    inner: tuple[int, int] | None
    path: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, str]:
        """Name as written → node."""
        return {r.written: r.node for r in self.references}


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes by name, each after all that it refers to."""

    nodes: Mapping[str, Node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __len__(self) -> int:
        return len(self.nodes)

    def upstream(self, name: str) -> set[str]:
        """Every node that `name` needs, directly or not."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for reference in self.nodes[todo.pop()].references:
                if reference.node not in found:
                    found.add(reference.node)
                    todo.append(reference.node)
        return found

    def describe(self, fingerprints: Mapping[str, str]) -> list[dict[str, Any]]:
        """Rows for `stages.json`: name, type, kind, fingerprint and inputs of each node, in order."""
        return [
            {
                "name": node.name,
                "type": node.stage.type_name(),
                "kind": node.kind,
                "fingerprint": fingerprints[node.name],
                "inputs": sorted({r.node for r in node.references}),
            }
            for node in self
        ]


def expand(experiment: Experiment) -> Graph:
    """Return the graph of an experiment's stages.

    No `stages:` means one stage `train` of type core.train. Where `evaluate.metrics` is not empty and no
    stage evaluates, a stage `evaluate` is appended, with the predictor that `predict.with` names, else the
    last one.

    A reference means the newest stage of that name before it, so in round 2 `teacher` is round 1's; only
    where there is none before does it mean the first one after it.

    Raises:
        ExperimentError: unknown or malformed stages, references to what is not there or of the wrong kind, or
            a cycle; all faults in one message, each with its place in the YAML.
    """
    faults = Faults()
    found = definitions(experiment.stages or {"train": {"type": "core.train"}}, faults)
    builder = _Builder(experiment, found, faults)
    nodes = builder.build()
    order = _ordered(nodes, faults) if not faults else []
    if faults:
        raise ExperimentError(
            f"the stages of experiment '{experiment.name}' are not valid",
            where=dict(faults),
            remedy="correct the fields named above; `mriad config show` prints where each value came from",
        )
    return Graph({name: nodes[name] for name in order})


class _Builder:
    """Turns definitions into nodes; the position of a definition decides what its references mean."""

    def __init__(self, experiment: Experiment, found: list[Definition], faults: Faults) -> None:
        self.experiment = experiment
        self.found = found
        self.faults = faults
        self.nodes: dict[str, Node] = {}
        self.blocks = {
            name for name, raw in experiment.stages.items() if isinstance(raw, Mapping) and "repeat" in raw
        }

    def build(self) -> dict[str, Node]:
        parsed = [self._parse(definition) for definition in self.found]
        evaluate = self._evaluate(parsed)
        if evaluate is not None:
            self.found = [*self.found, evaluate]
            parsed.append(self._parse(evaluate))
        for position, done in enumerate(parsed):
            if done is not None:
                self._add(position, *done)
        if not self.faults:
            self._check_kinds()
        return self.nodes

    def _parse(self, definition: Definition) -> tuple[Stage, Experiment] | None:
        """Look the type up, validate the stage and the experiment with its overrides."""
        try:
            stage = Stage.resolve(dict(definition.raw))
        except PydanticCustomError as error:
            self.faults.add((*definition.path, "type"), error.message())
            return None
        except ValidationError as error:
            self._note(error, definition.path)
            return None
        try:
            return stage, overridden(self.experiment, sections_of(type(stage), definition.raw))
        except ValidationError as error:
            self._note(error, definition.path)
            return None

    def _note(self, error: ValidationError, path: tuple[str, ...]) -> None:
        for fault in error.errors():
            place = (*path, *(str(part) for part in fault["loc"]))
            self.faults.add(place, fault["msg"].removeprefix("Value error, "))

    def _evaluate(self, parsed: Sequence[tuple[Stage, Experiment] | None]) -> Definition | None:
        """The implicit last stage, where metrics are asked for."""
        measured = (d for d in self.found if d.raw.get("type") in _MEASURE)
        tested = any(d.raw.get("cases", "test") != "train" for d in measured)
        if not self.experiment.evaluate.metrics or tested:
            return None
        if any(d.short == "evaluate" for d in self.found):
            self.faults.add(("stages", "evaluate"), f"the name is kept for the stage of type {EVALUATE}")
            return None
        wanted = self.experiment.predict.with_ or next(
            (
                definition.name
                for definition, done in zip(reversed(self.found), reversed(parsed), strict=True)
                if done is not None and done[0].result(done[1]) == "predictor"
            ),
            "",
        )
        if not wanted:
            self.faults.add(("evaluate", "metrics"), "no stage makes a predictor that could be measured")
            return None
        # Its place is `predict`, so that a fault in its reference is shown at `predict.with`.
        return Definition("evaluate", "evaluate", {"type": EVALUATE, "with": wanted}, ("predict",))

    def _add(self, position: int, stage: Stage, experiment: Experiment) -> None:
        definition = self.found[position]
        edges: list[Reference] = []
        for place, field, written in self._written(definition, stage, experiment):
            target = self._target(written, position)
            if target is not None:
                edges.append(Reference(field, written, target))
            elif field == "cases" and self._selects(written, experiment):
                continue
            else:
                self.faults.add(place, self._unknown(written, field, definition, experiment))
        self.nodes[definition.name] = Node(
            name=definition.name,
            stage=stage,
            experiment=experiment,
            kind=stage.result(experiment),
            references=tuple(edges),
            seed=self._seed(definition),
            inner=definition.inner,
            path=definition.path,
        )

    def _written(
        self, definition: Definition, stage: Stage, experiment: Experiment
    ) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """Every (place, field, name) that the stage refers to, in its own fields and in its sections."""
        fields = type(stage).model_fields
        for name in type(stage).references:
            if name not in fields:
                continue
            key = fields[name].alias or name
            for written in names(getattr(stage, name)):
                if written and not (name == "from_" and self._is_start(written)):
                    yield (*definition.path, key), name, written
        for path in stage.sections():
            try:
                value = section(experiment, path)
            except AttributeError:
                self.faults.add(definition.path, f"{stage.type_name()} reads a section '{path}' that is none")
                continue
            for place, written in references(value):
                if written in (definition.name, definition.short) and not definition.rounds:
                    continue  # a section may name what this very stage makes: a generator its priors
                yield (*path.split("."), *place), ".".join((*path.split("."), *place)), written
        labels = experiment.data.labels.from_
        reads = bool({"data", "data.labels"} & set(stage.sections()))
        if labels and reads and not self._leads_to(definition.name, labels):
            yield ("data", "labels", "from"), "data.labels.from", labels

    def _is_start(self, written: str) -> bool:
        """Whether `from` names no stage: random weights, or a model by its place or by the name of its import."""
        if written == "scratch" or "/" in written:
            return True
        if any(written in (d.name, d.short) for d in self.found):
            return False
        from mriad.model_file import imported_model

        return Path(written).is_file() or imported_model(written) is not None

    def _leads_to(self, name: str, written: str) -> bool:
        """Whether the stage `written` is `name` or needs it: what makes the labels does not read them."""
        position = {d.name: i for i, d in enumerate(self.found)}
        if written in (name, self.found[position[name]].short):
            return True
        target = self._target(written, position[name])
        seen: set[str] = set()
        todo = [target]
        while todo:
            current = todo.pop()
            if current == name:
                return True
            if current is None or current in seen:
                continue
            seen.add(current)
            raw = self.found[position[current]].raw
            for field in ("after", "with", "data", "from", "cases", "of"):
                todo += [self._target(n, position[current]) for n in names(raw.get(field))]
        return False

    def _target(self, written: str, position: int) -> str | None:
        """The newest stage of that name before `position`, else the first after it."""
        fitting = [d for d in self.found if written in (d.name, d.short)]
        before = [d for d in self.found[:position] if d in fitting]
        own = self.found[position].short
        # A stage that names itself asks for an older one, never for its own next round.
        after = [d for d in self.found[position + 1 :] if d in fitting and d.short != own]
        return before[-1].name if before else after[0].name if after else None

    def _selects(self, written: str, experiment: Experiment) -> bool:
        """Whether `cases` names cases of the data set; without `data.domains` anything may be one."""
        return not experiment.data.domains or written in {
            *experiment.data.domains,
            *experiment.data.domains.values(),
            *SELECTORS,
        }

    def _unknown(self, written: str, field: str, definition: Definition, experiment: Experiment) -> str:
        if written in (definition.name, definition.short):
            return f"there is no stage '{written}' before this one"
        if written in self.blocks:
            return f"'{written}' is a block; name one of the stages in it"
        known = [name for d in self.found for name in (d.name, d.short)]
        what = "stage"
        if field == "cases":
            known += [*experiment.data.domains, *SELECTORS]
            what = "stage or domain"
        close = difflib.get_close_matches(written, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(dict.fromkeys(known))}"
        return f"no {what} named '{written}'; {hint}"

    def _seed(self, definition: Definition) -> int:
        seed = self.experiment.seed
        if not definition.rounds and definition.member_seed is None:
            return seed
        # Rounds would otherwise repeat each other's draws, and members by seed ignore the experiment's.
        return int(fingerprint([seed, list(definition.rounds), definition.member_seed])[:8], 16)

    def _check_kinds(self) -> None:
        for node in self.nodes.values():
            for reference in node.references:
                inside = "." in reference.field  # in a section, not a field of the stage
                accepted = _SECTION_KINDS.get(reference.field) if inside else None
                accepted = accepted or type(node.stage).accepts.get(reference.field)
                kind = self.nodes[reference.node].kind
                if accepted is None or kind in accepted:
                    continue
                alias = None if inside else type(node.stage).model_fields[reference.field].alias
                place = (reference.field,) if inside else (*node.path, alias or reference.field)
                fitting = dict.fromkeys(n.name for n in self.nodes.values() if n.kind in accepted)
                hint = f"; stages that do: {', '.join(fitting)}" if fitting else ""
                self.faults.add(
                    place,
                    f"'{reference.written}' makes a {kind}, where a {' or '.join(accepted)} is meant{hint}",
                )


def _ordered(nodes: Mapping[str, Node], faults: Faults) -> list[str]:
    """Names in the order of the YAML, except that nothing comes before what it needs."""
    order: list[str] = []
    while len(order) < len(nodes):
        left = (n for n in nodes.values() if n.name not in order)
        chosen = next((n for n in left if all(r.node in order for r in n.references)), None)
        if chosen is None:
            cycle = _cycle(nodes, set(order))
            faults.add(nodes[cycle[0]].path, f"stages need each other: {' → '.join([*cycle, cycle[0]])}")
            return []
        order.append(chosen.name)
    return order


def _cycle(nodes: Mapping[str, Node], done: set[str]) -> list[str]:
    """One cycle among the nodes that are not done, each followed by one that it needs."""
    trail = [next(name for name in nodes if name not in done)]
    while True:
        following = next(r.node for r in nodes[trail[-1]].references if r.node not in done)
        if following in trail:
            return trail[trail.index(following) :]
        trail.append(following)
