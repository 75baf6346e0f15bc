"""Does the place of results suit where the work is done?"""

from __future__ import annotations

import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.errors import LaunchError
from mriad.launch.files import atomic_write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mriad.launch.files import RunsRoot

SEEN_WITHIN_S = 15.0
"""How long a node may take to see a new file: network file systems remember for seconds that it was not there."""


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


def check_shared(root: RunsRoot, ask: Callable[[str, str], Mapping[str, str]]) -> None:
    """Make sure that all nodes of a cluster mean the same folder by the runs root, and may write it.

    Args:
        root: the runs root; a file is written there and removed again.
        ask: takes the file and its text, calls `look(file, text)` on every node, and returns what each answered,
            by the node's name; "" is good.

    Raises:
        LaunchError: names the nodes that see another folder.
        StorageError: this node cannot write it.
    """
    mark = root.path / f".shared-{secrets.token_hex(6)}"
    text = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
    atomic_write_text(mark, text)
    try:
        answers = ask(str(mark), text)
    finally:
        mark.unlink(missing_ok=True)
    wrong = {node: said for node, said in answers.items() if said}
    if wrong:
        raise LaunchError(
            f"{len(wrong)} of {len(answers)} nodes do not share the runs root",
            where={
                "runs root": root.path,
                **dict(sorted(wrong.items())[:10]),
                "expected": "one folder that all nodes read and write",
            },
            remedy="pass --runs with a folder on storage that is mounted at the same path on every node",
        )


def look(mark: str, text: str, patience_s: float = SEEN_WITHIN_S) -> str:
    """Whether this node reads `text` in the file `mark` and may write beside it; "" if so, else why not."""
    file = Path(mark)
    until = time.monotonic() + patience_s
    while True:
        try:
            if file.read_text("utf-8") == text:
                break
            said = "another file is in its place"
        except FileNotFoundError:
            said = (
                "the folder is there, and a new file of the driver is not"
                if file.parent.is_dir()
                else "no such folder"
            )
        except OSError as err:
            said = f"cannot be read: {err.strerror}"
        if time.monotonic() > until:
            return said
        time.sleep(0.2)
    try:
        beside = file.with_name(f"{file.name}-{secrets.token_hex(4)}")
        beside.write_text(text)
        beside.unlink()
    except OSError as err:
        return f"cannot be written: {err.strerror}"
    return ""
