"""What a tracking store may know about persons: public names in place of true ones.

A tracking store is often read by more people than the images are. With `privacy: pseudonymise`, the default,
persons and cases leave the local record only under public names, keyed hashes (HMAC-SHA256) whose key and list
of true names stay in the runs folder, under `private/`, readable by its owner alone. Data sets that generate
their persons have none to protect and keep their names, as does everything with `privacy: plain`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.atomic import storing
from mriad.identity import fingerprint, short
from mriad.launch.files import atomic_write_bytes, atomic_write_json, make_folder, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.launch.files import RunsRoot
    from mriad.vocabulary import Case

NAMES = "private.json"
"""True → public names of a run's cases and persons, in its folder; never sent."""
PRIVATE = "private"
"""Folder below the runs root with the key and the lists of true names."""
_MODE = 0o600
_DIGITS = 10
_SHORTEST = 3


@dataclass(frozen=True)
class PublicNames:
    """True → public names; empty: names are given as they are."""

    names: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names)

    def of(self, name: str) -> str:
        """The public name of a case or person; other text as it is."""
        return self.names.get(name, name)

    def text(self, text: str, short: bool = False) -> str:
        """Text with every true name in it replaced where it stands between separators.

        A name of less than 3 characters, such as person "1" or "T", would take other words with it: it is replaced
        only where it is the whole text, and only where `short` says that such a text may be a name.
        """
        if text in self.names and (short or len(text) >= _SHORTEST):
            return self.names[text]
        return self._pattern.sub(lambda found: self.names[found.group()], text) if self._long else text

    def value(self, value: Any, short: bool = False) -> Any:
        """JSON values with `text` applied to every text in them; keys of mappings too."""
        if isinstance(value, str):
            return self.text(value, short)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item, short) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item, short) for item in value]
        return value

    def table(self, text: str) -> str:
        """A CSV table of cases: the columns `case` and `person` whole, long names in every other cell."""
        rows = list(csv.reader(io.StringIO(text)))
        whole = {i for i, name in enumerate(rows[0]) if name in ("case", "person")} if rows else set()
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(
            [self.text(cell, short=i in whole) for i, cell in enumerate(row)] for row in rows
        )
        return out.getvalue()

    @property
    def _long(self) -> list[str]:
        return sorted((name for name in self.names if len(name) >= _SHORTEST), key=len, reverse=True)

    @property
    def _pattern(self) -> re.Pattern[str]:
        either = "|".join(re.escape(name) for name in self._long)
        return re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])")


def public_names(root: RunsRoot, cases: Iterable[Case], persons: Iterable[str] = ()) -> PublicNames:
    """Public names of cases and their persons; the same person has the same one in every run below this root.

    Args:
        root: holds the key.
        cases: as their data set names them.
        persons: further names of persons. `01` for a person `sub-01` needs no mention: it has the same public name.

    Raises:
        StorageError: the key or the list of names cannot be written.
    """
    folder = root.path / PRIVATE
    key = _key(folder / "key")
    names: dict[str, str] = {}
    given = list(cases)
    for person in dict.fromkeys([*(case.person for case in given), *persons]):
        names[person] = _public("p", key, person)
        bare = person.removeprefix("sub-")
        if bare != person and bare:
            names.setdefault(bare, names[person])
    for case in given:
        if case.id not in names:
            names[case.id] = _public("c", key, case.id)
    path = folder / f"names-{short(fingerprint(names))}.json"
    if not path.is_file():  # named after its content, so that runs which start at once do not meet
        atomic_write_json(path, names, mode=_MODE)
    return PublicNames(names)


def keep_names(root: RunsRoot, folder: Path, experiments: Iterable[Experiment]) -> None:
    """Write down the public names of all that experiments may name, in the folder of a record that is to be sent.

    Nothing is written where every experiment says `privacy: plain` or makes its persons up.

    Raises:
        DataError: a data set cannot be read.
        StorageError: the names cannot be written.
    """
    cases: dict[str, Case] = {}
    persons: dict[str, None] = {}
    seen: set[str] = set()
    for experiment in experiments:
        data = experiment.data
        if experiment.privacy == "plain" or data.dataset.generated:
            continue
        persons |= dict.fromkeys(name for group in data.same_person for name in group)
        if data.dataset.fingerprint not in seen:
            seen.add(data.dataset.fingerprint)
            index = data.dataset.build()  # before names are united or left out: all may stand in a message
            cases |= {case.id: case for case in index}
    if cases or persons:
        make_folder(folder)
        atomic_write_json(folder / NAMES, dict(public_names(root, cases.values(), persons).names), mode=_MODE)
    else:
        (folder / NAMES).unlink(missing_ok=True)


def true_names(root: RunsRoot, public: str) -> list[str]:
    """The cases or persons behind a public name, from this root's own lists; empty where none is known."""
    found = set()
    for path in sorted((root.path / PRIVATE).glob("names-*.json")):
        found |= {true for true, shown in (read_json(path) or {}).items() if shown == public}
    return sorted(found)


def read_names(folder: Path) -> PublicNames:
    """The names of a run; none where it has none to hide."""
    return PublicNames({str(k): str(v) for k, v in (read_json(folder / NAMES) or {}).items()})


def _key(path: Path) -> bytes:
    if not path.is_file():
        made = path.with_name(f".{secrets.token_hex(4)}.key")
        atomic_write_bytes(made, secrets.token_bytes(32), mode=_MODE)
        with storing(path), contextlib.suppress(FileExistsError):
            os.link(made, path)  # refused where another run was faster: all use one key
        made.unlink(missing_ok=True)
    return path.read_bytes()


def _public(kind: str, key: bytes, name: str) -> str:
    return f"{kind}-{hmac.new(key, f'{kind}:{name}'.encode(), hashlib.sha256).hexdigest()[:_DIGITS]}"
