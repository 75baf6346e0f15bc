"""Contracts of data sets, preprocessing steps and augmenters."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mriad.batch import Draws
from mriad.geometry import SAME_GRID_MM
from mriad.testing.contract import check_config, check_target, finite, own_randomness, require, untouched
from mriad.testing.samples import a_batch, a_sample, a_task
from mriad.training.streams import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.batch import Batch
    from mriad.interfaces import Augmenter, Dataset, PreprocessingStep
    from mriad.vocabulary import Case, LabelSet, Sample, Task


def check_dataset(dataset: Dataset, cases: int = 2) -> None:
    """Index twice, read the first few cases, compare grids and label values.

    Raises:
        ContractError: the index is empty or not reproducible, a source does not pickle or gives other voxels at a
            second reading, image and label lie on different grids, or labels do not fit the label set.
    """
    check_config(dataset)
    name = dataset.type_name()
    with own_randomness(name):
        index, again = dataset.build(), dataset.build()
    require(len(index) > 0, f"{name} has no case")
    require(index.fingerprint == again.fingerprint, f"{name} gives another index when it is built again")
    for case in list(index)[:cases]:
        require(bool(case.person), f"{name}: case {case.id} has no person; splits could cut one in two")
        copy = pickle.loads(pickle.dumps(case))
        require(
            [s.fingerprint for s in copy.channels.values()]
            == [s.fingerprint for s in case.channels.values()],
            f"{name}: the sources of case {case.id} change when pickled",
        )
        require(bool(case.channels or case.labels), f"{name}: case {case.id} has neither channels nor labels")
        _check_case(name, case, index.label_set)


def _check_case(name: str, case: Case, label_set: LabelSet) -> None:
    grid = None
    for channel, source in case.channels.items():
        with own_randomness(f"{name}, {case.id}, {channel}"):
            volume, again = source.read(), source.read()
        require(
            volume.data.ndim == 3, f"{name}: {case.id}, {channel} is {volume.data.ndim}D, where 3D is meant"
        )
        require(volume.data.shape == volume.grid.shape, f"{name}: {case.id}, {channel} does not fit its grid")
        finite(f"{name}: {case.id}, {channel}", volume.data)
        require(
            np.array_equal(volume.data, again.data), f"{name}: {case.id}, {channel} differs when read again"
        )
        require(float(np.ptp(volume.data)) > 0, f"{name}: {case.id}, {channel} is constant")
        grid = grid or volume.grid
        require(grid.same(volume.grid), f"{name}: channels of {case.id} lie on different grids")
    for key, label in case.labels.items():
        volume = label.source.read()
        if grid is not None:
            apart = grid.distance(volume.grid)
            require(
                apart <= SAME_GRID_MM, f"{name}: label '{key}' of {case.id} lies {apart:g} mm off its image"
            )
        if label.kind == "soft":
            low, high = float(volume.data.min()), float(volume.data.max())
            require(
                low >= 0 and high <= 1, f"{name}: soft label '{key}' of {case.id} holds {low:g} to {high:g}"
            )
            continue
        known = {0, *(s.value for s in label_set.structures), *label_set.ignore}
        strange = sorted(set(np.unique(volume.data).tolist()) - known)
        require(
            not strange, f"{name}: label '{key}' of {case.id} holds {strange[:5]}, which the label set lacks"
        )


def check_preprocessing(step: PreprocessingStep, samples: list[Sample] | None = None) -> None:
    """Fit and apply the step on hard and soft samples of an oblique grid.

    Raises:
        ContractError: the input is written to, results differ at a second call, arrays do not fit the grid, voxels
            change their place in the world, labels are treated like images, or NaN appears.
    """
    check_config(step)
    name = step.type_name()
    given = samples or [a_sample(0, "hard"), a_sample(1, "soft")]
    with own_randomness(name):
        parameters = step.fit(given) if step.fitted else None
    for sample in given:
        arrays = _arrays(sample)
        with untouched(name, arrays), own_randomness(name):
            after, again = step.apply(sample, parameters), step.apply(sample, parameters)
        finite(f"the image after {name}", after.image)
        require(np.array_equal(after.image, again.image), f"{name} gives another image when applied again")
        for key, array in _arrays(after).items():
            require(array.shape[1:] == after.grid.shape, f"{name}: {key} {array.shape} does not fit its grid")
        require(after.image.dtype == np.float32, f"{name} makes the image {after.image.dtype}, not float32")
        if sample.target is not None:
            check_target(name, sample.target, after.target)
        _check_place(name, step, parameters, sample)


def _check_place(
    name: str, step: PreprocessingStep, parameters: Mapping[str, Any] | None, sample: Sample
) -> None:
    """A bright block keeps its place in the world (to one voxel), in the image and in the target."""
    shape = sample.grid.shape
    x, y, z = (slice(n // 2 - 1, n // 2 + 2) for n in shape)
    marked = np.zeros((1, *shape), np.uint8)
    marked[0, x, y, z] = 1
    image = np.repeat(marked.astype(np.float32), sample.image.shape[0], 0)
    probe = replace(sample, image=image, target=marked, validity=None, field=None)
    after = step.apply(probe, parameters)
    wanted = sample.grid.world(np.array([n // 2 for n in shape], float))
    limit = max(max(sample.grid.spacing), max(after.grid.spacing))
    for what, array in (("image", after.image[0]), ("target", after.target)):
        if array is None:
            continue
        weight = np.abs(array.reshape(after.grid.shape) - np.median(array)).astype(float)
        require(weight.sum() > 0, f"{name} loses a block in the middle of the {what}")
        weight *= weight > 0.5 * weight.max()
        places = np.stack(np.meshgrid(*map(np.arange, after.grid.shape), indexing="ij"), -1).reshape(-1, 3)
        found = after.grid.world((places * weight.reshape(-1, 1)).sum(0) / weight.sum())
        apart = float(np.linalg.norm(found - wanted))
        require(apart <= limit, f"{name} moves the {what} by {apart:.2f} mm in the world; is its grid right?")


def _arrays(sample: Sample) -> dict[str, Any]:
    named = {n: getattr(sample, n) for n in ("image", "target", "validity", "field")}
    return {n: a for n, a in named.items() if a is not None}


def check_augmenter(augmenter: Augmenter, task: Task | None = None, batch: Batch | None = None) -> None:
    """Apply the augmenter to batches with hard and soft targets, twice, and sample by sample.

    Raises:
        ContractError: global random state is used, the input is written to, a second call differs, a sample depends
            on its batch mates, labels are treated like images, sizes change by more than the margin, NaN appears.
    """
    check_config(augmenter)
    name = augmenter.type_name()
    build = augmenter.build(task or a_task())
    for given in [batch] if batch is not None else [a_batch(2, "hard"), a_batch(2, "soft")]:
        arrays = {n: getattr(given, n) for n in ("image", "target", "validity", "field")}
        with untouched(name, {n: a for n, a in arrays.items() if a is not None}), own_randomness(name):
            after = build(given, Draws(given.keys, name))
        finite(f"the image after {name}", after.image)
        again = _elsewhere(build, given, name)
        require(torch.equal(after.image, again.image), f"{name} gives another result for the same keys")
        require(
            after.image.dtype == torch.float32, f"{name} makes the image {after.image.dtype}, not float32"
        )
        require(after.keys == given.keys, f"{name} changes the keys, on which later draws depend")
        if given.target is not None:
            check_target(name, given.target, after.target)
            require(
                after.target is not None and after.target.shape[2:] == after.image.shape[2:],
                f"{name} leaves image and target with different sizes",
            )
        _check_alone(name, build, given, after)


def _elsewhere(build: Any, batch: Batch, name: str) -> Batch:
    """Apply under another global seed; the state is given back."""
    with torch.random.fork_rng(devices=[]):
        kept = np.random.get_state()
        torch.manual_seed(12345)
        np.random.seed(54321)
        try:
            result: Batch = build(batch, Draws(batch.keys, name))
            return result
        finally:
            np.random.set_state(kept)


def _check_alone(name: str, build: Any, batch: Batch, after: Batch) -> None:
    """Each sample alone gives what it gave among others."""
    singles = []
    for i in range(len(batch)):
        one: dict[str, Any] = {
            n: None if getattr(batch, n) is None else getattr(batch, n)[i : i + 1]
            for n in ("image", "target", "validity", "field")
        }
        named: dict[str, Any] = {
            n: getattr(batch, n)[i : i + 1] for n in ("keys", "cases", "domains", "contrasts", "spacing")
        }
        singles.append(build(replace(batch, **one, **named), Draws(batch.keys[i : i + 1], name)))
    together = join(singles)
    require(
        torch.allclose(together.image, after.image, atol=1e-5),
        f"{name} gives a sample another result when its batch mates differ",
    )
