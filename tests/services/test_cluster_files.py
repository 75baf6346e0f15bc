"""services/cluster without an engine, a Kubernetes or a SLURM: its files are read, checked and replayed."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ablation_setup import write
from jsonschema import Draft202012Validator
from mriad.environment import DEFAULTS
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "services" / "cluster"
SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
SBATCH = CLUSTER / "slurm" / "ablate.sbatch"


def instructions(path: Path) -> list[tuple[str, str]]:
    """(word, rest) of a Dockerfile's lines, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line]


def environment() -> dict[str, str]:
    pairs = [shlex.split(rest) for word, rest in instructions(CLUSTER / "Dockerfile") if word == "ENV"]
    return {key: value for pair in pairs for key, value in (item.split("=", 1) for item in pair)}


def runs() -> list[str]:
    return [rest for word, rest in instructions(CLUSTER / "Dockerfile") if word == "RUN"]


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load((CLUSTER / "kuberay" / name).read_text())
    return loaded


def faults(document: Any) -> list[str]:
    """What a manifest says that the operator does not know; of the kind that the document claims to be."""
    kind = {"RayCluster": "rayCluster", "RayJob": "rayJob"}[document["kind"]]
    known = {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}
    found = Draft202012Validator(known).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


class TestImage:
    def test_it_is_set_up_by_the_command_of_the_readme(self):
        (bootstrap,) = [line for line in runs() if "bootstrap" in line]
        assert bootstrap.split()[0] == "scripts/bootstrap"
        assert os.access(ROOT / "scripts" / "bootstrap", os.X_OK)
        assert "scripts/bootstrap" in (ROOT / "CONTRIBUTING.md").read_text()
        assert 'uv sync --quiet --compile-bytecode "$@"' in (ROOT / "scripts" / "bootstrap").read_text()

    def test_a_head_that_runs_already_has_what_mriad_would_set(self):
        assert DEFAULTS.items() <= environment().items()

    def test_its_python_is_one_that_the_packages_take(self):
        (base,) = [rest for word, rest in instructions(CLUSTER / "Dockerfile") if word == "FROM"]
        needs = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"][
            "requires-python"
        ]
        assert re.fullmatch(r"python:3\.(\d+)-slim-bookworm", base)
        assert tuple(map(int, re.findall(r"\d+", base)[:2])) >= tuple(map(int, re.findall(r"\d+", needs)))

    def test_it_does_not_run_as_root(self):
        users = [rest for word, rest in instructions(CLUSTER / "Dockerfile") if word == "USER"]
        assert users == ["mriad"]
        assert any("useradd" in line and "--uid 1000 mriad" in line for line in runs())

    def test_nothing_that_the_packages_need_is_left_out(self):
        left_out = (CLUSTER / "Dockerfile.dockerignore").read_text().split("\n")
        for needed in ("packages", "scripts", "pyproject.toml", "uv.lock", "LICENSE", "services"):
            assert (ROOT / needed).exists()
            assert needed not in left_out
        assert {".git", ".venv", "mriad-runs"} <= set(left_out)


@pytest.mark.slow
def test_the_image_s_commands_in_a_fresh_copy(tmp_path):
    """RUN lines that need no root, one after the other, in what git would give to somebody else."""
    copied = tmp_path / "mriad"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # one may have been removed and not yet committed
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copied / name)
    mine = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "MRIAD_RUNS")}
    theirs = {
        k: v for k, v in environment().items() if k != "PATH" and not k.startswith("UV_")
    }  # our cache is kept
    replayed = [line for line in runs() if not line.startswith(("apt-get", "echo"))]
    assert len(replayed) == 2
    for line in replayed:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=copied,
            env={**mine, **theirs},
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "standard" in done.stdout
    assert not (copied / ".venv" / "bin" / "pytest").exists()
    shutil.rmtree(copied)  # gigabytes, where packages are not linked from a cache


