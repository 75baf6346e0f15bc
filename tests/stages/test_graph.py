"""Stages → graph: expansion, what references mean, faults with their places."""

from __future__ import annotations

import pytest
from mriad.errors import ExperimentError
from mriad.stages.graph import expand

COSMOS = {
    "translate": {
        "type": "core.train",
        "learner": {"type": "toy.proxy"},
        "streams": {"unlabelled": {"batch": 1}},
    },
    "pseudo_t2": {"type": "toy.make", "cases": "source", "after": "translate"},
    "teacher": {"type": "core.train", "data": ["pseudo_t2"], "members": {"folds": 2}},
    "rounds": {
        "repeat": "2 as k",
        "labels": {
            "type": "core.pseudo_label",
            "with": "teacher",
            "cases": "target",
            "keep": {"all_present": ["cord"]},
        },
        "teacher": {
            "type": "core.train",
            "data": ["pseudo_t2", "labels"],
            "from": "scratch",
            "members": {"folds": 2},
            "note": "round {k}",
        },
    },
}
DOMAINS = {"dataset": "toy.data", "domains": {"source": "T1w", "target": "T2w"}}


def faults(experiment):
    with pytest.raises(ExperimentError) as caught:
        expand(experiment)
    return caught.value.where


class TestExpansion:
    def test_no_stages_means_train_and_metrics_mean_evaluate(self, make):
        assert list(expand(make(stages={})).nodes) == ["train"]
        graph = expand(make(evaluate={"metrics": ["toy.dice"]}))
        assert list(graph.nodes) == ["train", "evaluate"]
        assert graph["evaluate"].inputs == {"train": "train"}
        assert graph["evaluate"].kind == "table"

    def test_a_null_takes_a_stage_away(self, make):
        stages = {"train": "core.train", "m": "toy.make"}
        assert list(expand(make(stages={**stages, "m": None})).nodes) == ["train"]

    def test_evaluate_is_not_appended_twice(self, make):
        stages = {"train": "core.train", "score": {"type": "core.evaluate", "with": "train"}}
        graph = expand(make(evaluate={"metrics": ["toy.dice"]}, stages=stages))
        assert list(graph.nodes) == ["train", "score"]

    def test_rounds_and_members_as_in_the_design(self, make):
        graph = expand(make(data=DOMAINS, stages=COSMOS, evaluate={"metrics": ["toy.dice"]}))
        assert list(graph.nodes) == [
            "translate",
            "pseudo_t2",
            "teacher.fold1",
            "teacher.fold2",
            "teacher",
            "rounds.1.labels",
            "rounds.1.teacher.fold1",
            "rounds.1.teacher.fold2",
            "rounds.1.teacher",
            "rounds.2.labels",
            "rounds.2.teacher.fold1",
            "rounds.2.teacher.fold2",
            "rounds.2.teacher",
            "evaluate",
        ]
        assert graph["translate"].kind == "weights"
        assert graph["rounds.1.labels"].inputs == {"teacher": "teacher"}
        assert graph["rounds.2.labels"].inputs == {"teacher": "rounds.1.teacher"}
        member = graph["rounds.2.teacher.fold1"]
        assert member.inputs == {"pseudo_t2": "pseudo_t2", "labels": "rounds.2.labels"}
        assert (member.inner, graph["rounds.2.teacher.fold2"].inner) == ((0, 2), (1, 2))
        assert graph["rounds.2.teacher"].stage.of == ["rounds.2.teacher.fold1", "rounds.2.teacher.fold2"]
        assert graph["rounds.2.teacher"].kind == "predictor"
        assert graph["evaluate"].inputs == {"rounds.2.teacher": "rounds.2.teacher"}
        assert graph.upstream("rounds.1.labels") == {
            "teacher",
            "teacher.fold1",
            "teacher.fold2",
            "pseudo_t2",
            "translate",
        }

    def test_a_round_has_its_number_and_a_seed_of_its_own(self, make):
        graph = expand(make(data=DOMAINS, stages=COSMOS, seed=5))
        notes = [graph[f"rounds.{k}.teacher.fold1"].stage.note for k in (1, 2)]
        assert notes == ["round 1", "round 2"]
        seeds = [graph[name].seed for name in ("teacher.fold1", "rounds.1.labels", "rounds.2.labels")]
        assert seeds[0] == 5
        assert len(set(seeds)) == 3
        assert graph["rounds.1.teacher.fold1"].seed == graph["rounds.1.teacher.fold2"].seed

    def test_members_by_seed_follow_the_experiments_seed(self, make):
        stages = {"train": {"type": "core.train", "members": {"seeds": [3, 4]}}}
        one, two = (expand(make(stages=stages, seed=seed)) for seed in (0, 1))
        assert list(one.nodes) == ["train.seed3", "train.seed4", "train"]
        seeds = [g[name].seed for g in (one, two) for name in ("train.seed3", "train.seed4")]
        assert len(set(seeds)) == 4

    def test_no_round_leaves_the_older_stage(self, make):
        rounds = {**COSMOS["rounds"], "repeat": 0}
        graph = expand(
            make(
                data=DOMAINS,
                stages={**COSMOS, "rounds": rounds},
                predict={"with": "teacher"},
                evaluate={"metrics": ["toy.dice"]},
            )
        )
        assert graph["evaluate"].inputs == {"teacher": "teacher"}

    def test_blocks_nest(self, make):
        inner = {"repeat": 2, "b": {"type": "toy.make", "after": "a"}}
        block = {"repeat": 2, "a": "toy.make", "inner": inner}
        graph = expand(make(stages={"outer": block}))
        assert "outer.2.inner.1.b" in graph.nodes
        assert graph["outer.2.inner.1.b"].inputs == {"a": "outer.2.a"}

    def test_overrides_belong_to_one_stage(self, make):
        stages = {
            "first": {"type": "core.train", "optimiser": {"lr": 0.5}, "budget": {"steps": 7}},
            "second": {"type": "core.train", "from": "first"},
        }
        graph = expand(
            make(stages=stages, budget={"steps": 100, "clip_norm": 2.0}, optimiser={"type": "standard.adam"})
        )
        first, second = graph["first"].experiment, graph["second"].experiment
        assert (first.optimiser.lr, first.budget.steps, first.budget.clip_norm) == (0.5, 7, 2.0)
        assert (second.optimiser.lr, second.budget.steps) == (1e-3, 100)

    def test_a_later_definition_is_meant_where_there_is_no_earlier_one(self, make):
        graph = expand(make(stages={"train": {"type": "core.train", "after": "late"}, "late": "toy.make"}))
        assert list(graph.nodes) == ["late", "train"]

    def test_labels_made_by_a_stage_come_first_but_not_before_themselves(self, make):
        data = {"dataset": "toy.data", "labels": {"kind": "soft", "from": "softgt"}}
        stages = {
            "register": "toy.make",
            "softgt": {"type": "toy.make", "after": "register"},
            "train": "core.train",
        }
        graph = expand(make(data=data, stages=stages))
        assert graph["train"].inputs == {"softgt": "softgt"}
        assert graph["register"].inputs == {}
        assert graph["softgt"].inputs == {"register": "register"}

    def test_components_inside_sections_may_name_stages(self, make):
        stages = {"priors": "toy.fit", "train": "core.train"}
        graph = expand(make(stages=stages, augment=[{"type": "toy.painter", "priors": "priors"}]))
        assert graph["train"].inputs == {"priors": "priors"}
        assert [r.field for r in graph["train"].references] == ["augment.0.priors"]

    def test_a_model_file_is_no_stage(self, make, tmp_path):
        graph = expand(make(stages={"train": {"type": "core.train", "from": f"{tmp_path}/a.model"}}))
        assert graph["train"].inputs == {}

    def test_rows_for_stages_json(self, make):
        graph = expand(make(evaluate={"metrics": ["toy.dice"]}))
        rows = graph.describe({"train": "aa", "evaluate": "bb"})
        assert rows[1] == {
            "name": "evaluate",
            "type": "core.evaluate",
            "kind": "table",
            "fingerprint": "bb",
            "inputs": ["train"],
        }


