"""`mriad predict`: segment one scan, several channels of one, or a folder of scans."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriad.cli.next_step import next_step
from mriad.cli.progress import Progress
from mriad.errors import DataError, ExperimentError

if TYPE_CHECKING:
    from mriad.inference.files import Outcome
    from mriad.inference.scans import OutputForm, Scan
    from mriad.interfaces import CasePredictor, Report
    from mriad.vocabulary import LabelSet


def predict(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Imported model, model file, or folder of a run or stage.")
    ],
    scan: Annotated[
        Path | None, typer.Argument(help="A NIfTI file, or a folder of them.", show_default=False)
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", help="NAME=FILE, once for each channel of the model.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. [default: RUNS/predictions/MODEL]")
    ] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Label values (the default).")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Probabilities as float32.")] = False,
    soft_uint8: Annotated[
        bool, typer.Option("--soft-uint8", help="Probabilities as 0..255 with NIfTI scaling.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [default: the CPUs of this process]")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="torch; openvino (CPU, an extra); auto: openvino where it is installed, else torch."
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16: faster where the processor has it, rounded to 8 bits.")
    ] = "fp32",
    domain: Annotated[str, typer.Option(help="Domain of the scans, for domain-specific models.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Where imported models are. [default: ./mriad-runs]")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure volumes and areas too.")] = False,
    qc: Annotated[bool, typer.Option("--qc", help="Write a page to look through the results.")] = False,
    discs: Annotated[
        Path | None,
        typer.Option(help="With --measure: disc labels, a file or a folder.", show_default=False),
    ] = None,
) -> None:
    """Segment a scan in its own grid, with a JSON sidecar.

    Example: mriad predict sub-01_T2w.nii.gz --model cord

    Several channels: mriad predict --channel T1w=a.nii.gz --channel FLAIR=b.nii.gz --model lesions

    A folder is resumed: what was done before by this model is skipped.

    With areas by vertebral level and a page: add --measure --discs LABELS --qc
    """
    form = _form(hard, soft, soft_uint8)
    reports = _reports(measure, qc, discs)
    from mriad.launch.files import runs_root
    from mriad.model_file import find_model

    place = find_model(model, runs)
    import torch

    from mriad.inference.engine import Engine
    from mriad.inference.files import Job, predict_files
    from mriad.inference.load import identity, load_predictor

    used = threads or _visible_cpus()
    torch.set_num_threads(used)
    chosen = Engine(engine, precision)  # type: ignore[arg-type]  # it checks the names itself
    predictor = load_predictor(place, device, domain, chosen)
    scans, faults = _scans(scan, channel or [], predictor)
    name = short_name(place)
    target = out or runs_root(runs).path / "predictions" / name
    _, reason = chosen.used(device)
    settings = {
        "device": device,
        "threads": used,
        "domain": domain,
        "engine_asked": engine,
        "precision": precision,
    }
    if reason and device == "cpu":
        typer.echo(f"torch runs the networks; OpenVINO would be faster, but {reason}", err=True)
    job = Job(name, identity(place), form, target.absolute(), overwrite, settings)
    with closing(ScanProgress()) as shown:
        outcome = predict_files(
            predictor, scans, job, failed=faults, on_scan=shown.on_scan, on_window=shown.on_window
        )
    _write_reports(reports, outcome, predictor.label_set, job.out)
    _report(outcome, job.out)
    if outcome.failed:
        raise typer.Exit(1)


def _form(hard: bool, soft: bool, soft_uint8: bool) -> OutputForm:
    if hard + soft + soft_uint8 > 1:
        raise ExperimentError("choose one of --hard, --soft and --soft-uint8")
    if soft:
        return "soft"
    return "soft-uint8" if soft_uint8 else "hard"


def _reports(measure: bool, qc: bool, discs: Path | None) -> dict[str, Report]:
    """The reports that are asked for, by the folder that they go to; found before anything is predicted."""
    from mriad.report import report_named

    if discs is not None and not measure:
        raise ExperimentError("--discs says where areas are measured", remedy="add --measure")
    out = {}
    if measure:
        out["measurements"] = report_named("measure", discs=None if discs is None else str(discs.absolute()))
    if qc:
        out["qc"] = report_named("qc")
    return out


def _write_reports(reports: dict[str, Report], outcome: Outcome, label_set: LabelSet, out: Path) -> None:
    """Make the reports of all predictions that are there, those of an earlier call included."""
    from mriad.report import Predicted

    made = [*outcome.done, *outcome.skipped]
    if not made:
        return
    predictions = sorted(
        (Predicted(str(scan.folder / scan.name), scan.files, tuple(files)) for scan, files in made),
        key=lambda one: one.case,
    )
    for folder, report in reports.items():
        for path in report.write(predictions, label_set, out / folder):
            typer.echo(f"{folder}: {path}")


def _scans(
    scan: Path | None, channel: list[str], predictor: CasePredictor
) -> tuple[list[Scan], list[tuple[str, DataError]]]:
    """What to predict, from the arguments."""
    from mriad.inference.predictor import require_channels
    from mriad.inference.scans import Scan, find_scans

    names = predictor.channels
    if (scan is None) == (not channel):
        raise DataError(
            "give either a scan or folder, or channels",
            where={"model's channels": ", ".join(names)},
            remedy="mriad predict SCAN --model … or mriad predict "
            + " ".join(f"--channel {n}=FILE" for n in names)
            + " --model …",
        )
    if scan is None:
        files: dict[str, Path] = {}
        for text in channel:
            name, equals, file = text.partition("=")
            if not equals or not file or name in files:
                raise DataError(
                    "a channel is given as NAME=FILE, once",
                    where={"given": text},
                    remedy=f"--channel {names[0]}=FILE",
                )
            files[name] = Path(file)
        require_channels(files, names)
        return [Scan({n: files[n] for n in names})], []
    if scan.is_dir():
        return find_scans(scan, names)
    if not scan.is_file():
        raise DataError("there is no such file or folder", where={"path": scan})
    require_channels({names[0]: scan}, names)
    return [Scan({names[0]: scan})], []


def short_name(place: Path) -> str:
    """What a predictor is called in folders and sidecars."""
    if place.is_file():
        from mriad.model_file import FILE, read_card

        return place.parent.name if place.name == FILE else read_card(place).name
    place = place.resolve()
    return place.parent.name if place.name == "predictor" else place.name


def _visible_cpus() -> int:
    from mriad.launch.protocol import visible_cpus

    return visible_cpus()


def _report(outcome: Outcome, out: Path) -> None:
    """What was made, what failed and why, and what to do next."""
    typer.echo(
        f"{len(outcome.done)} predicted, {len(outcome.skipped)} done before, {len(outcome.failed)} failed; "
        f"outputs and run.json in {out}"
    )
    for case, error in outcome.failed:
        typer.echo(f"\nfailed: {case}\n{error}", err=True)
    made = [*outcome.done, *outcome.skipped]
    if outcome.failed:
        next_step("the same command again", "after repair; what is done is skipped")
    elif made:
        scan, outputs = made[0]
        next_step(f"itksnap -g {next(iter(scan.files.values()))} -s {outputs[0]}", "look at one")


class ScanProgress:
    """Progress of the scan in work: its place among all, its windows, the time left for it."""

    def __init__(self) -> None:
        self._label = "predict"
        self._progress: Progress | None = None

    def on_scan(self, place: int, count: int, scan: Scan) -> None:
        """Begin the next scan."""
        self.close()
        self._label = f"[{place + 1}/{count}] {scan.folder / scan.name}"

    def on_window(self, done: int, total: int) -> None:
        """Say how far it is."""
        if self._progress is None:
            self._progress = Progress(total, self._label)
        self._progress.update(done)

    def close(self) -> None:
        """End the line of the current scan."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None
