"""`mriad measure`: volumes, and the cross-sectional area of tubular structures per slice and vertebral level."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, cast

import typer
from mriad.errors import DataError

if TYPE_CHECKING:
    from mriad_eval.morphometry.levels import Convention


def measure(
    segmentation: Annotated[Path, typer.Argument(help="A segmentation (NIfTI, hard or soft), or a folder.")],
    discs: Annotated[
        Path | None, typer.Option(help="Disc labels: file, or folder for a folder. 3 is C2-C3.")
    ] = None,
    levels: Annotated[
        Path | None, typer.Option(help="Map of vertebral levels on the same grid: file or folder.")
    ] = None,
    convention: Annotated[str, typer.Option(help="How discs are numbered: sct or totalspineseg.")] = "sct",
    template: Annotated[
        Path | None, typer.Option(help="Image of a template that gives the discs not labelled.")
    ] = None,
    template_cord: Annotated[Path | None, typer.Option(help="Mask of the template's cord.")] = None,
    template_discs: Annotated[Path | None, typer.Option(help="Disc labels of the template.")] = None,
    scan: Annotated[
        Path | None, typer.Option(help="The image that was segmented, to match with the template.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at", help="Levels to average, such as C2-C3; may be repeated. [default: each, and C2-C3]"
        ),
    ] = None,
    labels: Annotated[str, typer.Option(help="Structures and their values, such as cord=1,csf=2.")] = "",
    tube: Annotated[
        list[str] | None,
        typer.Option("--tube", help="Structure with an area. [default: cord, canal, or the only one]"),
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Binarise soft values at > .5 first.")] = False,
    min_slices: Annotated[int, typer.Option(min=1, help="Fewer slices give no level mean.")] = 2,
    drop_ends: Annotated[int, typer.Option(min=0, help="Slices left out at either end.")] = 1,
    literal_sct: Annotated[
        bool, typer.Option("--literal-sct", help="Also as SCT 6.0 computes it, quirks included.")
    ] = False,
    pattern: Annotated[str, typer.Option(help="Which files of a folder, such as '*_seg.nii.gz'.")] = "*",
    workers: Annotated[int, typer.Option(help="Processes; 0: this one.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables and run.json.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Runs folder; default ./mriad-runs.")] = None,
) -> None:
    """Measure segmentations: csa.csv (columns as SCT's), csa_slices.csv, volumes.csv, run.json and a table.

    Example: mriad measure sub-01_T2w_label-cord_seg.nii.gz --discs sub-01_T2w_label-discs_dlabel.nii.gz

    Without disc labels the area is given per slice.
    """
    from mriad.cli.progress import progress
    from mriad.inference.stored import versions_in_use
    from mriad.launch.files import runs_root
    from rich.console import Console

    from mriad_eval.maps import parse_labels
    from mriad_eval.measurement_report import report
    from mriad_eval.measurements import (
        marks_of,
        measure_all,
        record_of,
        require_free,
        structures_of,
        tubes_of,
        with_template,
        write_measurements,
    )
    from mriad_eval.measuring import Measurer, Work
    from mriad_eval.morphometry.levels import LevelSet
    from mriad_eval.morphometry.settings import CsaSettings
    from mriad_eval.pairing import case_of, files_by_case

    if convention not in ("sct", "totalspineseg"):
        raise DataError(f"no convention '{convention}'", where={"expected": "sct or totalspineseg"})
    if discs is not None and levels is not None:
        raise DataError("give either discs or levels", remedy="--discs FILE or --levels FILE")
    files = files_by_case(segmentation, pattern, "segmentations")
    label_set = parse_labels(labels) if labels else structures_of(files)
    settings = CsaSettings("binary" if binary else "soft", min_slices, drop_ends)
    measurer = Measurer(
        label_set,
        tubes_of(label_set, tube or []),
        settings,
        tuple(LevelSet.parse(text) for text in at or []),
        literal_sct,
        f"mriad {versions_in_use().get('mriad', '')}".strip(),
    )
    marks = marks_of(files, discs, levels, cast("Convention", convention))
    marks = with_template(marks, template, template_cord, template_discs, scan)
    work = [Work(case, paths, marks.get(case)) for case, paths in files.items()]
    record = record_of(work, measurer)
    name = case_of(segmentation.name)
    folder = out or runs_root(runs).path / "measurements" / f"{name}-{record['fingerprint'][:12]}"
    require_free(folder, record["fingerprint"])
    with progress(len(work), "measure") as shown:
        found, faults = measure_all(work, measurer, workers, lambda done, _: shown.update(done))
    write_measurements(folder, found, record, faults, measurer)
    report(Console(), folder, found, faults)
    if faults:
        raise typer.Exit(1)
