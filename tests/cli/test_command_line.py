"""The frame of the command line: lazy, fast, and readable when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated

import jsonschema
import pytest
import typer
from mriad import plugins
from mriad.cli import app, main
from mriad.cli.commands import CORE, PANELS, Command, table
from mriad.errors import DataError, PluginError
from mriad.plugins import Candidate

HEAVY = ("torch", "ray", "mlflow", "monai", "torchio", "scipy", "pandas", "matplotlib", "SimpleITK")


def run(*arguments: str) -> int:
    """Run in this process and return the exit status."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(code: str) -> set[str]:
    """The heavy modules that are there after running code in a fresh process."""
    return set(
        json.loads(
            python(f"import sys, json\n{code}\nprint(json.dumps(sorted(set(sys.modules))))").splitlines()[-1]
        )
    ) & set(HEAVY)


def command_line(*arguments: str) -> str:
    return (
        "from mriad.cli import main\nimport contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({list(arguments)!r})"
    )


@pytest.mark.parametrize(
    "arguments", [("--help",), (), ("--version",), ("plugins", "list"), ("plugins", "--help")]
)
def test_light_commands_import_nothing_heavy(arguments):
    assert imported(command_line(*arguments)) == set()


def test_help_itself_makes_no_component():
    code = "import os\nos.environ['MRIAD_PLUGINS'] = 'core'\n" + command_line("--help")
    assert imported(code + "\nassert 'pydantic' not in sys.modules and 'numpy' not in sys.modules") == set()


def test_the_help_of_every_command_imports_nothing_heavy():
    code = """
from mriad.cli import app
from mriad.cli.commands import table
from mriad.errors import MriadError
from mriad.plugins import discover_commands
commands, _ = table(discover_commands().registry.commands.values())
heavy, broken = {}, {}
for name, command in commands.items():
    try:
        real = app.load(command)
    except MriadError as error:
        broken[name] = str(error)
        continue
    inner = [real, *getattr(real, "commands", {}).values()]
    for one in inner:
        one.get_help(one.context_class(one, info_name=name))
    for module in HEAVY:
        if module in sys.modules:
            heavy.setdefault(module, name)
print(json.dumps([heavy, broken]))
"""
    heavy, broken = json.loads(python(f"import sys, json\nHEAVY = {HEAVY!r}\n{code}").splitlines()[-1])
    assert heavy == {}, "the command that first imports each module"
    assert broken == {}


def test_the_commands_that_are_promised():
    offered, _ = table(plugins.discover_commands().registry.commands.values())
    promised = (
        "quickstart init preview train ablate resume predict evaluate compare measure model plugins schema"
    )
    promised += " config runs ui sync doctor data"
    assert set(promised.split()) <= set(offered)
    assert all(command.help.endswith(".") and command.panel in PANELS for command in offered.values())


def test_no_arguments_is_a_wrong_use(capsys):
    assert run() == 2
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "Usage: mriad" in text
    for panel in PANELS[:-1]:
        assert f"{panel}:" in text
    for command in CORE:
        assert command.help.split()[0] in text


def test_help_and_version(capsys):
    assert run("--help") == 0
    assert "mriad quickstart" in capsys.readouterr().out
    assert run("-h") == 0
    assert run("--version") == 0
    assert "mriad 0." in capsys.readouterr().out


def test_an_unknown_command_and_option(capsys):
    assert run("confg") == 2
    assert "Did you mean 'config'?" in capsys.readouterr().err
    assert run("config", "show", "x.yaml", "--sett", "a=b") == 2
    assert "--set" in capsys.readouterr().err
    assert run("config") == 2
    assert run("config", "show") == 2


def test_an_error_is_explained_without_traceback(capsys, tmp_path):
    assert run("config", "show", str(tmp_path / "none.yaml")) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no such experiment file\n")
    assert "  try " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("place", [0, 3])
def test_debug_shows_the_traceback_wherever_it_stands(tmp_path, place):
    arguments = ["config", "show", str(tmp_path / "none.yaml")]
    arguments.insert(place, "--debug")
    with pytest.raises(Exception, match="no such experiment file"):
        main(arguments)


