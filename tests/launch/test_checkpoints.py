"""Checkpoints are atomic and load without executing code."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from mriad.errors import CheckpointError, LaunchError, StorageError
from mriad.launch.checkpoints import FolderCheckpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def disk_of(bytes_: int) -> Iterator[None]:
    """A full disk, as a limit on the size of files: it holds for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path / "a" / "b")
    assert store.load("last") is None
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = {
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ordered": OrderedDict(a=1),
        "plain": [1, 2.5, "x", b"y", None, True, (3, {4}), 1j, torch.float16, torch.Size([2])],
    }
    store.save("last", state)
    loaded = store.load("last")
    assert loaded is not None
    assert loaded["plain"] == state["plain"]
    assert torch.equal(loaded["net"]["weight"], net.weight)
    optimiser.load_state_dict(loaded["optimiser"])
    assert [p.name for p in store.folder.iterdir()] == ["last.pt"]


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path)
    store.save("last", {"step": 1, "weights": torch.ones(1000)})
    before = (tmp_path / "last.pt").read_bytes()
    with (
        disk_of(100_000),
        pytest.raises(StorageError, match="cannot write: the file would pass the size limit") as caught,
    ):
        store.save("last", {"step": 2, "weights": torch.ones(1_000_000)})
    assert str(tmp_path / "last.pt") in str(caught.value)
    assert "mriad runs prune" in str(caught.value)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    loaded = store.load("last")
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_place_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the place is not below a folder"):
        FolderCheckpoints(tmp_path / "file" / "checkpoints").save("last", {"step": 1})


@pytest.mark.parametrize("bare", [False, True])
def test_code_is_refused_and_not_run(tmp_path: Path, bare: bool) -> None:
    trap = tmp_path / "trap"
    if bare:
        (tmp_path / "last.pt").write_bytes(pickle.dumps({"x": Evil(trap)}))
    else:
        torch.save({"x": Evil(trap)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="damaged" if bare else "holds code") as caught:
        FolderCheckpoints(tmp_path).load("last")
    if not bare:
        assert "mkdir" in str(caught.value)
        assert "do not use a checkpoint that you did not make" in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_cut_file_is_damaged(tmp_path: Path, keep: int) -> None:
    store = FolderCheckpoints(tmp_path)
    store.save("last", {"weights": torch.ones(1000)})
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged") as caught:
        store.load("last")
    assert str(path) in str(caught.value)
    assert "remove the file to start from the beginning" in str(caught.value)


def test_something_else_in_the_file(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        FolderCheckpoints(tmp_path).load("last")


@pytest.mark.parametrize("value", [np.float64(1), defaultdict(int), object(), np.zeros(2)])
def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="cannot be kept") as caught:
        FolderCheckpoints(tmp_path).save("last", {"extra": {"pool": [0, value]}})
    assert "last.extra.pool.1" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_only_rank_0_writes_and_only_with_its_lease(tmp_path: Path) -> None:
    FolderCheckpoints(tmp_path, writes=False).save("last", {"step": 1})
    assert not list(tmp_path.iterdir())

    def lost() -> None:
        raise LaunchError("this process lost its lease")

    with pytest.raises(LaunchError, match="lost its lease"):
        FolderCheckpoints(tmp_path, guard=lost).save("last", {"step": 1})
    assert not list(tmp_path.iterdir())


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot name a checkpoint"):
        FolderCheckpoints(tmp_path).load("../last")
