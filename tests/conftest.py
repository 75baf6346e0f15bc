"""Shared set-up: environment before anything imports ray or mlflow, and the test plugin on the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHAPES = HERE / "plugins" / "shapes"
# The folder holds a package and its .dist-info, so it is found like any installed plugin, in worker processes too.
sys.path.insert(0, str(SHAPES))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(SHAPES), *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from mriad.environment import quiet  # noqa: E402  (must run before ray and mlflow are imported)

quiet()


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A runs root of its own."""
    root = tmp_path / "runs"
    monkeypatch.setenv("MRIAD_RUNS", str(root))
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real MRI named by MRIAD_TEST_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("MRIAD_TEST_DATA")
    folder = Path(named) if named else HERE.parent.parent / "shared" / "data"
    if not (folder / "manifest.tsv").is_file():
        pytest.skip("real MRI is absent: set MRIAD_TEST_DATA to its folder")
    return folder
