"""`mriad config`."""

from __future__ import annotations

from typing import Annotated

import typer

from mriad.cli.next_step import next_step, set_flags

app = typer.Typer(add_completion=False, help="Look at experiments without running them.")


@app.command()
def show(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or `plugin:name`.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE, such as budget.steps=100; may be repeated.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the resolved experiment as YAML: each value with the file and line, the --set or the default it is from.

    Example: mriad config show x.yaml --set budget.steps=100
    """
    from mriad.experiment.load import load_located
    from mriad.experiment.render import render

    typer.echo(render(load_located(experiment, overrides or [])))
    next_step(
        f"mriad train {experiment}{set_flags(overrides)} --dry-run",
        "does it fit in memory, how long will it take",
    )
