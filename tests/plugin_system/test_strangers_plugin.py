"""A distribution from outside the workspace: built, installed, listed, described and trained, offline."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from distributions import ROOT, STRANGER, environment, mriad
from overlay import build_wheel, make_overlay

if TYPE_CHECKING:
    from pathlib import Path

OFFERS = {
    "dataset": "vessels.phantom",
    "augmenter": "vessels.bias",
    "model": "vessels.net",
    "loss": "vessels.tversky",
    "learner": "vessels.consistent",
}
EXPERIMENT = STRANGER / "experiment.yaml"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an overlay environment in which the stranger's wheel is installed."""
    scratch = tmp_path_factory.mktemp("stranger")
    return make_overlay(scratch / "overlay", build_wheel(STRANGER, scratch))


def test_it_is_two_short_files_that_the_workspace_does_not_know() -> None:
    files = [f for f in (STRANGER / "src").rglob("*.py") if f.read_text().strip()]
    assert {f.name for f in files} == {"plugin.py", "torch_code.py"}
    assert sum(len(f.read_text().splitlines()) for f in files) < 160
    assert "torch" not in {
        line.split()[1].split(".")[0]
        for line in (STRANGER / "src/mriad_vessels/plugin.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    for file in [ROOT / "pyproject.toml", ROOT / "uv.lock", *(ROOT / "packages").rglob("*.py")]:
        assert "mriad_vessels" not in file.read_text("utf-8"), file


def test_it_is_listed_shown_and_sound(python: Path) -> None:
    env = environment()
    listed = mriad("plugins", "list", "--json", env=env, python=python)
    (row,) = [r for r in json.loads(listed.stdout)["loaded"] if r["plugin"] == "vessels"]
    assert (row["distribution"], row["version"]) == ("mriad-vessels", "0.3.0")
    assert row["components"] == dict.fromkeys(OFFERS, 1)
    shown = mriad("plugins", "show", "vessels.tversky", env=env, python=python).stdout
    assert "Weight of misses; false alarms have 1 - this." in shown
    checked = mriad("plugins", "doctor", "vessels", "--json", env=env, python=python)
    (report,) = json.loads(checked.stdout)
    assert report["heavy"] == report["faults"] == report["hints"] == []
    assert checked.returncode == 0


def test_it_is_in_the_schema(python: Path) -> None:
    import jsonschema
    from ruamel.yaml import YAML

    schema = json.loads(mriad("schema", env=environment(), python=python).stdout)
    for interface, name in OFFERS.items():
        assert {"$ref": f"#/$defs/{name}"} in schema["$defs"][interface]["oneOf"]
    written = YAML(typ="safe").load(EXPERIMENT.read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(written)) == []
    wrong = {**written, "loss": {"type": "vessels.tversky", "mises": 0.5}}
    assert list(validator.iter_errors(wrong))


def test_its_own_tests_pass(python: Path, tmp_path: Path) -> None:
    """On a copy: beside them lies this workspace's conftest, which they must not need."""
    shutil.copytree(STRANGER / "tests", tmp_path / "tests")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("launcher", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_it_trains_two_steps_from_yaml(launcher: str, python: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = mriad(
        *("train", str(EXPERIMENT), "--launcher", launcher, "--tracking", "off", "--runs", str(runs)),
        env=environment(),
        python=python,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "dice  vessel" in done.stdout
    (run,) = (runs / "runs").iterdir()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keys = {key for row in rows for key in row["values"]}
    assert {"train/loss", "train/agreement", "test/dice/vessel"} <= keys
    assert max(row["step"] for row in rows) == 2
    record = json.loads((run / "run.json").read_text())
    assert record["plugins"]["vessels"] == "mriad-vessels 0.3.0"
