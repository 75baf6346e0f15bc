"""Batches of tensors, and draws that belong to a sample rather than to a worker.

A draw is a function of (seed, stream, epoch, sample, view): never of rank, worker or batch size. So resuming needs
a position and no generator state, and two ranks see what one would have seen.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def sample_key(seed: int, stream: str, epoch: int, sample: str) -> int:
    """Return the 63-bit key from which every draw of one sample follows. The view enters as a tag of the draws."""
    text = f"{seed}\x1f{stream}\x1f{epoch}\x1f{sample}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator_of(key: int, tag: str = "") -> np.random.Generator:
    """A NumPy generator for one sample and one purpose (`tag` keeps purposes independent)."""
    return np.random.Generator(np.random.Philox(sample_key(key, tag, 0, "")))


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors of B samples on one device. D is 2 or 3 spatial axes.

    image: (B, C, *D) float32. target: None, integer (B, 1, *D) or float (B, S, *D), as in `Sample`.
    validity: None or (B, 1, *D) float32, 0 where not annotated. field: None or (B, 1, *D), 0 where padded.
    keys: one key a sample, from `sample_key`.
    """

    image: Tensor
    keys: tuple[int, ...]
    cases: tuple[str, ...]
    target: Tensor | None = None
    validity: Tensor | None = None
    field: Tensor | None = None
    domains: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    spacing: tuple[tuple[float, ...], ...] = ()
    """Voxel size in mm per sample."""

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device, non_blocking=True)

        return replace(
            self,
            image=self.image.to(device, non_blocking=True),
            target=move(self.target),
            validity=move(self.validity),
            field=move(self.field),
        )


class Draws:
    """Random numbers for a batch, one independent generator a sample.

    Scalars are drawn on the CPU (tiny), dense noise on the device of the batch. `tag` separates augmenters of one
    chain, so that adding one does not change the draws of the next.
    """

    def __init__(self, keys: Sequence[int], tag: str, device: torch.device | str = "cpu") -> None:
        self._keys = tuple(keys)
        self._tag = tag
        self._device = torch.device(device)
        self._numpy = [generator_of(key, tag) for key in self._keys]
        self._dense: list[torch.Generator] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def host(self) -> Draws:
        """The same generators, scalars left on the CPU: for choices that must not wait for the device."""
        view = copy.copy(self)
        view._device = torch.device("cpu")
        return view

    def uniform(self, low: float, high: float, size: Sequence[int] = ()) -> Tensor:
        """(B, *size) float32 in [low, high) on the device."""
        return self._stack([g.uniform(low, high, tuple(size)) for g in self._numpy])

    def normal(self, size: Sequence[int] = ()) -> Tensor:
        """(B, *size) standard normal float32 on the device; for a few numbers a sample."""
        return self._stack([g.standard_normal(tuple(size)) for g in self._numpy])

    def chance(self, probability: float) -> Tensor:
        """(B,) bool on the device, true with `probability`."""
        return self.uniform(0.0, 1.0) < probability

    def integers(self, low: int, high: int, size: Sequence[int] = ()) -> Tensor:
        """(B, *size) int64 in [low, high) on the device."""
        rows = [np.asarray(g.integers(low, high, tuple(size))) for g in self._numpy]
        return torch.from_numpy(np.stack(rows)).to(self._device)

    def noise(self, shape: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """(B, *shape) standard normal float32, drawn on the device: for fields and noise.

        With `rows` only these samples draw, (len(rows), *shape): a sample that needs none costs nothing, and
        what another one draws later does not depend on it.
        """
        if self._dense is None:
            self._dense = []
            for key in self._keys:
                generator = torch.Generator(self._device)
                generator.manual_seed(sample_key(key, self._tag, 0, "dense"))
                self._dense.append(generator)
        drawing = self._dense if rows is None else [self._dense[row] for row in rows]
        fields = [torch.randn(tuple(shape), generator=g, device=self._device) for g in drawing]
        return fields[0][None] if len(fields) == 1 else torch.stack(fields)  # one field needs no copy

    def _stack(self, rows: list[np.ndarray | float]) -> Tensor:
        array = np.stack([np.asarray(row, dtype=np.float32) for row in rows])
        return torch.from_numpy(array).to(self._device)
