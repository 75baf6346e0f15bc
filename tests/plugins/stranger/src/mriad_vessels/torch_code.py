"""What `vessels` builds."""

from dataclasses import replace

import torch
from mriad.training.algorithm import Algorithm
from torch import nn


def add_bias(batch, draws, strength):
    position = torch.linspace(-1, 1, batch.image.shape[-1], device=batch.image.device)
    slope = strength * draws.normal().view(-1, *[1] * (batch.image.ndim - 1))
    return replace(batch, image=batch.image * (slope * position).exp())


def make_net(task, width):
    first = nn.Conv3d(len(task.channels), width, 3, padding=1)
    last = nn.Conv3d(width, task.outputs(), 3, padding=1)
    return nn.Sequential(first, nn.InstanceNorm3d(width, affine=True), nn.LeakyReLU(), last)


def tversky(prediction, target, weight, misses):
    p = prediction.float().softmax(1)[:, 1:]
    if not target.is_floating_point():  # 0 is background, s + 1 structure s
        target = torch.cat([target == s + 1 for s in range(p.shape[1])], 1).float()
    w = torch.ones_like(p) if weight is None else weight
    axes = tuple(range(2, p.ndim))
    hit, alarm, miss = ((w * x).sum(axes) for x in (p * target, p * (1 - target), (1 - p) * target))
    return 1 - ((hit + 1) / (hit + (1 - misses) * alarm + misses * miss + 1)).mean()


class ConsistentAlgorithm(Algorithm):
    def __init__(self, setup, factor):
        self.network = setup.network("network")
        self.optimised = setup.optimised(self.network.parameters())
        self.loss, self.factor = setup.loss.build(setup.task), factor

    def step(self, batches, run):
        batch = batches["labelled"]
        with run.autocast():
            raw, mirrored = self.network(batch.image), self.network(batch.image.flip(-1)).flip(-1)
            supervised = self.loss(raw, batch.target, batch.validity)
            agreement = (raw.softmax(1) - mirrored.softmax(1)).square().mean()
        run.update(self.optimised, supervised + self.factor * agreement)
        return {"loss": supervised.detach(), "agreement": agreement.detach()}

    def predicts(self):
        return self.network
