"""Splits by person: every person tests once, domains are mixed, leaks are refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from mriad.errors import SplitError
from mriad.vocabulary import Case, CaseIndex, LabelSet
from mriad_data.splits import FileSplit, KFold, RandomSplit
from pydantic import ValidationError


def index_of(persons: dict[str, list[str]]) -> CaseIndex:
    """person → domains of its cases."""
    cases = [
        Case(f"{person}_{i}", person, {}, domain=domain)
        for person, domains in persons.items()
        for i, domain in enumerate(domains)
    ]
    return CaseIndex(cases, LabelSet(()))


TWENTY = index_of({f"p{i:02}": (["A", "A"] if i < 12 else ["B"]) for i in range(20)})


def persons_of(index, ids):
    return {case.person for case in index if case.id in set(ids)}


@pytest.mark.parametrize("k", [2, 5, 20])
def test_every_person_tests_once_and_is_on_one_side(k):
    split = KFold(k=k)
    assert split.folds() == k
    tested = Counter()
    for fold in range(k):
        sides = split.build(TWENTY, fold, seed=0)
        assert set(sides) == {"train", "validation", "test"}
        people = [persons_of(TWENTY, ids) for ids in sides.values()]
        assert sum(map(len, people)) == len(set.union(*people)) == 20
        assert sum(map(len, sides.values())) == len(TWENTY)
        assert all(people)
        tested.update(persons_of(TWENTY, sides["test"]))
    assert set(tested.values()) == {1}
    assert len(tested) == 20


@pytest.mark.parametrize("k", [2, 4])
def test_domains_are_spread_evenly(k):
    domain = {case.person: case.domain for case in TWENTY}
    for fold in range(k):
        sides = KFold(k=k, validation=0.25).build(TWENTY, fold, 0)
        counts = Counter(domain[p] for p in persons_of(TWENTY, sides["test"]))
        assert counts == {"A": 12 // k, "B": 8 // k}
        counts = Counter(domain[p] for p in persons_of(TWENTY, sides["validation"]))
        assert abs(counts["A"] / counts.total() - 0.6) <= 0.27


def test_the_assignment_follows_from_the_seed_and_the_persons_alone():
    shuffled = CaseIndex(list(TWENTY)[::-1], TWENTY.label_set)
    first = KFold().build(TWENTY, 1, seed=0)
    again = KFold().build(shuffled, 1, seed=99)
    assert {s: set(ids) for s, ids in first.items()} == {s: set(ids) for s, ids in again.items()}
    assert KFold(seed=1).build(TWENTY, 1, 0) != first
    assert KFold(seed=None).build(TWENTY, 1, seed=1) == KFold(seed=1).build(TWENTY, 1, seed=0)


def test_validation_is_a_number_or_a_fraction_of_persons():
    for validation, count in ((3, 3), (0.25, 4), (0.01, 1)):
        sides = KFold(k=5, validation=validation).build(TWENTY, 0, 0)
        assert len(persons_of(TWENTY, sides["validation"])) == count
    for wrong in (0, 1.5, -1):
        with pytest.raises(ValidationError):
            KFold(validation=wrong)


def test_folds_validate_on_other_persons():
    chosen = [persons_of(TWENTY, KFold().build(TWENTY, f, 0)["validation"]) for f in range(5)]
    assert len(set.union(*chosen)) > 10


def test_too_few_persons_for_the_folds():
    few = index_of({f"p{i}": [""] for i in range(3)})
    with pytest.raises(SplitError, match="5 folds need 5 persons, but there are 3") as found:
        KFold().build(few, 0, 0)
    assert "set k to at most 3" in str(found.value)
    with pytest.raises(SplitError, match="the split has no case for train") as found:
        KFold(k=2, validation=2).build(few, 0, 0)
    assert "every fold needs persons for all three" in str(found.value)
    with pytest.raises(SplitError, match="there is no fold 5") as found:
        KFold().build(TWENTY, 5, 0)
    assert "folds count from 0 to 4" in str(found.value)


def test_a_random_split_has_one_fold_with_the_fractions():
    split = RandomSplit(validation=0.2, test=0.3)
    assert split.folds() == 1
    sides = split.build(TWENTY, 0, 0)
    assert [len(persons_of(TWENTY, sides[s])) for s in ("train", "validation", "test")] == [10, 4, 6]
    assert split.build(TWENTY, 0, 7) == sides
    with pytest.raises(SplitError, match="there is no fold 1"):
        split.build(TWENTY, 1, 0)


@pytest.fixture
def split_file(tmp_path):
    def write(content) -> FileSplit:
        (tmp_path / "split.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return FileSplit(path=tmp_path / "split.json")

    return write


TWO_CASES = index_of({"p1": ["A", "B"], "p2": ["A"], "p3": ["A"]})


def test_a_file_names_persons_or_cases(split_file):
    split = split_file({"train": ["p1"], "validation": ["p2_0"], "test": ["p3"]})
    sides = split.build(TWO_CASES, 0, 0)
    assert sides == {"train": ("p1_0", "p1_1"), "validation": ("p2_0",), "test": ("p3_0",)}
    many = split_file([{"train": ["p1"], "validation": ["p2"], "test": ["p3"]}] * 2)
    assert many.folds() == 2
    assert many.build(TWO_CASES, 1, 0) == sides


def test_a_person_on_two_sides_is_named_with_sides_and_cases(split_file):
    split = split_file({"train": ["p1_0", "p2"], "validation": ["p3"], "test": ["p1_1"]})
    with pytest.raises(SplitError) as found:
        split.build(TWO_CASES, 0, 0)
    text = str(found.value)
    assert "1 person is on two sides of the split" in text
    assert "p1" in text
    assert "train: p1_0; test: p1_1" in text
    assert "put all cases of a person on one side" in text


def test_unknown_and_missing_names_are_listed(split_file):
    with pytest.raises(SplitError, match="names persons or cases that the data set does not have") as found:
        split_file({"train": ["p1"], "validation": ["p2"], "test": ["p3_9"]}).build(TWO_CASES, 0, 0)
    assert "p3_9 (did you mean p3_0?)" in str(found.value)
    content = {"train": ["p1_0"], "validation": ["p2"], "test": ["p3"]}
    with pytest.raises(SplitError, match="does not name every case") as found:
        split_file(content).build(TWO_CASES, 0, 0)
    assert "p1_1" in str(found.value)
    assert "others: leave_out" in str(found.value)
    kept = FileSplit(path=split_file(content).path, others="leave_out").build(TWO_CASES, 0, 0)
    assert kept["train"] == ("p1_0",)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read"),
        ({"train": ["p1"], "val": []}, "other sides than expected"),
        ({"train": "p1", "validation": [], "test": []}, "a list of persons"),
        ([], "holds no fold"),
        ({"train": ["p1", "p2"], "validation": [], "test": ["p3"]}, "no case for validation"),
    ],
)
def test_a_malformed_file_is_refused(split_file, content, text):
    with pytest.raises(SplitError) as found:
        split_file(content).build(TWO_CASES, 0, 0)
    assert text in str(found.value)
