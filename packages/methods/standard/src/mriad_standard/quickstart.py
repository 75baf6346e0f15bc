"""`mriad quickstart`: soft against hard labels on the spine phantom, two variants that differ in nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mriad.launch.trial import Trial
    from mriad.tracking.record import RunRecord

VARIANTS = {"soft": "data.labels=soft", "hard": "data.labels=hard"}
BASE = "standard:quickstart"


def quickstart(
    launcher: Annotated[str, typer.Option(help="`ray` (embedded, as a real ablation) or `inline`.")] = "ray",
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Where everything is written. [default: ./mriad-runs]")
    ] = None,
    tracking: Annotated[
        str,
        typer.Option(
            "--tracking", help="URI of an MLflow store; `off` for none. [default: SQLite below --runs]"
        ),
    ] = "",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value, for both variants; may be repeated.")
    ] = None,
) -> None:
    """Train soft against hard labels on a digital cervical spine, compare both with the truth, draw pictures.

    Two CPU cores, four minutes, 6 GiB. The variants have the same network, loss, steps and seed.
    """
    from mriad.cli.next_step import next_step
    from mriad.environment import quiet

    quiet()
    print("quickstart: the same small U-Net on soft and on hard labels of a digital cervical spine")
    trials, folder = run(launcher, runs, tracking, overrides or [])
    print(table(trials))
    print(
        "\nreference: the phantom's true cord. One seed, so this is about these two trained models only, and no\n"
        "claim about soft or hard labels in general."
    )
    print("\npictures")
    for path in sorted((folder / "figures").glob("*.png")):
        print(f"  {_short(path)}")
    for trial in trials.values():
        print(f"  {_short(trial.folder / 'figures')}/")
    next_step(f"mriad ui{f' --runs {runs}' if runs else ''}", "look at both runs in MLflow")


def run(
    launcher: str, runs: Path | None, tracking: str, overrides: list[str]
) -> tuple[dict[str, Trial], Path]:
    """Run both variants below one parent record; return the trials by variant and the parent's folder."""
    from mriad.cli.progress import TerminalReporter
    from mriad.experiment.load import load
    from mriad.identity import fingerprint
    from mriad.launch.files import runs_root
    from mriad.launch.protocol import make_launcher
    from mriad.launch.trial import OFF, TrialOptions, run_trial, trial_id
    from mriad.tracking.address import tracking_uri
    from mriad.tracking.record import RunRecord
    from mriad.tracking.sender import Sender

    experiments = {
        name: load(BASE, [f"name={name}", change, *overrides]) for name, change in VARIANTS.items()
    }
    root = runs_root(runs)
    store = "" if tracking == OFF else tracking_uri(root, tracking)
    identity = fingerprint(["quickstart", *(trial_id(e) for e in experiments.values())])
    folder = root.run("quickstart", identity)
    trials: dict[str, Trial] = {}
    with ExitStack() as stack:
        record = stack.enter_context(
            RunRecord.start(folder, id=identity, name="quickstart", kind="ablation", study="quickstart")
        )
        if store:
            stack.enter_context(Sender(record, store, print))
        chosen = stack.enter_context(
            make_launcher("ray" if launcher == "ray" else "inline", root, store, print)
        )
        for name, experiment in experiments.items():
            reporter = TerminalReporter(name)
            options = TrialOptions(
                launcher=chosen,
                runs=runs,
                tracking=tracking,
                reporter=reporter,
                parent=record,
                study="quickstart",
                tags={"variant": name},
            )
            try:
                trials[name] = run_trial(experiment, options)
            finally:
                reporter.close()
        _conclude(trials, record)
    return trials, folder


def _conclude(trials: dict[str, Trial], record: RunRecord) -> None:
    """Draw the comparison on the parent and end its record with both variants' figures."""
    from mriad.evaluation import read_rows
    from mriad.launch.files import make_folder
    from mriad_eval.figures.comparison import draw_comparison
    from mriad_eval.figures.curves import draw_curves

    figures = make_folder(record.folder / "figures")
    rows = {name: read_rows(trial.folder / "cases.csv") for name, trial in trials.items()}
    for metric in dict.fromkeys(row.metric for found in rows.values() for row in found):
        draw_comparison(
            figures / f"comparison_{metric}.png",
            rows,
            metric=metric,
            title="test cases against the phantom's truth",
        )
    draw_curves(
        figures / "curves.png",
        {name: trial.folder / "metrics.jsonl" for name, trial in trials.items()},
        # Each variant validates against the labels that it trains on, so these lines are not to be compared.
        title="each variant against its own labels: not to be compared with each other",
    )
    summary = {
        f"test/{s.metric}/{s.structure}/{name}": s.with_worst for name, t in trials.items() for s in t.summary
    }
    if any(record.last().get(key) != value for key, value in summary.items()):
        record.append(0, summary)
    record.finish()


def table(trials: dict[str, Trial]) -> str:
    """The test tables side by side: one row a metric, one column a variant, mean ± SD (n, misses)."""
    names = list(trials)
    summaries = {name: {(s.metric, s.structure): s for s in t.summary} for name, t in trials.items()}
    keys = list(next(iter(summaries.values())))
    rows = [["test cases", *names]]
    for metric, structure in keys:
        unit = summaries[names[0]][metric, structure].unit
        head = f"{metric} of the {structure}" + ("" if unit == "1" else f" ({unit})")
        rows.append([head, *(summaries[n][metric, structure].text() for n in names)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * w for w in widths))
    return "\n" + "\n".join(lines)


def _short(path: Path) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
