"""Memory and time of synthseg.dice for 38 labels at 160³, beside the one-hot form written in PyTorch.

Run by hand: `python tests/benchmarks/bench_label_dice.py`. Each form runs in a process of its own: logits and an
index target are made, then the loss is computed and differentiated; the figure is the peak resident size above what
was there before (Linux), the gradient included. The one-hot form is the formula of the public code: softmax, one-hot,
their product, squares, sums. Bound: synthseg.dice needs at most 30 % of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import torch
from bench_generator import status
from bench_setup import conclude, table

BOUND = 0.30


def one_hot(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 − mean of 2Σpg / (Σp² + Σg² + ε) over labels."""
    p = logits.softmax(1)
    g = torch.nn.functional.one_hot(target[:, 0].long(), p.shape[1]).movedim(-1, 1).to(p.dtype)
    dice = 2 * (p * g).sum((2, 3, 4)) / (p.square().sum((2, 3, 4)) + g.square().sum((2, 3, 4)) + 1e-7)
    return 1 - dice.mean()


def one(form: str, labels: int, size: int) -> None:
    """Print the peak in bytes and the CPU seconds of one form, and its value."""
    from mriad.vocabulary import LabelSet, Task
    from mriad_synthseg.losses import Dice

    torch.set_num_threads(1)
    names = LabelSet.of({f"s{i}": i for i in range(1, labels)})
    task = Task(channels=("image",), label_sets={"": names}, link="softmax")
    loss = Dice().build(task) if form == "mriad" else one_hot
    small = torch.randn(1, labels, 4, 4, 4, requires_grad=True)
    loss(small, torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)).backward()
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn((1, labels, size, size, size), generator=draw, requires_grad=True)
    target = torch.randint(0, labels, (1, 1, size, size, size), generator=draw, dtype=torch.uint8)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    began = time.process_time()
    value = loss(logits, target)
    value.backward()
    print(status("VmHWM") - before, time.process_time() - began, value.item())


def main(labels: int, size: int, out: Path | None) -> None:
    """Measure both, print, compare with the bound."""
    found = {}
    for form in ("mriad", "one-hot"):
        command = [sys.executable, __file__, "--labels", str(labels), "--size", str(size), "--one", form]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[form] = [float(x) for x in done.stdout.split()[-3:]]
    rows = [[form, f"{p / 2**20:.0f} MiB", f"{s:.2f} s", f"{v:.6f}"] for form, (p, s, v) in found.items()]
    table(["", "peak over its inputs", "CPU", "loss"], rows)
    share = found["mriad"][0] / found["one-hot"][0]
    same = abs(found["mriad"][2] - found["one-hot"][2]) < 1e-4
    print(f"{labels} labels at {size}³: {100 * share:.1f} % of the one-hot form's memory (bound 30 %)")
    conclude({"share": share, "forms": found, "met": share <= BOUND and same}, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, default=38, help="background included")
    parser.add_argument("--size", type=int, default=160, help="voxels a side")
    parser.add_argument("--one", choices=["mriad", "one-hot"], help="only print this form's figures")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    if given.one:
        one(given.one, given.labels, given.size)
    else:
        main(given.labels, given.size, given.out)
