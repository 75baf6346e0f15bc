"""The fakes of the inference tests make a model file here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "inference"))
