"""Trees of empty files in published layouts, and what a data set says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mriad.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def touch(root: Path, *names: str) -> None:
    """Make empty files below `root`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def drop(root: Path, *names: str) -> None:
    """Remove files below `root`."""
    for name in names:
        (root / name).unlink()


def faults(dataset) -> str:
    """The message with which a data set is refused."""
    with pytest.raises(DataError) as found:
        dataset.build()
    return str(found.value)