class TestFaults:
    def test_unknown_name(self, make):
        where = faults(
            make(stages={"translate": "toy.make", "train": {"type": "core.train", "data": ["translat"]}})
        )
        assert where["stages.train.data"] == "no stage named 'translat'; did you mean 'translate'?"

    def test_a_block_is_no_stage(self, make):
        where = faults(
            make(
                stages={
                    "rounds": {"repeat": 1, "a": "toy.make"},
                    "b": {"type": "toy.make", "after": "rounds"},
                }
            )
        )
        assert where["stages.b.after"] == "'rounds' is a block; name one of the stages in it"

    def test_unknown_domain_or_stage_in_cases(self, make):
        where = faults(make(data=DOMAINS, stages={"m": {"type": "toy.make", "cases": "sourc"}}))
        assert where["stages.m.cases"] == "no stage or domain named 'sourc'; did you mean 'source'?"

    def test_a_stage_that_names_itself(self, make):
        where = faults(make(stages={"train": {"type": "core.train", "from": "train"}}))
        assert where["stages.train.from"] == "there is no stage 'train' before this one"

    def test_cycle(self, make):
        where = faults(
            make(stages={"a": {"type": "toy.make", "after": "b"}, "b": {"type": "toy.make", "after": "a"}})
        )
        assert where == {"stages.a": "stages need each other: a → b → a"}

    def test_kinds(self, make):
        where = faults(
            make(
                stages={
                    "make": "toy.make",
                    "train": "core.train",
                    "labels": {"type": "core.pseudo_label", "with": "make"},
                }
            )
        )
        assert where["stages.labels.with"] == (
            "'make' makes a dataset, where a predictor is meant; stages that do: train"
        )

    def test_weights_segment_nothing(self, make):
        stages = {
            "pretrain": {
                "type": "core.train",
                "learner": {"type": "toy.proxy"},
                "streams": {"unlabelled": {}},
            },
            "labels": {"type": "core.pseudo_label", "with": "pretrain"},
        }
        assert "makes a weights, where a predictor is meant" in str(faults(make(stages=stages)))

    def test_labels_must_come_from_a_data_set(self, make):
        data = {"dataset": "toy.data", "labels": {"kind": "soft", "from": "priors"}}
        where = faults(make(data=data, stages={"priors": "toy.fit", "train": "core.train"}))
        assert where["data.labels.from"] == "'priors' makes a table, where a dataset is meant"

    def test_predict_with(self, make):
        where = faults(make(predict={"with": "tran"}, evaluate={"metrics": ["toy.dice"]}))
        assert where["predict.with"] == "no stage named 'tran'; did you mean 'train'?"

    def test_nothing_to_evaluate(self, make):
        where = faults(make(stages={"m": "toy.make"}, evaluate={"metrics": ["toy.dice"]}))
        assert where["evaluate.metrics"] == "no stage makes a predictor that could be measured"

    def test_an_override_is_checked_with_its_place(self, make):
        # Changed after validation, as a variant of an ablation may do it.
        experiment = make()
        bad = experiment.model_copy(
            update={"stages": {"train": {"type": "core.train", "budget": {"steps": 0}}}}
        )
        where = faults(bad)
        assert where["stages.train.budget.steps"] == "Input should be greater than or equal to 1"

    def test_all_faults_come_in_one_message(self, make):
        stages = {
            "a": {"type": "toy.make", "with": "nobody"},
            "b": {"type": "toy.make", "after": "nowhere"},
        }
        with pytest.raises(ExperimentError, match=r"stages\.a\.with .*\n.*stages\.b\.after"):
            expand(make(stages=stages))

    @pytest.mark.parametrize(
        ("stages", "place", "message"),
        [
            (
                {"r": {"repeat": "often", "a": "toy.make"}},
                "stages.r.repeat",
                "expected a number, or `3 as k`",
            ),
            ({"r": {"repeat": 2, "type": "toy.make"}}, "stages.r", "has no `type` of its own"),
            ({"a b": "toy.make"}, "stages.a b", "a stage's name is a letter"),
            ({"a": 3}, "stages.a", "a stage is a mapping with `type`"),
            (
                {"a": {"type": "core.train", "members": {"folds": 1}}},
                "stages.a.members.folds",
                "greater than",
            ),
            ({"a": {"type": "core.train", "members": {}}}, "stages.a.members", "either `folds: n` or"),
            ({"a": {"type": "core.train", "members": {"seeds": [1, 1]}}}, "stages.a.members", "must differ"),
            ({"a": {"type": "toy.mak"}}, "stages.a.type", "did you mean 'toy.make'?"),
            ({"a": {"type": "toy.make", "strenght": 1}}, "stages.a.strenght", "Extra inputs"),
        ],
    )
    def test_syntax(self, make, stages, place, message):
        where = faults(make().model_copy(update={"stages": stages}))
        assert message in where[place]
