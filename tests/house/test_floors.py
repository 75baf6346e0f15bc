"""DESIGN.md's house rules, held by reading the code: floors, one wrapper a library, light configs, short files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.name: path for path in ROOT.glob("packages/**/src/*") if path.is_dir()}
FLOOR = {"mriad": 0, "mriad_data": 1, "mriad_eval": 1, "mriad_standard": 2}
METHOD_FLOOR = 3  # every other package is a method
WRAPPERS = {
    "ray": {"mriad/launch/ray_launcher.py", "mriad/launch/ray_tune.py"},  # Ray Train, Ray Tune
    "mlflow": {"mriad/tracking/mlflow_store.py"},
}
HEAVY = ("torch", "monai", "torchio", "ray", "mlflow", "pandas", "matplotlib", "SimpleITK", "scipy")


def imported(path: Path) -> Iterator[str]:
    """Top-level names of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def modules() -> list[tuple[str, Path]]:
    return [(package, path) for package, folder in SOURCES.items() for path in sorted(folder.rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT)).split("/src/")[1]


def test_every_member_is_seen():
    assert set(FLOOR) <= set(SOURCES)
    for folder in SOURCES.values():
        member = folder.parent.parent
        assert (folder / "py.typed").exists(), folder
        assert (member / "README.md").exists(), member


def test_imports_point_down():
    """Up or sideways is refused; standard alone may use both packages of floor 1."""
    wrong = []
    for package, path in modules():
        mine = FLOOR.get(package, METHOD_FLOOR)
        for name in set(imported(path)) & SOURCES.keys() - {package}:
            if FLOOR.get(name, METHOD_FLOOR) >= mine:
                wrong.append(f"{name_of(path)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("library", WRAPPERS)
def test_ray_and_mlflow_are_imported_where_they_are_wrapped(library):
    users = {name_of(path) for _, path in modules() if library in imported(path)}
    assert users == WRAPPERS[library]


def test_names_say_what_a_module_is():
    vague = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
    assert not [name_of(path) for _, path in modules() if path.stem in vague]


def test_files_are_read_at_one_sitting():
    long = {
        name_of(path): n for _, path in modules() if (n := len(path.read_text("utf-8").splitlines())) > 450
    }
    assert not long


def test_discovering_plugins_and_listing_components_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from mriad.registry import registry\n"
        "found = registry()\n"
        "assert found.components, 'nothing is installed'\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
