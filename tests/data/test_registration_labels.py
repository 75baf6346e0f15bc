"""Labels of `data.registered`: what was not annotated stays so, and `join` loses none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from mriad.errors import DataError, LabelGeometryError
from mriad.geometry import Grid
from mriad.interfaces import Dataset
from mriad.preparation import Recipe, prepare
from mriad.registry import copy_of, registry, using
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from mriad_data.registration import Transform
from mriad_data.registration import sources as registered_sources
from mriad_data.registration.dataset import Registered
from mriad_data.registration.resampling import pulled

GRID = Grid.of((12, 10, 16), np.diag([1.0, 1, 2, 1]))
LABELS = LabelSet.of({"cord": 1, "lesion": 2})
ANNOTATED = np.zeros(GRID.shape, bool)
ANNOTATED[..., 5:12] = True


def shift(*voxels: float) -> Transform:
    """New voxel v takes from old voxel v + `voxels`."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.multiply(voxels, GRID.spacing)
    return Transform.of(matrix)


def bar() -> np.ndarray:
    """A structure through all slices, drawn in the annotated ones alone."""
    drawn = np.zeros(GRID.shape, np.uint8)
    drawn[3:9, 3:8] = 1
    return drawn * ANNOTATED


@pytest.mark.parametrize("by", [0.4, -0.4, 0.25])
def test_soft_values_of_annotated_slices_are_not_diluted(by):
    after = pulled(Volume(bar().astype(np.float32), GRID), shift(0, 0, by), GRID, "soft", valid=ANNOTATED)
    valid = pulled(Volume(ANNOTATED.astype(np.uint8), GRID), shift(0, 0, by), GRID, "hard").data
    np.testing.assert_array_equal(valid, ANNOTATED)  # less than half a voxel: the same slices
    np.testing.assert_allclose(after.data[3:9, 3:8, 5:12], 1, atol=1e-6)
    assert after.data[:3].max() == after.data[..., :4].max() == after.data[..., 13:].max() == 0
    both = np.stack([bar(), 1 - bar()]).astype(np.float32)
    pair = pulled(Volume(both, GRID), shift(0, 0, by), GRID, "soft", valid=ANNOTATED).data
    np.testing.assert_allclose(pair.sum(0)[..., 5:12], 1, atol=1e-6)


def test_unannotated_voxels_have_no_vote_in_a_hard_label():
    """At an edge of the bar, .6 of a voxel in the plane: with zeros of the next slice it weighs .36 only."""
    after = pulled(Volume(bar(), GRID), shift(-0.4, 0, -0.4), GRID, "hard", valid=ANNOTATED).data
    np.testing.assert_array_equal(after[..., 5:12], bar()[..., 5:12])
    assert after.dtype == np.uint8
    wrong = np.where(ANNOTATED, bar(), 2).astype(np.uint8)  # whatever stands where nothing is annotated
    other = pulled(Volume(wrong, GRID), shift(-0.4, 0, -0.4), GRID, "hard", valid=ANNOTATED).data
    np.testing.assert_array_equal(other, after)


@dataclass(frozen=True)
class Array:
    """A source in memory."""

    name: str
    data: np.ndarray
    grid: Grid = GRID

    @property
    def fingerprint(self) -> str:
        return self.name

    @property
    def location(self) -> str:
        return self.name

    def read(self) -> Volume:
        return Volume(self.data, self.grid)


def image(name: str) -> Array:
    return Array(name, np.random.default_rng(len(name)).random(GRID.shape, np.float32))


class Few(Dataset):
    """Cases that a test made."""

    type: Literal["few.cases"] = "few.cases"

    def build(self) -> CaseIndex:
        return CaseIndex(CASES, LABELS)


CASES: list[Case] = []


@pytest.fixture
def registered(monkeypatch):
    """`data.registered` of given cases, where every FLAIR lies .4 slices beside its T1w."""
    everything = copy_of(registry())
    everything.add(Few, "few", "tests")
    found = SimpleNamespace(transform=shift(0, 0, 0.4))
    monkeypatch.setattr(registered_sources, "register", lambda *_: found)
    monkeypatch.setattr(registered_sources, "_known", {})

    def build(*cases: Case, **fields) -> CaseIndex:
        monkeypatch.setitem(globals(), "CASES", list(cases))
        return Registered(dataset=Few(), reference="T1w", **fields).build()

    with using(everything):
        yield build


def one(label: Label) -> Case:
    return Case("c", "p", {"T1w": image("t"), "FLAIR": image("flair")}, {"drawn": label})


