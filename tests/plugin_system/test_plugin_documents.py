"""docs/reference/hooks.md and docs/how-to/write-a-plugin.md say what the code does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hook_reference
import pytest
from distributions import ROOT, STRANGER
from mriad import hookspecs
from mriad.cli.commands import table
from mriad.interfaces import INTERFACES
from mriad.plugins import discover

if TYPE_CHECKING:
    from pathlib import Path

HOW_TO = ROOT / "docs" / "how-to" / "write-a-plugin.md"
HOOKS = hook_reference.DOCUMENT
SOURCES = {
    "python": [*STRANGER.rglob("*.py")],
    "toml": [STRANGER / "pyproject.toml"],
    "yaml": [STRANGER / "experiment.yaml"],
}


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("mark", hook_reference.parts())
def test_the_reference_is_what_the_code_says(mark: str) -> None:
    _, written, _ = hook_reference.split(HOOKS.read_text("utf-8"), mark)
    assert written == hook_reference.parts()[mark], "run: python tests/plugin_system/hook_reference.py"


def test_every_hook_and_interface_is_in_the_reference() -> None:
    """By other means than the writer's own."""
    text = HOOKS.read_text("utf-8")
    specs = [name for name in dir(hookspecs) if hasattr(getattr(hookspecs, name), "mriad_spec")]
    assert len(specs) == 3
    for name in specs:
        code = getattr(hookspecs, name).__code__
        arguments = ", ".join(code.co_varnames[: code.co_argcount])
        assert f"`{name}({arguments})`" in text
    for base in INTERFACES:
        assert f"### `{base.interface}`: `{base.__name__}`" in text
        if "build" in vars(base):
            given = base.build.__annotations__["return"]
            assert re.search(rf"`build\([^`]*\) -> {re.escape(given)}`", text), base.interface
    assert f"API_VERSION {hookspecs.API_VERSION}." in text
    assert f"`MRIAD_API = {hookspecs.API_VERSION}`" in text
    assert f"`{hookspecs.GROUP}`" in text


@pytest.mark.parametrize("language", SOURCES)
def test_snippets_are_the_strangers(language: str) -> None:
    texts = [file.read_text("utf-8") for file in SOURCES[language]]
    found = snippets(language)
    assert found
    for snippet in found:
        assert any(snippet in text for text in texts), snippet


@pytest.mark.parametrize("document", [HOW_TO, HOOKS], ids=lambda path: path.stem)
def test_commands_and_links_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    commands, _ = table(discover().registry.commands.values())
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    named = re.findall(r"^mriad ([a-z]+)(?: ([a-z]+))?", lines, re.MULTILINE)
    named += re.findall(r"`mriad ([a-z]+)(?: ([a-z]+))?", text)
    assert named
    for command, sub in named:
        assert command in commands
        if command == "plugins":
            assert sub in ("list", "show", "doctor", "new")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link


def test_what_the_how_to_names_exists() -> None:
    from mriad import images, testing

    assert hasattr(images, "FileSource")
    for name in re.findall(r"`(check_\w+)`", HOOKS.read_text("utf-8")):
        assert hasattr(testing, name)
