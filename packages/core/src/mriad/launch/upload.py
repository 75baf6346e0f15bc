"""How much `ray job submit --working-dir FOLDER` would send, so that it can be said before Ray refuses it.

Ray zips the folder without what `.gitignore` and `.rayignore` name, in the folder itself and in each below, and
answers a package of 100 MiB or more with HTTP 413. Patterns are those of gitignore(5).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 100 * 2**20
"""Ray's limit of one package; it packs without compressing."""
IGNORES = (".gitignore", ".rayignore")
ALWAYS = (".git", ".venv", "venv", "__pycache__")
"""What Ray leaves out by itself."""
_MIB = 2**20


@dataclass(frozen=True)
class Upload:
    """What would be sent of a folder."""

    folder: Path
    files: int
    size: int
    """Bytes."""
    largest: tuple[tuple[str, int], ...]
    """Entries of the folder with their bytes, the largest first; folders end in "/"."""

    def line(self) -> str:
        """One line for a person; where it is too much, with what to leave out."""
        said = f"{self.size / _MIB:.1f} MiB in {self.files} files of {self.folder}"
        if self.size < LIMIT_BYTES:
            return said
        large = [(name, size) for name, size in self.largest[:3] if size > LIMIT_BYTES / 20]
        most = ", ".join(f"{name} ({size / _MIB:.0f} MiB)" for name, size in large or self.largest[:3])
        return f"{said}: Ray takes {LIMIT_BYTES // _MIB} MiB; name in {self.folder.name}/.rayignore: {most}"


def measure_upload(folder: Path, enough: int = 200_000) -> Upload:
    """Walk the folder as Ray does.

    Args:
        folder: what `--working-dir` would name.
        enough: stop after so many files; the folder is far too large then.
    """
    sizes: Counter[str] = Counter()
    files = 0
    rules: dict[Path, list[_Rule]] = {}
    for base, below, names in os.walk(folder, followlinks=True):
        here = Path(base)
        mine = [*rules.get(here.parent, []), *_read(here)] if here != folder else _read(here)
        rules[here] = mine
        below[:] = [name for name in below if name not in ALWAYS and not _left_out(here / name, True, mine)]
        for name in names:
            path = here / name
            if name in ALWAYS or _left_out(path, False, mine) or not path.is_file():
                continue
            parts = path.relative_to(folder).parts
            sizes[parts[0] + ("/" if len(parts) > 1 else "")] += path.stat().st_size
            files += 1
        if files > enough:
            break
    return Upload(folder, files, sum(sizes.values()), tuple(sizes.most_common(10)))


@dataclass(frozen=True)
class _Rule:
    source: Path
    """The file that says so; its patterns are relative to its folder."""
    pattern: re.Pattern[str]
    keeps: bool
    folders_only: bool


def _read(folder: Path) -> list[_Rule]:
    found = []
    for name in IGNORES:
        path = folder / name
        if path.is_file():
            lines = path.read_text("utf-8", errors="replace").splitlines()
            found += [rule for line in lines if (rule := _rule(line, path))]
    return found


def _rule(line: str, source: Path) -> _Rule | None:
    text = line.rstrip()
    keeps = text.startswith("!")
    text = text.removeprefix("!")
    if not text or text.startswith("#"):
        return None
    folders_only = text.endswith("/")
    body = text.strip("/")
    anchored = "/" in text.rstrip("/")
    return _Rule(source, re.compile(("" if anchored else "(?:.*/)?") + _translate(body)), keeps, folders_only)


def _translate(body: str) -> str:
    """gitignore(5): `*` and `?` stay within a name, `**` crosses folders."""
    out, at = "", 0
    while at < len(body):
        rest = body[at:]
        if rest.startswith("**/"):
            out, at = out + "(?:.*/)?", at + 3
        elif rest.startswith("/**") and len(rest) == 3:
            out, at = out + "/.+", at + 3
        elif rest[0] == "*":
            out, at = out + "[^/]*", at + (2 if rest.startswith("**") else 1)
        elif rest[0] == "?":
            out, at = out + "[^/]", at + 1
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            chosen = rest[1:end].replace("\\", "\\\\")
            out, at = out + f"[{'^' + chosen[1:] if chosen[0] in '!^' else chosen}]", at + end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out, at = out + re.escape(rest[1]), at + 2
        else:
            out, at = out + re.escape(rest[0]), at + 1
    return out


def _left_out(path: Path, is_folder: bool, rules: list[_Rule]) -> bool:
    """In each file the last rule that matches decides; one file that leaves it out is enough."""
    decided: dict[Path, bool] = {}
    for rule in rules:
        if rule.folders_only and not is_folder:
            continue
        if rule.pattern.fullmatch(path.relative_to(rule.source.parent).as_posix()):
            decided[rule.source] = not rule.keeps
    return any(decided.values())
