"""The functions of these tests are imported by name in worker processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
