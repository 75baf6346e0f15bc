"""Leave one out (paired over data sets), leave a contrast or site out, persons who always train, and scale."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import SplitError
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet
from mriad_data.splits import KFold, LeaveDomainOut, LeaveOneOut, RandomSplit


class Nothing:
    """A source that nobody reads here."""

    fingerprint = location = "nothing"


def index_of(rows) -> CaseIndex:
    """(person, contrast, domain[, labelled]) a case."""
    cases = [
        Case(
            f"{person}_{contrast}{domain}",
            person,
            {},
            {"hard": Label("hard", Nothing())} if all(labelled) else {},
            contrast=contrast,
            domain=domain,
        )
        for person, contrast, domain, *labelled in rows
    ]
    return CaseIndex(cases, LabelSet(()))


def persons_of(index, ids) -> set[str]:
    return {case.person for case in index if case.id in set(ids)}


JOINTS = index_of(
    [(f"ankle{i:02}", "T1w", "ankle") for i in range(17)]
    + [(f"shoulder{i:02}", "T1w", "shoulder") for i in range(15)]
)


class TestLeaveOneOut:
    def test_the_paired_form_advances_both_data_sets_and_tests_everyone_once(self):
        split = LeaveOneOut(within="domain")
        assert split.folds() == -1
        assert split.folds_of(JOINTS) == 17
        tested, trained = Counter(), set()
        for fold in range(17):
            sides = split.build(JOINTS, fold, 0)
            who = {side: persons_of(JOINTS, ids) for side, ids in sides.items()}
            assert not any(a & b for a, b in itertools.combinations(who.values(), 2))
            assert len(who["validation"]) == 2
            assert {p.rstrip("0123456789") for p in who["validation"]} == {"ankle", "shoulder"}
            tested.update(who["test"])
            trained.add(len(who["train"]))
            assert len(who["test"]) == (2 if fold < 15 else 1)  # 17 ankles, 15 shoulders
        assert set(tested.values()) == {1}
        assert len(tested) == 32
        assert trained == {15 + 13}  # the training set keeps its size in the last two folds

    def test_over_all_persons(self):
        index = index_of([(p, c, "") for p in "abcd" for c in ("T1w", "T2w")])
        split = LeaveOneOut()
        assert split.folds_of(index) == 4
        sides = split.build(index, 3, 0)
        assert sides == {
            "train": ("b_T1w", "b_T2w", "c_T1w", "c_T2w"),
            "validation": ("a_T1w", "a_T2w"),
            "test": ("d_T1w", "d_T2w"),
        }
        with pytest.raises(SplitError, match="there is no fold 4"):
            split.build(index, 4, 0)

    def test_too_few_persons(self):
        few = index_of([("a", "", ""), ("b", "", "")])
        with pytest.raises(SplitError, match="leaving one out needs 3 persons, but there are 2"):
            LeaveOneOut().build(few, 0, 0)
        uneven = index_of([(f"a{i}", "", "a") for i in range(5)] + [("b0", "", "b"), ("b1", "", "b")])
        with pytest.raises(SplitError, match="needs 3 persons a domain, but there are 2") as found:
            LeaveOneOut(within="domain").build(uneven, 0, 0)
        assert "b0, b1" in str(found.value)


SIX = index_of([(f"p{i:02}", c, "") for i in range(12) for c in ("T1w", "T2w", "DWI")])


class TestLeaveDomainOut:
    def test_contrast_times_persons(self):
        split = LeaveDomainOut(by="contrast")
        assert split.folds() == -1
        assert split.folds_of(SIX) == 3
        held = [split.held_out(SIX, fold) for fold in range(3)]
        assert held == [{"DWI"}, {"T1w"}, {"T2w"}]
        contrast, person = ({c.id: getattr(c, name) for c in SIX} for name in ("contrast", "person"))
        for fold, (value,) in enumerate(held):
            sides = split.build(SIX, fold, 0)
            assert {contrast[i] for i in sides["test"]} == {value}
            assert value not in {contrast[i] for side in ("train", "validation") for i in sides[side]}
            who = [{person[i] for i in ids} for ids in sides.values()]
            assert sum(map(len, who)) == len(set.union(*who)) == 12
            # masks of the held-out contrast of persons who train are on no side at all
            assert len(sides["train"]) == 2 * len(persons_of(SIX, sides["train"]))

    def test_with_k_every_person_tests_once_for_each_value(self):
        split = LeaveDomainOut(values=["T2w", "T1w"], k=3)
        assert split.folds() == split.folds_of(SIX) == 6
        tested = Counter(i for fold in range(6) for i in split.build(SIX, fold, 0)["test"])
        assert set(tested.values()) == {1}
        assert len(tested) == 24
        assert split.held_out(SIX, 3) == {"T1w"}

    def test_another_site_tests_whole(self):
        sites = index_of([(f"{s}{i}", "T2w", s) for s in ("A", "B", "C") for i in range(4)])
        split = LeaveDomainOut(by="domain")
        sides = split.build(sites, 1, 0)
        assert persons_of(sites, sides["test"]) == {"B0", "B1", "B2", "B3"}
        assert len(persons_of(sites, sides["train"])) == 6
        assert {p[0] for p in persons_of(sites, sides["validation"])} <= {"A", "C"}

    def test_what_cannot_be_held_out(self):
        with pytest.raises(SplitError, match="no case has the contrast FLAIR") as found:
            LeaveDomainOut(values=["FLAIR"]).build(SIX, 0, 0)
        assert "DWI, T1w, T2w" in str(found.value)
        with pytest.raises(SplitError, match="all cases have one domain"):
            LeaveDomainOut(by="domain").build(SIX, 0, 0)
        with pytest.raises(SplitError, match="nobody is left to train when contrast 'T1w' is held out"):
            LeaveDomainOut(values=["T1w"], test=12).build(SIX, 0, 0)


class TestWhoAlwaysTrains:
    ROWS = [(f"seven{i}", "FLAIR", "7T", i < 14) for i in range(37)] + [
        (f"three{i}", "FLAIR", "3T", True) for i in range(5)
    ]

    def test_unlabelled_persons_and_other_domains_train_in_every_fold(self):
        index = index_of(self.ROWS)
        split = KFold(k=7, validation=2, unlabelled="train", train_only=["3T"])
        tested = Counter()
        for fold in range(7):
            sides = {side: persons_of(index, ids) for side, ids in split.build(index, fold, 0).items()}
            assert len(sides["test"]) == 2  # 12 : 2, as the paper's 7 folds
            assert {f"three{i}" for i in range(5)} | {f"seven{i}" for i in range(14, 37)} <= sides["train"]
            tested.update(sides["test"])
        assert tested == Counter({f"seven{i}": 1 for i in range(14)})
        lone = LeaveOneOut(unlabelled="train", train_only=["3T"])
        assert lone.folds_of(index) == 14
        sides = RandomSplit(unlabelled="train", train_only=["3T"]).build(index, 0, 0)
        assert len(persons_of(index, sides["test"])) == 3

    def test_nobody_left_or_an_unknown_domain(self):
        index = index_of(self.ROWS)
        with pytest.raises(SplitError, match="nobody is left to validate and test"):
            KFold(train_only=["3T", "7T"]).build(index, 0, 0)
        with pytest.raises(SplitError, match=r"`train_only` names '1\.5T', which no case has"):
            KFold(train_only=["1.5T"]).build(index, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from(["x", "y", ""]), st.sampled_from("ABC")),
        min_size=1,
        max_size=40,
        unique=True,
    ),
    st.integers(0, 3),
    st.integers(0, 5),
)
def test_no_split_ever_cuts_a_person(rows, fold, seed):
    index = index_of(rows)
    splits = (
        KFold(k=3, seed=None),
        RandomSplit(),
        LeaveOneOut(),
        LeaveDomainOut(),
        LeaveDomainOut(by="domain", k=2),
    )
    for split in splits:
        try:
            sides = split.build(index, fold, seed)
        except SplitError:
            continue
        who = [persons_of(index, ids) for ids in sides.values()]
        assert sum(map(len, who)) == len(set.union(*who))
        assert all(sides.values())
        assert sides == split.build(index, fold, seed)


class Columns(CaseIndex):
    """A columnar index: making a case is a fault of the test."""

    def __init__(self, **columns) -> None:
        self.columns, self.label_set = columns, LabelSet(())

    def column(self, name):
        return self.columns[name]

    def __len__(self):
        return len(self.columns["id"])

    def __iter__(self):
        raise AssertionError("a split of a large index made its cases")


def test_a_hundred_thousand_rows_split_without_a_case_being_made():
    n = 100_000
    persons = [f"p{(i * 7919) % (n // 4):06}" for i in range(n)]
    index = Columns(
        id=[f"c{i}" for i in range(n)],
        person=persons,
        domain=[f"site{int(p[1:]) % 50}" for p in persons],
        contrast=[("T1w", "T2w", "DWI", "FLAIR")[i // (n // 4)] for i in range(n)],
    )
    for split in (KFold(), RandomSplit(), LeaveDomainOut(), LeaveOneOut(validation=2)):
        start = time.perf_counter()
        sides = split.build(index, 1 if split.folds() != 1 else 0, 0)
        assert time.perf_counter() - start < 2  # generous: the benchmark states the figure
        assert len(sides["test"]) + len(sides["validation"]) + len(sides["train"]) <= n
