"""Training inline imports torch, NumPy, SciPy, pydantic, pluggy, nibabel and the YAML reader, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ROOT, environment

SCRIPT = Path(__file__).with_name("train_guarded.py")
YAML = """
name: little
data:
  dataset: {type: shapes.blobs, persons: 6, size: 8}
  split: shapes.thirds
  preprocessing: [data.z_score]
augment: [shapes.jitter]
model: shapes.tiny_net
loss: shapes.cross_entropy
learner: shapes.supervised
optimiser: shapes.adam
budget: {steps: 2}
predict: {head: shapes.softmax}
evaluate: {metrics: [shapes.overlap]}
"""
BLOCKED = (
    "ray", "mlflow", "monai", "torchio", "typer", "rich", "safetensors", "matplotlib", "pandas", "SimpleITK",
    "sklearn", "dynamic_network_architectures", "torchvision", "mriad_eval", "mriad_standard",
)  # fmt: skip


def test_two_steps_train_with_everything_else_blocked(tmp_path: Path) -> None:
    file = tmp_path / "little.yaml"
    file.write_text(YAML)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(file), str(tmp_path / "runs")],
        env=environment(ROOT / "tests" / "plugins" / "shapes", MRIAD_PLUGINS="core,data,shapes"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    assert not set(BLOCKED) & set(found["roots"])  # the list of what is allowed did not let them in
    assert found["loaded"] == []
    assert found["steps"] == 2
    assert found["metrics"] == ["overlap"]
    # torch and nibabel try optional packages by themselves; of ours nothing else is even asked for.
    ours_asked = {
        "ray",
        "mlflow",
        "typer",
        "rich",
        "monai",
        "safetensors",
        "torchio",
        "mriad_eval",
        "mriad_standard",
    }
    assert not ours_asked & {name.partition(".")[0] for name in found["refused"]}
