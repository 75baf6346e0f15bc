"""Named streams of batches. What is drawn at a position depends on (seed, stream, epoch, sample, view) alone.

A stream's state is one number, its position: batches drawn so far. Ranks take contiguous parts of the joint batch,
so that N ranks see what one would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mriad.batch import Batch, Draws, generator_of, sample_key
from mriad.errors import DataError, ExperimentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from mriad.interfaces import Augmenter, BatchFunction, PatchFunction
    from mriad.training.protocols import Shard
    from mriad.vocabulary import Sample, Task


@dataclass(frozen=True)
class Chain:
    """Augmenters of one view, cut where the last one that must run in a worker ends."""

    worker: tuple[tuple[str, BatchFunction], ...] = ()
    device: tuple[tuple[str, BatchFunction], ...] = ()
    margin: int = 0

    @classmethod
    def of(
        cls, augmenters: Sequence[Augmenter], task: Task, view: str = "", shared: Sequence[Augmenter] = ()
    ) -> Chain:
        """Build the augmenters of a view, after those that all views share.

        Each gets a tag of its own, so that draws are independent; the tags of shared ones do not name the view, so
        that all views see the same.
        """
        tagged = [(f"shared/{i}:{a.type_name()}", a) for i, a in enumerate(shared)]
        tagged += [(f"{view}/{i}:{a.type_name()}", a) for i, a in enumerate(augmenters)]
        built = tuple((tag, a.build(task)) for tag, a in tagged)
        cut = max((i + 1 for i, (_, a) in enumerate(tagged) if a.where == "worker"), default=0)
        return cls(built[:cut], built[cut:], sum(a.margin() for _, a in tagged))


def augment(batch: Batch, functions: Sequence[tuple[str, BatchFunction]]) -> Batch:
    """Apply augmenters in order, each with draws of its own."""
    for tag, function in functions:
        batch = function(batch, Draws(batch.keys, tag, batch.image.device))
    return batch


def crop_margin(batch: Batch, margin: int) -> Batch:
    """Cut `margin` voxels off every side."""
    if margin == 0:
        return batch
    inner: Any = (..., *([slice(margin, -margin)] * (batch.image.ndim - 2)))

    def cut(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[inner]

    return replace(
        batch,
        image=batch.image[inner],
        target=cut(batch.target),
        validity=cut(batch.validity),
        field=cut(batch.field),
    )


def _stack(
    arrays: Sequence[np.ndarray | None], fill: Sequence[np.ndarray], dtype: torch.dtype
) -> Tensor | None:
    """Stack per-sample arrays; where only some samples have one, the others are all ones. None if none has."""
    if all(a is None for a in arrays):
        return None
    rows = [
        np.ones((1, *f.shape[1:]), np.uint8) if a is None else a for a, f in zip(arrays, fill, strict=True)
    ]
    return torch.from_numpy(np.stack([np.ascontiguousarray(r) for r in rows])).to(dtype)


def collate(samples: Sequence[Sample], keys: Sequence[int]) -> Batch:
    """Stack samples of equal shape into a batch on the CPU.

    Raises:
        DataError: shapes differ, or only some samples have a target.
    """
    shapes = {s.image.shape for s in samples}
    if len(shapes) > 1:
        raise DataError(
            "samples of one batch differ in shape",
            where={s.case: "×".join(map(str, s.image.shape)) for s in samples},
            remedy="give the stream a sampler with a fixed size, or crop all cases to one size",
        )
    if len({s.target is None for s in samples}) > 1:
        raise DataError(
            "a batch mixes cases with and without a target",
            where={s.case: "no target" if s.target is None else "target" for s in samples},
            remedy="set `labelled: true` or `labelled: false` on the stream",
        )
    images = [s.image for s in samples]
    target = None
    if samples[0].target is not None:
        integer = np.issubdtype(samples[0].target.dtype, np.integer)
        target = _stack([s.target for s in samples], images, torch.int64 if integer else torch.float32)
    image = torch.from_numpy(np.stack([np.ascontiguousarray(i, dtype=np.float32) for i in images]))
    return Batch(
        image=image,
        keys=tuple(keys),
        cases=tuple(s.case for s in samples),
        target=target,
        validity=_stack([s.validity for s in samples], images, torch.float32),
        field=_stack([s.field for s in samples], images, torch.float32),
        domains=tuple(s.domain for s in samples),
        contrasts=tuple(s.contrast for s in samples),
        spacing=tuple(s.grid.spacing for s in samples),
    )


@dataclass
class Stream:
    """One named flow of batches over prepared samples."""

    name: str
    cases: Sequence[str]
    load: Callable[[str], Sample]
    """Case id → prepared sample (memory-mapped)."""
    batch: int
    seed: int
    patch: PatchFunction | None = None
    views: Mapping[str, Chain] = field(default_factory=lambda: {"": Chain()})
    position: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    """Case id → group (domain, contrast or person) where groups are drawn alike often; empty: cases are."""
    blind: bool = False
    """Targets and validity are taken away: the stream is unlabelled, though some of its cases have labels."""

    def __post_init__(self) -> None:
        if not self.cases:
            raise ExperimentError(
                f"stream '{self.name}' has no case",
                remedy=f"look at streams.{self.name} (labelled, domain, contrasts) and at the split",
            )
        # What an epoch goes through: cases, or where the sampler says so, each of their items (slices).
        count = getattr(self.patch, "items", None)
        self._units = [(case, -1) for case in self.cases]
        if count is not None:
            self._units = [(case, i) for case in self.cases for i in range(count(self._sample(case)))]
        if not self._units:
            raise ExperimentError(
                f"stream '{self.name}' has nothing to draw",
                where={"cases": len(self.cases)},
                remedy=f"look at streams.{self.name}.sampler: no case has an annotated slice",
            )
        self._turns = Turns.of([self.groups.get(case, "") for case, _ in self._units])

    def _sample(self, case: str) -> Sample:
        """The prepared sample as this stream shows it: what is counted is what is drawn from."""
        sample = self.load(case)
        return replace(sample, target=None, validity=None) if self.blind else sample

    @property
    def batches_per_epoch(self) -> int:
        """Batches until every case (or slice) could be drawn once."""
        return math.ceil(len(self._units) / self.batch)

    @property
    def margin(self) -> int:
        """Voxels a side that patches are larger than what the learner sees; whole volumes have none."""
        return 0 if self.patch is None else max(chain.margin for chain in self.views.values())

    def at(self, position: int, index: int) -> tuple[int, str, int]:
        """Epoch, case and item (−1: the sampler draws freely) of sample `index` of the joint batch at a position.

        In a balanced stream the epoch is that of the sample's group, which may be through more often than others.
        """
        number = position * self.batch + index
        epoch, group, turn = self._turns.at(number, self._order)
        if group is None:
            case, item = self._units[turn]
            return epoch, case, item
        members = self._turns.groups[group]
        cycle, place = divmod(turn, len(members))
        case, item = self._units[members[int(self._order(cycle, len(members), f"order {group}")[place])]]
        return cycle, case, item

    def _order(self, epoch: int, count: int, tag: str = "order") -> np.ndarray:
        return generator_of(sample_key(self.seed, self.name, epoch, ""), tag).permutation(count)

    def draw(self, position: int, shard: Shard) -> dict[str, Batch]:
        """This rank's part of the joint batch, one entry a view, worker augmenters applied, on the CPU."""
        local = self.batch // shard.world
        where = [self.at(position, shard.rank * local + i) for i in range(local)]
        keys, patches = [], []
        for epoch, case, item in where:
            sample = self._sample(case)
            # A slice has draws of its own; a case's do not depend on there being items at all.
            key = sample_key(self.seed, self.name, epoch, case if item < 0 else f"{case}\x1e{item}")
            if self.patch is not None:
                margin = (self.margin,) * (sample.image.ndim - 1)
                generator = generator_of(key, "patch")
                given = {} if item < 0 else {"item": item}
                sample = self.patch(sample, generator, margin, **given)
            keys.append(key)
            patches.append(sample)
        return {view: _view(chain, patches, keys) for view, chain in self.views.items()}


