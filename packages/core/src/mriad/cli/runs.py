"""`mriad runs`: what is there, how it went, how much room it takes, and what can go."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mriad.cli.next_step import next_step
from mriad.errors import DataError, LaunchError
from mriad.launch.files import RunsRoot, folder_size, read_json, runs_root
from mriad.launch.lease import live_owner
from mriad.tracking.privacy import true_names
from mriad.tracking.record import records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mriad.tracking.record import RunRecord

app = typer.Typer(help="List, size and prune runs; find a person behind a public name.")

Root = Annotated[Path | None, typer.Option("--runs", help="The runs root. [default: ./mriad-runs]")]
STOPPED = "stopped"
"""Shown for a run that says it is running while no process holds it: it was killed."""


@dataclass(frozen=True)
class Row:
    """A run as it is listed."""

    folder: Path
    status: str
    started: float
    steps: str
    metrics: dict[str, float]
    bytes: int
    stages: tuple[Path, ...]
    belongs: str = ""
    """Of a trial: its study, fold and seed."""

    @property
    def days(self) -> float:
        """Age in days."""
        return (time.time() - self.started) / 86400


@app.command("list")
def list_(
    runs: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show the runs, newest first: status, age, steps, figures, room on disk (shared stages included)."""
    rows = find(runs_root(runs))
    if as_json:
        typer.echo(json.dumps([_as_json(row) for row in rows], indent=2))
        return
    if not rows:
        typer.echo(f"no runs in {runs_root(runs).path}")
        next_step("mriad quickstart", "or mriad train x.yaml; --runs DIR looks elsewhere")
        return
    trials = any(row.belongs for row in rows)
    cells = [("run", *(("trial of",) if trials else ()), "status", "age", "steps", "size", "figures")]
    for r in rows:
        belongs = (r.belongs,) if trials else ()
        facts = (r.status, _age(r.days), r.steps, _size(r.bytes), _metrics(r.metrics))
        cells.append((r.folder.name, *belongs, *facts))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if any(row.status in ("failed", STOPPED, "interrupted") for row in rows):
        next_step(
            "mriad resume RUN", "goes on from the last checkpoint; mriad runs prune removes what failed"
        )
    else:
        next_step("mriad ui", "compare runs")


@app.command()
def size(runs: Root = None) -> None:
    """Show how much room each part of the runs root takes."""
    root = runs_root(runs)
    parts = sorted(root.path.iterdir()) if root.path.is_dir() else []
    sizes = {part.name: folder_size(part) if part.is_dir() else part.stat().st_size for part in parts}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        typer.echo(f"{_size(size):>10}  {name}")
    free = shutil.disk_usage(root.path if root.path.is_dir() else Path.cwd()).free
    typer.echo(f"{_size(sum(sizes.values())):>10}  in all, {_size(free)} free on the disk: {root.path}")
    next_step("mriad runs prune --dry-run", "what could go")


