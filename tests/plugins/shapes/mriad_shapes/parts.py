"""Networks, losses and an augmenter in plain torch."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from mriad.training.distributed import average
from torch import nn


def jitter(batch, draws, sd):
    shape = (-1, *([1] * (batch.image.ndim - 1)))
    image = batch.image * draws.uniform(0.8, 1.2).view(shape) + sd * draws.noise(batch.image.shape[1:])
    flip = draws.chance(0.5).view(shape)
    target = batch.target
    if target is not None:
        target = torch.where(flip, target.flip(-1), target)
    return replace(batch, image=torch.where(flip, image.flip(-1), image), target=target)


class JointBatchNorm(nn.Module):
    """Batch norm over the joint batch of all ranks."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        shape, axes = (1, -1, *([1] * (x.ndim - 2))), [0, *range(2, x.ndim)]
        if self.training:
            moments = average(torch.stack([x.mean(axes), (x * x).mean(axes)]))
            mean, var = moments[0], moments[1] - moments[0] ** 2
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(var, 0.1)
        else:
            mean, var = self.running_mean, self.running_var
        x = (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + 1e-5)
        return x * self.weight.view(shape) + self.bias.view(shape)


class DomainNorm(nn.Module):
    """A joint batch norm for each domain."""

    def __init__(self, channels, domains):
        super().__init__()
        self.norms = nn.ModuleList([JointBatchNorm(channels) for _ in range(domains)])

    def forward(self, x, domain):
        return self.norms[domain](x)


class TinyNetwork(nn.Module):
    def __init__(self, task, width, norm, dropout):
        super().__init__()
        self.domains = task.domains
        domains = max(1, len(task.domains))
        # A bias before a norm has a gradient of exactly 0: Adam would turn its rounding into full steps.
        self.first = nn.Conv3d(len(task.channels), width, 3, padding=1, bias=norm == "none")
        self.kind = norm
        self.norm = {
            "none": nn.Identity,
            "batch": lambda: JointBatchNorm(width),
            "instance": lambda: nn.InstanceNorm3d(width, affine=True),
            "domain": lambda: DomainNorm(width, domains),
        }[norm]()
        self.dropout = nn.Dropout(dropout)
        heads = list(task.domains) if norm == "domain" and task.domains else [""]
        self.heads = nn.ModuleList([nn.Conv3d(width, task.outputs(d), 3, padding=1) for d in heads])

    def encode(self, x, domain=0):
        domain = self.domains.index(domain) if isinstance(domain, str) and domain else domain or 0
        x = self.first(x)
        x = self.norm(x, domain) if self.kind == "domain" else self.norm(x)
        return self.dropout(F.leaky_relu(x))

    def forward(self, x, domain=0):
        head = self.domains.index(domain) if isinstance(domain, str) and domain else domain or 0
        return self.heads[head if self.kind == "domain" else 0](self.encode(x, domain))


def cross_entropy(prediction, target, weight=None):
    return F.cross_entropy(prediction.float(), target[:, 0])


def contrastive(z, group, tau):
    """Supervised contrastive loss, specs of the multi-domain paper, eq. 3."""
    z = F.normalize(z, dim=1)
    s = z @ z.T / tau
    off = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_sum = torch.logsumexp(s.masked_fill(~off, float("-inf")), 1)
    positive = (group[:, None] == group[None]) & off
    return (((log_sum[:, None] - s) * positive).sum(1) / positive.sum(1)).mean()
