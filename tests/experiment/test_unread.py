"""Fields that nothing reads are refused by name before a run, and still parse."""

from __future__ import annotations

import pytest
from mriad.errors import ExperimentError
from mriad.experiment.model import Experiment
from mriad.experiment.unread import refuse_unread, unread_fields


def made(**sections):
    data = {"dataset": {"type": "data.bids", "root": "/data"}, **sections.pop("data", {})}
    loss = {"type": "standard.dice_ce"}
    return Experiment.model_validate({"name": "toy", "data": data, "loss": loss, **sections})


@pytest.mark.parametrize(
    ("sections", "places"),
    [
        ({}, []),
        ({"evaluate": {"at": {"levels": []}}, "predict": {"type": "network"}}, []),
        ({"data": {"structures": {"ankle": ["talus"]}}}, []),
        ({"evaluate": {"at": {"levels": ["C2"]}}}, []),
        ({"predict": {"type": "atlas"}}, ["predict.type"]),
        (
            {"stages": {"train": {"type": "core.train", "predict": {"type": "atlas"}}}},
            ["stages.train.predict.type"],
        ),
        (
            {
                "evaluate": {"at": {"levels": ["C2"]}},
                "stages": {"r": {"repeat": 2, "t": {"type": "core.train", "predict": {"type": "atlas"}}}},
            },
            ["stages.r.t.predict.type"],
        ),
    ],
)
def test_the_places_of_unread_fields(fakes, sections, places):
    assert unread_fields(made(**sections)) == places


def test_they_are_refused_with_what_to_do(fakes):
    refuse_unread(made())
    with pytest.raises(ExperimentError) as caught:
        refuse_unread(made(predict={"type": "atlas"}))
    said = str(caught.value)
    assert "experiment 'toy' sets fields that have no effect" in said
    assert "predict.type" in said
    assert "no part of mriad reads it yet" in said
    assert "leave it out" in said
