"""What the stages of `mriad_synthseg.stages` compute."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError, ExperimentError
from mriad.flow import gather_cases
from mriad.images import FileSource, write_like
from mriad.painted import painters_of
from mriad.parallel import failure
from mriad.preparation import load_sample
from mriad.stages.dataset import as_file, write_dataset
from mriad.stages.train import index_of
from mriad.vocabulary import Label, LabelSet, Structure
from scipy import ndimage

from mriad_synthseg.generate import Generate
from mriad_synthseg.priors import class_spread, write_priors
from mriad_synthseg.roles import BACKGROUND_PART

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.flow import Cases
    from mriad.vocabulary import Case, Sample
    from numpy.typing import NDArray

    from mriad_synthseg.stages import FitPriors, SplitBackground

SAY_EVERY_S = 5.0
BINS = 1024  # of the intensities that are clustered


def generator_of(experiment: Experiment) -> Generate:
    """The experiment's generator.

    Raises:
        ExperimentError: it has none.
    """
    for augmenter in painters_of(experiment):
        if isinstance(augmenter, Generate):
            return augmenter
    raise ExperimentError(
        "the classes of intensity priors are those of a generator, and this experiment has none",
        where={"augment": ", ".join(a.type_name() for a in experiment.augment) or "empty"},
        remedy="augment: [{type: synthseg.generate, priors: NAME_OF_THIS_STAGE}]",
    )


def _chosen(cases: Cases, sides: Sequence[str], word: str) -> list[Case]:
    """Cases of these sides with label and image that `word` means.

    Raises:
        DataError: there is none.
    """
    within = [case for side in sides for case in cases.side(side)]
    found = [
        case
        for case in within
        if case.channels and cases.label in case.labels and word in ("", case.domain, case.contrast)
    ]
    if not found:
        known = sorted({*(c.domain for c in within), *(c.contrast for c in within)} - {""})
        raise DataError(
            f"no {' or '.join(sides)} case with a label '{cases.label}' and an image is meant by `cases: {word}`",
            where={"cases": len(within), "domains and contrasts": ", ".join(known) or "none"},
        )
    return found


def _channels(experiment: Experiment, case: Case) -> tuple[str, ...]:
    """The channels that count: the experiment's where it names some, else all of the case."""
    return tuple(experiment.data.channels) or tuple(case.channels)


def _annotated(sample: Sample) -> NDArray[np.bool_] | None:
    """(X, Y, Z), false where nobody said what a voxel is; None where all is annotated."""
    return None if sample.validity is None else sample.validity[0] > 0


def fit_priors(
    stage: FitPriors,
    experiment: Experiment,
    fold: int,
    folder: Path,
    message: Callable[[str], None],
    labels: str = "",
) -> dict[str, Any]:
    """Write `priors.tsv` into `folder`; see the stage. `labels`: folder of the stage that made the labels."""
    generator = generator_of(experiment)
    cases = gather_cases(experiment, index_of(experiment, labels=labels), fold, experiment.seed)
    label_set = cases.index.label_set
    roles = generator.roles(label_set)
    chosen = _chosen(cases, ("train",), stage.cases)
    found = []
    told = time.perf_counter()
    for done, case in enumerate(chosen, 1):
        channels = _channels(experiment, case)
        sample = load_sample(case, channels, cases.label, "hard", label_set)
        target, annotated = sample.target, _annotated(sample)
        assert target is not None
        for name, image in zip(channels, sample.image, strict=True):
            try:
                spread = class_spread(image, target[0], roles.classes, stage.consistency, annotated)
            except DataError as error:
                raise failure(case.id, error) from error
            found.append((case.contrast or name, spread))
        if time.perf_counter() - told > SAY_EVERY_S:
            told = time.perf_counter()
            message(f"measured {done} of {len(chosen)} images")
    write_priors(folder, found, roles, stage.consistency)
    seen = {k for _, spread in found for k in spread}
    return {
        "images": len(found),
        "contrasts": sorted({contrast for contrast, _ in found}),
        "classes": len(seen),
        "classes_never_seen": [n for k, n in enumerate(roles.class_names) if k not in seen],
    }


