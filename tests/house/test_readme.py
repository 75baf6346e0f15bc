"""The README is true: its experiment is valid, its commands and files exist, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mriad.experiment.load import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_experiment_is_valid(tmp_path):
    (text,) = blocks("yaml")
    path = tmp_path / "cord.yaml"
    path.write_text(text)
    assert load(path).name == "cord"


COMMANDS = sorted(
    {line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_exist(line):
    words = line.split()
    if words[0].startswith("scripts/"):
        assert (ROOT / words[0]).stat().st_mode & 0o111
        return
    if words[0] != "mriad":
        assert line == "source .venv/bin/activate"
        return
    shown = subprocess.run(
        [sys.executable, "-c", "from mriad.cli import main; main()", words[1], "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for word in words[2:]:
        if word.startswith("--"):
            assert word in shown, f"{words[1]} has no {word}"


def test_links_lead_somewhere():
    for path in (
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("packages/**/README.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_python_snippet_uses_what_exists():
    import mriad

    (text,) = blocks("python")
    for name in re.findall(r"mriad\.(\w+)", text):
        assert hasattr(mriad, name), name
