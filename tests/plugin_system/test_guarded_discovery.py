"""A broken plugin is reported and never takes the program down."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest
from distributions import LOSS, distribution, environment, mriad
from mriad.cli.commands import table
from mriad.errors import ExperimentError, PluginError
from mriad.experiment.model import Experiment
from mriad.interfaces import INTERFACES, Loss
from mriad.plugins import Plugins, candidates, discover
from mriad.registry import Registry, using

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mriad.component import Component

GOOD = (
    LOSS
    + """
    @hookimpl
    def mriad_register_components(register):
        register(Fancy)
"""
)
HALF = (
    LOSS
    + """
    @hookimpl
    def mriad_register_components(register):
        register(Fancy)
        raise OSError("the licence server is not there")

    @hookimpl
    def mriad_register_commands(register):
        register("{plugin}", "nowhere:nothing", "Does nothing.")
"""
)
FOREIGN = """
    from typing import Literal
    from mriad.hookspecs import hookimpl
    from mriad.interfaces import Loss

    class Stolen(Loss):
        type: Literal["standard.dice_ce"] = "standard.dice_ce"

    @hookimpl
    def mriad_register_components(register):
        register(Stolen)
"""
NAMELESS = """
    from mriad.hookspecs import hookimpl
    from mriad.interfaces import Loss

    class Nameless(Loss):
        pass

    @hookimpl
    def mriad_register_components(register):
        register(Nameless)
"""
MISSPELT = """
    from mriad.hookspecs import hookimpl

    @hookimpl
    def mriad_register_component(register):
        pass
"""
WRONG_ARGUMENT = """
    from mriad.hookspecs import hookimpl

    @hookimpl
    def mriad_register_components(registry):
        pass
"""
COMMAND = """
    from mriad.hookspecs import hookimpl

    @hookimpl
    def mriad_register_commands(register):
        register("shared", "nowhere:nothing", "Says something.")
