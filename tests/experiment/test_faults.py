"""All faults in one report, each with its place and what was expected."""

from __future__ import annotations

import pickle

import pytest
from mriad.errors import ExperimentError
from mriad.experiment.load import load


def refused(path, text: str, sets=()) -> list[str]:
    """Write an experiment, and return the lines of its report, without the folder."""
    path.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load(path, sets)
    return str(caught.value).replace(str(path.parent) + "/", "").splitlines()


@pytest.fixture
def lines(softseg):
    original = softseg.read_text()

    def change(*changes: tuple[str, str], sets=()) -> list[str]:
        text = original
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return refused(softseg, text, sets)

    return change


def test_everything_is_in_one_report(lines):
    found = lines(
        ("budget: {steps: 87000}", "budget: {stpes: 87000, epoch: 0}"),
        ("omega: 8", "omga: 8"),
        ("eval.rve", "eval.rvee"),
        ("axes: RPI", "axis: RPI"),
        ("reference: T2w", "reference: [T2w]"),
        ("name: soft_all", "name: soft all"),
        sets=["data.dataset.rot=/x", "streams.labelled.batch=0"],
    )
    assert found == [
        "experiment softseg.yaml has 10 faults",
        "  1    softseg.yaml:2  name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9_.:-]*$'",
        "  2    softseg.yaml:8  data.preprocessing.0.axes: is missing",
        "  3    softseg.yaml:8  data.preprocessing.0.axis: unknown key; did you mean 'axes'?",
        "  4    softseg.yaml:14  loss.loss.omga: unknown key; did you mean 'omega'?",
        "  5    softseg.yaml:18  budget.epoch: should be 'longest' or 'shortest' "
        "or greater than or equal to 1, not 0",
        "  6    softseg.yaml:18  budget.stpes: unknown key; did you mean 'steps'?",
        "  7    softseg.yaml:20  evaluate.metrics.1: no metric named 'eval.rvee' is installed; "
        "did you mean 'eval.rve'?",
        "  8    softseg.yaml:22  stages.softgt.reference: should be a valid string",
        "  9    --set data.dataset.rot=/x  data.dataset.rot: unknown key; did you mean 'root'?",
        "  10   --set streams.labelled.batch=0  streams.labelled.batch: should be greater than or equal to 1, not 0",
        "  try  `mriad schema --out F` tells an editor every key; `mriad plugins show TYPE` a component's",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("optimiser: ", "optimizer: ", "16  optimizer: unknown key; did you mean 'optimiser'?"),
        ("budget: {steps: 87000}", "steps: 87000", "18  steps: unknown key; it belongs under 'budget'"),
        ("low_cut", "with_", "19  predict.with_: should be a valid string, not 0"),
        (
            "type: softseg.norm_relu",
            "type: nnunet.relu",
            "19  predict.head: no head named 'nnunet.relu' is installed; plugin 'nnunet' is not installed, "
            "try: pip install mriad-nnunet",
        ),
        ("{type: standard.cosine}", "{warmup: 3}", "17  schedule: a schedule needs a mapping with a 'type'"),
        ("{type: standard.cosine}", "standard.adam", "did you mean 'standard.cosine'?"),
        (
            "kind: soft",
            "kind: sof",
            "5  data.labels.kind: should be 'hard', 'soft', 'sparse', 'none' or 'pseudo'",
        ),
        ("{type: core.train, after: softgt}", "3", "23  stages.train: "),
        ("after: softgt", "learner: {type: standard.superviced}", "did you mean 'standard.supervised'?"),
        (
            "after: softgt",
            "learnr: standard.supervised",
            "23  stages.train.learnr: unknown key; did you mean 'learner'?",
        ),
        (
            "after: softgt",
            "after: softgtt",
            "23  stages.train.after: no stage named 'softgtt'; did you mean 'softgt'?",
        ),
        (
            "after: softgt",
            "budget: {step: 3}",
            "23  stages.train.budget.step: unknown key; did you mean 'steps'?",
        ),
        (
            "after: softgt",
            "loss: {omga: 3}",
            "23  stages.train.loss.omga: unknown key; known here: loss, type, weights",
        ),
        ("name: soft_all", "nam: x", "2  nam: unknown key; did you mean 'name'?"),
    ],
)
def test_each_fault_says_where_and_what(lines, old, new, message):
    text = "\n".join(lines((old, new)))
    assert message in text


def test_a_missing_section_says_what_it_is(lines):
    found = lines(("name: soft_all\n", ""))
    assert "  1    softseg.yaml:2  name: is missing: Letters, digits, . _ : -" in found


def test_a_loss_that_does_not_fit_the_head(lines):
    found = lines(("head: {type: softseg.norm_relu}, ", ""))
    assert found[1] == (
        "  1    softseg.yaml:14  loss: loss 'standard.deep_supervision' reads outputs as raw, "
        "but predict.head 'standard.softmax' as softmax: change one of the two"
    )


def test_a_loss_of_a_stage_that_does_not_fit(lines):
    found = lines(("after: softgt", "loss: standard.dice_ce"))
    assert found[1].startswith(
        "  1    softseg.yaml:23  stages.train.loss: loss 'standard.dice_ce' reads outputs as soft"
    )


def test_streams_that_a_learner_lacks(lines):
    found = lines(("{type: standard.supervised}", "cosmos.target_aware_cyclegan"))
    assert found[1] == (
        "  1    softseg.yaml:11  streams: learner 'cosmos.target_aware_cyclegan' reads the streams source, target; "
        "streams: lacks source, target"
    )


def test_a_batch_that_workers_cannot_share(lines):
    found = lines(
        ("streams: {labelled: {batch: 2}}", "streams: {labelled: {batch: 3}}\nresources: {workers: 2}")
    )
    assert (
        "streams.labelled.batch: 3 samples cannot be divided over resources.workers 2: change one" in found[1]
    )


def test_faults_in_a_repeated_stage_are_named_once(cosmos):
    found = refused(cosmos, cosmos.read_text().replace("cases: target, keep", "case: target, keep"))
    assert [line.split(": ")[0] for line in found[1:-1]] == [
        "  1    cosmos.yaml:10  stages.rounds.labels.cases",
        "  2    cosmos.yaml:10  stages.rounds.labels.case",
    ]


def test_faults_in_an_extended_file_name_it(softseg, tmp_path):
    softseg.write_text(softseg.read_text().replace("steps: 87000", "steps: 0"))
    top = tmp_path / "top.yaml"
    found = refused(top, "extends: softseg.yaml\nbudget: {patience: -1}\n")
    assert "softseg.yaml:18  budget.steps" in found[1]
    assert "top.yaml:2  budget.patience" in found[2]


def test_faults_of_different_kinds_join(lines, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    found = lines(("/data/spine-generic", "'${NOT_SET}'"), ("steps: 87000", "steps: 1, steps: 0"))
    assert len(found) == 4
    assert "NOT_SET" in found[1]
    assert "budget.steps: this key is there twice" in found[2]


def test_the_report_pickles(softseg):
    with pytest.raises(ExperimentError) as caught:
        load(softseg, ["budget.stepz=1"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
