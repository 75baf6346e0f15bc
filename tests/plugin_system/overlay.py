"""An environment of its own that sees the packages of the one that runs the tests, without network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def build_wheel(source: Path, scratch: Path) -> Path:
    """Build a wheel of a project that names setuptools as its back end, from a copy of it."""
    copy = scratch / "source"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(scratch)], cwd=copy, check=True, capture_output=True)
    (wheel,) = scratch.glob("*.whl")
    return wheel


def make_overlay(folder: Path, *wheels: Path) -> Path:
    """Make a virtual environment with these wheels, over this one's packages; return its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    own = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    below = sysconfig.get_paths()["purelib"]
    # addsitedir follows the .pth files there, so that editable installs are seen too.
    (own / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels], check=True, env=env
    )
    return python
