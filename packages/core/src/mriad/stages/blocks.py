"""The syntax of `stages:`: blocks with `repeat`, stages with `members`, unrolled into single definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mriad.interfaces import Members

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")
_REPEAT = re.compile(r"^\s*(\d+)(?:\s+as\s+([A-Za-z_]\w*))?\s*$")


class Faults(dict[str, str]):
    """What is wrong, by the place in the YAML ("stages.rounds.teacher.with")."""

    def add(self, path: tuple[str, ...], message: str) -> None:
        """Note a fault; a block's rounds share one place, so the first message stays."""
        self.setdefault(".".join(path), message)


@dataclass(frozen=True)
class Definition:
    """One stage before its type is looked up.

    name: full and unique ("rounds.1.teacher.fold2"). short: what others may call it ("teacher.fold2").
    rounds: the number of each enclosing round, outermost first.
    """

    name: str
    short: str
    raw: Mapping[str, Any]
    path: tuple[str, ...]
    rounds: tuple[int, ...] = ()
    inner: tuple[int, int] | None = None
    """(k, n): validates on part k (from 0) of n of the training persons."""
    member_seed: int | None = None


def definitions(stages: Mapping[str, Any], faults: Faults) -> list[Definition]:
    """Unroll blocks and members in the order of the YAML; what cannot be read goes to `faults`.

    `rounds: {repeat: 3 as k, teacher: …}` gives rounds.1.teacher … rounds.3.teacher; in texts inside the
    block `{k}` is the number of the round. `members: {folds: 5}` or `{seeds: [1, 2]}` gives NAME.fold1 … (or
    NAME.seed1 …) and the ensemble NAME. `repeat: 0` gives nothing: what follows then finds older definitions.
    """
    return list(_flatten(stages, faults, ("stages",), "", (), {}))


def _flatten(
    stages: Mapping[str, Any],
    faults: Faults,
    path: tuple[str, ...],
    prefix: str,
    rounds: tuple[int, ...],
    variables: Mapping[str, int],
) -> Iterator[Definition]:
    for name, given in stages.items():
        here = (*path, str(name))
        if not isinstance(name, str) or not _NAME.match(name):
            faults.add(here, "a stage's name is a letter followed by letters, digits, _ and -")
            continue
        raw = {"type": given} if isinstance(given, str) else given
        if not isinstance(raw, Mapping):
            faults.add(here, "a stage is a mapping with `type`, a block one with `repeat`")
        elif "repeat" in raw:
            yield from _repeat(raw, faults, here, f"{prefix}{name}", rounds, variables)
        else:
            yield from _members(name, _substitute(raw, variables), faults, here, prefix, rounds)


def _repeat(
    raw: Mapping[str, Any],
    faults: Faults,
    path: tuple[str, ...],
    full: str,
    rounds: tuple[int, ...],
    variables: Mapping[str, int],
) -> Iterator[Definition]:
    match = _REPEAT.match(str(raw["repeat"]))
    if match is None or isinstance(raw["repeat"], bool):
        faults.add((*path, "repeat"), f"expected a number, or `3 as k`, not {raw['repeat']!r}")
        return
    if "type" in raw:
        faults.add(path, "a block with `repeat` holds stages and has no `type` of its own")
        return
    nested = {name: value for name, value in raw.items() if name != "repeat"}
    for k in range(1, int(match.group(1)) + 1):
        known = {**variables, match.group(2): k} if match.group(2) else variables
        yield from _flatten(nested, faults, path, f"{full}.{k}.", (*rounds, k), known)


def _members(
    name: str,
    raw: Mapping[str, Any],
    faults: Faults,
    path: tuple[str, ...],
    prefix: str,
    rounds: tuple[int, ...],
) -> Iterator[Definition]:
    raw = dict(raw)
    members = raw.pop("members", None)
    if members is None:
        yield Definition(prefix + name, name, raw, path, rounds)
        return
    try:
        chosen = Members.model_validate(members)
    except ValidationError as error:
        for fault in error.errors():
            loc = (str(part) for part in fault["loc"])
            faults.add((*path, "members", *loc), fault["msg"].removeprefix("Value error, "))
        return
    variants: list[tuple[str, dict[str, Any]]]
    if chosen.folds is not None:
        variants = [(f"fold{k + 1}", {"inner": (k, chosen.folds)}) for k in range(chosen.folds)]
    else:
        variants = [(f"seed{seed}", {"member_seed": seed}) for seed in chosen.seeds or ()]
    made = [
        Definition(f"{prefix}{name}.{label}", f"{name}.{label}", raw, path, rounds, **which)
        for label, which in variants
    ]
    yield from made
    ensemble = {"type": "core.ensemble", "of": [d.name for d in made]}
    yield Definition(prefix + name, name, ensemble, path, rounds)


def _substitute(value: Any, variables: Mapping[str, int]) -> Any:
    """Put the numbers of the enclosing rounds in place of `{k}` in texts."""
    if isinstance(value, Mapping):
        return {key: _substitute(v, variables) for key, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, variables) for v in value]
    if isinstance(value, str):
        for name, number in variables.items():
            value = value.replace(f"{{{name}}}", str(number))
    return value