def test_debug_behind_two_dashes_is_an_argument():
    assert app._take_debug(["a", "--debug", "--", "--debug"]) == (["a", "--", "--debug"], True)
    assert app._take_debug(["a", "--", "--debug"]) == (["a", "--", "--debug"], False)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "mriad.cli.nothing:go",
            "'x' is not part of this installation[\\s\\S]*pip install --upgrade mriad-x",
        ),
        ("no_such_package.sub:go", "'x' is not part of this installation"),
        (
            "needs_absent:go",
            "'x' needs the package 'absent_library'[\\s\\S]*pip install --upgrade absent_library",
        ),
        ("mriad.cli.app:go", "'x' names something that is not there"),
        ("wants_name:go", "'x' cannot be imported[\\s\\S]*cannot import name"),
    ],
)
def test_a_command_that_cannot_be_loaded(target, message, tmp_path, monkeypatch):
    (tmp_path / "needs_absent.py").write_text("import absent_library\n")
    (tmp_path / "wants_name.py").write_text("from mriad.errors import Nonsense\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=message):
        app.load(Command("x", target, "Help.", PANELS[0], "mriad-x"))


def plugin(name: str, **attributes: object) -> Candidate:
    """An entry point that gives a module with these attributes, or raises what it is given."""
    module = types.ModuleType(f"stranger_{name}")
    vars(module).update(attributes)

    class Entry:
        def load(self) -> object:
            if "error" in attributes:
                raise attributes["error"]  # type: ignore[misc]
            return module

    return Candidate(name, f"mriad-{name}", "1.0", Entry())


def offers(name: str, target: str):
    @plugins.hookspecs.hookimpl
    def mriad_register_commands(register):
        register(name, target, "A stranger's command.")

    return mriad_register_commands


@pytest.fixture
def strangers(monkeypatch, tmp_path):
    """Replace the installed plugins."""
    (tmp_path / "stranger_commands.py").write_text(
        "from typing import Annotated\nimport typer\n"
        "app = typer.Typer()\n@app.command()\ndef one(n: int = 1) -> None:\n    '''Say one.'''\n    print('one', n)\n"
        "def greet(name: Annotated[str, typer.Argument()]) -> None:\n    '''Greet.'''\n    print('hello', name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def use(*candidates: Candidate) -> None:
        monkeypatch.setattr(plugins, "_last", None)
        monkeypatch.setattr(plugins, "candidates", lambda: list(candidates))
        monkeypatch.setattr("mriad.registry._current", None)

    return use


def test_commands_of_a_plugin(strangers, capsys):
    strangers(
        plugin("a", mriad_register_commands=offers("greet", "stranger_commands:greet")),
        plugin("b", mriad_register_commands=offers("group", "stranger_commands:app")),
    )
    assert run("--help") == 0
    assert "From plugins:\n  greet  A stranger's command." in capsys.readouterr().out
    assert run("greet", "you") == 0
    assert capsys.readouterr().out == "hello you\n"
    assert run("group", "one", "--n", "3") == 0
    assert capsys.readouterr().out == "one 3\n"
    assert run("greet") == 2


def test_a_broken_plugin_costs_one_line(strangers, capsys):
    strangers(
        plugin("bad", error=RuntimeError("no such luck\nmore")),
        plugin("good", mriad_register_commands=offers("greet", "stranger_commands:greet")),
    )
    assert run("greet", "you") == 0
    captured = capsys.readouterr()
    assert captured.out == "hello you\n"
    assert captured.err == (
        "warning: plugin 'bad' (mriad-bad 1.0) is not loaded: no such luck; see: mriad plugins doctor\n"
    )
    assert run("plugins", "list") == 0
    captured = capsys.readouterr()
    assert captured.err.count("warning: plugin 'bad'") == 1
    assert "BROKEN: no such luck" in captured.out
    assert run("plugins", "show", "bad") == 1
    assert "plugin 'bad' cannot be loaded" in capsys.readouterr().err


def test_strict_plugins_refuses(strangers, capsys):
    strangers(plugin("bad", error=RuntimeError("no such luck")))
    assert run("--strict-plugins", "plugins", "list") == 1
    assert "1 of the plugins cannot be loaded" in capsys.readouterr().err


def test_a_plugin_may_not_take_a_command_of_ours(strangers, capsys):
    strangers(plugin("thief", mriad_register_commands=offers("config", "stranger_commands:greet")))
    assert run("config", "--help") == 0
    captured = capsys.readouterr()
    assert "plugin 'thief' (mriad-thief) offers a command 'config', which is mriad's own" in captured.err
    assert "Look at experiments" in captured.out


def test_two_plugins_with_one_command(strangers, capsys):
    strangers(
        plugin("a", mriad_register_commands=offers("greet", "stranger_commands:greet")),
        plugin("b", mriad_register_commands=offers("greet", "stranger_commands:app")),
    )
    assert run("greet", "you") == 0
    captured = capsys.readouterr()
    assert captured.out == "hello you\n"
    assert "plugin 'b' (mriad-b 1.0) is not loaded: two plugins offer the command 'greet'" in captured.err


def test_errors_of_commands_reach_the_person(monkeypatch, capsys):
    def fails(name: Annotated[str, typer.Argument()] = "x") -> None:
        raise DataError("a file is missing", where={"file": name}, remedy="look")

    monkeypatch.setattr(app, "load", lambda command: _command(fails))
    assert run("doctor", "y") == 1
    assert capsys.readouterr().err == "error: a file is missing\n  file  y\n  try   look\n"


def _command(function):
    made = typer.Typer(add_completion=False)
    made.command()(function)
    return typer.main.get_command(made)


def test_schema_to_a_file_and_to_the_screen(tmp_path, capsys):
    out = tmp_path / "sub" / "schema.json"
    assert run("schema", "--out", str(out)) == 0
    captured = capsys.readouterr()
    assert "# yaml-language-server: $schema=schema.json" in captured.out
    assert "next: mriad config show" in captured.err
    written = json.loads(out.read_text())
    jsonschema.Draft202012Validator.check_schema(written)
    assert "core.train" in written["$defs"]
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == written


def test_schema_into_what_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("schema", "--out", str(tmp_path / "file" / "schema.json")) == 1
    assert "cannot write" in capsys.readouterr().err


def test_config_show(tmp_path, capsys):
    bad = tmp_path / "x.yaml"
    bad.write_text("name: x\ndata: {dataset: data.nothing}\nbudget: {stepz: 1}\n")
    assert run("config", "show", str(bad), "--set", "seed=-1") == 1
    err = capsys.readouterr().err
    assert f"{bad}:2  data.dataset: no dataset named 'data.nothing' is installed" in err
    assert f"{bad}:3  budget.stepz: unknown key; did you mean 'steps'?" in err
    assert "--set seed=-1  seed: should be greater than or equal to 0, not -1" in err


def test_plugins_list_and_show(capsys):
    assert run("plugins", "list") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["plugin", "distribution", "version", "offers"]
    assert any(line.startswith("core ") for line in out.splitlines())
    assert run("plugins", "list", "--json") == 0
    loaded = {row["plugin"]: row for row in json.loads(capsys.readouterr().out)["loaded"]}
    assert loaded["core"]["components"]["stage"] >= 2
    assert run("plugins", "show", "core") == 0
    assert "core.train" in capsys.readouterr().out
    assert run("plugins", "show", "core.train") == 0
    assert "key_map" in capsys.readouterr().out
    assert run("plugins", "show", "core.trian") == 1
    assert "did you mean  core.train" in capsys.readouterr().err


def test_doctor(tmp_path, capsys):
    assert run("doctor", "--runs", str(tmp_path / "runs")) == 0
    captured = capsys.readouterr()
    for what in ("python", "torch", "cores", "memory", "gpu", "runs", "plugins"):
        assert f"  {what} " in captured.out
    assert "next: mriad quickstart" in captured.err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert run("doctor", "--runs", str(tmp_path / "file" / "runs")) == 1
    out = capsys.readouterr().out
    assert "FAIL  runs" in out
    assert "1 of " in out


def test_doctor_names_the_gpu(monkeypatch):
    import torch
    from mriad.cli.doctor import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    properties = types.SimpleNamespace(name="A card", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert [f.value for f in gpu()] == ["A card, 24 GiB, bf16"]


def test_the_entry_point_is_a_program():
    mriad = Path(sys.executable).with_name("mriad")
    done = subprocess.run([mriad], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Usage: mriad" in done.stdout + done.stderr
