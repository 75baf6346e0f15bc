"""What ranks exchange, differentiable where losses need it. Without a process group everything is the identity.

Gradients are averaged over ranks after the backward pass (`Run.update`). The backward passes here are made for that:
with `gather` every rank computes the same loss of the joint batch, so its gradients are summed; with `average` each
rank's own loss depends on a mean, so they are averaged. Both then give the gradient of one process with the joint
batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist

from mriad.errors import NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn


def active() -> bool:
    """Whether more than one process trains together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())
        ]
        dist.all_gather(parts, x.contiguous())
        ctx.rows = x.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.contiguous().clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        mean = gradients[0].contiguous().clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()


def gather(x: Tensor) -> Tensor:
    """(B, ...) of this rank → (world · B, ...) in rank order, differentiable."""
    return cast("Tensor", _Gather.apply(x)) if active() else x


def average(x: Tensor) -> Tensor:
    """Mean of a tensor over ranks, differentiable; for statistics such as batch-norm moments."""
    return cast("Tensor", _Average.apply(x)) if active() else x


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks, in one message.

    A parameter that no rank has a gradient for keeps None, so that an optimiser leaves it alone.
    """
    if not active() or not parameters:
        return
    device = parameters[0].device
    has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=device)
    dist.all_reduce(has, op=dist.ReduceOp.MAX)
    live = [p for p, flag in zip(parameters, has.tolist(), strict=True) if flag]
    if not live:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in live])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for p in live:
        p.grad = flat[start : start + p.numel()].view_as(p).to(p.dtype)
        start += p.numel()


@torch.no_grad()
def agree_on_buffers(modules: Iterable[nn.Module]) -> None:
    """Give every rank the same buffers: floating ones (running statistics) their mean over ranks, others rank 0's.

    A value that is the same on all ranks stays as it is, to the bit.
    """
    if not active():
        return
    buffers = list({id(b): b for module in modules for b in module.buffers() if b.numel()}.values())
    floating = [b for b in buffers if b.is_floating_point()]
    for other in (b for b in buffers if not b.is_floating_point()):
        first = other.reshape(-1).clone()
        dist.broadcast(first.view(torch.uint8), src=0)  # as bytes: not every backend sends every type
        other.copy_(first.view_as(other))
    if not floating:
        return
    flat = torch.cat([b.reshape(-1).double() for b in floating])
    least, most, mean = flat.clone(), flat.clone(), flat.clone()
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    dist.all_reduce(mean)
    agreed = torch.where(least == most, flat, mean / dist.get_world_size())
    start = 0
    for buffer in floating:
        buffer.copy_(agreed[start : start + buffer.numel()].view_as(buffer))
        start += buffer.numel()


def all_finite(flag: Tensor) -> bool:
    """Whether a 0-d bool tensor is true on every rank."""
    if active():
        vote = flag.to(torch.int32)
        dist.all_reduce(vote, op=dist.ReduceOp.MIN)
        return bool(vote.item())
    return bool(flag.item())


def gather_objects(value: Any) -> list[Any]:
    """The values of all ranks in rank order."""
    if not active():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for every rank."""
    if active():
        dist.barrier()


def refuse_non_finite(what: str, step: int, cases: Mapping[str, Sequence[str]]) -> NonFiniteError:
    """The error of a non-finite loss or gradient, with the cases of every rank."""
    rows: dict[str, object] = {}
    for rank, named in enumerate(gather_objects({k: list(v) for k, v in cases.items()})):
        suffix = f" (rank {rank})" if active() else ""
        rows.update({f"stream {name}{suffix}": ", ".join(ids) for name, ids in named.items()})
    return NonFiniteError(
        f"{what} is not finite in step {step}; the weights were not changed",
        where=rows,
        remedy="look at these cases with `mriad preview`; else lower the learning rate, set budget.clip_norm, "
        "or use budget.precision: fp32",
    )
