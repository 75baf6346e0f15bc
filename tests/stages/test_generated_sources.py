"""Generated voxels are made once a store, and come back as they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.generated import KeptSource, kept
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad.vocabulary import Case, Label, Volume
from mriad_data.phantom.dataset import PhantomSpine
from mriad_data.store import ArrayStore

GRID = Grid.of([3, 4, 5], np.diag([1.0, 2.0, 0.5, 1.0]))
MADE: Counter[str] = Counter()


@dataclass(frozen=True)
class Made:
    """Numbered voxels of a type."""

    name: str
    dtype: str
    channels: int = 0
    costly: ClassVar[bool] = True

    @property
    def fingerprint(self):
        return fingerprint([self.name, self.dtype, self.channels])

    @property
    def location(self):
        return f"made {self.name}"

    def read(self):
        MADE[self.name] += 1
        shape = (*([self.channels] if self.channels else []), 3, 4, 5)
        return Volume((np.arange(np.prod(shape)).reshape(shape) % 251).astype(self.dtype), GRID)


@dataclass(frozen=True)
class Read(Made):
    """As a file: not generated."""

    costly: ClassVar[bool] = False


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 0), ("uint8", 0), ("int16", 0), ("float32", 2)])
def test_the_same_voxels_type_and_grid_made_once(tmp_path, dtype, channels):
    source = Made(f"{dtype}{channels}", dtype, channels)
    store = ArrayStore().build(tmp_path)
    for _ in range(3):
        found, expected = KeptSource(source, store).read(), source.read()
        assert found.data.dtype == expected.data.dtype
        assert np.array_equal(found.data, expected.data)
        assert found.grid == expected.grid
    assert MADE[source.name] == 4  # three by this test itself
    assert KeptSource(source, store).fingerprint == source.fingerprint
    assert KeptSource(source, store).location == source.location


def test_only_what_is_generated_goes_through_the_store(tmp_path):
    store = ArrayStore().build(tmp_path)
    case = Case(
        "a",
        "p",
        {"t1": Made("image", "float32"), "t2": Read("file", "float32")},
        {"hard": Label("hard", Made("label", "uint8"), validity=Made("valid", "uint8"))},
        annotations={"levels": Made("levels", "uint8")},
    )
    found = kept(case, store)
    assert isinstance(found.channels["t1"], KeptSource)
    assert found.channels["t2"] is case.channels["t2"]
    assert isinstance(found.labels["hard"].source, KeptSource)
    assert isinstance(found.labels["hard"].validity, KeptSource)
    assert found.labels["hard"].confidence is None
    assert isinstance(found.annotations["levels"], KeptSource)
    assert found.numbers == case.numbers


def test_voxels_that_the_store_would_change_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be kept in the store") as caught:
        KeptSource(Made("double", "float64"), ArrayStore().build(tmp_path)).read()
    assert "float64 in 3 axes" in str(caught.value)
    assert "made double" in str(caught.value)


def test_the_spine_phantom_comes_back_whole(tmp_path):
    index = PhantomSpine(persons=1, contrasts=["T2w"], size_mm=(32, 40, 40)).build()
    case, store = index[0], ArrayStore().build(tmp_path)
    for _ in range(2):
        found = kept(case, store)
        sources = {"image": (found.channels, case.channels)}
        pairs = [(a[k], b[k]) for a, b in sources.values() for k in b]
        pairs += [(found.labels[k].source, case.labels[k].source) for k in case.labels]
        pairs += [(found.annotations[k], case.annotations[k]) for k in case.annotations]
        assert len(pairs) >= 6
        for ours, theirs in pairs:
            a, b = ours.read(), theirs.read()
            assert a.data.dtype == b.data.dtype
            assert np.array_equal(a.data, b.data)
            assert a.grid == b.grid
