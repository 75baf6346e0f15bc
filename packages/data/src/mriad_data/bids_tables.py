"""What stands beside the images of a BIDS folder: participants.tsv, and JSON sidecars with inheritance."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from mriad_data.bids_names import BidsName, parse_name

if TYPE_CHECKING:
    from pathlib import Path

    from mriad_data.faults import Faults
    from mriad_data.tree import Tree

PARTICIPANTS = "participants.tsv"


def read_participants(root: Path, faults: Faults) -> dict[str, dict[str, str]]:
    """participants.tsv by person ("sub-X"); "n/a" counts as empty. Faults are noted, not raised."""
    path = root / PARTICIPANTS
    if not path.is_file():
        faults.add(PARTICIPANTS, "the table of persons is missing, and a domain shall come from it")
        return {}
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            if "participant_id" not in (reader.fieldnames or ()):
                faults.add(PARTICIPANTS, "there is no column participant_id")
                return {}
            for row in reader:
                person = (row["participant_id"] or "").strip()
                person = person if person.startswith("sub-") else f"sub-{person}"
                if person in rows:
                    faults.add(f"{PARTICIPANTS} line {reader.line_num}", f"{person} is listed twice")
                rows[person] = {
                    key: "" if value is None or value.strip() == "n/a" else value.strip()
                    for key, value in row.items()
                    if isinstance(key, str) and not isinstance(value, list)
                }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        faults.add(PARTICIPANTS, f"cannot be read: {error}")
    return rows


class Sidecars:
    """JSON files that describe images: a file holds for every image below its folder whose name has its suffix and
    its entities; deeper ones, and at one depth those with more entities, win (BIDS, the inheritance principle).
    """

    def __init__(self, tree: Tree, faults: Faults) -> None:
        self._tree = tree
        self._faults = faults
        self._read: dict[str, dict[str, Any]] = {}
        self._by_folder: dict[str, list[tuple[BidsName, str]]] = {}
        for folder, file in tree.files():
            if file.endswith(".json") and not folder.startswith("derivatives"):
                stem = file[: -len(".json")]
                # At the root a name may be a suffix and entities alone: task-rest_bold.json, T1w.json.
                name = parse_name(stem if stem.startswith("sub-") else f"sub-*_{stem}")
                if name is not None:
                    self._by_folder.setdefault(folder, []).append((name, tree.path(folder, file)))

    def of_image(self, folder: str, image: BidsName) -> list[str]:
        """Paths of the files that hold for an image, the strongest last."""
        found: list[str] = []
        parts = folder.split("/") if folder else []
        for depth in range(len(parts) + 1):
            here = self._by_folder.get("/".join(parts[:depth]), ())
            fitting = [(len(n.entities) + bool(n.session), path) for n, path in here if _holds_for(n, image)]
            found += [path for _, path in sorted(fitting)]
        return found

    def value(self, folder: str, image: BidsName, key: str) -> Any:
        """A field of an image's sidecars; None where none of them has it."""
        value = None
        for path in self.of_image(folder, image):
            value = self._content(path).get(key, value)
        return value

    def orphans(self, images: list[tuple[str, BidsName]]) -> list[tuple[str, BidsName]]:
        """Sidecars of a single session's file (`sub-…`) that hold for none of these images."""
        used = {path for folder, image in images for path in self.of_image(folder, image)}
        return [
            (path, name)
            for entries in self._by_folder.values()
            for name, path in entries
            if name.subject != "*" and path not in used
        ]

    def _content(self, path: str) -> dict[str, Any]:
        if path not in self._read:
            self._read[path] = {}
            try:
                found = json.loads((self._tree.root / path).read_text(encoding="utf-8-sig"))
                if isinstance(found, dict):
                    self._read[path] = found
                else:
                    self._faults.add(path, "the JSON holds no mapping")
            except (OSError, ValueError) as error:
                self._faults.add(path, f"the JSON cannot be read: {error}")
        return self._read[path]


def _holds_for(sidecar: BidsName, image: BidsName) -> bool:
    if sidecar.suffix != image.suffix or sidecar.subject not in ("*", image.subject):
        return False
    if sidecar.session and sidecar.session != image.session:
        return False
    return set(sidecar.entities) <= set(image.entities)
