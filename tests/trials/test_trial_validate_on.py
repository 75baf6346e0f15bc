"""`data.validate_on`: which validation cases choose the checkpoint, so that no other contrast has a part in it."""

from __future__ import annotations

import pytest
import trial_setup as setup
from mriad.errors import DataError
from mriad.flow import gather_cases, validating_on
from mriad.identity import fingerprint
from mriad.launch.trial import trial_id
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.stages.sections import canonical
from mriad.stages.train import TrainStage


@pytest.fixture
def two():
    """Nine persons in each of two domains, all of one contrast; three of each validate."""
    made = setup.experiment(steps=2)
    return made.with_sections({"data": {"dataset": {"persons": 9, "domains": ["a", "b"]}}})


def on(experiment, *values):
    return experiment.with_sections({"data": {"validate_on": list(values)}})


@pytest.fixture
def cases(two):
    return gather_cases(two, two.data.dataset.build(), 0, two.seed)


@pytest.mark.parametrize(
    ("values", "domains"), [([], "ab"), (["b"], "b"), (["a", "b"], "ab"), (["T1w"], "ab")]
)
def test_only_cases_of_these_contrasts_or_domains_validate(cases, values, domains):
    found = validating_on(values, cases)
    expected = [case for case in cases.side("validation") if case.domain in domains]
    assert found.side("validation") == expected
    assert len(expected) == 3 * len(domains)
    for side in ("train", "test"):
        assert found.side(side) == cases.side(side)


def test_a_value_that_no_validation_case_has(cases):
    with pytest.raises(DataError) as caught:
        validating_on(["b", "T9w"], cases)
    told = str(caught.value)
    assert "no validation case has the contrast or domain 'T9w' of data.validate_on" in told
    assert "T1w, a, b" in told
    assert "leave data.validate_on out" in told


def test_a_training_looks_at_them_alone(two, tmp_path):
    """And tests are of both."""
    trial = setup.run(on(two, "b"), tmp_path / "runs")
    assert trial.artefacts["train"].summary["validation_cases"] == 3
    rows = (trial.folder / "cases.csv").read_text()
    assert all(f"{domain}00" in rows for domain in "ab")


def test_without_it_trials_and_stages_keep_the_identity_that_they_had(two, monkeypatch):
    now = fingerprints(expand(two))
    with_it = fingerprints(expand(on(two, "a")))
    assert all(now[name] != with_it[name] for name in ("train", "evaluate"))
    sections = TrainStage.sections
    monkeypatch.setattr(
        TrainStage, "sections", lambda self: tuple(s for s in sections(self) if s != "data.validate_on")
    )
    assert fingerprints(expand(two)) == now
    whole = canonical(two.data, "data")
    assert "validate_on" not in whole
    assert canonical(on(two, "a").data, "data") == {**whole, "validate_on": ["a"]}
    assert trial_id(two) != trial_id(on(two, "a"))
    before = two.model_dump(mode="json", exclude={"resources", "privacy", "description", "tuned"})
    del before["data"]["store"], before["data"]["validate_on"]  # there was no such field to hash
    assert trial_id(two) == fingerprint(before)
