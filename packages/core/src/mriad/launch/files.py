"""Where runs live, and how their files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriad.atomic import storing
from mriad.identity import short

RUNS = "MRIAD_RUNS"
"""Environment variable: the runs root where `--runs` is not given."""
DEFAULT = "mriad-runs"
"""The runs root below the current folder where nothing else is said."""


@dataclass(frozen=True)
class RunsRoot:
    """Everything that mriad writes lies below `path`.

    runs/<experiment>-<id>/   the record of a run
    stages/<stage>-<id>/      its artefacts, shared by runs
    searches/<variant>-<id>/  what a search of an ablation tried and found
    store/                    prepared samples
    tracking/                 the default tracking store
    ray_token                 access token of an embedded Ray
    """

    path: Path
    """Absolute."""
    relative: bool = False
    """Whether it was given relative to the current folder, which a cluster's job does not keep."""

    @property
    def runs(self) -> Path:
        """Records of runs."""
        return self.path / "runs"

    @property
    def stages(self) -> Path:
        """Artefacts of stages."""
        return self.path / "stages"

    @property
    def searches(self) -> Path:
        """What searches tried and found."""
        return self.path / "searches"

    @property
    def store(self) -> Path:
        """Prepared samples."""
        return self.path / "store"

    @property
    def tracking(self) -> Path:
        """Database and artifacts of the default tracking store."""
        return self.path / "tracking"

    @property
    def ray_token(self) -> Path:
        """Access token of an embedded Ray; mode 0600."""
        return self.path / "ray_token"

    def run(self, name: str, fingerprint: str) -> Path:
        """The folder of a run: `runs/<name>-<first 12 digits>`; a variant of a grid has slashes in its name."""
        return self.runs / f"{name.replace('/', '_')}-{short(fingerprint)}"

    def stage(self, name: str, fingerprint: str) -> Path:
        """The folder of a stage's artefact: `stages/<name>-<first 12 digits>`."""
        return self.stages / f"{name}-{short(fingerprint)}"


def runs_root(given: Path | str | None = None) -> RunsRoot:
    """Return the runs root: `given` (`--runs`), else `MRIAD_RUNS`, else `./mriad-runs`; nothing is made."""
    chosen = Path(given or os.environ.get(RUNS) or DEFAULT).expanduser()
    return RunsRoot(Path(os.path.abspath(chosen)), relative=not chosen.is_absolute())  # noqa: PTH100


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, and return it.

    Raises:
        StorageError: a parent is a file, or may not be written.
    """
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def atomic_write_bytes(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write beside `path`, then rename: a reader sees the old content or the new, never half of it.

    Args:
        path: the file; its folder is created.
        data: the content.
        mode: permissions, before the umask; 0o600 for secrets.
        durable: flush to disk before the rename; False for what may be lost with the machine, such as
            progress.

    Raises:
        StorageError: the place is full or cannot be written; the old content is untouched.
    """
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with storing(path):
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str, *, mode: int = 0o644, durable: bool = True) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode(), mode=mode, durable=durable)


def atomic_write_json(path: Path, value: Any, *, mode: int = 0o644, durable: bool = True) -> None:
    """`atomic_write_bytes` of indented JSON with a final line end; NaN is refused.

    Raises:
        StorageError: the place is full or cannot be written.
        ValueError: `value` holds NaN or infinity.
        TypeError: `value` holds something that JSON cannot.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_text(path, text, mode=mode, durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where the file is missing, half-copied or no object."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`, links not followed; files that vanish meanwhile count nothing."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size  # noqa: PTH118
    return total
