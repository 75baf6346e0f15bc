"""`mriad model`: one-file models, exported, imported and listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mriad.cli.next_step import next_step

app = typer.Typer(
    name="model", help="One-file models: export, import, list.", no_args_is_help=True, add_completion=False
)

_Runs = Annotated[
    Path | None, typer.Option(help="The runs root. [default: ./mriad-runs]", show_default=False)
]


@app.command("export")
def export(
    source: Annotated[Path, typer.Argument(help="Folder of a run, stage or predictor, or a model file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File NAME.mriad.safetensors, or a folder.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights, by SPDX name, such as CC-BY-4.0.")],
    name: Annotated[str, typer.Option(help="Name of the model. [default: the file's]")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a predictor or an ensemble as one file.

    Example: mriad model export mriad-runs/runs/cord-1a2b3c4d5e6f --out cord --licence CC-BY-4.0
    """
    from mriad.model_file import export_model, read_card

    path = export_model(source, out, licence=licence, name=name, overwrite=overwrite)
    typer.echo(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB, {read_card(path).digest[:12]})")
    if (source / "run.json").is_file():
        from mriad.tracking.record import RunRecord

        RunRecord(source).add_model(path)
        next_step("mriad sync", "send the model to the run's tracking store")
    next_step(f"mriad model import {path}", "predict with it by name")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `mriad model export` wrote.")],
    name: Annotated[str, typer.Option(help="Another name than the file's own.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
    runs: _Runs = None,
) -> None:
    """Check a model file and put it where `--model NAME` finds it.

    Example: mriad model import cord.mriad.safetensors
    """
    from mriad.model_file import import_model

    path = import_model(file, runs=runs, name=name, overwrite=overwrite)
    typer.echo(f"imported {path}")
    next_step(f"mriad predict SCAN --model {path.parent.name}")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    runs: _Runs = None,
) -> None:
    """Show the imported models: channels, structures, licence."""
    from mriad.model_file import ModelCard, list_models, models_folder

    found = list_models(runs)
    if as_json:
        rows = [
            {
                "name": name,
                "channels": list(card.channels),
                "structures": list(card.structures),
                "licence": card.licence,
                "created": card.created,
                "members": len(card.members),
                "digest": card.digest,
            }
            if isinstance(card, ModelCard)
            else {"name": name, "error": str(card)}
            for name, card in found.items()
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for name, card in found.items():
        if isinstance(card, ModelCard):
            size = f"{len(card.members)} networks" if card.ensemble else "1 network"
            typer.echo(
                f"{name}  {', '.join(card.channels)} → {', '.join(card.structures)}  "
                f"{size}, {card.licence}, {card.created[:10]}, {card.digest[:12]}"
            )
        else:
            typer.echo(f"{name}  cannot be read: {card.what}")
    if found:
        next_step(f"mriad predict SCAN --model {next(iter(found))}")
    else:
        typer.echo(f"no models in {models_folder(runs)}")
        next_step("mriad model import FILE.mriad.safetensors", "or train one: mriad train EXPERIMENT.yaml")
