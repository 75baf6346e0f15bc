"""`mriad data export`: a data set with its splits for another program."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What is written."""

    NNUNET = "nnunet"
    BIDS = "bids"


def export(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name PLUGIN:NAME of an installed one.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist, or be empty.")],
    form: Annotated[Format, typer.Option("--as", help="nnU-Net raw, or BIDS with derivatives.")],
    fold: Annotated[int | None, typer.Option("--fold", min=0, help="Only this fold. [default: all]")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="a.b=value, over what the file says; may be repeated."),
    ] = None,
) -> None:
    """Write an experiment's cases, labels and splits as nnU-Net raw or as BIDS with derivatives.

    Images are written without what their headers say about persons. manifest.csv and splits.json in the folder let
    mriad read it back with persons, contrasts and folds as they were.

    Example: mriad data export experiment.yaml --as nnunet --fold 0 --out nnUNet_raw/Dataset501_Cord
    """
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import progress
    from mriad.experiment.load import load_located

    from mriad_data.export import export_bids, export_nnunet, plan_export

    plan = plan_export(load_located(experiment, overrides or ()).experiment, fold)
    write = export_nnunet if form is Format.NNUNET else export_bids
    with progress(len(plan.on_a_side()), "write cases") as shown:
        made = write(plan, out, shown.advance)
    typer.echo(f"{made.cases} cases in {made.folder}, {len(plan.folds)} fold{'s' * (len(plan.folds) > 1)}")
    if made.left_out:
        typer.echo(f"left out: {len(made.left_out)} cases without the label '{plan.label}'")
    if form is Format.NNUNET:
        place = f"nnUNet_preprocessed/{made.folder.name}/"
        next_step(f"cp {made.folder / 'splits_final.json'} {place}", "after nnUNetv2_plan_and_preprocess")
    else:
        next_step(f"mriad init {made.folder}", "write an experiment that trains on it")
