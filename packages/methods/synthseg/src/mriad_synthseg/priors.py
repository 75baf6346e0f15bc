"""Intensity priors of real images: a table of Gaussians for the mean and the deviation of each class, by contrast.

`priors.tsv` has a row for each contrast and class: contrast, class (its first structure), members, images (how many
had it), consistency (what the median absolute deviation was multiplied by), mean_of_mean, std_of_mean, mean_of_std,
std_of_std; intensities of images rescaled to [0, 255].
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from mriad.atomic import atomic_file
from mriad.errors import DataError, ExperimentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mriad_synthseg.roles import Roles

FILE = "priors.tsv"
CONSISTENCY = 1.4826
"""Median absolute deviation × this is the standard deviation of a Gaussian."""
TOP = 255.0
_NUMBERS = ("mean_of_mean", "std_of_mean", "mean_of_std", "std_of_std")
_COLUMNS = ("contrast", "class", "members", "images", "consistency", *_NUMBERS)


@dataclass(frozen=True)
class Priors:
    """table: (T, K, 4) float32 over contrasts and classes, the four numbers of a row; NaN where there is none."""

    contrasts: tuple[str, ...]
    table: Tensor

    def applied(self, mean: Tensor, std: Tensor, normal: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations (B, C, K) drawn from one contrast a sample, cut at 0.

        Args:
            mean: (B, C, K) what stays where the priors have no row.
            std: the same.
            normal: (B, 2, C, K) standard normal.
            which: (B,) uniform in [0, 1): the contrast.
        """
        count = len(self.contrasts)
        rows = self.table[(which * count).long().clamp_max(count - 1)][:, None]  # (B, 1, K, 4)
        drawn_mean = (rows[..., 0] + rows[..., 1] * normal[:, 0]).clamp_min(0)
        drawn_std = (rows[..., 2] + rows[..., 3] * normal[:, 1]).clamp_min(0)
        absent = rows[..., 0].isnan()
        return torch.where(absent, mean, drawn_mean), torch.where(absent, std, drawn_std)


def class_spread(
    image: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[int],
    consistency: float,
    annotated: NDArray[np.bool_] | None = None,
) -> dict[int, tuple[float, float]]:
    """Median and scaled median absolute deviation of the positive voxels of each class, image rescaled to [0, 255].

    Args:
        image: (X, Y, Z), any unit.
        labels: (X, Y, Z) indices, 0 background and s + 1 structure s.
        classes: class of each index.
        consistency: factor of the median absolute deviation.
        annotated: (X, Y, Z), false where nobody said what a voxel is, so that it counts for no class; None: all are.

    Returns:
        class → (median, spread); classes without a positive annotated voxel are absent.

    Raises:
        DataError: the image is constant.
    """
    low, high = float(image.min()), float(image.max())
    if not high > low:
        raise DataError("an image is constant, so that it has no intensities to learn from")
    scaled = (np.asarray(image, np.float64) - low) * (TOP / (high - low))
    of_class = np.asarray(classes)[labels]
    counts = scaled > 0 if annotated is None else (scaled > 0) & annotated
    found = {}
    for k in np.unique(of_class):
        values = scaled[(of_class == k) & counts]
        if values.size:
            middle = float(np.median(values))
            found[int(k)] = (middle, consistency * float(np.median(np.abs(values - middle))))
    return found


def write_priors(
    folder: Path,
    images: Iterable[tuple[str, Mapping[int, tuple[float, float]]]],
    roles: Roles,
    consistency: float,
) -> Path:
    """Write the table of mean and deviation over images; return its path.

    Args:
        folder: where.
        images: contrast and `class_spread` of each.
        roles: names of the classes.
        consistency: what the spreads were multiplied by.
    """
    gathered: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for contrast, found in images:
        own = gathered.setdefault(contrast, {})
        for k, pair in found.items():
            own.setdefault(k, []).append(pair)
    with atomic_file(folder / FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        for contrast in sorted(gathered):
            for k, pairs in sorted(gathered[contrast].items()):
                values = np.array(pairs)
                # One image tells nothing of the spread between images: it is 0 then.
                spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(2)
                middle = values.mean(axis=0)
                numbers = (middle[0], spread[0], middle[1], spread[1])
                members = ";".join(roles.members[k])
                row = [contrast, roles.class_names[k], members, len(values), consistency]
                writer.writerow([*row, *(f"{x:.6g}" for x in numbers)])
    return folder / FILE


def read_priors(path: Path, roles: Roles, absent: Literal["error", "uniform"]) -> Priors:
    """Read a table for the classes of a generator.

    Raises:
        DataError: it cannot be read, has other columns, or numbers that are none.
        ExperimentError: a class has no row in a contrast, and `absent` is "error".
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        of_class = {name: k for k, name in enumerate(roles.class_names)}
        contrasts = tuple(dict.fromkeys(row["contrast"] for row in rows))
        table = torch.full((len(contrasts), len(of_class), 4), torch.nan)
        for row in rows:
            k = of_class.get(row["class"])
            if k is not None:
                table[contrasts.index(row["contrast"]), k] = torch.tensor([float(row[c]) for c in _NUMBERS])
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            "a table of intensity priors cannot be read",
            where={"file": str(path), "reason": error, "expected": ", ".join(_COLUMNS)},
            remedy="mriad synthseg priors EXPERIMENT --out FILE writes one",
        ) from error
    if not contrasts:
        raise DataError("a table of intensity priors is empty", where={"file": str(path)})
    missing = [
        f"{roles.class_names[k]} ({contrast})"
        for t, contrast in enumerate(contrasts)
        for k in range(len(of_class))
        if bool(table[t, k, 0].isnan())
    ]
    if missing and absent == "error":
        raise ExperimentError(
            "intensity priors lack classes of the generator",
            where={
                "file": str(path),
                "missing": ", ".join(missing[:12]) + (" …" if len(missing) > 12 else ""),
            },
            remedy="priors_absent: uniform draws these from `mean` and `std`; or fit on images that show them",
        )
    return Priors(contrasts, table)


def priors_of_stage(inputs: Mapping[str, str], stage: str) -> Path:
    """The table that a stage made.

    Raises:
        ExperimentError: it has not run.
    """
    if stage not in inputs:
        raise ExperimentError(
            f"the intensity priors of stage '{stage}' are not there",
            where={"stages that ran": ", ".join(inputs) or "none"},
            remedy="a preview or dry run cannot fit them: look with --set augment.0.priors= first",
        )
    return Path(inputs[stage]) / FILE
