"""`mriad data check`: what is wrong with a data set, before a minute of training is spent on it."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mriad_data.checking.run import Checked


class Fix(StrEnum):
    """What can be put right in copies."""

    GEOMETRY = "geometry"


def check(
    target: Annotated[
        str, typer.Argument(help="A folder, a manifest, or an experiment (YAML file, or PLUGIN:NAME).")
    ],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write the report as JSON; `-`: print nothing else.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="A split file to check persons against.", dir_okay=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every place, not three of a kind.")] = False,
    fix: Annotated[
        Fix | None,
        typer.Option("--fix", help="Write corrected copies to --out; nothing is changed in place."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --fix: folder to write; must not exist, or be empty.")
    ] = None,
    tolerance_mm: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="With --fix: grids of one shape that lie at most this far apart differ by header alone.",
        ),
    ] = 1.0,
    resample: Annotated[
        bool, typer.Option("--resample", help="With --fix: resample what differs by more, labels as labels.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="a.b=value, over what the experiment says; may be repeated."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read. [default: CPUs, 0 for a small data set]")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Where mriad writes. [default: ./mriad-runs]")] = None,
) -> None:
    """Find what is wrong with a data set: files, geometry, labels, duplicates, splits, images. Exit 1 if any of it
    must be fixed.

    Example: mriad data check data/hippocampus --json check.json
    """
    from mriad.cli.progress import TerminalReporter
    from mriad.launch.files import runs_root

    from mriad_data.checking.fixing import refuse_filled
    from mriad_data.checking.run import check_data

    if (fix is None) != (out is None):
        raise typer.BadParameter("--fix geometry and --out DIR go together")
    if out is not None:
        refuse_filled(out)
    shown = TerminalReporter("read cases")
    try:
        checked = check_data(target, overrides or (), split, workers, runs_root(runs).path, shown.progress)
    finally:
        shown.close()
    quiet = as_json is not None and str(as_json) == "-"
    _write(checked, as_json, everything)
    if fix is not None and out is not None:
        _fix(checked, out, tolerance_mm, resample, quiet)
    elif not quiet:
        _next(checked, target, overrides)
    if checked.report.must_be_fixed:
        raise typer.Exit(1)


def _write(checked: "Checked", as_json: Path | None, everything: bool) -> None:
    """Print the table, and write the report where one is asked for."""
    from mriad.atomic import atomic_file

    from mriad_data.checking.show import show

    text = json.dumps(checked.report.as_json(), indent=1, ensure_ascii=False)
    if as_json is not None and str(as_json) == "-":
        typer.echo(text)
        return
    show(checked.report, everything)
    if as_json is not None:
        with atomic_file(as_json) as path:
            path.write_text(text + "\n", encoding="utf-8")
        typer.echo(f"written: {as_json}")


def _fix(checked: "Checked", out: Path, tolerance_mm: float, resample: bool, quiet: bool) -> None:
    """Write corrected copies, and say what was done."""
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import progress

    from mriad_data.checking.fixing import fix_geometry, misplaced

    with progress(len(misplaced(checked.seen)), "write copies") as shown:
        made = fix_geometry(checked, out, tolerance_mm, resample, shown.advance)
    typer.echo("", err=quiet)
    for line in made.lines():
        typer.echo(line, err=quiet)
    if made.fixed:
        next_step(f"mriad data check {made.table or made.folder}", "look at the copies")


def _next(checked: "Checked", target: str, overrides: list[str] | None) -> None:
    """Name the next useful command."""
    from mriad.cli.next_step import next_step, set_flags

    report = checked.report
    errors = {finding.check for finding in report.findings if finding.level == "error"}
    name = Path(target).name.removesuffix(".yaml") or "data"
    again = f"{target}{set_flags(overrides)}"
    if "geometry" in errors:
        next_step(f"mriad data check {again} --fix geometry --out {name}-fixed", "write corrected copies")
    elif errors:
        next_step(f"mriad data check {again} --all --json check.json", "every place, to be fixed")
    elif checked.gathered.experiment is not None:
        next_step(f"mriad train {again}", "nothing must be fixed")
    else:
        next_step(f"mriad init {target}", "write an experiment that trains on it")
