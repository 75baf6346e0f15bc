"""An ablation file on the tiny experiments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trial_setup as setup

if TYPE_CHECKING:
    from pathlib import Path

THIRDS = {"type": "shapes.thirds"}
# Trainings of three seconds and twenty checkpoints on any machine: whoever kills in the middle needs one.
PACED = {
    "budget": {"steps": 100, "validate_every": 25, "checkpoint_every": 5},
    "augment": [*setup.JITTER, {"type": "shapes.pause", "seconds": 0.03}],
}


def write(folder: Path, **over: Any) -> Path:
    """An ablation file beside its base."""
    base = setup.raw(steps=2, **over.pop("base", {}))
    (folder / "base.yaml").write_text(json.dumps(base))
    ablation: dict[str, Any] = {
        "base": "base.yaml",
        "variants": {"plain": {}, "slow": {"optimiser.lr": 1e-4}},
        "compare": {"type": "shapes.tally"},
        **over,
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(ablation, indent=1))
    return path
