"""Label maps through an ontology lose nothing; what nobody annotated is not background; domains have label sets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.encoding import encode_label
from mriad.errors import DataError, ExperimentError
from mriad.flow import label_sets_of
from mriad.geometry import Grid
from mriad.interfaces import Dataset
from mriad.preparation import Recipe
from mriad.registry import copy_of, registry, using
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Task, Volume
from mriad_data.ontology import LabelMap, MapLabels, MappedValues
from mriad_data.union import Union, joint_ontology

ANKLE = LabelSet.of({"calcaneus": 1, "talus": 2, "tibia": 3})
SHOULDER = LabelSet.of({"scapula": 1, "humerus": 2}, ignore=[9])


@dataclass(frozen=True)
class Array:
    """Voxels of a list."""

    values: tuple = field()
    shape: tuple = ()

    @property
    def fingerprint(self) -> str:
        return f"array {self.values}"

    @property
    def location(self) -> str:
        return "array"

    def read(self) -> Volume:
        data = np.array(self.values)
        data = data.reshape(*self.shape, -1, 1, 1)
        return Volume(data, Grid.of(data.shape[-3:], np.eye(4)))


class Toy(Dataset):
    """One case of each kind of label."""

    type: Literal["ontology.toy"] = "ontology.toy"
    structures: dict[str, int]
    ignore: list[int] = []  # noqa: RUF012 (pydantic copies defaults)
    values: list[int]

    def build(self) -> CaseIndex:
        label = Label("hard", Array(tuple(self.values)))
        image = Array(tuple(float(i) for i in range(len(self.values))))
        return CaseIndex(
            [Case("c", "p", {"mri": image}, {"hard": label})], LabelSet.of(self.structures, self.ignore)
        )


@pytest.fixture(autouse=True)
def toys():
    everything = copy_of(registry())
    everything.add(Toy, "ontology", "tests")
    with using(everything):
        yield


def toy(label_set: LabelSet, *values: int) -> dict:
    structures = {s.name: s.value for s in label_set.structures}
    return {
        "type": "ontology.toy",
        "structures": structures,
        "ignore": list(label_set.ignore),
        "values": list(values),
    }


names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@settings(max_examples=60, deadline=None)
@given(names, st.data())
def test_label_maps_through_an_ontology_lose_nothing(structures, data):
    """Each voxel's structure is the one that the map names; only joined structures cannot be told apart again."""
    source = LabelSet.of(
        dict(zip(structures, data.draw(st.permutations(range(3, 80)))[: len(structures)], strict=True))
    )
    targets = data.draw(st.permutations([f"T{i}" for i in range(8)]))
    ontology = dict(zip(targets, data.draw(st.permutations(range(1, 300)))[:8], strict=True))
    named = {n: data.draw(st.sampled_from([*targets[:5], "background", "ignore"])) for n in structures}
    mapping = LabelMap.between(source, ontology, named)
    values = data.draw(
        st.lists(st.sampled_from([0, *(s.value for s in source.structures)]), min_size=1, max_size=30)
    )
    after = MappedValues(Array(tuple(values)), mapping.table).read().data.ravel()
    called = {0: "background", **{s.value: s.name for s in source.structures}}
    back = {
        0: "background",
        **{v: n for n, v in ontology.items()},
        **dict.fromkeys(mapping.target.ignore, "ignore"),
    }
    assert [back[v] for v in after.tolist()] == [named.get(called[v], "background") for v in values]
    # one to one: there and back again is the identity
    single = dict(zip(structures, targets, strict=False))
    there = LabelMap.between(source, ontology, single)
    home = LabelMap.between(
        there.target,
        {s.name: s.value for s in source.structures},
        {**dict.fromkeys(targets, "background"), **{t: n for n, t in single.items()}},
    )
    again = MappedValues(MappedValues(Array(tuple(values)), there.table), home.table).read().data
    assert again.ravel().tolist() == values


