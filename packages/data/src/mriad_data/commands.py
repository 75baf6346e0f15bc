"""`mriad data …`: data sets made and looked after from the command line."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mriad_data.check_command import check
from mriad_data.export_command import export
from mriad_data.prepare_command import prepare
from mriad_data.register_commands import register, transform
from mriad_data.split_commands import splits
from mriad_data.store_commands import app as store

app = typer.Typer(help="Make and look after data sets.", no_args_is_help=True, rich_markup_mode=None)
phantom = typer.Typer(help="Digital persons with known truth.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(phantom, name="phantom")
app.add_typer(store, name="store")
app.command()(check)
app.command()(splits)
app.command()(prepare)
app.command()(export)
app.command()(register)
app.command()(transform)


@app.callback()
def _data() -> None:
    """Make and look after data sets."""


@phantom.callback()
def _phantom() -> None:
    """Digital persons with known truth."""


@phantom.command()
def spine(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist, or be empty.")],
    persons: Annotated[int, typer.Option(help="Number of persons.")] = 12,
    seed: Annotated[int, typer.Option(help="Of all draws; person n depends on it and n alone.")] = 0,
    mode: Annotated[
        str,
        typer.Option(
            help="Boundary bias between contrasts: published, none, image_only, labels_zero_mean, "
            "labels_same_sign, random_per_person."
        ),
    ] = "published",
    contrasts: Annotated[
        str, typer.Option(help="Separated by commas; all six unless given.")
    ] = "T1w,T2w,T2star,MTon,GRE-T1w,DWI",
    size: Annotated[str, typer.Option(help="Field of view R-L,A-P,I-S in mm.")] = "64,192,192",
    spacing: Annotated[
        str, typer.Option(help="Voxel size in mm, one number or three; each contrast's own unless given.")
    ] = "",
    rescans: Annotated[int, typer.Option(help="Further sessions: same anatomy, new pose and noise.")] = 0,
    atrophy: Annotated[
        str, typer.Option(help="Further sessions with this loss of cord area in %, such as 1,2,5.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Write a digital cervical spine as a BIDS data set: six contrasts, cord and disc labels, true areas.

    Example: mriad data phantom spine --persons 12 --out spine-phantom
    """
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import progress
    from mriad.errors import DataError
    from pydantic import ValidationError

    from mriad_data.phantom.bids import write_bids
    from mriad_data.phantom.dataset import PhantomSpine

    try:
        voxel = _numbers(spacing)
        dataset = PhantomSpine.model_validate(
            {
                "persons": persons,
                "seed": seed,
                "mode": mode,
                "contrasts": [c.strip() for c in contrasts.split(",") if c.strip()],
                "size_mm": _numbers(size),
                "spacing_mm": voxel[0] if len(voxel) == 1 else voxel or None,
                "rescans": rescans,
                "atrophy_percent": _numbers(atrophy),
            }
        )
    except ValidationError as error:
        faults = {".".join(str(p) for p in e["loc"][:1]) or "options": e["msg"] for e in error.errors()}
        raise DataError(
            "the phantom cannot be made as asked", where=faults, remedy="mriad data phantom spine --help"
        ) from error
    total = persons * len(dataset.contrasts) * (1 + rescans + len(dataset.atrophy_percent))
    with progress(total, "write images") as shown:
        made = write_bids(dataset, out, shown.advance)
    if as_json:
        summary = {"folder": str(made.folder), "persons": made.persons, "images": made.images}
        typer.echo(json.dumps(summary | {"fingerprint": made.fingerprint, "mode": mode}))
    else:
        typer.echo(f"{made.images} images of {made.persons} persons in {made.folder}")
        typer.echo(f"truth: number:area_mm2/… in manifest.csv; parameters {made.fingerprint[:12]}")
    next_step(f"mriad init {out}", "write an experiment that trains on it")


@phantom.command()
def brain(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist, or be empty.")],
    persons: Annotated[int, typer.Option(help="Number of persons.")] = 12,
    seed: Annotated[int, typer.Option(help="Of all draws; person n depends on it and n alone.")] = 0,
    contrasts: Annotated[
        str, typer.Option(help='Separated by commas; "none" writes label maps only.')
    ] = "T1w,T2w,PD,FLAIR,DBS",
    head: Annotated[bool, typer.Option("--head", help="Skull, eyes, muscle, skin and neck too.")] = False,
    size: Annotated[str, typer.Option(help="Field of view R-L,A-P,I-S in mm.")] = "",
    spacing: Annotated[str, typer.Option(help="Voxel size in mm, one number or three; 1 unless given.")] = "",
    motion: Annotated[float, typer.Option(help="Usual motion during a scan in mm.")] = 0.3,
    rescans: Annotated[int, typer.Option(help="Further sessions: same anatomy, new pose and noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Write a digital brain as a BIDS data set: five contrasts, FreeSurfer label maps, true volumes.

    Example: mriad data phantom brain --persons 12 --out brain-phantom
    """
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import progress
    from mriad.errors import DataError
    from pydantic import ValidationError

    from mriad_data.phantom.brain.bids import TABLE, write_brain
    from mriad_data.phantom.brain.dataset import PhantomBrain

    try:
        voxel = _numbers(spacing)
        dataset = PhantomBrain.model_validate(
            {
                "persons": persons,
                "seed": seed,
                "contrasts": [c.strip() for c in contrasts.split(",") if c.strip() and contrasts != "none"],
                "head": head,
                "size_mm": _numbers(size) or None,
                "spacing_mm": voxel[0] if len(voxel) == 1 else voxel or None,
                "motion_mm": motion,
                "rescans": rescans,
            }
        )
    except ValidationError as error:
        faults = {".".join(str(p) for p in e["loc"][:1]) or "options": e["msg"] for e in error.errors()}
        raise DataError(
            "the phantom cannot be made as asked", where=faults, remedy="mriad data phantom brain --help"
        ) from error
    total = persons * max(1, len(dataset.contrasts)) * (1 + rescans)
    with progress(total, "write scans") as shown:
        made = write_brain(dataset, out, shown.advance)
    if as_json:
        summary = {"folder": str(made.folder), "persons": made.persons, "images": made.images}
        typer.echo(json.dumps(summary | {"fingerprint": made.fingerprint}))
    else:
        typer.echo(f"{made.images} images of {made.persons} persons in {made.folder}")
        typer.echo(f"truth: number:volume_mm3/… in manifest.csv; parameters {made.fingerprint[:12]}")
        typer.echo(f"label maps for a generator: {made.folder}/derivatives/labels, table {TABLE}")
    next_step(f"mriad init {out}", "write an experiment that trains on it")


def _numbers(text: str) -> list[float]:
    """Numbers separated by commas.

    Raises:
        BadParameter: one is none.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is not a list of numbers such as 64,192,192") from error
