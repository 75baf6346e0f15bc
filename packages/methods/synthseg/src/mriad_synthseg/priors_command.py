"""`mriad synthseg priors`: what the generator learns from real images, from the command line."""

from pathlib import Path
from typing import Annotated

import typer


def priors(
    experiment: Annotated[
        str, typer.Argument(help="Experiment with a synthseg.generate; a file, or plugin:name.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for priors.tsv.")] = Path("priors"),
    cases: Annotated[str, typer.Option(help="Domain or contrast of the images; default: all.")] = "",
    consistency: Annotated[
        float, typer.Option(help="Factor of the median absolute deviation; 1: literally the public code.")
    ] = 1.4826,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value, over what the file says; may be repeated.")
    ] = None,
) -> None:
    """Learn intensity priors from labelled images of the training persons of the experiment's fold.

    Example: mriad synthseg priors my.yaml --cases T1w --out priors

    A generator draws from them with `priors_file: priors/priors.tsv`.
    """
    from mriad.cli.next_step import next_step
    from mriad.errors import ExperimentError
    from mriad.experiment.load import load

    from mriad_synthseg.fitting import fit_priors
    from mriad_synthseg.priors import FILE
    from mriad_synthseg.stages import FitPriors

    loaded = load(experiment, overrides or ())
    if loaded.data.labels.from_:
        raise ExperimentError(
            "the labels of this experiment are made by one of its stages, and this command runs none",
            where={"data.labels.from": loaded.data.labels.from_},
            remedy="stages: {priors: {type: synthseg.fit_priors}}, with priors: priors in the generator; or labels "
            "that are there already: --set data.labels=hard",
        )
    out.mkdir(parents=True, exist_ok=True)
    stage = FitPriors(cases=cases, consistency=consistency)
    summary = fit_priors(stage, loaded, loaded.fold, out.absolute(), print)
    print(f"written: {out / FILE} ({summary['images']} images, contrasts {', '.join(summary['contrasts'])})")
    if summary["classes_never_seen"]:
        print(f"classes that no image shows: {', '.join(summary['classes_never_seen'])}")
    next_step(
        f"mriad preview {experiment} --set augment.0.priors_file={out.absolute() / FILE}",
        "look at samples painted with them",
    )
