"""Which case, slice or domain a stream draws: alike often, each once, at a position; patches without the volume."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import ExperimentError
from mriad.geometry import Grid
from mriad.preparation import Recipe
from mriad.training.protocols import Shard
from mriad.training.streams import Stream
from mriad.vocabulary import Case, Label, LabelSet, Sample, Task, Volume
from mriad_data.patches import EverySlice, Patch, Slice

LABELS = LabelSet.of({"a": 1, "b": 2})
TASK = Task(("T1w",), {"": LABELS}, "softmax")
GRID = Grid.of((6, 5, 4), np.eye(4))


def sample_of(case: str, grid=GRID) -> Sample:
    image = np.arange(1, np.prod(grid.shape) + 1, dtype=np.float32).reshape(1, *grid.shape)
    return Sample(case, image, grid, np.zeros((1, *grid.shape), np.uint8))


def stream_of(groups: dict[str, str], batch=3, seed=0, **fields) -> Stream:
    return Stream("s", tuple(groups), sample_of, batch, seed, groups=groups, **fields)


def drawn(stream: Stream, count: int) -> list[tuple[int, str, int]]:
    return [stream.at(*divmod(n, stream.batch)) for n in range(count)]


UNEVEN = {f"{d}{i}": d for d, n in (("A", 11), ("B", 2), ("C", 5)) for i in range(n)}


class TestBalance:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(1, 7), min_size=2, max_size=5), st.integers(0, 9), st.integers(1, 6))
    def test_groups_are_drawn_alike_often_and_their_cases_too(self, sizes, seed, epochs):
        groups = {f"{g}-{i}": str(g) for g, n in enumerate(sizes) for i in range(n)}
        stream = stream_of(groups, seed=seed)
        found = drawn(stream, epochs * len(groups))
        by_group = Counter(groups[case] for _, case, _ in found)
        assert max(by_group.values()) - min(by_group[g] for g in set(groups.values())) <= 1
        for group in set(groups.values()):
            counts = Counter(case for _, case, _ in found if groups[case] == group)
            members = [case for case, g in groups.items() if g == group]
            assert max(counts.values(), default=0) - min(counts[m] for m in members) <= 1
        # a small group comes more than once in an epoch, with other draws each time
        assert len({(epoch, case) for epoch, case, _ in found}) == len(found)

    def test_without_balance_every_case_comes_once_an_epoch(self):
        stream = stream_of(dict.fromkeys(UNEVEN, ""))
        for epoch in range(3):
            part = drawn(stream, 18 * 3)[18 * epoch : 18 * (epoch + 1)]
            assert {case for _, case, _ in part} == set(UNEVEN)
            assert {e for e, _, _ in part} == {epoch}
        assert stream.batches_per_epoch == 6

    def test_a_draw_depends_on_its_position_alone(self):
        one, other = stream_of(UNEVEN, batch=2), stream_of(UNEVEN, batch=6)
        assert drawn(one, 60) == drawn(other, 60)
        assert drawn(one, 60) != drawn(stream_of(UNEVEN, batch=2, seed=1), 60)
        whole = one.draw(7, Shard())[""]
        parts = [stream_of(UNEVEN, batch=2).draw(7, Shard(rank, 2))[""] for rank in (0, 1)]
        assert whole.keys == (*parts[0].keys, *parts[1].keys)
        assert whole.cases == (*parts[0].cases, *parts[1].cases)


def sparse(case: str) -> Sample:
    validity = np.zeros((1, *GRID.shape), np.uint8)
    validity[..., {"x": [0, 2], "y": [1, 2, 3], "z": []}[case]] = 1
    target = np.zeros((1, *GRID.shape), np.uint8)
    target[0, 2, 2, 2] = 1
    return replace(sample_of(case), validity=validity, target=target)


class TestEverySlice:
    def stream(self, batch=2, **fields) -> Stream:
        patch = EverySlice(axis="axial", **fields).build(TASK)
        return Stream("s", ("x", "y", "z"), sparse, batch, 0, patch)

    @pytest.mark.parametrize(
        ("slices", "wanted"),
        [
            ("all", [(c, i) for c in "xyz" for i in range(4)]),
            ("annotated", [("x", 0), ("x", 2), ("y", 1), ("y", 2), ("y", 3)]),
            ("foreground", [("x", 2), ("y", 2)]),
        ],
    )
    def test_each_slice_once_an_epoch(self, slices, wanted):
        stream = self.stream(batch=1, slices=slices)
        assert stream.batches_per_epoch == len(wanted)
        for epoch in range(3):
            found = []
            for position in range(len(wanted)):
                batch = stream.draw(epoch * len(wanted) + position, Shard())[""]
                assert batch.image.shape == (1, 1, 6, 5)
                k = int(batch.image[0, 0, 0, 0]) - 1  # numbers along k are neighbours
                found.append((batch.cases[0], k))
            assert sorted(found) == wanted

    def test_slices_of_one_case_have_draws_of_their_own(self):
        stream = self.stream(slices="all", size=[3, 5])
        keys = [k for position in range(6) for k in stream.draw(position, Shard())[""].keys]
        assert len(set(keys)) == 12
        other = self.stream(batch=4, slices="all", size=[3, 5])
        assert keys == [k for position in range(3) for k in other.draw(position, Shard())[""].keys]

    def test_a_place_in_the_plane_and_a_margin(self):
        draw = EverySlice(axis="sagittal", size=[3, "full"], slices="all").build(TASK)
        sample = sample_of("x")
        assert draw.items(sample) == 6
        starts = set()
        for seed in range(20):
            patch = draw(sample, np.random.default_rng(seed), (1, 1, 1), item=4)
            assert patch.image.shape == (1, 5, 6)
            assert patch.grid.world([1, 1, 0])[0] == pytest.approx(4)
            starts.add(round(float(patch.grid.world([1, 1, 0])[1])))
        assert starts == {0, 1, 2}

    def test_nothing_annotated(self):
        patch = EverySlice().build(TASK)
        with pytest.raises(ExperimentError, match="stream 's' has nothing to draw") as found:
            Stream("s", ("z",), sparse, 2, 0, patch)
        assert "no case has an annotated slice" in str(found.value)


class TestStructures:
    def sample(self) -> Sample:
        target = np.zeros((1, *GRID.shape), np.uint8)
        target[0, :3], target[0, 5, 4, 3] = 1, 2
        return replace(sample_of("c"), target=target)

    @pytest.mark.parametrize(
        ("weights", "share"), [({}, 0.5), ({"a": 3}, 0.25), ({"a": 0}, 1), ({"a": 1, "b": 9}, 0.9)]
    )
    @pytest.mark.parametrize("kind", ["patch", "slice"])
    def test_structures_are_drawn_as_often_as_asked(self, weights, share, kind):
        sampler = (
            Patch(size=[1, 1, 1], foreground=1, structures=weights)
            if kind == "patch"
            else Slice(size=[1, 1], foreground=1, structures=weights)
        )
        draw, generator = sampler.build(TASK), np.random.default_rng(0)
        found = [int(draw(self.sample(), generator, (0, 0, 0)).target.max()) for _ in range(600)]
        assert np.mean(np.array(found) == 2) == pytest.approx(share, abs=0.06)

    def test_weights_of_zero_for_all_that_is_there_draw_anywhere(self):
        draw = Patch(size=[1, 1, 1], foreground=1, structures={"a": 0, "b": 0}).build(TASK)
        found = {
            float(draw(self.sample(), np.random.default_rng(s), (0, 0, 0)).image.item()) for s in range(40)
        }
        assert len(found) > 15

    def test_each_domain_has_its_own_channels(self):
        task = Task(("T1w",), {"x": LABELS.only(["b"]), "y": LABELS}, "softmax", ("x", "y"))
        draw = Patch(size=[1, 1, 1], foreground=1, structures={"a": 0}).build(task)
        assert draw.weights == {"x": (1.0,), "y": (0, 1.0)}

    def test_an_unknown_structure(self):
        with pytest.raises(
            ExperimentError, match="a sampler weighs structures that are not segmented"
        ) as found:
            Patch(size=[1, 1, 1], structures={"c": 2}).build(TASK)
        assert "known       a, b" in str(found.value)


def test_whole_label_maps_for_generators():
    """A case without images: the batch holds the whole label map and no channel."""

    class Map:
        fingerprint = location = "map"

        def read(self):
            return Volume(np.full(GRID.shape, 2, np.uint8), GRID)

    case = Case("m", "m", {}, {"hard": Label("hard", Map())})
    sample = Recipe((), LABELS, "hard", "hard").sample(case)
    batch = Stream("s", ("m",), lambda i: sample, 1, 0).draw(0, Shard())[""]
    assert batch.image.shape == (1, 0, 6, 5, 4)
    assert (batch.target == 2).all()


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in memory."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            found = line.endswith(str(path))
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no /proc to count pages in")
@pytest.mark.parametrize("plane", ["patch", "slice"])
def test_a_patch_reads_its_own_pages_and_not_the_volume(tmp_path, plane):
    """The bytes touched do not grow with the volume: counted by the kernel, on maps of 1 and of 512 MiB."""
    touched = []
    for side in (64, 512):
        path = tmp_path / f"{side}.bin"
        with path.open("wb") as file:
            file.truncate(side**3 * 4)
        image = np.memmap(path, np.float32, "r", shape=(1, side, side, side)).view(np.ndarray)
        sample = Sample("c", image, Grid.of((side,) * 3, np.eye(4)))
        sampler = (
            Patch(size=[16, 16, 16], foreground=0)
            if plane == "patch"
            else Slice(axis="sagittal", size=[16, 16], foreground=0)
        )
        box = sampler.build(TASK)(sample, np.random.default_rng(0), (0, 0, 0))
        if plane == "patch":
            assert resident(path) == 0  # a view: nothing is read before the batch is made
        np.ascontiguousarray(box.image)
        touched.append(resident(path))
    assert touched[1] > 0
    # Pages of 4 KiB, read ahead in blocks of 64 KiB at most around each of the 256 rows.
    assert touched[1] <= (16 * 16 if plane == "patch" else 16) * 2 * 65536 < 512**3 * 4 / 4