@app.command()
def prune(
    names: Annotated[
        list[str] | None, typer.Argument(help="Runs to remove; none: those that did not finish.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Also finished runs older than so many days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Root = None,
) -> None:
    """Remove runs that did not finish (or are named, or old), then stages that no run refers to.

    A run or stage that a live process holds is never removed. What was tracked in MLflow stays there.

    Example: mriad runs prune --older-than 30 --dry-run
    """
    root = runs_root(runs)
    rows = find(root)
    doomed = _chosen(rows, names or [], older_than)
    kept = [row for row in rows if row not in doomed]
    orphans = orphaned_stages(root, kept) if not names else orphaned_stages(root, kept, of=doomed)
    folders = [row.folder for row in doomed] + orphans
    for row in doomed:
        typer.echo(f"run    {row.folder.name}  ({row.status}, {_age(row.days)})")
    for folder in orphans:
        typer.echo(f"stage  {folder.name}  ({_size(folder_size(folder))})")
    if not folders:
        typer.echo("nothing to remove")
        return
    freed = sum(folder_size(folder) for folder in folders)
    if dry_run:
        typer.echo(f"{len(folders)} folders, {_size(freed)}; nothing was removed")
        next_step("mriad runs prune", "without --dry-run")
        return
    if not yes:
        typer.confirm(f"remove {len(folders)} folders, {_size(freed)}?", abort=True)
    for folder in folders:
        _remove(folder)
    typer.echo(f"removed {len(folders)} folders, {_size(freed)}")
    next_step("mriad runs list")


@app.command()
def whois(
    public: Annotated[str, typer.Argument(help="A name as the tracking store shows it: p-… or c-….")],
    runs: Root = None,
) -> None:
    """Show which person or case of this runs root a public name stands for.

    Example: mriad runs whois p-3f09c2a1b7
    """
    root = runs_root(runs)
    found = true_names(root, public)
    if not found:
        raise DataError(
            "no person or case of this runs root has this public name",
            where={"name": public, "runs root": root.path},
            remedy="give --runs the root of the run: its key made the name, no other root knows it",
        )
    for name in found:
        typer.echo(name)


def find(root: RunsRoot) -> list[Row]:
    """The runs of a root, newest first."""
    return [_row(record, root) for record in records(root.runs)]


def orphaned_stages(root: RunsRoot, kept: Iterable[Row], of: Iterable[Row] | None = None) -> list[Path]:
    """Stage folders that no kept run refers to and no live process holds.

    Args:
        root: the runs root.
        kept: runs that stay.
        of: look only at stages of these runs; None: at all.
    """
    used = {folder for row in kept for folder in row.stages}
    found: list[Path] = []
    if root.stages.is_dir():
        found = sorted(folder for folder in root.stages.iterdir() if folder.is_dir())
    if of is not None:
        among = {folder for row in of for folder in row.stages}
        found = [folder for folder in found if folder in among]
    return [folder for folder in found if folder not in used and not live_owner(folder)]


def _chosen(rows: list[Row], names: list[str], older_than: float | None) -> list[Row]:
    """The runs to remove.

    Raises:
        LaunchError: a named run is not there, or is running.
    """
    if names:
        by_name = {row.folder.name: row for row in rows}
        for name in names:
            if name not in by_name:
                raise LaunchError(
                    f"there is no run '{name}'",
                    where={"runs": ", ".join(list(by_name)[:8]) or "none"},
                    remedy="mriad runs list",
                )
            if by_name[name].status == "running":
                raise LaunchError(
                    f"run '{name}' is running",
                    where={"owner": live_owner(by_name[name].folder)},
                    remedy="stop it first",
                )
        return [by_name[name] for name in dict.fromkeys(names)]
    unfinished = [row for row in rows if row.status in ("failed", "interrupted", STOPPED)]
    old = [
        row for row in rows if row.status == "finished" and older_than is not None and row.days > older_than
    ]
    return [row for row in rows if row in unfinished or row in old]


def _row(record: RunRecord, root: RunsRoot) -> Row:
    known = record.read()
    status = str(known.get("status", ""))
    if status == "running" and not live_owner(record.folder):
        status = STOPPED
    at = record.progress()
    stages = _stages(record, root)
    compute = known.get("compute") or {}
    done = compute.get("steps")
    steps = f"{done:.0f}" if done else f"{at[0]}/{at[1]}" if at else ""
    summary = {key: value for key, value in (known.get("summary") or {}).items() if value is not None}
    return Row(
        record.folder,
        status,
        float(known.get("started") or 0),
        steps,
        summary or (record.last() if status != "finished" else {}),
        folder_size(record.folder) + sum(folder_size(folder) for folder in stages),
        stages,
        _belongs(known),
    )


def _belongs(known: dict[str, Any]) -> str:
    """`spine_ablation, fold 0, seed 1` of a trial below an ablation."""
    if not known.get("parent"):
        return ""
    tags = known.get("tags") or {}
    facts = [f"{name} {tags[name]}" for name in ("fold", "seed") if tags.get(name)]
    return ", ".join([str(known.get("study", "")), *facts])


def _stages(record: RunRecord, root: RunsRoot) -> tuple[Path, ...]:
    """Folders of the stages that a run refers to, by the fingerprints in its `stages.json`."""
    try:
        listed: Any = json.loads((record.folder / "stages.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    found: list[Path] = []
    for row in listed if isinstance(listed, list) else []:
        mark = str(row.get("fingerprint", ""))[:12] if isinstance(row, dict) else ""
        if mark:
            found += sorted(root.stages.glob(f"*-{mark}"))
    return tuple(dict.fromkeys(found))


def _remove(folder: Path) -> None:
    """Rename, then remove: what is cut off half-way is not taken for a run or stage."""
    aside = folder.with_name(f".removing-{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _as_json(row: Row) -> dict[str, Any]:
    known = read_json(row.folder / "run.json") or {}
    return {
        "run": row.folder.name,
        "folder": str(row.folder),
        "id": known.get("id"),
        "status": row.status,
        "started": row.started,
        "steps": row.steps,
        "bytes": row.bytes,
        "summary": row.metrics,
        "stages": [folder.name for folder in row.stages],
    }


def _metrics(values: dict[str, float]) -> str:
    """Up to three figures, test before validation before training."""
    for prefix in ("test/", "val/", "train/"):
        found = [
            key
            for key in values
            if key.startswith(prefix) and key.count("/") < 4 and not key.endswith("/misses")
        ]
        if found:
            return ", ".join(f"{key} {values[key]:.4g}" for key in sorted(found)[:3])
    return ""


def _age(days: float) -> str:
    if days >= 2:
        return f"{days:.0f} days"
    hours = days * 24
    return f"{hours:.0f} h" if hours >= 2 else f"{hours * 60:.0f} min"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
