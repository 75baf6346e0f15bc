"""Which tracking store is meant, by URI."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.errors import TrackingError

if TYPE_CHECKING:
    from mriad.launch.files import RunsRoot

URI = "MLFLOW_TRACKING_URI"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
_SQLITE = "sqlite:///"


def tracking_uri(root: RunsRoot, given: str = "") -> str:
    """Return the store's URI: `given` (`--tracking`), else MLFLOW_TRACKING_URI, else an SQLite file below `root`.

    An SQLite path is made absolute, because workers and servers have other current folders. A bare path
    ending in `.db` is an SQLite file.

    Raises:
        TrackingError: a folder of files is meant, which MLflow no longer writes; or the scheme is unknown.
    """
    chosen = given or os.environ.get(URI, "")
    if not chosen:
        return f"{_SQLITE}{root.tracking / DATABASE}"
    if chosen.endswith(".db") and "://" not in chosen:
        return f"{_SQLITE}{Path(chosen).absolute()}"
    if chosen.startswith(_SQLITE):
        return f"{_SQLITE}{Path(chosen.removeprefix(_SQLITE)).absolute()}"
    if re.match(r"^(https?|postgresql|mysql|mssql|databricks)[+\w]*(://.+)?$", chosen):
        return chosen
    raise TrackingError(
        "this is no tracking store",
        where={
            "tracking": chosen,
            "expected": "http://SERVER:PORT, sqlite:////abs/mlflow.db, or a file FILE.db",
        },
        remedy=f"pass --tracking URI, or unset {URI} for a local SQLite file",
    )


def sqlite_path(uri: str) -> Path | None:
    """The database file of an SQLite store; None for any other."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def public(uri: str) -> str:
    """The URI without a password, for messages and files."""
    return re.sub(r"//[^/@]*@", "//", uri)
