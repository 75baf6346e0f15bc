"""`mriad preview`: augmented samples with label contours, before any training."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer
from mriad.cli.next_step import next_step, runs_flag, set_flags
from mriad.errors import DataError
from mriad.launch.files import runs_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch

    from mriad_eval.figures.samples import Tile


def preview(
    experiment: Annotated[str, typer.Argument(help="Experiment file, or plugin:name.")],
    out: Annotated[Path | None, typer.Option(help="The PNG; default below the runs folder.")] = None,
    count: Annotated[int, typer.Option(help="Samples to show.", min=1, max=100)] = 16,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, such as a.b=c.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Runs folder; default ./mriad-runs.")] = None,
) -> None:
    """Show samples as the network will get them: prepared, cut, augmented.

    Example: mriad preview my.yaml --count 16
    """
    from mriad.experiment.load import load
    from mriad.launch.api import preview_batches
    from mriad.painted import label_set_after

    loaded = load(experiment, set_ or ())
    batches = preview_batches(loaded, count)
    path = out or runs_root(runs).path / "previews" / f"{loaded.name}.png"
    names = label_set_after(loaded, loaded.data.dataset.build().label_set).names
    shown = write_preview(path, batches, count, title=loaded.name, structures=names)
    typer.echo(f"written: {path} ({shown} samples)")
    again = f"{experiment}{set_flags(set_)}{runs_flag(runs)}"
    next_step(f"mriad train {again} --dry-run", "does it fit in memory, how long does it take")


def write_preview(
    path: Path,
    batches: Sequence[tuple[str, Batch]],
    count: int,
    *,
    title: str = "",
    structures: Sequence[str] = (),
) -> int:
    """Draw up to `count` samples of batches, named "stream" or "stream.view"; return how many.

    Streams and views take turns, so that each is seen.

    Raises:
        DataError: there is no sample.
        StorageError: the place is full or cannot be written.
    """
    from mriad_eval.figures.samples import draw_samples, tiles_of

    by_name: dict[str, list[Tile]] = {}
    for name, batch in batches:
        by_name.setdefault(name, []).extend(tiles_of(name, batch))
    turns = max((len(tiles) for tiles in by_name.values()), default=0)
    tiles = [own[i] for i in range(turns) for own in by_name.values() if i < len(own)][:count]
    if not tiles:
        raise DataError(
            "there is no sample to show", remedy="check `streams:` and the split of the experiment"
        )
    draw_samples(path, tiles, title=title, structures=structures)
    return len(tiles)
