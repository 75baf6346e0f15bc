"""Builds runs of the hard-shape learners straight on the loop, without experiment files or launchers."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mriad.training.algorithm import LearnerSetup
from mriad.training.loop import Plan, fit
from mriad.training.protocols import Shard
from mriad.training.run import Run
from mriad.training.streams import Chain, Stream, StreamSet
from mriad.vocabulary import Sample, Task
from mriad_shapes import configs


@dataclass
class Memory:
    """Checkpoints in memory, through the bytes that a file would hold."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def save(self, name: str, state: Any) -> None:
        import io

        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.kept[name] = buffer.getvalue()

    def load(self, name: str) -> dict[str, Any] | None:
        import io

        if name not in self.kept:
            return None
        return torch.load(io.BytesIO(self.kept[name]), weights_only=True)


@dataclass
class Log:
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.rows.append((step, dict(values)))

    def progress(self, step: int, steps: int) -> None:
        pass

    def message(self, text: str) -> None:
        self.lines.append(text)


class KilledError(Exception):
    """Stands for a process that dies."""


@dataclass
class DyingLog(Log):
    at: int = 0

    def progress(self, step: int, steps: int) -> None:
        if step == self.at:
            raise KilledError


def samples(domains=("a",), persons=5, size=8) -> dict[str, Sample]:
    out = {}
    for case in configs.Blobs(domains=list(domains), persons=persons, size=size).build():
        volume, label = case.channels["image"].read(), case.labels["hard"].source.read()
        out[case.id] = Sample(
            case.id, volume.data[None], volume.grid, target=label.data[None], domain=case.domain
        )
    return out


SHAPES: dict[str, tuple[Any, str, dict[str, tuple[str, int, int, bool]]]] = {
    # learner, norm, stream -> (domain, persons, batch, labelled); lengths differ on purpose
    "supervised": (configs.Supervised(), "batch", {"labelled": ("a", 5, 2, True)}),
    "alternating": (
        configs.Alternating(),
        "none",
        {"source": ("a", 5, 2, True), "target": ("b", 3, 2, False)},
    ),
    "mean_teacher": (
        configs.MeanTeacher(),
        "batch",
        {"labelled": ("a", 3, 2, True), "unlabelled": ("b", 7, 4, False)},
    ),
    "cross_pseudo": (
        configs.CrossPseudo(),
        "instance",
        {"labelled": ("a", 3, 2, True), "unlabelled": ("b", 7, 2, False)},
    ),
    "domain_norms": (configs.DomainNorms(), "domain", {"a": ("a", 5, 4, True), "b": ("b", 3, 2, True)}),
}


def build(
    shape: str,
    steps: int,
    shard: Shard,
    seed: int = 3,
    accumulate: int = 1,
    compile: bool = False,
    **net: Any,
):
    """Return run, algorithm and streams of a hard shape."""
    learner, norm, wanted = SHAPES[shape]
    task = Task(
        ("image",),
        {"": configs.Blobs().build().label_set},
        "softmax",
        ("a", "b") if shape == "domain_norms" else (),
    )
    chain = Chain.of([configs.Jitter()], task)
    streams = {}
    for name, (domain, persons, batch, labelled) in wanted.items():
        pool = samples((domain,), persons)
        if not labelled:
            pool = {k: Sample(s.case, s.image, s.grid) for k, s in pool.items()}
        views = (
            {"weak": Chain(), "strong": chain}
            if (shape, name) == ("mean_teacher", "unlabelled")
            else {"": chain}
        )
        streams[name] = Stream(name, tuple(pool), pool.__getitem__, batch, seed, views=views)
    device = torch.device("cpu")
    together = StreamSet(streams, shard, device)
    setup = LearnerSetup(
        task=task,
        model=configs.TinyNet(norm=norm, **net),
        loss=configs.CrossEntropy(),
        optimiser=configs.Sgd(lr=1e-3),
        schedule=None,
        device=device,
        seed=seed,
        updates=steps // accumulate,
        accumulate=accumulate,
        compile=compile,
    )
    run = Run(device=device, shard=shard, steps=steps, steps_per_epoch=together.steps_per_epoch, seed=seed)
    return run, learner.build(setup), together


def train(shape: str, steps: int = 5, shard: Shard | None = None, die_at: int = 0, memory=None, **more: Any):
    """Train and return (weights of every network, log)."""
    run, algorithm, streams = build(shape, steps, shard or Shard(), **more)
    log = DyingLog(at=die_at)
    plan = Plan(steps=steps, validate_every=2, checkpoint_every=1)
    fit(run, algorithm, streams, plan, log, memory or Memory())
    return {
        f"{n}.{k}": v.clone() for n, net in algorithm.networks().items() for k, v in net.state_dict().items()
    }, log


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def gloo_worker(rank: int, world: int, port: int, shape: str, path: str) -> None:
    """One of several processes that train together; rank 0 writes its weights."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    weights, _ = train(shape, steps=3, shard=Shard(rank, world))
    if rank == 0:
        torch.save(weights, path)
    leave()


def leave() -> None:
    """End a process of several as `mriad.launch.processes` does.

    Nobody goes while a peer still talks to it, and threads of gloo that still run are not torn down with the
    interpreter, which on a busy machine ends in an abort.
    """
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float) -> float:
    """Largest difference over all tensors."""
    assert a.keys() == b.keys()
    worst = max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel())
    assert worst <= tolerance, worst
    return worst


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for k in a:
        assert np.array_equal(a[k].numpy(), b[k].numpy()), k
