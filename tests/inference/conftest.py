"""A registry with tiny components, and grids of every kind."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from inference_fakes import fake_registry
from mriad.registry import using


@pytest.fixture(autouse=True)
def _fake_components():
    with using(fake_registry()):
        yield
