"""What a result came from: versions, commits, input files. Nothing that names the machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.filehash import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARIES = (
    "mriad",
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "pydantic",
    "monai",
    "torchio",
    "ray",
    "mlflow",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries whose numbers enter a result; read without importing them."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plugin_versions() -> dict[str, str]:
    """Distribution and version of each loaded plugin, by plugin name."""
    from mriad.plugins import discover

    return {plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in discover().loaded}


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """The commits of the code: `experiment` for the repository around `folder`, `mriad` for an editable install.

    Each is {"commit": 40 digits, "changed": whether tracked files differ}; absent outside a repository.
    """
    found: dict[str, Any] = {}
    for name, place in (("experiment", folder or Path.cwd()), ("mriad", Path(__file__).parent)):
        state = _commit(place)
        if state is not None:
            found[name] = state
    return found


def describe_inputs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of files, in the order given.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    return [
        {"file": str(path), "sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(Path(path) for path in paths)
    ]


def _commit(folder: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        # A file inside an environment below a repository is not that repository's code.
        if git("check-ignore", "-q", ".") == "":
            return None
    except subprocess.CalledProcessError:
        pass
    except (OSError, subprocess.SubprocessError):
        return None
    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