def test_soft_channels_follow_and_joined_ones_add_up():
    soft = Label("soft", Array((0.5, 0.2, 0.25, 0.3, 0.0, 0.75), (3,)))
    mapping = LabelMap.between(
        ANKLE, {"tibia": 1, "foot": 2, "fibula": 3}, {"calcaneus": "foot", "talus": "foot"}
    )
    made = mapping.label(soft)
    np.testing.assert_allclose(made.source.read().data[:, :, 0, 0], [[0.0, 0.75], [0.75, 0.5], [0, 0]])
    assert made.annotated == ("tibia", "foot")
    with pytest.raises(DataError, match="a structure of a soft label cannot be ignored"):
        LabelMap.between(ANKLE, {"tibia": 1}, {"calcaneus": "ignore", "talus": "background"}).label(soft)


class TestMapLabels:
    def test_ignored_values_background_and_what_is_not_annotated(self):
        made = MapLabels.model_validate(
            {
                "type": "data.map_labels",
                "dataset": toy(SHOULDER, 0, 1, 2, 9),
                "ontology": {"humerus": 5, "blade": 6, "clavicle": 7},
                "map": {"scapula": "blade"},
            }
        )
        index = made.build()
        label = index[0].labels["hard"]
        assert label.annotated == ("humerus", "blade")
        assert index.label_set.ignore == (8,)
        assert label.source.read().data.ravel().tolist() == [0, 6, 5, 8]
        sample = Recipe(("mri",), index.label_set, "hard", "hard").sample(index[0])
        assert sample.target.ravel().tolist() == [0, 2, 1, 0]
        assert sample.validity.ravel().tolist() == [0, 1, 1, 0]  # background may hold a clavicle
        known = made.model_copy(update={"absent": ["clavicle"]}).build()
        sample = Recipe(("mri",), known.label_set, "hard", "hard").sample(known[0])
        assert sample.validity.ravel().tolist() == [1, 1, 1, 0]

    def test_two_structures_may_become_one(self):
        made = MapLabels(
            dataset=toy(ANKLE, 0, 1, 2, 3), ontology={"bone": 1}, map=dict.fromkeys(ANKLE.names, "bone")
        )
        assert made.build()[0].labels["hard"].source.read().data.ravel().tolist() == [0, 1, 1, 1]
        assert made.build()[0].labels["hard"].annotated is None

    def test_a_joined_structure_is_annotated_only_if_all_its_parts_are(self):
        mapping = LabelMap.between(ANKLE, {"foot": 1, "tibia": 2}, {"calcaneus": "foot", "talus": "foot"})
        assert mapping.annotated(("calcaneus", "tibia")) == ("tibia",)

    def test_what_is_wrong_with_a_map(self):
        with pytest.raises(DataError, match="a map of labels names structures that are not there") as found:
            MapLabels(
                dataset=toy(ANKLE, 0), ontology={"tibia": 1}, map={"fibula": "tibia"}, absent=["ulna"]
            ).build()
        assert found.value.where["the data set does not have"] == "fibula"
        assert (
            found.value.where["the ontology does not have"]
            == "calcaneus (from calcaneus), talus (from talus), ulna"
        )
        source = MappedValues(Array((0, 1, 44)), ((0, 0), (1, 5)))
        with pytest.raises(DataError, match="holds values that the map of labels does not have") as found:
            source.read()
        assert "values  44" in str(found.value)


