"""`mriad sync`: send to the tracking store what could not be sent while runs went on."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from mriad.cli.next_step import next_step


def sync(
    names: Annotated[list[str] | None, typer.Argument(help="Runs to send; none: all.")] = None,
    runs: Annotated[
        Path | None, typer.Option("--runs", help="The runs root. [default: ./mriad-runs]")
    ] = None,
    tracking: Annotated[
        str, typer.Option("--tracking", help="URI of the store. [default: MLFLOW_TRACKING_URI, else SQLite]")
    ] = "",
) -> None:
    """Send the local records to the tracking store. What is there already is not sent again.

    Example: mriad sync --tracking http://localhost:5000
    """
    from mriad.errors import LaunchError
    from mriad.launch.files import runs_root
    from mriad.launch.lease import live_owner
    from mriad.tracking.address import public, tracking_uri
    from mriad.tracking.record import records

    root = runs_root(runs)
    uri = tracking_uri(root, tracking)
    found = list(records(root.runs))[::-1]  # oldest first: a parent comes before its children
    if names:
        there = {record.folder.name for record in found}
        missing = [name for name in names if name not in there]
        if missing:
            raise LaunchError(
                f"there is no run '{missing[0]}'", where={"runs": root.runs}, remedy="mriad runs list"
            )
        found = [record for record in found if record.folder.name in names]
    if not found:
        typer.echo(f"no runs in {root.path}")
        return
    from mriad.tracking.sender import sync as send_all

    count = send_all(found, uri, skip=lambda folder: bool(live_owner(folder)), told=typer.echo)
    typer.echo(f"{count} of {len(found)} runs had something to send; {public(uri)} has all of them")
    next_step("mriad ui" + (f" --tracking {public(uri)}" if tracking else ""), "compare runs")
