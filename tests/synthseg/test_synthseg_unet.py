"""The paper's U-Net: layers as its section 2.3 says, contract, sizes."""

from __future__ import annotations

import pytest
import torch
from mriad.errors import ShapeError
from mriad.testing import a_task, check_model
from mriad_synthseg.models import UNet
from torch import nn


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_contract(norm):
    check_model(UNet(levels=3, features=4, norm=norm))


def test_the_papers_network():
    """5 levels of 2 convolutions with 3³ voxels, 24 features doubling; the layers counted by hand."""
    network = UNet().build(a_task(channels=("image",)))
    sizes = [
        (c.in_channels, c.out_channels, c.kernel_size[0])
        for c in network.modules()
        if isinstance(c, nn.Conv3d)
    ]
    down = [
        (1, 24),
        (24, 24),
        (24, 48),
        (48, 48),
        (48, 96),
        (96, 96),
        (96, 192),
        (192, 192),
        (192, 384),
        (384, 384),
    ]
    up = [(72, 24), (24, 24), (144, 48), (48, 48), (288, 96), (96, 96), (576, 192), (192, 192)]
    assert sizes == [*((a, b, 3) for a, b in down), *((a, b, 3) for a, b in up), (24, 3, 1)]
    assert sum(isinstance(m, nn.InstanceNorm3d) for m in network.modules()) == 9
    assert UNet().divisor() == 16
    literal = UNet(norm="batch").build(a_task())
    assert sum(isinstance(m, nn.BatchNorm3d) for m in literal.modules()) == 9


def test_levels_see_further():
    """A voxel far away reaches the output through the coarse levels only."""
    torch.manual_seed(0)
    network = UNet(levels=4, features=2, norm="none").build(a_task(channels=("image",))).eval()
    image = torch.zeros(1, 1, 32, 32, 32, requires_grad=True)
    network(image)[0, 0, 16, 16, 16].backward()
    reach = (image.grad[0, 0] != 0).nonzero()
    assert (reach.max(0).values - reach.min(0).values).min() > 20


def test_sizes_that_do_not_fit():
    network = UNet(levels=3, features=2).build(a_task(channels=("image",)))
    with pytest.raises(ShapeError, match="cannot take") as found:
        network(torch.zeros(1, 1, 8, 10, 8))
    assert "[8, 12, 8]" in str(found.value)
    with pytest.raises(ShapeError, match="single voxel"):
        network(torch.zeros(1, 1, 4, 4, 4))