@dataclass(frozen=True)
class Turns:
    """Whose turn a draw is: every unit's once an epoch, or every group's alike often."""

    count: int
    groups: Sequence[Sequence[int]] = ()
    """Units by group; empty: not balanced."""

    @classmethod
    def of(cls, names: Sequence[str]) -> Turns:
        """Group units by name; one name alone needs no balance."""
        found: dict[str, list[int]] = {}
        for unit, name in enumerate(names):
            found.setdefault(name, []).append(unit)
        return cls(len(names), [found[name] for name in sorted(found)] if len(found) > 1 else ())

    def at(self, number: int, order: Callable[[int, int], np.ndarray]) -> tuple[int, int | None, int]:
        """Epoch, group, and the how-manieth draw of that group this is; without groups: epoch, None, unit.

        An epoch has as many draws as there are units, in an order of its own; groups take turns over all epochs.
        """
        epoch, place = divmod(number, self.count)
        slot = int(order(epoch, self.count)[place])
        if not self.groups:
            return epoch, None, slot
        turn, group = divmod(epoch * self.count + slot, len(self.groups))
        return epoch, group, turn


def _view(chain: Chain, patches: Sequence[Sample], keys: Sequence[int]) -> Batch:
    """Collate, and apply what runs in workers sample by sample."""
    if not chain.worker:
        return collate(patches, keys)
    return join([augment(collate([p], [k]), chain.worker) for p, k in zip(patches, keys, strict=True)])


