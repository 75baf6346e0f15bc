"""A test person, or a test scan under another name, is refused in every stage that leads to the table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mriad.errors import SplitError
from mriad.flow import check_split
from mriad.registry import registry
from mriad.stages.fingerprints import fingerprints, identify
from mriad.stages.graph import expand
from mriad.vocabulary import Case, CaseIndex, LabelSet

LABELS = LabelSet.of({"cord": 7, "csf": 3})


def check(make, **own):
    """The experiment tests persons 0 and 1; a stage `pretrain` with its own data leads to the table."""
    stages = {
        "pretrain": {"type": "core.train", "data": own},
        "train": {"type": "core.train", "from": "pretrain"},
    }
    return fingerprints(expand(make(stages=stages, evaluate={"metrics": ["toy.dice"]})))


class TestBetweenStages:
    def test_a_test_person_in_the_data_of_an_earlier_stage(self, make):
        with pytest.raises(SplitError, match="'pretrain' learns from person 'person1', whom") as caught:
            check(make, split={"type": "data.k_fold", "test": 1})
        assert caught.value.where == {
            "validation of 'pretrain'": "case case1 of person 'person1'",
            "test of 'evaluate'": "case case1 of person 'person1'",
        }
        assert "leave the test persons out of the data of stage 'pretrain'" in str(caught.value)

    def test_a_test_scan_under_another_name(self, make, monkeypatch, ramp):
        data = registry().get("dataset", "toy.data")
        real = data.build

        def build(self):
            found = real(self)
            if self.persons == 8:
                return found
            return CaseIndex(
                [replace(c, id=f"x{c.id}", person=f"x{c.person}") for c in found], found.label_set
            )

        monkeypatch.setattr(data, "build", build)
        other = {"type": "toy.data", "persons": 9}
        with pytest.raises(SplitError, match="the voxels of person 'person1'") as caught:
            check(make, dataset=other, split={"type": "data.k_fold", "test": 1})
        assert caught.value.where["validation of 'pretrain'"] == "case xcase1 of person 'xperson1'"
        assert len(check(make, dataset={**other, "salt": 50})) == 3

    def test_the_same_split_and_stages_without_a_table_pass(self, make):
        assert len(check(make, labels={"kind": "soft"})) == 3
        own = {"split": {"type": "data.k_fold", "test": 1}}
        stages = {
            "pretrain": {"type": "core.train", "data": own},
            "train": {"type": "core.train", "from": "pretrain"},
        }
        assert len(fingerprints(expand(make(stages=stages)))) == 2

    def test_identify_says_who_is_where(self, make):
        cases = identify(make()).cases
        assert [case.person for case in cases["test"]] == ["person0", "person1"]
        assert cases["validation"][0].channels == ("ramp-2-False",)


def test_the_same_voxels_under_two_names(ramp):
    index = CaseIndex([Case(n, n, {"image": ramp(min(i, 1))}) for i, n in enumerate("abc")], LABELS)
    with pytest.raises(SplitError, match="the same voxels under two names are in two splits") as caught:
        check_split(index, {"train": ("a", "b"), "test": ("c",)})
    assert caught.value.where["train"] == "case b of person 'b'"
    assert caught.value.where["test"] == "case c of person 'c'"
    check_split(index, {"train": ("b", "c"), "test": ("a",)})
