"""Two gloo ranks that keep different things: pending gradients, running statistics, pools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mriad.launch.checkpoints import FolderCheckpoints
from mriad.training.loop import Plan, fit, restore
from mriad.training.protocols import Shard
from shapes_setup import DyingLog, KilledError, Memory, build, close, equal, free_port, leave
from torch import nn

HERE = Path(__file__).parent
STEPS = 6
KILLED = (3, 5)
"""Steps before whose checkpoint both ranks die: the one before it has two losses pending, or one after an update."""


class LocalNorm(nn.Module):
    """Batch norm as most networks have it: each rank keeps statistics of its own part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(4)
        self.register_buffer("flags", torch.zeros(2, dtype=torch.bool))

    def forward(self, x):
        return self.norm(x)


def pooled(algorithm, rank):
    """Give a learner a pool that differs between ranks."""
    algorithm.pool = torch.full((1,), 10.0 + rank)
    algorithm.extra_state = lambda: {"pool": algorithm.pool, "ages": [rank]}
    algorithm.load_extra_state = lambda state: setattr(algorithm, "pool", state["pool"])
    return algorithm


def networks(algorithm):
    return {
        f"{n}.{k}": v.clone() for n, net in algorithm.networks().items() for k, v in net.state_dict().items()
    }


def one_run(rank: int, world: int, folder: Path | None, die_at: int = 0, joint: bool = False):
    """Train with checkpoints at every step; `joint`: with statistics of the joint batch instead of each rank's."""
    run, algorithm, streams = build("supervised", STEPS, Shard(rank, world), accumulate=3)
    if not joint:
        algorithm.network.norm = LocalNorm()
        algorithm.network.norm.flags[rank] = True
    algorithm.optimised = type(algorithm.optimised)(
        torch.optim.SGD(algorithm.network.parameters(), lr=0.1), None, 2, accumulate=3
    )
    pooled(algorithm, rank)
    if die_at:
        algorithm.pool += 1  # kept in the checkpoint
    validated = []

    def validate(learner):
        validated.append(networks(learner))
        return {"score": 0.5}

    store = FolderCheckpoints(folder, writes=rank == 0) if folder else Memory()
    plan = Plan(steps=STEPS, validate_every=2, checkpoint_every=1)
    try:
        fit(run, algorithm, streams, plan, DyingLog(at=die_at), store, validate)
    except KilledError:
        return None
    return {"weights": networks(algorithm), "validated": validated, "pool": algorithm.pool}


def worker(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    folder = Path(out)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    straight = one_run(rank, 2, folder / "straight")
    for step in KILLED:
        assert one_run(rank, 2, folder / f"killed{step}", die_at=step) is None
        dist.barrier()
    resumed = [one_run(rank, 2, folder / f"killed{step}") for step in KILLED]
    joint = one_run(rank, 2, folder / "joint", joint=True)
    torch.save({"straight": straight, "resumed": resumed, "joint": joint}, folder / f"rank{rank}.pt")
    leave()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    port = free_port()
    script = (
        "import sys; sys.path[:0] = sys.argv[3:5]; import conftest; "
        "from test_two_ranks_resume import worker; worker(int(sys.argv[1]), int(sys.argv[2]), sys.argv[5])"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(port), str(HERE.parent), str(HERE), str(out)]
        )
        for rank in range(2)
    ]
    assert [w.wait(timeout=120) for w in workers] == [0, 0]
    return out, [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("place", [0, 1])
def test_resuming_in_mid_accumulation_is_bit_for_bit_on_every_rank(ranks, place):
    for found in ranks[1]:
        equal(found["straight"]["weights"], found["resumed"][place]["weights"])


def test_both_ranks_validate_and_keep_the_same_network_with_its_statistics(ranks):
    one, two = (found["straight"] for found in ranks[1])
    assert len(one["validated"]) == 3
    for a, b in zip(one["validated"], two["validated"], strict=True):
        equal(a, b)
    equal(one["weights"], two["weights"])
    assert not torch.equal(one["weights"]["network.norm.norm.running_mean"], torch.zeros(4))
    assert one["weights"]["network.norm.flags"].tolist() == [True, False]  # what is no mean is rank 0's


def test_each_rank_gets_its_own_extra_state_back(ranks):
    pools = [[float(r["pool"]) for r in found["resumed"]] for found in ranks[1]]
    assert pools == [[11.0, 11.0], [12.0, 12.0]]


def test_another_number_of_ranks_starts_from_the_first_ranks_extra_state(ranks):
    state = FolderCheckpoints(ranks[0] / "killed3").load("last")
    run, algorithm, streams = build("supervised", STEPS, Shard(), accumulate=3)
    algorithm.network.norm = LocalNorm()
    pooled(algorithm, 5)
    restore(state, run, algorithm, streams)
    assert float(algorithm.pool) == 11.0


def test_checkpoints_in_mid_accumulation_change_nothing(ranks):
    """Averaging at every checkpoint ends where one process with the joint batch ends."""
    alone = one_run(0, 1, None, joint=True)
    for found in ranks[1]:
        close(alone["weights"], found["joint"]["weights"], 1e-5)
