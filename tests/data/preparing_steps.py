"""Preprocessing steps for the workers of test_preparing.py."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep


class Selective(PreprocessingStep):
    """Refuses, breaks or kills its process at cases by name; writes down every case that it is given."""

    type: Literal["test.selective"] = "test.selective"
    log: str
    refuse: str = ""
    broken: str = ""
    kill: str = ""
    seconds: float = 0.0

    def apply(self, sample, parameters):
        with Path(self.log).open("a") as file:
            file.write(f"{sample.case}\n")
        time.sleep(self.seconds)
        if sample.case == self.refuse:
            raise DataError("nothing is left", remedy="look at the scan")
        if sample.case == self.broken:
            raise KeyError("oops")
        if sample.case == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample
