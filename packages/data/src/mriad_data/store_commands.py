"""`mriad data store`: what the store of prepared samples holds, whether it is sound, and what may go."""

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mriad_data.store_entries import Entry

app = typer.Typer(
    help="List, size, verify and prune prepared samples.", no_args_is_help=True, rich_markup_mode=None
)

Root = Annotated[
    Path | None, typer.Option("--runs", help="The runs root whose store is meant. [default: ./mriad-runs]")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
_SHOWN = 40
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@app.callback()
def _store() -> None:
    """List, size, verify and prune prepared samples."""


@app.command("list")
def list_(
    runs: Root = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry, however many.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is stored, what was used last first: case, grid, size, last use by a run."""
    from mriad.cli.next_step import next_step

    found = sorted(_entries(runs), key=lambda e: -e.used)
    now = time.time()
    if as_json:
        typer.echo(json.dumps([_as_json(e) for e in found], indent=1))
        return
    if not found:
        typer.echo(f"nothing is stored in {_folder(runs)}")
        next_step("mriad data prepare experiment.yaml", "fills it; so does every training")
        return
    shown = found if everything else found[:_SHOWN]
    cells = [("key", "case", "contrast", "voxels", "size", "used", "")]
    for e in shown:
        size, age = size_text(e.bytes), age_text(e.age(now))
        cells.append((e.key[:12], e.case, e.contrast, "×".join(map(str, e.shape)), size, age, state_text(e)))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        typer.echo("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip())
    if len(shown) < len(found):
        typer.echo(f"and {len(found) - len(shown)} more (--all)")
    next_step("mriad data store size", "how much room they take")


@app.command()
def size(runs: Root = None, as_json: Json = False) -> None:
    """Show how much room the store takes: in all, unused for a day, of other versions, left by killed writers."""
    from mriad.cli.next_step import next_step
    from mriad.launch.files import folder_size

    from mriad_data.store_entries import DAY_S, leftovers

    folder, found, now = _folder(runs), _entries(runs), time.time()
    left = leftovers(folder)
    rows = [
        ("stored", len(found), sum(e.bytes for e in found)),
        ("unused for a day", *_sum([e for e in found if e.age(now) > DAY_S])),
        ("unused for a week", *_sum([e for e in found if e.age(now) > 7 * DAY_S])),
        ("of other versions", *_sum([e for e in found if e.state == "other version"])),
        ("damaged", *_sum([e for e in found if e.state == "damaged"])),
        ("left by killed writers", len(left), sum(folder_size(p) for p in left)),
    ]
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if as_json:
        values = {name.replace(" ", "_"): {"entries": n, "bytes": b} for name, n, b in rows}
        typer.echo(json.dumps({"folder": str(folder), "free": free, **values}, indent=1))
        return
    for name, count, total in rows:
        if count or name == "stored":
            typer.echo(f"{size_text(total):>10}  {count:>7}  {name}")
    typer.echo(f"{size_text(free):>10}           free on the disk: {folder}")
    next_step("mriad data store prune --older-than 7 --dry-run", "what could go")


@app.command()
def prune(
    max_size: Annotated[
        str, typer.Option("--max-size", metavar="SIZE", help="Remove until no more is left, such as 20GiB.")
    ] = "",
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            help="What no run used for so long may go. [default with --max-size: 1]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Root = None,
) -> None:
    """Remove prepared samples, least recently used first; damaged ones and those of other versions before.

    With neither option only those two, and what killed writers left. Whatever goes is made again when it is needed. A
    run that has a sample open keeps it: the disk space comes free when it ends.

    Example: mriad data store prune --max-size 20GiB --dry-run
    """
    from mriad.cli.next_step import next_step

    from mriad_data.store_entries import DAY_S, choose, leftovers, remove, remove_leftovers

    found, folder = _entries(runs), _folder(runs)
    limit = parse_size(max_size) if max_size else None
    unused = None if older_than is None else older_than * DAY_S
    chosen, left = choose(found, limit, unused), leftovers(folder)
    if not chosen and not left:
        typer.echo(f"nothing to remove: {_too_large(found, limit) or folder}")
        return
    total, kinds = sum(e.bytes for e in chosen), {e.state for e in chosen} - {"good"}
    what = f"{len(chosen)} of {len(found)} entries, {size_text(total)}"
    what += f" (also {', '.join(sorted(kinds))})" if kinds else ""
    what += f", and what {len(left)} killed writers left" if left else ""
    if dry_run:
        typer.echo(f"{what}; nothing was removed")
        next_step("mriad data store prune", "without --dry-run")
        return
    if not yes:
        typer.confirm(f"remove {what}?", abort=True)
    freed = sum(remove(entry) for entry in chosen) + remove_leftovers(folder)
    typer.echo(f"removed {size_text(freed)}")
    rest = _too_large(_entries(runs), limit)
    if rest:
        typer.echo(rest)
    next_step("mriad data store size")


@app.command()
def verify(
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove what is damaged; it is made again when it is needed.")
    ] = False,
    runs: Root = None,
) -> None:
    """Read every sample and compare its checksum; the exit code is 1 where something is damaged and stays.

    Example: mriad data store verify --fix
    """
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import progress

    from mriad_data.store import ArrayFolder
    from mriad_data.store_entries import remove

    known = {entry.key: entry for entry in _entries(runs)}
    with progress(len(known), "verify") as shown:

        def update(done: int, of: int) -> None:
            shown.total = of
            shown.update(done)

        faults = ArrayFolder(_folder(runs)).verify(update)
    others = sum(e.state == "other version" for e in known.values())
    for key, fault in faults.items():
        case = known[key].case if key in known else ""
        typer.echo(f"{key[:12]}  {case}  {fault}")
    typer.echo(
        f"{len(known) - others} samples read, {len(faults)} damaged"
        + (f"; {others} of other versions not read" if others else "")
    )
    if not faults:
        return
    if not fix:
        next_step("mriad data store verify --fix", "remove them; they are made again when they are needed")
        raise typer.Exit(1)
    removed = [remove(known[key]) for key in faults if key in known]
    typer.echo(f"removed {sum(map(bool, removed))}, {size_text(sum(removed))}")
    next_step("mriad data prepare experiment.yaml", "makes them again now")


def parse_size(text: str) -> int:
    """Bytes of a text such as `20GiB`, `500 MB` or `1e9`.

    Raises:
        BadParameter: it is none.
    """
    stripped = text.strip()
    number = stripped.rstrip("BbiIkKmMgGtT ").strip()
    unit = stripped[len(number) :].strip().upper()
    factor = _UNITS.get(unit or "B") or _UNITS.get(f"{unit}IB")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if factor is None or not 0 <= value < float("inf"):
        raise typer.BadParameter(f"'{text}' is no size such as 20GiB", param_hint="--max-size")
    return int(value * factor)


def size_text(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def age_text(seconds: float) -> str:
    """An age as people read it."""
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.0f} days ago"
    return f"{hours:.0f} h ago" if hours >= 2 else f"{hours * 60:.0f} min ago"


def state_text(entry: "Entry") -> str:
    """Empty where there is nothing to say."""
    if entry.state == "other version":
        return f"version {entry.version}, not used"
    return "" if entry.state == "good" else entry.state


def _folder(runs: Path | None) -> Path:
    from mriad.launch.files import runs_root

    return runs_root(runs).store


def _entries(runs: Path | None) -> list["Entry"]:
    from mriad_data.store_entries import entries

    return list(entries(_folder(runs)))


def _sum(found: list["Entry"]) -> tuple[int, int]:
    return len(found), sum(e.bytes for e in found)


def _too_large(found: list["Entry"], limit: int | None) -> str:
    total = sum(e.bytes for e in found)
    if limit is None or total <= limit:
        return ""
    return (
        f"{size_text(total)} are left, more than {size_text(limit)}: runs used them lately (--older-than 0 removes "
        "them all the same)"
    )


def _as_json(entry: "Entry") -> dict[str, object]:
    return {
        "key": entry.key,
        "case": entry.case,
        "contrast": entry.contrast,
        "shape": list(entry.shape),
        "bytes": entry.bytes,
        "used": entry.used,
        "state": entry.state,
        "version": entry.version,
    }
