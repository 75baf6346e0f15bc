"""`mriad synthseg segment`: labels on the scan's grid, soft volumes, quality, posteriors at working resolution."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated

import typer
from mriad.errors import DataError


def segment(
    scan: Annotated[Path, typer.Argument(help="A NIfTI file, or a folder of them.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Imported model, model file, or folder of a run or stage.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. [default: RUNS/predictions/MODEL]")
    ] = None,
    posteriors: Annotated[
        bool,
        typer.Option(
            "--posteriors", help="Keep the posteriors on the working grid (1 mm) too, as a 4D file."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [default: the CPUs of this process]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Where imported models are. [default: ./mriad-runs]")
    ] = None,
) -> None:
    """Segment scans of any contrast; volumes.csv (mm³) and quality.csv have a row a scan.

    Example: mriad synthseg segment scans/ --model synthseg --out segmented

    Labels lie on each scan's own grid. The soft volume of a structure is the sum of its posterior times the voxel
    volume, taken on the working grid. Models of one channel; `mriad predict` takes several.
    """
    import torch
    from mriad.cli.predict import ScanProgress, short_name
    from mriad.inference.files import Job, predict_files
    from mriad.inference.load import identity, load_predictor
    from mriad.inference.scans import Scan, find_scans
    from mriad.launch.files import runs_root
    from mriad.launch.protocol import visible_cpus
    from mriad.model_file import find_model

    from mriad_synthseg.measured_predictor import MeasuredPredictor

    place = find_model(model, runs)
    used = threads or visible_cpus()
    torch.set_num_threads(used)
    predictor = load_predictor(place, device)
    if len(predictor.channels) != 1:
        raise DataError(
            "this command takes models of one channel",
            where={"model's channels": ", ".join(predictor.channels)},
            remedy="mriad predict --channel NAME=FILE … --soft --measure",
        )
    if scan.is_dir():
        scans, faults = find_scans(scan, predictor.channels)
    elif scan.is_file():
        scans, faults = [Scan({predictor.channels[0]: scan})], []
    else:
        raise DataError("there is no such file or folder", where={"path": scan})
    target = (out or runs_root(runs).path / "predictions" / short_name(place)).absolute()
    fingerprint = identity(place)
    measured = MeasuredPredictor(predictor, target, posteriors, overwrite, fingerprint)
    settings = {"device": device, "threads": used, "posteriors": posteriors}
    job = Job(short_name(place), fingerprint, "hard", target, overwrite, settings)
    with closing(ScanProgress()) as shown:

        def begin(number: int, count: int, one: Scan) -> None:
            measured.begin(one)
            shown.on_scan(number, count, one)

        outcome = predict_files(
            measured,
            scans,
            job,
            failed=faults,
            on_scan=begin,
            on_window=shown.on_window,
            is_whole=measured.has,
        )
    typer.echo(
        f"{len(outcome.done)} segmented, {len(outcome.skipped)} done before, {len(outcome.failed)} failed"
    )
    if outcome.done or outcome.skipped:
        typer.echo(f"labels, volumes.csv (mm³) and quality.csv in {target}")
    for case, error in outcome.failed:
        typer.echo(f"\nfailed: {case}\n{error}", err=True)
    if outcome.failed:
        raise typer.Exit(1)
