"""The ablation on the brain phantom resolves, and its parameters are those for which claims were written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import resolve
from mriad.identity import fingerprint

CLAIMS = Path(__file__).parents[2] / "docs" / "results" / "synthseg-claims.md"


@pytest.fixture
def found():
    variants, _ = resolve(load_ablation("synthseg:phantom_contrasts"))
    return variants


def test_the_frozen_phantom_is_the_one_of_the_claims(found):
    datasets = {
        fingerprint(
            [e.data.dataset.model_dump(mode="json"), e.data.dataset.parameters().model_dump(mode="json")]
        )
        for e in found.values()
    }
    assert len(datasets) == 1
    assert f"| synthseg:phantom | `{datasets.pop()[:16]}` |" in CLAIMS.read_text(encoding="utf-8")


def test_variants_are_trained_alike_and_tested_alike(found):
    assert set(found) == {"synthseg", "synthseg_rule", "supervised_T1w", "atlas_em"}
    for field in ("model", "loss", "optimiser", "budget", "streams", "evaluate", "predict"):
        assert len({str(getattr(e, field)) for e in found.values()}) == 1, field
    assert {str(e.data.split) for e in found.values()} == {str(found["synthseg"].data.split)}
    painters = {name: [a.type for a in e.augment] for name, e in found.items()}
    assert painters["synthseg"] == painters["synthseg_rule"] == ["synthseg.generate"]
    assert painters["supervised_T1w"] == ["synthseg.supervised_augment"]
    assert found["synthseg_rule"].augment[0].priors == "priors"
    budget = found["synthseg"].budget
    assert budget.validate_every == budget.steps  # once, at the end: no contrast chooses a checkpoint
