"""The set-up of these tests is a module, because processes of their own run it too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root that the tests of a module share."""
    return tmp_path_factory.mktemp("trials") / "runs"