class TestKubernetes:
    @pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
    def test_the_operator_knows_every_field(self, name):
        Draft202012Validator.check_schema(SCHEMA)
        assert faults(manifest(name)) == []

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda d: d["spec"].update(rayClusterSpecs={}), "rayClusterSpecs"),
            (
                lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
                "0 is not of type 'string'",
            ),
            (lambda d: d["spec"]["workerGroupSpecs"][0].pop("minReplicas"), "minReplicas"),
            (lambda d: d["spec"]["authOptions"].update(mode="password"), "password"),
            (lambda d: d.update(apiVersion="ray.io/v1alpha1"), "ray.io/v1"),
            (lambda d: container(d, 1)["resources"]["limits"].update(cpu="eight"), "eight"),
        ],
    )
    def test_the_check_finds_what_the_operator_would_refuse(self, change, said):
        wrong = copy.deepcopy(manifest("raycluster.yaml"))
        change(wrong)
        assert any(said in fault for fault in faults(wrong))

    def test_the_job_s_cluster_is_the_cluster(self):
        assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]

    def test_one_image_one_place_and_a_token(self):
        spec = manifest("raycluster.yaml")["spec"]
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        assert spec["authOptions"]["mode"] == "token"
        assert len({group["template"]["spec"]["containers"][0]["image"] for group in groups}) == 1
        for group in groups:
            pod = group["template"]["spec"]
            (made,) = pod["containers"]
            volumes = {volume["name"] for volume in pod["volumes"]}
            assert {mount["name"] for mount in made["volumeMounts"]} == volumes
            assert (
                made["resources"]["requests"] == made["resources"]["limits"]
            )  # never moved for lack of memory
            runs_root = next(e["value"] for e in made["env"] if e["name"] == "MRIAD_RUNS")
            shared = next(m["mountPath"] for m in made["volumeMounts"] if m["name"] == "shared")
            assert runs_root.startswith(f"{shared}/")
            assert next(e["value"] for e in made["env"] if e["name"] == "MLFLOW_TRACKING_URI").startswith(
                "http"
            )
            assert pod["securityContext"]["runAsUser"] == 1000

    def test_there_are_nodes_with_and_without_a_gpu(self):
        groups = manifest("raycluster.yaml")["spec"]["workerGroupSpecs"]
        limits = {
            g["groupName"]: g["template"]["spec"]["containers"][0]["resources"]["limits"] for g in groups
        }
        assert "nvidia.com/gpu" in limits["gpu"]
        assert "nvidia.com/gpu" not in limits["cpu"]

    def test_ray_in_the_image_is_the_version_that_they_name(self):
        locked = re.search(r'name = "ray"\nversion = "([^"]+)"', (ROOT / "uv.lock").read_text())
        assert locked
        assert manifest("raycluster.yaml")["spec"]["rayVersion"] == locked[1]

    def test_the_job_runs_a_command_that_there_is(self):
        words = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
        assert words[:2] == ["mriad", "ablate"]
        assert Path(words[2]).is_absolute()  # a job's current folder is a copy


def container(document: dict[str, Any], group: int) -> dict[str, Any]:
    made: dict[str, Any] = document["spec"]["workerGroupSpecs"][group]["template"]["spec"]["containers"][0]
    return made


def test_a_dry_run_says_what_a_job_would_upload(tmp_path):
    file = write(tmp_path)
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "scans.nii").open("wb") as scans:
        scans.truncate(101 * 2**20)
    command = [
        sys.executable,
        "-m",
        "mriad",
        "ablate",
        str(file),
        "--dry-run",
        "--runs",
        str(tmp_path.parent / "r"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("job's upload")]
    assert "101.0 MiB in 3 files" in line
    assert f"name in {tmp_path.name}/.rayignore: data/ (101 MiB)" in line


class TestSlurm:
    def test_shellcheck(self):
        program = shutil.which("shellcheck")
        if program is None:
            pytest.skip("shellcheck is not installed (Debian: apt-get install shellcheck)")
        done = subprocess.run([program, str(SBATCH)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def test_it_is_a_script_that_bash_reads_and_slurm_can_requeue(self):
        assert subprocess.run(["bash", "-n", str(SBATCH)], check=False).returncode == 0
        head = SBATCH.read_text().split("set -euo pipefail")[0]
        for option in ("--requeue", "--open-mode=append", "--ntasks-per-node=1", "--signal=B:USR1@"):
            assert f"#SBATCH {option}" in head

    def test_ray_gets_what_mriad_would_set(self):
        exported = " ".join(re.findall(r"^export (.*)$", SBATCH.read_text(), re.MULTILINE))
        assert [key for key, value in DEFAULTS.items() if f"{key}={value}" not in exported] == []

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"MRIAD_IMAGE": ""}, "set MRIAD_IMAGE"),
            ({"MRIAD_RUNS": ""}, "set MRIAD_RUNS"),
            ({"MRIAD_RUNS": "runs"}, "must be an absolute path"),
            ({"MRIAD_IMAGE": "/nowhere/mriad.sif"}, "there is no image"),
        ],
    )
    def test_what_is_missing_is_said_before_anything_starts(self, tmp_path, given, said):
        (tmp_path / "x.sif").touch()
        known = {"MRIAD_IMAGE": str(tmp_path / "x.sif"), "MRIAD_RUNS": str(tmp_path / "runs"), **given}
        done = subprocess.run(
            ["bash", str(SBATCH), "study.yaml"],
            env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", **known},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode != 0
        assert said in done.stderr
        assert not (tmp_path / "runs").exists()

    def test_a_file_that_is_not_there(self, tmp_path):
        (tmp_path / "x.sif").touch()
        known = {"MRIAD_IMAGE": str(tmp_path / "x.sif"), "MRIAD_RUNS": str(tmp_path / "runs")}
        done = subprocess.run(
            ["bash", str(SBATCH), "study.yaml"],
            env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", **known},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert "there is no ablation file study.yaml" in done.stderr
