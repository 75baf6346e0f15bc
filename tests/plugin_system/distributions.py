"""Writes distributions as an installer leaves them: packages and a `.dist-info` with entry points."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STRANGER = ROOT / "tests" / "plugins" / "stranger"

LOSS = """
    from typing import Literal
    from mriad.hookspecs import hookimpl
    from mriad.interfaces import Loss

    class Fancy(Loss):
        type: Literal["{plugin}.fancy"] = "{plugin}.fancy"

        def build(self, task):
            return None
"""


def distribution(
    site: Path, plugin: str, code: str, *, version: str = "1.0", name: str = "", api: str = "MRIAD_API = 1"
) -> None:
    """Put a plugin of one module into the folder `site`, which belongs on the path.

    Args:
        site: folder.
        plugin: name of the entry point.
        code: the module's text.
        version: of the distribution.
        name: of the distribution; default: mriad-PLUGIN.
        api: the line that states the plugin API.
    """
    name = name or f"mriad-{plugin}"
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[mriad.plugins]\n{plugin} = {module}\n")
    text = textwrap.dedent(code).replace("{plugin}", plugin)
    (site / f"{module}.py").write_text(f"{api}\n{text}")


def environment(*sites: Path, **more: str) -> dict[str, str]:
    """The environment of a process that sees these folders first and no test plugin."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MRIAD_PLUGINS", "MRIAD_RUNS")}
    path = os.pathsep.join(map(str, sites))
    return {**kept, **({"PYTHONPATH": path} if path else {}), "OMP_NUM_THREADS": "1", **more}


def mriad(
    *arguments: str, env: dict[str, str], python: str | Path = sys.executable, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program as a process."""
    code = "from mriad.cli import main; main()"
    return subprocess.run(
        [str(python), "-c", code, *arguments],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
