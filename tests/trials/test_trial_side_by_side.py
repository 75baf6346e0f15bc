"""Two data sets with label sets of their own, side by side: trained, validated, predicted and measured by domain."""

from __future__ import annotations

import pytest
import trial_setup as setup
from mriad.errors import ExperimentError
from mriad.evaluation import read_rows
from mriad.inference.load import load_predictor

DISCS = {
    "type": "data.map_labels",
    "dataset": {"type": "shapes.blobs", "persons": 9, "domains": ["b"], "size": 10},
    "ontology": {"disc": 1, "cord": 2},
    "map": {"box": "disc"},
    "absent": ["cord"],
}
DATA = {
    "dataset": {
        "type": "data.union",
        "of": [{"type": "shapes.blobs", "persons": 9, "domains": ["a"]}, DISCS],
        "elsewhere": "unknown",
    },
    "labels": {"kind": "hard"},
    "split": {"type": "data.leave_one_out", "within": "domain"},
    "structures": {"a": ["box"], "b": ["cord", "disc"]},
}


def test_each_domain_has_its_own_targets_head_and_rows(tmp_path):
    trial = setup.run(setup.experiment("domain_norms", data=DATA), tmp_path)
    (table,) = trial.folder.parent.parent.glob("stages/*/cases.csv")
    rows = read_rows(table)
    assert {(row.domain, row.structure) for row in rows} == {("a", "box"), ("b", "cord"), ("b", "disc")}
    assert {row.person for row in rows} == {"a00", "b00"}
    (place,) = trial.folder.parent.parent.glob("stages/*/predictor")
    assert load_predictor(place, domain="a").label_set.names == ("box",)
    again = load_predictor(place, domain="b").label_set
    assert again.names == ("cord", "disc")
    assert again.only(["disc"]).background  # what another head segments is known not to be this


def test_a_stream_with_two_label_sets_is_refused(tmp_path):
    streams = {"labelled": {"batch": 2}}
    with pytest.raises(
        ExperimentError, match="stream 'labelled' mixes domains with different label sets"
    ) as found:
        setup.run(setup.experiment("supervised", data=DATA, streams=streams), tmp_path)
    assert "one stream a domain: streams: {a: {batch: 2}, b: {batch: 2}}" in str(found.value)


def test_a_domain_without_structures_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match=r"data\.structures must name the structures of every domain"):
        setup.run(setup.experiment("domain_norms", data={**DATA, "structures": {"a": ["box"]}}), tmp_path)