def join(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches along B. Where only some have a mask, the others' is all ones, as in `collate`."""

    def masks(name: str) -> Tensor | None:
        parts: list[Tensor | None] = [getattr(b, name) for b in batches]
        if all(p is None for p in parts):
            return None
        ones = [torch.ones_like(b.image[:, :1]) for b in batches]
        return torch.cat([one if p is None else p for p, one in zip(parts, ones, strict=True)])

    first = batches[0]
    targets = [b.target for b in batches if b.target is not None]
    if targets and len(targets) < len(batches):
        raise DataError("a batch mixes cases with and without a target", where={"cases": [*first.cases]})
    return replace(
        first,
        image=torch.cat([b.image for b in batches]),
        target=torch.cat(targets) if targets else None,
        validity=masks("validity"),
        field=masks("field"),
        **{
            name: tuple(v for b in batches for v in getattr(b, name))
            for name in ("keys", "cases", "domains", "contrasts", "spacing")
        },
    )


class _Positions(Dataset[dict[str, dict[str, Batch]]]):
    """Step → batches of every stream; what a loader process runs."""

    def __init__(self, streams: Mapping[str, Stream], offsets: Mapping[str, int], shard: Shard) -> None:
        self.streams, self.offsets, self.shard = streams, offsets, shard

    def __getitem__(self, step: int) -> dict[str, dict[str, Batch]]:
        return {n: s.draw(self.offsets[n] + step, self.shard) for n, s in self.streams.items()}


class StreamSet:
    """Streams of different length that step together."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        shard: Shard,
        device: torch.device,
        epoch: Literal["longest", "shortest"] | int = "longest",
        loaders: int = 0,
    ) -> None:
        self.streams, self.shard, self.device, self.loaders = dict(streams), shard, device, loaders
        for stream in streams.values():
            if stream.batch % shard.world:
                raise ExperimentError(
                    f"streams.{stream.name}.batch {stream.batch} cannot be shared by {shard.world} workers",
                    remedy=f"use a multiple of {shard.world}, or another resources.workers",
                )
        lengths = [stream.batches_per_epoch for stream in streams.values()]
        self.steps_per_epoch = (
            epoch if isinstance(epoch, int) else (max if epoch == "longest" else min)(lengths)
        )

    def batches(self, steps: int) -> Iterator[dict[str, Batch]]:
        """Yield `steps` times the batches of all streams on the device, keyed "stream" or "stream.view".

        Positions advance as batches are handed out, so the state after n steps does not depend on prefetching.
        """
        offsets = {name: stream.position for name, stream in self.streams.items()}
        drawn = _Positions(self.streams, offsets, self.shard)
        source: Iterator[dict[str, dict[str, Batch]]]
        if self.loaders:
            source = iter(
                DataLoader(
                    drawn,
                    batch_size=None,
                    sampler=range(steps),
                    num_workers=min(self.loaders, steps),
                    prefetch_factor=2,
                )
            )
        else:
            source = (drawn[step] for step in range(steps))
        for views in source:
            for stream in self.streams.values():
                stream.position += 1
            yield {
                f"{name}.{view}" if view else name: self._finish(batch, self.streams[name], view)
                for name, parts in views.items()
                for view, batch in parts.items()
            }

    def _finish(self, batch: Batch, stream: Stream, view: str) -> Batch:
        return crop_margin(augment(batch.to(self.device), stream.views[view].device), stream.margin)

    def state_dict(self) -> dict[str, int]:
        """Positions by stream."""
        return {name: stream.position for name, stream in self.streams.items()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore positions."""
        for name, stream in self.streams.items():
            stream.position = int(state[name])
