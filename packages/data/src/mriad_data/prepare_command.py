"""`mriad data prepare`: the preprocessing chain of a whole collection, before anything trains on it."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment
    from mriad.launch.files import RunsRoot

    from mriad_data.preparing import Failure, Prepared


class Launcher(StrEnum):
    """Where the work is done."""

    INLINE = "inline"
    RAY = "ray"


TABLES = (".csv", ".tsv")
_SHOWN = 20  # cases of one kind of failure that are listed


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT|DATASET",
            help="A YAML file or PLUGIN:NAME; or a data set's folder or table, with the chain of `mriad init`.",
        ),
    ],
    fold: Annotated[
        list[int] | None,
        typer.Option(
            "--fold",
            min=0,
            help="All steps in this fold, fitted ones too; may be repeated. [default: see above]",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=0, help="Processes; 0: none. [default: CPU cores]")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="a.b=value, over what the file says; may be repeated."),
    ] = None,
    launcher: Annotated[
        Launcher, typer.Option("--launcher", help="Processes here, or Ray workers (embedded or a cluster).")
    ] = Launcher.INLINE,
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Whose store is filled. [default: ./mriad-runs]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Run the preprocessing chain of all cases that train or validate, and keep the results in the store.

    Without --fold: the cases of all folds, up to the first step that is fitted on training cases. A training finds
    there what it would have made, so nothing needs to be prepared. Started again, the command goes on where it was
    stopped. A case that fails is named with its step and the rest goes on; the exit code is then 1.

    Example: mriad data prepare experiment.yaml --workers 8
    """
    from mriad.cli.next_step import next_step, runs_flag, set_flags
    from mriad.experiment.load import load_located
    from mriad.launch.files import runs_root
    from mriad.launch.protocol import visible_cpus

    from mriad_data.store_entries import remove_leftovers

    root = runs_root(runs)
    file = _experiment_of(source, root)
    experiment = load_located(file, overrides or ()).experiment
    remove_leftovers(root.store)
    count = visible_cpus() if workers is None else workers
    prepare_it = _on_ray if launcher is Launcher.RAY else _here
    done = prepare_it(experiment, root, fold or [], count)
    if as_json:
        typer.echo(json.dumps(_as_json(done, root), indent=1, ensure_ascii=False))
    else:
        for line in _report(done, root):
            typer.echo(line)
    if done.failures:
        raise typer.Exit(1)
    again = f"{file}{set_flags(overrides)}{runs_flag(runs)}"
    next_step(f"mriad train {again}", "finds all this made" if fold else "one fold; --set fold=N another")


def _here(experiment: "Experiment", root: "RunsRoot", folds: list[int], workers: int) -> "Prepared":
    from mriad.cli.progress import progress
    from mriad.filehash import HASHES

    from mriad_data.preparing import plan, run

    planned = plan(experiment, root, folds)
    with progress(sum(len(chain.cases) for chain in planned.chains), "prepare") as shown:

        def update(done: int, of: int) -> None:
            shown.total = of
            shown.update(done)

        def tell(failure: "Failure") -> None:
            shown.message(f"failed: {failure.case}, step {failure.step}: {failure.error.what}")

        processes = workers if workers > 1 else 0
        return run(planned, processes, root.path / HASHES, bool(folds), update, tell)


def _on_ray(experiment: "Experiment", root: "RunsRoot", folds: list[int], workers: int) -> "Prepared":
    from mriad.cli.progress import TerminalReporter
    from mriad.environment import quiet

    quiet()
    from mriad_data.prepare_on_ray import launch

    reporter = TerminalReporter("prepare")
    try:
        return launch(experiment, root, folds, max(workers, 1), reporter)
    finally:
        reporter.close()


def _experiment_of(source: str, root: "RunsRoot") -> str:
    """The experiment that is meant: the file itself, or that of `mriad init` for a data set, written if need be."""
    from mriad.starter import EXPERIMENT, experiment_name, write_starter

    place = Path(source).expanduser()
    if not place.is_dir() and place.suffix.lower() not in TABLES:
        return source
    from mriad.cli.progress import progress
    from mriad.survey import survey

    folder = place if place.is_dir() else place.parent
    target = root.path / "experiments" / experiment_name(folder.absolute().name)
    if (target / EXPERIMENT).is_file():
        typer.echo(f"the chain of {target / EXPERIMENT}", err=True)
        return str(target / EXPERIMENT)
    with progress(0, "look at cases") as shown:

        def update(done: int, of: int) -> None:
            shown.total = of
            shown.update(done)

        looked = survey(place, "", root.path, update)
    file = write_starter(looked, target, experiment_name(folder.absolute().name))
    typer.echo(f"wrote {file}: its chain is run", err=True)
    return str(file)


def _report(done: "Prepared", root: "RunsRoot") -> list[str]:
    from mriad_data.preparing import failures_by_text

    lines = [f"{done.cases} samples: {done.made} made, {done.there} were there, {len(done.failures)} failed"]
    lines.append(f"store  {root.store}")
    lines += [f"note   {note}" for note in done.notes]
    for (step, what), found in failures_by_text(done.failures).items():
        lines += ["", f"{len(found)} failed at step {step}: {what}"]
        for failure in found[:_SHOWN]:
            facts = {k: v for k, v in failure.error.where.items() if k not in ("case", "step")}
            lines.append(f"  {failure.case}" + "".join(f"; {k} {v}" for k, v in facts.items()))
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more (--json lists all)")
        remedy = found[0].error.remedy
        lines += [f"  try: {remedy}"] if remedy else []
    return lines


def _as_json(done: "Prepared", root: "RunsRoot") -> dict[str, object]:
    return {
        "samples": done.cases,
        "made": done.made,
        "there": done.there,
        "store": str(root.store),
        "notes": done.notes,
        "failures": [
            {
                "case": f.case,
                "step": f.step,
                "error": f.error.what,
                "where": {k: str(v) for k, v in f.error.where.items()},
            }
            for f in done.failures
        ],
    }
