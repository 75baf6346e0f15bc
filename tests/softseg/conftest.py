from __future__ import annotations

import pytest
from mriad.vocabulary import LabelSet, Link, Task


@pytest.fixture
def make_task():
    def make(link: Link = "raw", structures: int = 1, channels: int = 1, dimensions: int = 3) -> Task:
        labels = LabelSet.of({f"s{i}": i + 1 for i in range(structures)})
        return Task(tuple(f"c{i}" for i in range(channels)), {"": labels}, link, dimensions=dimensions)

    return make
