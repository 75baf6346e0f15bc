"""Optimisers of torch with typed settings. The schedule multiplies `lr`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from mriad.interfaces import Optimiser
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import nn

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adam(Optimiser):
    """Adam (Kingma and Ba, ICLR 2015); `weight_decay` is an L2 penalty on the gradient."""

    type: Literal["standard.adam"] = "standard.adam"
    lr: float = Field(1e-3, gt=0, description="Learning rate before the schedule.")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Decay of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, description="Factor of the L2 penalty.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.Adam`."""
        import torch

        return torch.optim.Adam(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    type: Literal["standard.adamw"] = "standard.adamw"
    lr: float = Field(1e-3, gt=0, description="Learning rate before the schedule.")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Decay of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.01, ge=0, description="Share of a weight that a step removes, times lr.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.AdamW`."""
        import torch

        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


class SGD(Optimiser):
    """Stochastic gradient descent with momentum; the defaults are nnU-Net's, with `standard.polynomial`."""

    type: Literal["standard.sgd"] = "standard.sgd"
    lr: float = Field(0.01, gt=0, description="Learning rate before the schedule.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Decay of the velocity.")
    nesterov: bool = Field(True, description="Nesterov's form; needs momentum.")
    weight_decay: float = Field(3e-5, ge=0, description="Factor of the L2 penalty.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0: raise momentum, or set nesterov: false")
        return self

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.SGD`."""
        import torch

        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )
