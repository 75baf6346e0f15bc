"""What a fingerprint depends on, and what it does not."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mriad.errors import SplitError
from mriad.interfaces import Stage
from mriad.registry import registry
from mriad.stages.fingerprints import DataIdentity, fingerprints, identify
from mriad.stages.graph import expand

IDENTITY = DataIdentity("voxels", ("a", "b"), ("c",), "test voxels")
STAGES = {
    "make": {"type": "toy.make", "strength": 2.0},
    "train": {"type": "core.train", "data": ["make"]},
}
METRICS = {"metrics": ["toy.dice"]}
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def prints(experiment, identity=IDENTITY):
    return fingerprints(expand(experiment), lambda _: identity)


def changed(make, before, after, identity=IDENTITY):
    """Names whose fingerprint differs between two sets of sections."""
    base = {"stages": STAGES, "evaluate": METRICS}
    one, two = prints(make(**{**base, **before})), prints(make(**{**base, **after}), identity)
    return {name for name in one | two if one.get(name) != two.get(name)}


class TestWhatChangesIt:
    @pytest.mark.parametrize(
        ("after", "names"),
        [
            ({"evaluate": {"metrics": [{"type": "toy.dice", "smooth": 1.0}]}}, {"evaluate"}),
            ({"evaluate": {"metrics": ["toy.dice"], "at": {"levels": ["C2"]}}}, {"evaluate"}),
            ({"optimiser": {"type": "standard.adam", "lr": 0.1}}, {"train", "evaluate"}),
            ({"budget": {"steps": 3}}, {"train", "evaluate"}),
            ({"seed": 1}, {"make", "train", "evaluate"}),
            ({"fold": 1}, {"make", "train", "evaluate"}),
            (
                {"stages": {**STAGES, "make": {"type": "toy.make", "strength": 3.0}}},
                {"make", "train", "evaluate"},
            ),
            ({"name": "other", "description": "x", "resources": {"cpus": 2}}, set()),
            ({"data": {"dataset": "toy.data", "store": {"type": "data.store", "mib": 5}}}, set()),
            ({"data": {"dataset": "toy.data", "validate_on": ["T1w"]}}, {"make", "train", "evaluate"}),
            ({"streams": {"labelled": {"batch": 8}}}, {"train", "evaluate"}),
            ({"streams": {"labelled": {}, "unused": {"batch": 8}}}, set()),
        ],
    )
    def test_sections(self, make, after, names):
        assert changed(make, {}, after) == names

    def test_data_and_split(self, make):
        every = {"make", "train", "evaluate"}
        for identity in (
            DataIdentity("other", ("a", "b"), ("c",), "test voxels"),
            DataIdentity("voxels", ("a",), ("c",), "test voxels"),
            DataIdentity("voxels", ("a", "b"), ("d",), "test voxels"),
        ):
            assert changed(make, {}, {}, identity) == every
        tested = DataIdentity("voxels", ("a", "b"), ("c",), "more test voxels")
        assert changed(make, {}, {}, tested) == {"evaluate"}

    def test_the_version_of_a_stage_and_of_a_component(self, make, monkeypatch):
        before = prints(make(stages=STAGES, augment=["toy.painter"]))
        monkeypatch.setattr(registry().get("augmenter", "toy.painter"), "version", 2)
        painted = prints(make(stages=STAGES, augment=["toy.painter"]))
        assert (painted["make"], painted["train"] != before["train"]) == (before["make"], True)
        monkeypatch.setattr(registry().get("stage", "toy.make"), "version", 2)
        remade = prints(make(stages=STAGES, augment=["toy.painter"]))
        assert remade["make"] != painted["make"]

    def test_a_start_from_a_file_follows_its_content(self, make, tmp_path):
        model = tmp_path / "a.model"
        found = []
        for content in ("one", "two", "one"):
            model.write_text(content)
            found.append(prints(make(stages={"train": {"type": "core.train", "from": str(model)}}))["train"])
        assert found[0] != found[1]
        assert found[0] == found[2]

    def test_order_of_data_sets_counts_order_of_after_does_not(self, make):
        def train(**fields):
            stages = {
                "a": "toy.make",
                "b": {"type": "toy.make", "strength": 9},
                "train": {"type": "core.train", **fields},
            }
            return prints(make(stages=stages))["train"]

        assert train(data=["a", "b"]) != train(data=["b", "a"])
        assert train(after=["a", "b"]) == train(after=["b", "a"])
        assert train(data=["a"], after=["b"]) != train(data=["b"], after=["a"])


class TestWhatIsShared:
    def test_names_do_not_count(self, make):
        renamed = {"zeta": STAGES["make"], "omega": {"type": "core.train", "data": ["zeta"]}}
        one, two = prints(make(stages=STAGES)), prints(make(stages=renamed))
        assert (one["make"], one["train"]) == (two["zeta"], two["omega"])

    def test_rounds_are_shared_by_ablations_of_their_number(self, make):
        def rounds(n):
            block = {
                "repeat": n,
                "labels": {"type": "core.pseudo_label", "with": "teacher", "cases": "all"},
                "teacher": {"type": "core.train", "data": ["labels"], "members": {"folds": 2}},
            }
            return prints(make(stages={"teacher": "core.train", "rounds": block}))

        one, three = rounds(1), rounds(3)
        assert one.items() <= three.items()
        assert len(set(three.values())) == len(three)

    def test_names_inside_components_do_not_count_but_what_they_mean_does(self, make):
        def train(name, **fit):
            stages = {name: {"type": "toy.fit", **fit}, "train": "core.train"}
            return prints(make(stages=stages, augment=[{"type": "toy.painter", "priors": name}]))["train"]

        assert train("a") == train("b")
        preprocessed = make(
            stages={"a": "toy.fit", "train": "core.train"},
            augment=[{"type": "toy.painter", "priors": "a"}],
            seed=1,
        )
        assert prints(preprocessed)["train"] != train("a")

    @quick
    @given(
        strength=st.floats(0, 10),
        lr=st.floats(1e-6, 1),
        smooth=st.floats(0, 1),
        seed=st.integers(0, 99),
        fold=st.integers(0, 9),
    )
    def test_equal_experiments_agree_and_evaluate_never_reaches_back(
        self, make, strength, lr, smooth, seed, fold
    ):
        def sections(smooth):
            return {
                "stages": {**STAGES, "make": {"type": "toy.make", "strength": strength}},
                "optimiser": {"type": "standard.adam", "lr": lr},
                "evaluate": {"metrics": [{"type": "toy.dice", "smooth": smooth}]},
                "seed": seed,
                "fold": fold,
            }

        one, again, other = (prints(make(**sections(s))) for s in (smooth, smooth, smooth + 1))
        assert one == again
        assert (one["make"], one["train"]) == (other["make"], other["train"])
        assert one["evaluate"] != other["evaluate"]

    @quick
    @given(
        one=st.tuples(st.integers(0, 5), st.integers(0, 3)),
        two=st.tuples(st.integers(0, 5), st.integers(0, 3)),
    )
    def test_seed_and_fold_are_told_apart(self, make, one, two):
        found = [prints(make(stages=STAGES, seed=seed, fold=fold)) for seed, fold in (one, two)]
        assert (found[0] == found[1]) == (one == two)
        if one != two:
            assert not set(found[0].values()) & set(found[1].values())

    def test_a_stage_without_seed_is_one_for_all_seeds(self, make, monkeypatch):
        def found():
            return [
                prints(make(stages=STAGES, seed=seed, fold=fold)) for seed, fold in ((0, 0), (1, 0), (0, 1))
            ]

        monkeypatch.setattr(Stage.resolve("toy.make").__class__, "seeded", False)
        first, seed, fold = found()
        assert first["make"] == seed["make"] != fold["make"]
        assert first["train"] != seed["train"]

    @quick
    @given(ids=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5, unique=True))
    def test_every_training_id_counts(self, make, ids):
        experiment = make(stages=STAGES)
        whole = prints(experiment, DataIdentity("v", tuple(ids)))
        for left_out in range(len(ids)):
            fewer = prints(experiment, DataIdentity("v", tuple(ids[:left_out] + ids[left_out + 1 :])))
            assert not set(whole.values()) & set(fewer.values())


class TestIdentify:
    def test_only_sides_that_may_be_seen_count(self, make):
        found = identify(make())
        assert found.training == ("case3", "case4", "case5", "case6", "case7")
        assert found.validation == ("case2",)
        assert found == identify(make())
        salted = identify(make(data={"dataset": {"type": "toy.data", "salt": 50}}))
        assert (salted.data != found.data, salted.test != found.test) == (True, True)
        assert identify(make(fold=1)).training != found.training

    def test_a_stage_may_bring_its_own_data(self, make):
        asked = []

        def spy(experiment):
            asked.append(experiment.data.dataset.persons)
            return identify(experiment)

        own = {"type": "core.train", "data": {"dataset": {"type": "toy.data", "persons": 20}}}
        graph = expand(make(stages={"pretrain": own, "train": {"type": "core.train", "from": "pretrain"}}))
        fingerprints(graph, spy)
        assert asked == [20, 8]

    def test_a_leaking_split_is_refused(self, make, monkeypatch):
        monkeypatch.setattr(
            registry().get("split", "data.k_fold"),
            "build",
            lambda *_: {"train": ("case1",), "test": ("case1",)},
        )
        with pytest.raises(SplitError, match="person 'person1' is in two splits"):
            identify(make())


def test_every_stage_base_field_is_covered():
    assert {"after", "members"} == set(Stage.model_fields)
