"""`mriad init`: look at a folder of images and labels, and write an experiment that runs on it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import TYPE_CHECKING, Annotated

import typer

from mriad.errors import StorageError

if TYPE_CHECKING:
    from mriad.survey import Survey


def init(
    folder: Annotated[
        Path, typer.Argument(help="A data set: BIDS, imagesTr/labelsTr, X + X_seg, a manifest.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write. [default: RUNS/experiments/NAME]")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the experiment. [default: that of the folder]")] = "",
    label: Annotated[str, typer.Option(help="End of the label files' names, such as label-cord_seg.")] = "",
    runs: Annotated[Path | None, typer.Option(help="Where mriad writes. [default: ./mriad-runs]")] = None,
) -> None:
    """Look at a data set and write a manifest and an experiment that trains on it. Nothing is overwritten.

    Example: mriad init data/hippocampus
    """
    from mriad.cli.next_step import next_step
    from mriad.cli.progress import TerminalReporter
    from mriad.launch.files import runs_root
    from mriad.starter import experiment_name, write_starter
    from mriad.survey import survey

    called = experiment_name(name or folder.absolute().name)
    root = runs_root(runs)
    target = (out or root.path / "experiments" / called).absolute()
    refuse_existing(target)
    shown = TerminalReporter("look at cases")
    try:
        looked = survey(folder, label, root.path, shown.progress)
    finally:
        shown.close()
    for line in report(looked):
        typer.echo(line)
    file = write_starter(looked, target, called)
    typer.echo(f"wrote     {file}")
    typer.echo(f"train it  mriad train {file}")
    next_step(f"mriad preview {file}", "see what training will see")


def refuse_existing(target: Path) -> None:
    """Refuse a target that is there, before time is spent on the data.

    Raises:
        StorageError: something is there.
    """
    if target.exists():
        raise StorageError(
            "nothing is overwritten, and there is something already",
            where={"path": str(target)},
            remedy="choose another folder with --out, another --name, or remove it",
        )


def report(looked: Survey) -> list[str]:
    """What was found, in lines for a person."""
    spacing = "×".join(f"{s:.3g}" for s in looked.spacing)
    extent = "×".join(f"{n}" for n in looked.size)
    contrasts = ", ".join(f"{c} ({n})" for c, n in looked.contrasts.items()) or "not named"
    lines = [
        f"layout    {looked.layout}",
        f"cases     {len(looked.index)} of {len(looked.index.persons)} persons",
        f"channels  {', '.join(looked.channels)}",
        f"contrasts {contrasts}",
        f"voxels    {spacing} mm and {extent} voxels in the median, as right, anterior, superior",
        f"labels    {', '.join(f'{s.name} = {s.value}' for s in looked.index.label_set.structures)}"
        f" ({looked.kind}; {looked.label_choice})",
    ]
    for reason in looked.left_out[:8]:
        lines.append(f"left out  {reason}")
    if len(looked.left_out) > 8:
        lines.append(f"left out  and {len(looked.left_out) - 8} more")
    return lines
