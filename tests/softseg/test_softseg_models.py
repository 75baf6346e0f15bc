from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mriad.errors import ExperimentError
from mriad.testing import a_task, check_model
from mriad_softseg import AHNet


@pytest.mark.slow
def test_contract():
    check_model(AHNet(pyramid_levels=2), a_task("raw"), voxels=32)


def test_sizes_that_it_takes():
    model = AHNet()
    network = model.build(a_task("raw")).eval()
    size = (model.divisor(), model.divisor(), 32)
    with torch.no_grad():
        assert network(torch.zeros(1, 2, *size)).shape == (1, 2, *size)
    assert [AHNet(pyramid_levels=n).divisor() for n in (0, 1, 2, 3, 4)] == [32, 32, 32, 64, 128]


def test_slices_are_refused():
    with pytest.raises(ExperimentError, match=r"(?s)softseg.ahnet.*built for volumes.*standard.plain_unet"):
        AHNet().build(replace(a_task("raw"), dimensions=2))