"""
BROKEN = {
    "imports": ("import no_such_package_at_all", "No module named 'no_such_package_at_all'"),
    "raises": ("raise SystemError('no driver')", "no driver"),
    "misspelt": (MISSPELT, "mriad_register_component"),
    "argument": (WRONG_ARGUMENT, "registry"),
    "foreign": (FOREIGN, "type 'standard.dice_ce' does not begin with the plugin's name"),
    "nameless": (NAMELESS, "a component needs an interface as base and a literal `type`"),
    "half": (HALF, "the licence server is not there"),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of distributions; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def load(monkeypatch: pytest.MonkeyPatch, *only: str) -> Plugins:
    """Discover what is installed, without a word about what is expected to break."""
    importlib.invalidate_caches()
    monkeypatch.setenv("MRIAD_PLUGINS", ",".join(only))
    with pytest.warns(RuntimeWarning) if set(only) & BROKEN.keys() else _silence():
        return discover(candidates())


def _silence():
    import warnings

    return warnings.catch_warnings(action="error")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_and_leaves_nothing(
    kind: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, reason = BROKEN[kind]
    distribution(site, kind, code, version="2.5")
    distribution(site, "good", GOOD)
    found = load(monkeypatch, kind, "good", "standard")
    assert [p.name for p in found.loaded] == ["good", "standard"]
    (broken,) = found.broken
    assert reason in str(broken.error)
    assert f"plugin '{kind}' (mriad-{kind} 2.5) is not loaded" in broken.summary
    assert "mriad plugins doctor" in broken.summary
    assert not any(e.plugin == kind for known in found.registry.components.values() for e in known.values())
    assert kind not in found.registry.commands
    assert found.registry.find("loss", "good.fancy") is not None
    # The component whose name was claimed is still its owner's.
    assert found.registry.get("loss", "standard.dice_ce").__module__ == "mriad_standard.losses"


def test_another_api_names_both_numbers(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "half", GOOD, api="MRIAD_API = 7")
    (broken,) = load(monkeypatch, "half").broken
    assert "was written for plugin API 7; this mriad has 1" in str(broken.error)
    assert "upgrade mriad-half or mriad" in str(broken.error)


def test_two_distributions_with_one_plugin_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "half", GOOD, name="mriad-half")
    distribution(site, "half", GOOD, name="other-half")
    found = load(monkeypatch, "half")
    assert [p.distribution for p in found.loaded] == ["mriad-half"]
    (broken,) = found.broken
    assert "two distributions offer a plugin named 'half'" in str(broken.error)
    assert "mriad-half" in str(broken.error)
    assert "other-half" in str(broken.error)


def test_two_plugins_with_one_command(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "another", COMMAND)
    distribution(site, "half", COMMAND)
    found = load(monkeypatch, "another", "half")
    assert found.registry.commands["shared"].plugin == "another"
    (broken,) = found.broken
    assert broken.name == "half"
    assert "two plugins offer the command 'shared'" in str(broken.error)
    assert "mriad-another" in str(broken.error)


def test_a_command_of_core_cannot_be_taken(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "greedy", COMMAND.replace("shared", "train"))
    commands, faults = table(load(monkeypatch, "greedy").registry.commands.values())
    assert commands["train"].target == "mriad.cli.train:train"
    assert "plugin 'greedy' (mriad-greedy) offers a command 'train', which is mriad's own" in faults[0]


def test_a_taken_component_name_names_both() -> None:
    def claim(module: str) -> type[Component]:
        from typing import Literal

        fields = {"__annotations__": {"type": Literal["x.y"]}, "type": "x.y", "__module__": module}
        return type("Claim", (Loss,), fields)

    registry = Registry()
    registry.add(claim("first"), "x", "dist-one")
    with pytest.raises(PluginError, match=r"two plugins offer the loss 'x\.y'") as caught:
        registry.add(claim("second"), "x", "dist-two")
    assert "dist-one" in str(caught.value)
    assert "dist-two" in str(caught.value)


def test_the_environment_restricts_what_is_loaded(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "good", GOOD)
    assert [p.name for p in load(monkeypatch, "good", "core").loaded] == ["core", "good"]
    assert load(monkeypatch).loaded == []
    monkeypatch.delenv("MRIAD_PLUGINS")
    assert {"core", "data", "eval", "standard", "good"} <= {c.name for c in candidates()}


def test_ours_come_in_through_the_hooks_of_everyone() -> None:
    """No list of our plugins in the code: each is an entry point, and owns every name that begins with its own."""
    found = discover()
    ours = {"core": "mriad", "data": "mriad-data", "eval": "mriad-eval", "standard": "mriad-standard"}
    loaded = {p.name: p for p in found.loaded}
    for plugin, owner in ours.items():
        assert loaded[plugin].distribution == owner
        assert callable(loaded[plugin].module.mriad_register_components)
    for base in INTERFACES:
        for name, entry in found.registry.components.get(base.interface, {}).items():
            assert name.split(".")[0] == entry.plugin


def experiment(tmp_path: Path, loss: str) -> Path:
    file = tmp_path / "x.yaml"
    file.write_text(
        f"name: x\ndata: {{dataset: shapes.blobs}}\nmodel: shapes.tiny_net\nloss: {loss}\nbudget: {{steps: 1}}\n"
    )
    return file


def test_an_experiment_that_names_an_absent_plugin_gets_the_install_line(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        Experiment.load(experiment(tmp_path, "acme.fancy"))
    text = str(caught.value)
    assert "no loss named 'acme.fancy' is installed" in text
    assert "pip install mriad-acme" in text
    assert "x.yaml:4" in text


def test_an_experiment_that_names_a_broken_plugin_is_told_so(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(site, "half", HALF)
    found = load(monkeypatch, "half", "shapes", "data", "core", "standard")
    with using(found.registry), pytest.raises(ExperimentError) as caught:
        Experiment.load(experiment(tmp_path, "half.fancy"))
    assert "plugin 'half' is installed but cannot be loaded, see: mriad plugins doctor half" in str(
        caught.value
    )


def test_the_program_survives_all_of_them(tmp_path: Path) -> None:
    for kind, (code, _) in BROKEN.items():
        distribution(tmp_path, kind, code)
    distribution(tmp_path, "good", GOOD)
    env = environment(tmp_path)
    listed = mriad("plugins", "list", env=env)
    assert listed.returncode == 0, listed.stderr
    assert "good" in listed.stdout
    for kind in BROKEN:
        assert f"warning: plugin '{kind}' (mriad-{kind} 1.0) is not loaded" in listed.stderr
        assert any(line.startswith(kind) and "BROKEN" in line for line in listed.stdout.splitlines())
    strict = mriad("--strict-plugins", "plugins", "list", env=env)
    assert strict.returncode == 1
    assert "7 of the plugins cannot be loaded" in strict.stderr
