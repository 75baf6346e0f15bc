"""`mriad plugins doctor` and `mriad plugins new`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, ClassVar, Literal

import pytest
from distributions import distribution, environment, mriad
from mriad.cli.plugin_doctor import Report, causes, component_faults, component_hints, examine, render
from mriad.cli.plugin_scaffold import check_name, write_scaffold
from mriad.errors import PluginError, StorageError
from mriad.interfaces import Augmenter, Head, Loss
from mriad.plugins import discover
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAVY = """
    import scipy
    from mriad.hookspecs import hookimpl

    @hookimpl
    def mriad_register_commands(register):
        register("fly", "no_such_module:fly", "Flies.")
"""
BROKEN = """
    try:
        import no_such_package
    except ImportError as error:
        raise RuntimeError("install the other half first") from error
"""


class Sound(Augmenter):
    """Does nothing."""

    type: Literal["x.sound"] = "x.sound"
    where: ClassVar[Literal["device", "worker"]] = "worker"
    strength: float = Field(1.0, description="How much.")

    def build(self, task):
        return lambda batch, draws: batch


class Unfinished(Head):
    type: Literal["x.Un finished"] = "x.Un finished"
    bare: int = 0


class Refused(Loss):
    """Its default is outside its own range."""

    type: Literal["x.refused"] = "x.refused"
    factor: float = Field(-1.0, ge=0, description="At least 0.")

    def build(self, task):
        return None


class Shapeless(Loss):
    """A field that JSON cannot describe."""

    type: Literal["x.shapeless"] = "x.shapeless"
    function: Callable[[int], int] = Field(abs, description="A function.")

    def build(self, task):
        return None


def test_faults_and_hints_of_components() -> None:
    assert component_faults(Sound) == component_hints(Sound) == []
    faults = component_faults(Unfinished)
    assert "small letters" in faults[0]
    assert "x.Un finished: link is not implemented" in faults
    assert "x.Un finished: build is not implemented" in faults
    assert component_hints(Unfinished) == [
        "x.Un finished: the class has no docstring",
        "x.Un finished: no description of bare; Field(..., description=...)",
    ]
    (refused,) = component_faults(Refused)
    assert "cannot be made with its own defaults" in refused
    assert "greater than or equal to 0" in refused
    from collections.abc import Callable as Needed

    Shapeless.model_rebuild(_types_namespace={"Callable": Needed, "Literal": Literal})
    assert any("has no JSON Schema" in fault for fault in component_faults(Shapeless))


def test_our_own_plugins_have_no_fault_and_are_light() -> None:
    for report in examine(discover()):
        if report.plugin == "shapes":
            continue
        assert report.faults == [], report
        assert report.heavy == [], report
        assert report.import_seconds is not None
        assert 0 <= report.import_seconds < 30


def test_the_whole_cause_is_told() -> None:
    error = PluginError("cannot", where={"file": "f"}, remedy="do")
    error.__cause__ = KeyError("x")
    assert causes(error) == ["cannot", "  file  f", "  try   do", "because of KeyError: 'x'"]
    lines = list(render(Report("p", "d", "1", 0.5, ["torch"], ["two\nlines"], ["hint"])))
    assert lines[0] == "FAULT p  (d 1)  imported in 0.50 s, with torch"
    assert [line.strip() for line in lines[1:]] == ["fault two", "lines", "hint  hint"]


def test_the_command_reports_heavy_and_broken_plugins(tmp_path: Path) -> None:
    distribution(tmp_path, "heavy", HEAVY)
    distribution(tmp_path, "broken", BROKEN)
    env = environment(tmp_path, MRIAD_PLUGINS="heavy,broken")
    done = mriad("plugins", "doctor", "--debug", env=env)
    assert done.returncode == 1
    assert "error: 2 faults" not in done.stderr  # the traceback stands in its place
    assert "RuntimeError: install the other half first" in done.stderr
    assert "mriad_broken.py" in done.stderr
    told = done.stdout
    assert "because of ModuleNotFoundError: No module named 'no_such_package'" in told
    assert "with scipy" in told
    assert "the command 'fly' is not part of this installation" in told

    one = mriad("plugins", "doctor", "broken", "--json", env=env)
    assert one.returncode == 1
    (report,) = json.loads(one.stdout)
    assert report["plugin"] == "broken"
    assert "1 fault in broken" in one.stderr
    assert "--debug" in one.stderr
    sound = mriad("plugins", "doctor", "eval", env={**env, "MRIAD_PLUGINS": "eval,broken"})
    assert sound.returncode == 0, sound.stderr
    absent = mriad("plugins", "doctor", "absent", env=env)
    assert absent.returncode == 1
    assert "no plugin is called 'absent'" in absent.stderr


def test_names_and_places_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'My-Plugin' cannot be a plugin's name") as caught:
        check_name("My-Plugin")
    assert "mriad plugins new my_plugin" in str(caught.value)
    with pytest.raises(PluginError, match="a plugin named 'standard' is installed"):
        check_name("standard")
    with pytest.raises(StorageError, match="nothing is overwritten"):
        write_scaffold("fresh", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_plugin_passes_its_own_tests_and_ruff(tmp_path: Path) -> None:
    made = tmp_path / "mriad-a-fresh-one"
    env = environment(MRIAD_RUNS=str(tmp_path / "runs"))
    done = mriad("plugins", "new", "a_fresh_one", "--out", str(made), env=env)
    assert done.returncode == 0, done.stderr
    assert f"pip install -e {made}" in done.stderr
    project = tomllib.loads((made / "pyproject.toml").read_text())
    assert project["project"]["name"] == "mriad-a-fresh-one"
    assert "{{" not in "".join(file.read_text() for file in made.rglob("*.*") if file.is_file())

    for check in (["check"], ["format", "--check"]):
        ruff = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--no-cache", "."],
            cwd=made,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ruff.returncode == 0, ruff.stdout

    # What `pip install -e` leaves: the source on the path, and metadata with the entry points.
    info = tmp_path / "site" / "mriad_a_fresh_one-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mriad-a-fresh-one\nVersion: 0.1.0\n")
    points = project["project"]["entry-points"]["mriad.plugins"]
    (info / "entry_points.txt").write_text(
        "\n".join(["[mriad.plugins]", *(f"{k} = {v}" for k, v in points.items())])
    )
    env = environment(made / "src", info.parent, MRIAD_RUNS=str(tmp_path / "runs"))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(made)],
        cwd=made,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert tests.returncode == 0, tests.stdout
    assert "6 passed" in tests.stdout
    checked = mriad("plugins", "doctor", "a_fresh_one", "--json", env=env)
    assert checked.returncode == 0, checked.stdout
    (report,) = json.loads(checked.stdout)
    assert report["heavy"] == report["faults"] == report["hints"] == []
