"""Stages that start from other stages' weights, through the whole stack."""

from __future__ import annotations

import pytest
import trial_setup as setup
from mriad.errors import CheckpointError
from mriad.tracking.record import RunRecord


def chained(key_map=None, first=None, steps=2, **second):
    """Two training stages, the second from the weights of the first."""
    mapped = {"key_map": key_map} if key_map else {}
    return setup.experiment(
        steps=steps,
        stages={
            "first": {"type": "core.train", **(first or {})},
            "train": {"type": "core.train", "from": "first", **mapped, **second},
        },
    )


def test_a_stage_takes_over_all_weights_of_the_stage_before(tmp_path):
    log = setup.Log()
    trial = setup.run(chained(optimiser={"lr": 1e-12}), tmp_path / "runs", log)
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 7 of 7 tensors" in said
    first = setup.torch.load(trial.artefacts["first"].folder / "weights.pt", weights_only=True)["network"]
    second = setup.weights(trial)
    assert all((second[f"network.{k}"] - first[k]).abs().max() < 1e-6 for k in first if "running" not in k)


def test_a_map_of_names_takes_over_what_it_covers(tmp_path):
    log = setup.Log()
    setup.run(chained(key_map={"first": "first"}), tmp_path / "runs", log)
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 1 of 7 tensors" in said


def test_a_map_that_matches_nothing_is_an_error_that_names_both_sides(tmp_path):
    given = chained(key_map={"encoder.": "first."})
    with pytest.raises(CheckpointError, match="cannot start from these weights") as caught:
        setup.run(given, tmp_path / "runs")
    said = str(caught.value)
    assert "stage     train" in said or caught.value.where["stage"] == "train"
    assert caught.value.where["matched"] == 0
    assert "first.weight" in said
    assert "key_map" in said
    (folder,) = (tmp_path / "runs" / "runs").iterdir()
    record = RunRecord(folder).read()
    assert record["status"] == "failed"
    assert record["error"]["type"] == "CheckpointError"
    assert "cannot start from these weights" in record["error"]["message"]


def test_weights_of_another_width_are_an_error_with_both_shapes(tmp_path):
    with pytest.raises(CheckpointError, match="cannot start") as caught:
        setup.run(chained(model={"width": 6}), tmp_path / "runs")
    assert "first.weight (4, 1, 3, 3, 3) ≠ (6, 1, 3, 3, 3)" in str(caught.value)


def test_a_stage_of_bare_weights_starts_another(tmp_path):
    """A learner that translates makes weights, not a predictor; its encoder starts a segmenter."""
    given = setup.experiment(
        "alternating",
        steps=2,
        stages={
            "translate": {"type": "core.train"},
            "train": {
                "type": "core.train",
                "from": "translate",
                "key_map": {"encoder.": "first."},
                "learner": {"type": "shapes.supervised"},
                "streams": {"labelled": {"batch": 2, "domain": "a"}},
            },
        },
    )
    log = setup.Log()
    trial = setup.run(given, tmp_path / "runs", log)
    assert {name: made.kind for name, made in trial.artefacts.items()} == {
        "translate": "weights",
        "train": "predictor",
    }
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 2 of 4 tensors" in said
