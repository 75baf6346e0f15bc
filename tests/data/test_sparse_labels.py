"""Few labelled persons and few annotated slices, as the SSL2 paper's section 3: nested, reproducible, in training."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import SplitError
from mriad.experiment.model import Experiment, SparseSection
from mriad.flow import cases_of_stream, gather_cases, make_streams
from mriad.geometry import Grid
from mriad.interfaces import Dataset
from mriad.label_budget import SliceMask, chosen_persons, chosen_slices
from mriad.preparation import Recipe
from mriad.registry import copy_of, registry, using
from mriad.stages.fingerprints import identify
from mriad.stages.pseudo_label import choose
from mriad.training.protocols import Shard
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume

SHAPE = (6, 8, 20)
GRID = Grid.of(SHAPE, np.diag([-0.9, 0.9, 0.9, 1]))
LABELS = LabelSet.of({"lesion": 1})


@dataclass(frozen=True)
class Scan:
    """An image, or a label map with a lesion in every slice."""

    number: int
    label: bool = False

    @property
    def fingerprint(self) -> str:
        return f"scan {self.number} {self.label}"

    location = "scan"

    def read(self) -> Volume:
        draw = np.random.default_rng(self.number)
        data = draw.normal(size=SHAPE).astype(np.float32)
        return Volume((data > 0).astype(np.uint8) if self.label else data, GRID)


class SevenTesla(Dataset):
    """14 labelled persons and 23 without labels, as the paper has them."""

    type: Literal["sparse.seven"] = "sparse.seven"
    soft: bool = False

    def build(self) -> CaseIndex:
        kind = "soft" if self.soft else "hard"
        cases = [
            Case(
                f"c{i:02}",
                f"p{i:02}",
                {"FLAIR": Scan(i)},
                {"hard": Label(kind, Scan(i, True))} if i < 14 else {},
            )
            for i in range(37)
        ]
        return CaseIndex(cases, LABELS)


@pytest.fixture
def make():
    everything = copy_of(registry())
    everything.add(SevenTesla, "sparse", "tests")

    def made(sparse, **fields):
        split = {"type": "data.k_fold", "k": 7, "validation": 1, "unlabelled": "train"}
        return Experiment.model_validate(
            {
                "name": "sparse",
                "data": {"dataset": {"type": "sparse.seven", **fields}, "split": split, "sparse": sparse},
                "streams": {"labelled": {"batch": 2}, "unlabelled": {"batch": 2}},
                "model": {"type": "standard.plain_unet", "features": [4, 8]},
                "loss": {"type": "standard.dice_ce"},
            }
        )

    with using(everything):
        yield made


def gathered(experiment, fold=0):
    return gather_cases(experiment, experiment.data.dataset.build(), fold, experiment.seed)


class TestPersons:
    @pytest.mark.parametrize(("persons", "left"), [(3, 8), (5, 6), (10, 1)])
    def test_the_left_over_scans_join_the_unlabelled_pool(self, make, persons, left):
        experiment = make({"persons": persons})
        cases = gathered(experiment)
        pools = {n: cases_of_stream(n, s, cases) for n, s in experiment.streams.items()}
        assert len(pools["labelled"]) == persons
        assert len(pools["unlabelled"]) == 23 + left  # 11 labelled persons train, one validates, two test
        assert not set(pools["labelled"]) & set(pools["unlabelled"])
        assert all("hard" in case.labels for side in ("validation", "test") for case in cases.side(side))

    def test_smaller_budgets_are_subsets_in_every_fold_and_seed(self, make):
        for fold in (0, 4):
            for seed in (0, 1):
                chosen = [
                    {
                        c.id
                        for c in gathered(make({"persons": n, "seed": seed}), fold).side("train")
                        if c.labels
                    }
                    for n in (3, 5, 10)
                ]
                assert chosen[0] < chosen[1] < chosen[2]
                assert list(map(len, chosen)) == [3, 5, 10]
        assert chosen_persons("abcdef", 3, 0) != chosen_persons("abcdef", 3, 1)
        assert [p for p in chosen_persons("abcdefgh", None, 0) if p in chosen_persons("ace", 2, 0)]

    def test_too_many_are_asked_for(self, make):
        with pytest.raises(
            SplitError, match="12 labelled training persons are asked for, but the fold has 11"
        ) as found:
            gathered(make({"persons": 12}))
        assert "ask for at most 11" in str(found.value)

    def test_the_identity_of_the_data_and_pseudo_labels_know_the_budget(self, make):
        all_, three = make(None), make({"persons": 3})
        assert identify(all_).data != identify(three).data
        assert identify(all_).test == identify(three).test
        _, chosen = choose(three, "unlabelled", 0)
        assert len(chosen) == 31


class TestSlices:
    @pytest.mark.parametrize(("fraction", "count"), [(0.1, 2), (0.2, 4), (0.5, 10), (1.0, 20)])
    def test_a_fraction_of_the_slices_is_annotated_and_the_scan_is_unlabelled_data_too(
        self, make, fraction, count
    ):
        experiment = make({"slices": fraction})
        cases = gathered(experiment)
        case = next(c for c in cases.side("train") if c.labels)
        sample = Recipe(("FLAIR",), LABELS, "hard", "hard").sample(case)
        if fraction == 1:
            assert sample.validity is None
        else:
            per_slice = sample.validity[0].reshape(-1, 20)
            assert (per_slice == per_slice[:1]).all()
            assert per_slice[0].sum() == count
            assert case.labels["hard"].kind == "sparse"
        pools = {n: cases_of_stream(n, s, cases) for n, s in experiment.streams.items()}
        assert len(pools["labelled"]) == 11
        assert len(pools["unlabelled"]) == (23 if fraction == 1 else 34)

    def test_the_unlabelled_stream_shows_no_label(self, make):
        experiment = make({"slices": 0.2})
        cases = gathered(experiment)
        by_id = {case.id: case for case in cases.index}
        recipe = Recipe(("FLAIR",), LABELS, "hard", "hard")
        streams = make_streams(
            experiment.model_copy(update={"learner": TwoStreams()}),
            cases,
            lambda i: recipe.sample(by_id[i]),
            0,
        )
        for position in range(17):
            batch = streams["unlabelled"].draw(position, Shard())[""]
            assert batch.target is None
            assert batch.validity is None
        labelled = streams["labelled"].draw(0, Shard())[""]
        assert labelled.validity.mean() == pytest.approx(0.2)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 60), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 3))
    def test_smaller_fractions_are_subsets(self, count, one, other, seed):
        low, high = (set(chosen_slices(count, f, seed, "c").tolist()) for f in sorted((one, other)))
        assert low <= high
        assert len(high) == max(1, round(max(one, other) * count))

    def test_a_mask_follows_from_its_numbers_and_keeps_what_was_not_annotated(self):
        class Half:
            fingerprint = "half"

            def read(self):
                return Volume(np.repeat([1, 0], [10, 10])[None, None].repeat(6, 0).repeat(8, 1), GRID)

        mask = SliceMask(Scan(1, True), 0.5, "axial", 0, "c", Half())
        assert (mask.read().data[..., 10:] == 0).all()
        plain = SliceMask(Scan(1, True), 0.5, "axial", 0, "c")
        copy = pickle.loads(pickle.dumps(plain))
        assert copy.fingerprint == plain.fingerprint != mask.fingerprint
        assert (copy.read().data == plain.read().data).all()
        assert not (SliceMask(Scan(1, True), 0.5, "axial", 0, "d").read().data == plain.read().data).all()
        across = SliceMask(Scan(1, True), 0.5, "sagittal", 0, "c").read().data
        assert (across.any(axis=(1, 2)) == across.all(axis=(1, 2))).all()
        assert across.all(axis=(1, 2)).sum() == 3

    def test_soft_labels_stay_soft(self, make):
        cases = gathered(make({"slices": 0.5}, soft=True))
        label = next(c for c in cases.side("train") if c.labels).labels["hard"]
        assert label.kind == "soft"
        assert isinstance(label.validity, SliceMask)

    def test_the_section_refuses_nonsense(self):
        for wrong in ({"persons": 0}, {"slices": 0}, {"slices": 1.5}, {"axis": "oblique"}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                SparseSection.model_validate(wrong)


class TwoStreams:
    """A learner's declaration of its streams."""

    def streams(self):
        return ("labelled", "unlabelled")


def test_the_report_of_splits_counts_the_pools(make, tmp_path):
    from mriad_data.who_is_where import report_splits, table_lines

    *folds, whole = report_splits(make({"persons": 3}))
    assert len(folds) == 7
    assert folds[0].streams == {"labelled": 3, "unlabelled": 31}
    assert folds[0].persons == {"train": 34, "validation": 1, "test": 2}
    text = "\n".join(table_lines(whole, most=5))
    assert "sparse: 37 persons, 37 cases, 7 folds by data.k_fold" in text
    assert "streams of fold 0: labelled 3 cases; unlabelled 31 cases" in text
    assert "… and 32 more persons: --all lists them" in text
    assert "no leak: 1 stages" in text
    made = json.loads(json.dumps(whole.as_json()))
    assert sum(side["sides"]["0"] == "test" for side in made["persons"].values()) == 2
