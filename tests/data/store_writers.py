"""What the processes of test_store.py run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mriad.identity import fingerprint
from mriad_data.store import ArrayFolder
from mriad_data.store_claims import claim

if TYPE_CHECKING:
    from pathlib import Path

KEY = fingerprint("a sample")


def hammer(folder: Path, sample: Any, barrier: Any, codec: Any = None) -> None:
    """Put twenty samples at the same time as the other process."""
    store = ArrayFolder(folder, codec=codec)
    for i in range(20):
        barrier.wait(30)
        stored = store.put(fingerprint(i), sample)
        assert (stored.image == sample.image).all()


def hold(folder: Path, held: Any) -> None:
    """Claim a key and keep it until killed."""
    with claim(folder, KEY):
        held.set()
        time.sleep(60)
