"""The three protocols between the loop and the world outside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reporter(Protocol):
    """Takes what a run has to say; must return at once."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a step or epoch, keys such as "train/loss" or "val/dice/cord"."""
        ...

    def progress(self, step: int, steps: int) -> None:
        """Called every step: drives a progress bar, a heartbeat."""
        ...

    def message(self, text: str) -> None:
        """One line for a person."""
        ...


class CheckpointStore(Protocol):
    """Keeps checkpoints; a half-written one is never seen."""

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Store under a name ("last", "best"), replacing it atomically.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        ...

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a checkpoint or None.

        Raises:
            CheckpointError: damaged, or holds code.
        """
        ...


@dataclass(frozen=True)
class Shard:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
