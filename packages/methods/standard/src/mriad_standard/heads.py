"""Heads: raw outputs (O, *D) → probabilities of the structures (S, *D) in [0, 1], float32, voxel by voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Head

if TYPE_CHECKING:
    from collections.abc import Callable

    from mriad.vocabulary import Link, Task
    from torch import Tensor


class Softmax(Head):
    """Softmax against a background channel, which is the first and is dropped: O = S + 1."""

    type: Literal["standard.softmax"] = "standard.softmax"

    @property
    def link(self) -> Link:
        """softmax."""
        return "softmax"

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        return lambda raw: raw.float().softmax(0)[1:]


class Sigmoid(Head):
    """A sigmoid a structure, which may overlap: O = S."""

    type: Literal["standard.sigmoid"] = "standard.sigmoid"

    @property
    def link(self) -> Link:
        """sigmoid."""
        return "sigmoid"

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        return lambda raw: raw.float().sigmoid()


class Identity(Head):
    """Outputs as they are, clamped to [0, 1]: O = S. For regression of soft labels."""

    type: Literal["standard.identity"] = "standard.identity"

    @property
    def link(self) -> Link:
        """raw."""
        return "raw"

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        return lambda raw: raw.float().clamp(0, 1)