def split_background(
    stage: SplitBackground,
    experiment: Experiment,
    fold: int,
    folder: Path,
    message: Callable[[str], None],
    labels: str = "",
) -> dict[str, Any]:
    """Write the data set into `folder`; see the stage. `labels`: folder of the stage that made the labels."""
    cases = gather_cases(experiment, index_of(experiment, labels=labels), fold, experiment.seed)
    label_set = cases.index.label_set
    chosen = _chosen(cases, ("train", "validation"), stage.cases)
    top = max([*(s.value for s in label_set.structures), *label_set.ignore, *label_set.background, 0])
    parts = tuple(Structure(f"{BACKGROUND_PART}{n}", top + n) for n in range(1, stage.clusters))
    whole = LabelSet((*label_set.structures, *parts), label_set.ignore)
    made, told = [], time.perf_counter()
    for done, case in enumerate(chosen, 1):
        file = f"{case.id}.nii.gz"
        path, mask = folder / "labels" / file, folder / "validity" / file
        wanted = _channels(experiment, case)
        try:
            if not path.exists():
                sample = load_sample(case, wanted[:1], cases.label, "hard", label_set)
                _write_map(stage, sample, label_set, top, path, mask)
            channels = {
                name: as_file(case.channels[name], folder / "images" / f"{case.id}_{name}.nii.gz")
                for name in wanted
            }
            trust = case.labels[cases.label].confidence
            label = Label(
                "hard",
                FileSource(str(path)),
                FileSource(str(mask)) if mask.exists() else None,
                None if trust is None else as_file(trust, folder / "confidence" / file),
            )
        except Exception as error:
            raise failure(case.id, error) from error
        made.append(replace(case, channels=channels, labels={cases.label: label}, annotations={}))
        if time.perf_counter() - told > SAY_EVERY_S:
            told = time.perf_counter()
            message(f"split the background of {done} of {len(chosen)} cases")
    write_dataset(folder, made, whole)
    return {"cases": len(made), "clusters": stage.clusters}


def _write_map(
    stage: SplitBackground, sample: Sample, label_set: LabelSet, top: int, path: Path, mask: Path
) -> None:
    """Write the map whose background is in parts and, before it, the mask of what is annotated, if not all is."""
    assert sample.target is not None
    values = np.array([0, *(s.value for s in label_set.structures)], np.int32)[sample.target[0]]
    sigma = [stage.smooth_mm / s for s in sample.grid.spacing]
    smooth = ndimage.gaussian_filter(sample.image[0], sigma, mode="nearest")
    free, annotated = values == 0, _annotated(sample)
    known = free if annotated is None else free & annotated
    # What nobody annotated shapes no cluster, but is painted like what looks alike.
    part = np.searchsorted(borders(smooth[known], stage.clusters), smooth[free])
    values[free] = np.where(part > 0, top + part, 0)
    if annotated is not None:
        write_like(mask, annotated.astype(np.uint8), sample.grid, "labels", overwrite=True)
    write_like(path, values, sample.grid, "labels")


def borders(values: NDArray[np.floating], clusters: int, rounds: int = 200) -> NDArray[np.float64]:
    """k-means on numbers: the (clusters − 1) values between neighbouring clusters, ascending.

    Lloyd's iteration on a histogram, begun at equally spaced intensities within the 1st and 99th percentile, so that
    a large dark background does not take all clusters; it ends when no bin changes its cluster.

    Raises:
        DataError: there are fewer different values than clusters.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    counts, edges = np.histogram(values, BINS, (low, high if high > low else low + 1))
    if int((counts > 0).sum()) < clusters:
        raise DataError(
            "the background has fewer intensities than clusters",
            where={
                "annotated voxels": values.size,
                "intensities": int((counts > 0).sum()),
                "clusters": clusters,
            },
            remedy="fewer `clusters`, or `cases` whose background is annotated",
        )
    middles = (edges[:-1] + edges[1:]) / 2
    centres = np.linspace(*np.percentile(values, [1, 99]), clusters)
    owner = np.zeros(BINS, np.int64)
    for _ in range(rounds):
        now = np.searchsorted((centres[:-1] + centres[1:]) / 2, middles)
        weight = np.bincount(now, counts, clusters)
        total = np.bincount(now, counts * middles, clusters)
        # A centre without a voxel stays where it is.
        centres = np.sort(np.where(weight > 0, total / np.maximum(weight, 1), centres))
        if np.array_equal(now, owner):
            break
        owner = now
    between: NDArray[np.float64] = (centres[:-1] + centres[1:]) / 2
    return between
