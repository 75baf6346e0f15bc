"""`mriad schema`."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from mriad.atomic import atomic_file
from mriad.cli.next_step import next_step


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. [default: print]", show_default=False)
    ] = None,
) -> None:
    """Write the JSON Schema (Draft 2020-12) of experiment files, with every installed component in it.

    An editor with a YAML language server (VS Code with the YAML extension, Neovim, Emacs, PyCharm) completes and
    checks experiments against it: put `# yaml-language-server: $schema=schema.json` on the first line of the file.
    Write it again after installing a plugin.

    Example: mriad schema --out schema.json
    """
    from mriad.schema import json_schema

    text = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    with atomic_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {out}")
    typer.echo(f"first line of an experiment beside it:  # yaml-language-server: $schema={out.name}")
    next_step("mriad config show EXPERIMENT", "an experiment with all its values")
