"""Ablations of the tiny experiments that the trials' tests use."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "trials")]
