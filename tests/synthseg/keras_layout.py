"""A U-Net with the tensor names that the converter writes for; what `synthseg.unet` is expected to look like."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from mriad.interfaces import Model
from mriad.registry import registry
from torch import nn


class Level(nn.Module):
    """Convolutions with ELU; gives what leaves before the batch norm, and what leaves after it."""

    def __init__(self, taken, width, convs, norm):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv3d(taken if i == 0 else width, width, 3, padding=1) for i in range(convs)
        )
        self.norm = nn.BatchNorm3d(width, eps=1e-3) if norm == "batch" else nn.Identity()

    def forward(self, x):
        for conv in self.convs:
            x = nn.functional.elu(conv(x))
        return x, self.norm(x)


class Network(nn.Module):
    """`down.L`, `up.L` with L from 0, the finest; `last`."""

    def __init__(self, channels, outputs, features, levels, convs, norm):
        super().__init__()
        widths = [features * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            Level(channels if i == 0 else widths[i - 1], w, convs, norm) for i, w in enumerate(widths)
        )
        self.up = nn.ModuleList(
            Level(widths[i] + widths[i + 1], widths[i], convs, norm) for i in range(levels - 1)
        )
        self.last = nn.Conv3d(widths[0], outputs, 1)

    def forward(self, x):
        across = []
        for place, level in enumerate(self.down):
            if place:
                x = nn.functional.max_pool3d(x, 2)
            skip, x = level(x)
            across.append(skip)
        for place in reversed(range(len(self.up))):
            x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            _, x = self.up[place](torch.cat([across[place], x], dim=1))
        return self.last(x)


class Layout(Model):
    """Settings as those of `synthseg.unet` are expected."""

    type: Literal["layout.unet"] = "layout.unet"
    features: int = 24
    levels: int = 5
    convs_per_level: int = 2
    norm: Literal["instance", "batch", "none"] = "batch"

    def build(self, task):
        return Network(
            len(task.channels), task.outputs(), self.features, self.levels, self.convs_per_level, self.norm
        )

    def divisor(self):
        return 2 ** (self.levels - 1)


def registered():
    """What is installed, and the layout."""
    out = copy.copy(registry())
    out.components = {interface: dict(known) for interface, known in out.components.items()}
    out.add(Layout, "layout", "mriad-layout")
    return out
