"""`mriad softseg …`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from mriad.cli.next_step import next_step

app = typer.Typer(
    help="Contrast-agnostic soft segmentation of the spinal cord.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _softseg() -> None:
    """Contrast-agnostic soft segmentation of the spinal cord."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The public v2 checkpoint, as you have it (.ckpt, .pt).")],
    licence: Annotated[
        str, typer.Option(help="Licence of these weights, by SPDX name: read it where you got them.")
    ],
    name: Annotated[str, typer.Option(help="Name for `mriad predict --model`.")] = "softseg",
    low_cut: Annotated[
        float, typer.Option(min=0, max=1, help="Soft values at or below it become 0; 0 cuts nothing.")
    ] = 0.0,
    runs: Annotated[
        Path | None, typer.Option(help="The runs root. [default: ./mriad-runs]", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
) -> None:
    """Make a model of the public contrast-agnostic checkpoint. Names and shapes are checked; nothing in it is run.

    Example: mriad softseg import best_model.ckpt --licence MIT
    """
    from mriad.filehash import file_sha256
    from mriad.model_file import export_model, import_model

    from mriad_softseg.published_checkpoint import convert

    with tempfile.TemporaryDirectory() as folder:
        made = convert(file, Path(folder) / "predictor", low_cut)
        source = {"converted from": file.name, "sha256": file_sha256(file)}
        out = export_model(made, Path(folder) / name, licence=licence, name=name, training=source)
        path = import_model(out, runs=runs, name=name, overwrite=overwrite)
    typer.echo(f"imported {path}")
    next_step(f"mriad predict SCAN --model {name}")


@app.command("centre")
def centre(
    model: Annotated[str, typer.Argument(help="Imported model, model file, or folder of a run or stage.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the predictor.")],
    spacing_mm: Annotated[float, typer.Option(min=0.1, help="Voxel size of the first pass.")] = 2.0,
    runs: Annotated[
        Path | None, typer.Option(help="The runs root. [default: ./mriad-runs]", show_default=False)
    ] = None,
) -> None:
    """Make a predictor that crops about the cord, found in a coarse first pass: for scoliosis and lumbar scans.

    Example: mriad softseg centre softseg centred-softseg
    """
    import json
    import shutil

    from mriad.atomic import atomic_file
    from mriad.errors import StorageError
    from mriad.inference.load import DOCUMENT, identity, load_predictor
    from mriad.model_file import FILE, find_model

    from mriad_softseg.centred import Centred
    from mriad_softseg.centred_predictor import CentredPredictor

    place = find_model(model, runs)
    if folder.exists():
        raise StorageError("this folder is there already", where={"folder": folder}, remedy="name a new one")
    inner = "network" if place.is_dir() else FILE
    config = Centred(model=inner, identity=identity(place), spacing_mm=spacing_mm)
    CentredPredictor.around(load_predictor(place), config, str(place))  # refuses what cannot be centred
    folder.mkdir(parents=True)
    if place.is_dir():
        shutil.copytree(place, folder / inner)
    else:
        shutil.copy2(place, folder / inner)
    with atomic_file(folder / DOCUMENT) as temporary:
        temporary.write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    typer.echo(f"made {folder}")
    next_step(f"mriad predict SCAN --model {folder}")
