"""Augmenters that paint an image where there is none, and change what is segmented (SynthSeg).

What a network is built for is what comes out of the augmenters: their channels and their label set. Targets are
stored in the label set of the data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mriad.errors import DataError, ExperimentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from mriad.experiment.model import Experiment, StreamSection
    from mriad.interfaces import Augmenter
    from mriad.vocabulary import LabelSet, Sample, Task


def chains_of(experiment: Experiment, section: StreamSection) -> list[list[Augmenter]]:
    """The augmenters that samples of a stream go through, for each view: those that views share come first."""
    own = experiment.augment if section.augment is None else section.augment
    if not section.views:
        return [list(own)]
    shared = section.augment or []
    return [[*shared, *view] for view in section.views.values()]


def channels_after(experiment: Experiment, given: tuple[str, ...]) -> tuple[str, ...]:
    """Channels that a network sees.

    Raises:
        ExperimentError: streams or views end with different ones.
    """
    found: dict[tuple[str, ...], str] = {}
    for name in experiment.learner.streams():
        for chain in chains_of(experiment, experiment.streams[name]) if name in experiment.streams else ():
            channels = given
            for augmenter in chain:
                channels = augmenter.channels(channels)
            found.setdefault(channels, name)
    _agree("channels", [(f"streams.{n}", ", ".join(c) or "none") for c, n in found.items()])
    return next(iter(found), given)


def label_set_after(experiment: Experiment, given: LabelSet) -> LabelSet:
    """What a network segments where the targets are stored in `given`; streams without labels do not count.

    Raises:
        ExperimentError: streams or views end with different ones, or an augmenter does not fit the label set.
    """
    found: list[tuple[str, LabelSet]] = []
    for name in experiment.learner.streams():
        section = experiment.streams.get(name)
        if (
            section is None
            or section.labelled is False
            or (section.labelled is None and name == "unlabelled")
        ):
            continue
        for chain in chains_of(experiment, section):
            label_set = given
            for augmenter in chain:
                label_set = augmenter.label_set(label_set)
            if all(label_set != other for _, other in found):
                found.append((f"streams.{name}", label_set))
    _agree("structures", [(n, ", ".join(s.names)) for n, s in found])
    return found[0][1] if found else given


def _agree(what: str, found: Sequence[tuple[str, str]]) -> None:
    if len(found) > 1:
        raise ExperimentError(
            f"augmenters of different streams end with different {what}",
            where={f"{name} ({n})": text for n, (name, text) in enumerate(found, 1)},
            remedy="one network reads them all: give every labelled stream the same generator",
        )


def paints(augmenter: Augmenter) -> bool:
    """Whether it makes images where there are none."""
    return bool(augmenter.channels(()))


def painters_of(experiment: Experiment) -> list[Augmenter]:
    """The augmenters of the first stream that paints; none where no stream does."""
    for name in experiment.learner.streams():
        if name in experiment.streams:
            for chain in chains_of(experiment, experiment.streams[name]):
                found = [a for a in chain if paints(a)]
                if found:
                    return found
    return []


def as_segmented(sample: Sample, task: Task) -> Sample:
    """The sample with its target in the label set of the network.

    Raises:
        DataError: the two label sets do not belong together.
    """
    if task.stored_label_set is None or sample.target is None:
        return sample
    wanted = task.label_set(sample.domain)
    table = np.array(wanted.indices(task.stored_label_set))
    if np.issubdtype(sample.target.dtype, np.integer):
        return replace(sample, target=table.astype(sample.target.dtype)[sample.target])
    soft = np.zeros((len(wanted), *sample.target.shape[1:]), np.float32)
    for channel, index in zip(sample.target, table[1:], strict=True):
        if index:
            soft[index - 1] += channel
    return replace(sample, target=np.minimum(soft, 1))


def require_one_orientation(samples: Iterable[Sample]) -> None:
    """Refuse maps whose axes point to different sides, or whose first axis is not left–right: painters flip that one.

    Raises:
        DataError: the cases with their orientations.
    """
    first: Sample | None = None
    for sample in samples:
        first = first or sample
        if sample.grid.orientation[0] not in "LR":
            raise DataError(
                "the first axis of a painted label map must run left–right: flips exchange the sides along it",
                where={"case": sample.case, "orientation": sample.grid.orientation},
                remedy="add {type: data.orient, axes: RAS} to data.preprocessing",
            )
        if sample.grid.orientation != first.grid.orientation:
            raise DataError(
                "label maps that are painted have different orientations",
                where={first.case: first.grid.orientation, sample.case: sample.grid.orientation},
                remedy="add {type: data.orient, axes: RAS} to data.preprocessing",
            )


def painted(
    sample: Sample, painters: Sequence[Augmenter], task: Task, seed: int, device: torch.device
) -> Sample:
    """Paint a sample without an image, as training does, by draws that depend on its case and the seed alone.

    Raises:
        DataError: nothing here paints images.
    """
    from mriad.batch import sample_key
    from mriad.geometry import Grid
    from mriad.training.streams import augment, collate

    if not painters:
        raise DataError(
            "a case has no image, and no augmenter paints one",
            where={"case": sample.case},
            remedy="leave it out of this side of the split, or add a generator to `augment`",
        )
    batch = collate([sample], [sample_key(seed, "validation", 0, sample.case)]).to(device)
    functions = [(f"validation/{i}:{a.type_name()}", a.build(task)) for i, a in enumerate(painters)]
    made = augment(batch, functions)

    def numpy(x: torch.Tensor | None) -> np.ndarray | None:
        return None if x is None else x[0].cpu().numpy()

    image = numpy(made.image)
    assert image is not None
    validity = numpy(made.validity)
    return replace(
        sample,
        image=image,
        target=numpy(made.target),
        validity=None if validity is None else validity.astype(np.uint8),
        field=None,
        grid=Grid.of(image.shape[1:], sample.grid.matrix),
    )