class TestUnion:
    def union(self, **fields) -> Union:
        parts = [toy(ANKLE, 0, 1, 2, 3), toy(SHOULDER, 0, 1, 2, 9)]
        return Union.model_validate(
            {"of": parts, "domains": ["ankle", "shoulder"], "prefixes": ["a-", "s-"], **fields}
        )

    def test_values_that_clash_are_numbered_anew(self):
        index = self.union().build()
        assert [s.value for s in index.label_set.structures] == [1, 2, 3, 4, 5]
        ankle, shoulder = index
        assert (ankle.id, ankle.person, ankle.domain) == ("a-c", "a-p", "ankle")
        assert ankle.labels["hard"].annotated == ANKLE.names
        assert shoulder.labels["hard"].source.read().data.ravel().tolist() == [0, 4, 5, 6]
        assert joint_ontology([LabelSet.of({"a": 1}), LabelSet.of({"a": 1, "b": 4})]) == {"a": 1, "b": 4}

    def test_side_by_side_each_domain_has_its_own_targets(self):
        index = self.union().build()
        sets = label_sets_of(
            index.label_set, {"ankle": ANKLE.names, "shoulder": SHOULDER.names}, ("ankle", "shoulder")
        )
        recipe = Recipe(("mri",), index.label_set, "hard", "hard", domain_sets=sets)
        ankle, shoulder = (recipe.sample(case) for case in index)
        assert ankle.target.ravel().tolist() == [0, 1, 2, 3]
        assert ankle.validity.all()  # everything that its head segments was looked for
        assert shoulder.target.ravel().tolist() == [0, 1, 2, 0]
        assert shoulder.validity.ravel().tolist() == [1, 1, 1, 0]
        task = Task(("mri",), sets, "softmax", ("ankle", "shoulder"))
        assert (task.outputs("ankle"), task.outputs("shoulder")) == (4, 3)
        with pytest.raises(ExperimentError, match="each domain has its own label set"):
            task.outputs()

    def test_one_network_for_all_learns_no_background_that_nobody_checked(self):
        index = self.union().build()
        ankle, shoulder = (Recipe(("mri",), index.label_set, "hard", "hard").sample(case) for case in index)
        assert ankle.validity.ravel().tolist() == [0, 1, 1, 1]
        assert shoulder.target.ravel().tolist() == [0, 4, 5, 0]
        joint = self.union(elsewhere="background").build()
        ankle = Recipe(("mri",), joint.label_set, "hard", "hard").sample(joint[0])
        assert ankle.validity.all()

    def test_a_part_of_a_domains_structures_makes_the_others_background(self):
        index = self.union().build()
        sets = label_sets_of(
            index.label_set, {"ankle": ["talus"], "shoulder": ["humerus"]}, ("ankle", "shoulder")
        )
        sample = Recipe(("mri",), index.label_set, "hard", "hard", domain_sets=sets).sample(index[0])
        assert sample.target.ravel().tolist() == [0, 0, 1, 0]
        assert sample.validity.all()

    def test_keys_differ_between_label_sets(self):
        index = self.union().build()
        whole = Recipe(("mri",), index.label_set, "hard", "hard")
        part = replace(whole, domain_sets={"ankle": index.label_set.only(["talus"])})
        assert whole.key(index[0]) != part.key(index[0])
        assert whole.key(index[1]) == part.key(index[1])

    def test_faults(self):
        with pytest.raises(DataError, match="two data sets have a case of one id") as found:
            self.union(prefixes=[]).build()
        assert "prefixes: [a-, b-]" in str(found.value)
        with pytest.raises(ValueError, match="`domains` needs one for each of the 2 data sets, not 1"):
            self.union(domains=["x"])
        with pytest.raises(
            ExperimentError, match=r"data.structures must name the structures of every domain"
        ) as found:
            label_sets_of(ANKLE, {"ankle": ["talus"]}, ("ankle", "shoulder"))
        assert "missing  shoulder" in str(found.value)
        with pytest.raises(ExperimentError, match="the label set does not have ulna"):
            label_sets_of(ANKLE, {"ankle": ["ulna"]}, ("ankle",))


class TestConfidence:
    def test_it_weighs_what_is_valid(self):
        values, mask, trust = (np.array(v).reshape(-1, 1, 1) for v in ([0, 1, 1], [1, 1, 0], [0.5, 0.9, 0.9]))
        _, validity = encode_label(values, "pseudo", "hard", LabelSet.of({"a": 1}), mask, confidence=trust)
        assert validity.dtype == np.float32
        np.testing.assert_allclose(validity.ravel(), [0.5, 0.9, 0])
        with pytest.raises(DataError, match=r"the confidence of a label lies outside \[0, 1\]"):
            encode_label(values, "pseudo", "hard", LabelSet.of({"a": 1}), mask, confidence=trust * 100)

    def test_soft_labels_of_some_structures_are_valid_where_these_fill_the_voxel(self):
        soft = np.array([[1.0, 0.4, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.0]]).reshape(3, 3, 1, 1)
        _, validity = encode_label(soft, "soft", "soft", ANKLE, annotated=("calcaneus", "talus"))
        assert validity.ravel().tolist() == [1, 1, 0]
        target, validity = encode_label(
            soft, "soft", "soft", ANKLE.only(["talus"]), annotated=("calcaneus", "talus"), whole=ANKLE
        )
        np.testing.assert_allclose(target.ravel(), [0, 0.6, 0])
        assert validity is None
