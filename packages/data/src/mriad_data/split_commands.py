"""`mriad data splits`: who trains, validates and tests in each fold."""

import json
from pathlib import Path
from typing import Annotated

import typer


def splits(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name PLUGIN:NAME of an installed one.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="a.b=value, over what the file says; may be repeated."),
    ] = None,
    fold: Annotated[
        list[int] | None, typer.Option("--fold", help="Only this fold; may be repeated. [default: all]")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="List every person, however many.")] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write the report as JSON; `-`: print nothing else.")
    ] = None,
) -> None:
    """Show who is where in each fold, and refuse a split that leaks.

    Persons with the same voxels under two names count as one. Every stage of the experiment is checked: none may
    learn from a person whom it tests.

    Example: mriad data splits experiment.yaml --set data.split.k=4
    """
    from mriad.cli.next_step import next_step, set_flags
    from mriad.cli.progress import progress
    from mriad.experiment.load import load_located

    from mriad_data.who_is_where import SplitReport, report_splits, table_lines

    loaded = load_located(experiment, overrides or ())
    chosen = loaded.experiment
    total = len(fold or ()) or max(chosen.data.split.folds(), 1)
    found: SplitReport | None = None
    with progress(total, "check folds") as shown:
        for part in report_splits(chosen, fold or ()):
            if isinstance(part, SplitReport):
                found = part
            else:
                shown.advance(1)
    assert found is not None
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False)
    if as_json is not None and str(as_json) == "-":
        typer.echo(text)
        return
    if as_json is not None:
        from mriad.atomic import atomic_file

        with atomic_file(as_json) as path:
            path.write_text(text + "\n", encoding="utf-8")
    for line in table_lines(found, len(found.persons) if everyone else 60):
        typer.echo(line)
    next_step(f"mriad train {experiment}{set_flags(overrides)}", "run a fold: --set fold=N")
