"""Does the place of results suit where the work is done?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mriad.errors import LaunchError

if TYPE_CHECKING:
    from mriad.launch.files import RunsRoot


def in_job() -> bool:
    """Whether this process was started by `ray job submit`."""
    return bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def check_place(root: RunsRoot, tracking: str, *, in_job: bool = False, nodes: int = 1) -> None:
    """Check the runs root and the tracking store before anything is started.

    A job's current folder is a throw-away copy on whichever node it was sent to, and other nodes have none
    of it: a relative runs root would be lost or differ from node to node. An SQLite file breaks on network
    file systems, and one on a node's own disk is seen by nobody else.

    Args:
        root: the runs root.
        tracking: URI of the tracking store; "" where nothing is tracked.
        in_job: see `in_job()`.
        nodes: machines of the cluster.

    Raises:
        LaunchError: with the remedy.
    """
    if not in_job and nodes < 2:
        return
    where = "inside a cluster's job" if in_job else f"on a cluster of {nodes} nodes"
    if root.relative:
        raise LaunchError(
            f"a relative runs root cannot be used {where}",
            where={"runs root": root.path, "expected": "an absolute path on storage that all nodes share"},
            remedy="pass --runs /shared/mriad-runs, or set MRIAD_RUNS",
        )
    if tracking.startswith("sqlite:"):
        raise LaunchError(
            f"an SQLite tracking store cannot be used {where}",
            where={"tracking": tracking, "expected": "the URI of a tracking server"},
            remedy="pass --tracking http://SERVER:5000, or set MLFLOW_TRACKING_URI "
            "(`mriad ui` on one machine serves a store)",
        )
