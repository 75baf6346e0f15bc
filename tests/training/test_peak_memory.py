"""The peak of one training is not that of the process before it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from mriad.training.worker import forget_peak, peak_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_a_peak_is_measured_and_forgotten():
    forget_peak(CPU)
    before = peak_memory(CPU)
    held = np.ones(100 * 2**20, np.uint8)  # written to, so resident
    assert 95 * 2**20 < peak_memory(CPU) - before < 130 * 2**20
    del held
    forget_peak(CPU)
    assert peak_memory(CPU) < before + 40 * 2**20
