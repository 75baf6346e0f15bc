"""`mriad data register` and `mriad data transform`: what they print and write."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated, Literal

import typer


def register(
    moving: Annotated[Path, typer.Argument(help="NIfTI image that is moved.")],
    fixed: Annotated[Path, typer.Argument(help="NIfTI image that stays; the result lies on its grid.")],
    out: Annotated[Path, typer.Option("--out", help="NIfTI file to write; must not exist.")],
    kind: Annotated[
        Literal["rigid", "affine"], typer.Option(help="rigid: one person; affine: to a template.")
    ] = "rigid",
    start: Annotated[
        Literal["header", "centres"],
        typer.Option(help="Begin where the files place the images, or with centres of mass put together."),
    ] = "header",
    save: Annotated[
        Path | None, typer.Option("--transform", help="Also write the transform, as JSON, for `transform`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Lay one image on another by mutual information, interpolated once; a good start is kept.

    Example: mriad data register sub-01_FLAIR.nii.gz sub-01_T1w.nii.gz --out sub-01_space-T1w_FLAIR.nii.gz
    """
    from mriad.images import read_volume, write_like

    from mriad_data.registration import Registration
    from mriad_data.registration import register as search
    from mriad_data.registration.resampling import pulled

    _free(out)
    volumes = read_volume(moving), read_volume(fixed)
    match = search(*volumes, Registration(kind=kind, start=start))
    result = pulled(volumes[0], match.transform, volumes[1].grid, "image")
    write_like(out, result.data, fixed)
    if save is not None:
        match.transform.save(save)
    if as_json:
        found = {"kept": match.kept, "matrix": match.transform.array.tolist(), "overlap": match.overlap}
        information = {"start": match.information[0], "found": match.information[1]}
        typer.echo(json.dumps(found | {"moved_mm": match.moved_mm, "mutual_information": information}))
        return
    before, after = match.information
    if match.kept:
        typer.echo(
            f"kept where the files place it: mutual information {before:.3f}, {after:.3f} after a search"
        )
    else:
        typer.echo(
            f"moved by {match.moved_mm:.2f} mm on average ({match.transform.angle:.2f}° turned): "
            f"mutual information {before:.3f} before, {after:.3f} after"
        )
    typer.echo(f"{out}, {100 * match.overlap:.0f} % overlap")
    if save is not None:
        from mriad.cli.next_step import next_step

        next_step(
            f"mriad data transform LABEL.nii.gz {fixed} {save} --kind hard --out OUT.nii.gz",
            "move a label that was drawn on the moving image",
        )


def transform(
    image: Annotated[Path, typer.Argument(help="NIfTI file to move.")],
    like: Annotated[Path, typer.Argument(help="NIfTI file whose grid the result lies on.")],
    transforms: Annotated[
        list[Path],
        typer.Argument(help="JSON by `register --transform`: from LIKE's world to IMAGE's, in this order."),
    ],
    out: Annotated[Path, typer.Option("--out", help="NIfTI file to write; must not exist.")],
    kind: Annotated[
        Literal["image", "soft", "hard"],
        typer.Option(help="image: spline; soft: labels in [0, 1], linear; hard: label values, label-safe."),
    ] = "image",
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go the other way: from the fixed image's grid back.")
    ] = False,
) -> None:
    """Move an image or label through transforms that `register` wrote, composed and interpolated once.

    Example: mriad data transform lesion.nii.gz T1w.nii.gz flair-to-t1w.json --kind hard --out lesion_T1w.nii.gz
    """
    from mriad.images import read_grid, read_volume, write_like

    from mriad_data.registration import Transform, compose
    from mriad_data.registration.resampling import pulled

    _free(out)
    chain = compose([Transform.load(path) for path in transforms])
    volume = read_volume(image, stacked=kind == "soft")
    result = pulled(volume, chain.inverse() if inverse else chain, read_grid(like), kind)
    write_like(out, result.data, like, "labels" if kind == "hard" else "float32")
    typer.echo(str(out))


def _free(out: Path) -> None:
    """Refuse at once, not after a search, to overwrite a file.

    Raises:
        StorageError: it is there.
    """
    from mriad.errors import StorageError

    if out.exists():
        raise StorageError(
            "the file is there already, and nothing is overwritten unless asked",
            where={"path": str(out)},
            remedy="choose another name, or remove the file",
        )