def test_validity_reaches_the_label_through_a_data_set(registered):
    mask = Array("mask", ANNOTATED.astype(np.uint8))
    label = Label("soft", Array("soft", np.stack([bar(), 0 * bar()]).astype(np.float32)), mask)
    index = registered(one(label), drawn_on={"drawn": "FLAIR"})
    sample = prepare(index, Recipe(("T1w",), LABELS, "drawn", "soft"))[0]
    np.testing.assert_array_equal(sample.validity[0], ANNOTATED)
    np.testing.assert_allclose(sample.target[0][3:9, 3:8, 5:12], 1, atol=1e-6)
    known = {index[0].labels["drawn"].source.fingerprint}
    for other in (None, replace(mask, name="another")):
        moved = registered(one(replace(label, validity=other)), drawn_on={"drawn": "FLAIR"})
        known.add(moved[0].labels["drawn"].source.fingerprint)
    assert len(known) == 3  # the mask is part of the voxels' identity
    far = Array("far", mask.data, Grid.of(GRID.shape, np.diag([1.0, 1, 3, 1])))
    index = registered(one(replace(label, validity=far)), drawn_on={"drawn": "FLAIR"})
    with pytest.raises(LabelGeometryError, match="validity"):
        index[0].labels["drawn"].source.read()


def test_structures_that_were_not_looked_for_stay_unknown(registered):
    index = registered(
        one(Label("hard", Array("hard", bar()), annotated=("cord",))), drawn_on={"drawn": "FLAIR"}
    )
    assert index[0].labels["drawn"].annotated == ("cord",)
    sample = prepare(index, Recipe(("T1w",), LABELS, "drawn", "hard"))[0]
    np.testing.assert_array_equal(sample.validity[0] != 0, sample.target[0] == 1)  # no background is claimed
    assert sample.validity.any()


def test_confidence_moves_with_its_label(registered):
    trust = Array("trust", np.linspace(0, 1, 16, dtype=np.float32) * np.ones(GRID.shape, np.float32))
    mask = Array("mask", ANNOTATED.astype(np.uint8))
    for valid, inner in ((None, slice(0, 15)), (mask, slice(5, 11))):
        label = Label("pseudo", Array("pseudo", bar()), valid, trust)
        index = registered(one(label), drawn_on={"drawn": "FLAIR"})
        sample = prepare(index, Recipe(("T1w",), LABELS, "drawn", "pseudo"))[0]
        expected = (np.arange(16) + 0.4) / 15
        np.testing.assert_allclose(sample.validity[0][5, 5, inner], expected[inner], atol=1e-6)
    assert sample.validity[0][5, 5, 11] == pytest.approx(11 / 15)  # not mixed with what is not annotated
    assert sample.validity[0][..., :5].max() == 0


def scans(**labels: dict[str, Label]) -> list[Case]:
    """A case a contrast."""
    return [
        Case(f"p_{contrast}", "p", {"image": image(contrast)}, found, contrast=contrast)
        for contrast, found in labels.items()
    ]


def test_join_takes_each_label_from_the_contrast_that_it_is_drawn_on(registered):
    cord, other = (Label("hard", Array(name, bar())) for name in ("of T1w", "of FLAIR"))
    lesion = Label("hard", Array("lesion", 2 * bar()))
    cases = scans(T1w={"cord": cord}, FLAIR={"cord": other, "lesion": lesion})
    cases[1] = replace(cases[1], annotations={"levels": Array("levels", bar())})
    (case,) = registered(*cases, join=True, drawn_on={"lesion": "FLAIR", "levels": "FLAIR"})
    assert case.labels["cord"] is cord  # the reference's own stays as it is
    assert case.labels["lesion"].source.source is lesion.source
    assert [link.moving.location for link in case.labels["lesion"].source.links] == ["FLAIR"]
    assert case.annotations["levels"].read().data[5, 5].tolist() == bar()[5, 5].tolist()


def test_join_names_the_cases_whose_labels_it_would_lose(registered):
    lesion = Label("hard", Array("lesion", bar()))
    cases = scans(T1w={}, FLAIR={"lesion": lesion})
    cases[1] = replace(cases[1], annotations={"levels": Array("levels", bar())})
    with pytest.raises(DataError, match="1 cases cannot be registered") as found:
        registered(*cases, join=True)
    assert "p_T1w" in str(found.value)
    assert "'lesion' lies on FLAIR, not on T1w; 'levels' lies on FLAIR, not on T1w" in str(found.value)
    assert "say so in `drawn_on`" in str(found.value)
    assert registered(*scans(T1w={}, FLAIR={}), join=True)[0].labels == {}  # nothing to lose
