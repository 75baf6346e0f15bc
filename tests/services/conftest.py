"""The tiny ablations and the process watching of the ablations' tests are used here too."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "ablation"), str(HERE.parent / "trials")]
