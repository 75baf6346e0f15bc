"""`mriad plugins new`: a distribution with a plugin whose tests pass at once.

Its files are the templates in `scaffold/`: `{{name}}` and the like stand for what differs.
"""

from __future__ import annotations

import re
from importlib import metadata, resources
from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import Annotated

import typer

from mriad.atomic import storing, temporary_folder
from mriad.cli.next_step import next_step
from mriad.errors import PluginError, StorageError
from mriad.hookspecs import API_VERSION

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "experiment.yaml": "experiment.yaml",
    "__init__.py": "src/mriad_{{name}}/__init__.py",
    "plugin.py": "src/mriad_{{name}}/plugin.py",
    "configs.py": "src/mriad_{{name}}/configs.py",
    "torch_code.py": "src/mriad_{{name}}/torch_code.py",
    "test_components.py": "tests/test_{{name}}.py",
}
"""Template in `scaffold/` → file in the new distribution."""


def new(
    name: Annotated[
        str, typer.Argument(help="Name of the plugin: it begins every `type`.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write. [default: RUNS/plugins/mriad-NAME]")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Where mriad writes. [default: ./mriad-runs]")] = None,
) -> None:
    """Begin a plugin: a distribution that can be installed, with tests that pass. Nothing is overwritten.

    Example: mriad plugins new vessels --out ../mriad-vessels
    """
    from mriad.launch.files import runs_root

    check_name(name)
    target = (out or runs_root(runs).path / "plugins" / f"mriad-{_dashed(name)}").absolute()
    for file in write_scaffold(name, target):
        typer.echo(f"wrote  {file}")
    next_step(f"pip install -e {target} && pytest {target}", "then: mriad plugins show " + name)


def check_name(name: str) -> None:
    """Refuse a name that cannot begin a `type`, or that an installed plugin has.

    Raises:
        PluginError: either is so.
    """
    from mriad.plugins import candidates

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(
            f"'{name}' cannot be a plugin's name",
            where={"expected": "small letters, digits and underscores, a letter first"},
            remedy=f"mriad plugins new {re.sub(r'[^a-z0-9_]+', '_', name.lower()).strip('_0123456789') or 'mine'}",
        )
    twin = next((c for c in candidates() if c.name == name), None)
    if twin is not None:
        raise PluginError(
            f"a plugin named '{name}' is installed",
            where={"distribution": f"{twin.distribution} {twin.version}"},
            remedy="choose another name: no two plugins may share one",
        )


def write_scaffold(name: str, target: Path) -> list[Path]:
    """Write the distribution into the new folder `target`; return its files.

    Raises:
        StorageError: something is at `target`, or it cannot be written.
    """
    if target.exists():
        raise StorageError(
            "nothing is overwritten, and there is something already",
            where={"path": target},
            remedy="choose another folder with --out",
        )
    words = {
        "{{name}}": name,
        "{{dashed}}": _dashed(name),
        "{{version}}": metadata.version("mriad"),
        "{{api}}": str(API_VERSION),
    }
    templates = resources.files("mriad.cli") / "scaffold"
    written = [_fill(place, words) for place in FILES.values()]
    with temporary_folder(target) as folder, storing(target):
        for template, place in zip(FILES, written, strict=True):
            text = (templates / f"{template}.template").read_text("utf-8")
            file = folder / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_fill(text, words), "utf-8")
        folder.rename(target)
    return [target / place for place in written]


def _fill(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text


def _dashed(name: str) -> str:
    return name.replace("_", "-")
