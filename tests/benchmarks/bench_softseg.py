"""How fast the cord network of the softseg paper predicts a window and takes a training step on the CPU.

Run by hand: `python tests/benchmarks/bench_softseg.py window` and `… step`; each prints one JSON object. The network
is the six-stage plain U-Net with 32 to 320 features. Each variant is a process of its own, which also gives its peak
resident size; they take turns (A B C, A B C, …), so that other work on the machine falls on all. A ratio is the
median over rounds of (eager float32 / variant) in that round, by the clock and in CPU seconds; the first turn of
each, which converts or compiles, is left out and reported by itself.

window: 64 × 192 × 320 voxels with a tube in noise, with weights that a short training on such tubes gave (random
weights would have no cord to be wrong about; `--weights` keeps them for the next time). Differences are those of soft
outputs (NormReLU) from eager float32's: the mean of |Δ|, the Dice of the two at 0.5, the change of the soft volume.
Bounds: OpenVINO float32 2.2 × at 1e-4, bf16 4.5 × at 2e-3, both under 3 GiB.

step: 32 × 96 × 96 voxels, batch 2, deep supervision, adaptive wing loss, Adam. Bound: 2.3 × eager float32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mriad.inference.engine import Engine
from mriad.training.compiling import compiled
from mriad.vocabulary import LabelSet, Task
from mriad_softseg.losses import AdaptiveWing
from mriad_softseg.normalised import norm_relu
from mriad_standard.losses import DeepSupervision
from mriad_standard.models import PlainUNet

TASK = Task(("T2w",), {"": LabelSet.of({"cord": 1})}, "raw")
WINDOW = (64, 192, 320)
PATCH = (32, 96, 96)
WINDOW_VARIANTS = {
    "eager fp32": None,
    "OpenVINO fp32": Engine("openvino"),
    "OpenVINO bf16": Engine("openvino", "bf16"),
    "torch bf16": Engine("torch", "bf16"),
}
STEP_VARIANTS = {"eager fp32": (False, False), "bf16": (True, False), "bf16 compiled": (True, True)}


def network(weights: Path | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    strides = [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]]
    made = PlainUNet(strides=strides, deep_supervision=True).build(TASK)
    if weights is not None:
        made.load_state_dict(torch.load(weights, weights_only=True))
    return made


def tube(shape: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and soft target (1, 1, *shape): a bright, slightly bent tube of 5 voxels' radius along the last axis."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    bend = 4 * np.sin(z / 40 + rng.uniform(0, 6))
    a, b = (n / 2 + rng.uniform(-0.1, 0.1) * n for n in shape[:2])
    soft = np.clip(5.5 - np.hypot(x - a - bend, y - b + bend), 0, 1).astype(np.float32)
    image = soft + rng.normal(0, 0.3, shape).astype(np.float32)
    image = (image - image.mean()) / image.std()
    return torch.from_numpy(image)[None, None], torch.from_numpy(soft)[None, None]


def loss_of():
    return DeepSupervision(loss=AdaptiveWing()).build(TASK)


def train(path: Path, steps: int) -> None:
    """Weights that find tubes."""
    made, loss = network().train(), loss_of()
    optimiser = torch.optim.Adam(made.parameters(), 1e-3)
    for step in range(steps):
        image, soft = tube((32, 32, 64), step + 1)
        value = loss(made(image), soft)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        print(f"training step {step}: loss {value.item():.4f}", file=sys.stderr)
    torch.save(made.state_dict(), path)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap at 0.5."""
    a, b = one > 0.5, other > 0.5
    return round(float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1)), 5)


def peak_gib() -> float:
    """Largest resident size, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30


def window_turn(name: str, folder: Path):
    """A function that predicts the window once and returns the seconds it took."""
    made, engine = network(folder / "weights.pt").eval(), WINDOW_VARIANTS[name]
    asked = made if engine is None else engine.run(made, torch.device("cpu"))
    image, _ = tube(WINDOW, 0)

    def turn():
        with torch.inference_mode():
            begun, cpu = time.perf_counter(), time.process_time()
            out = asked(image)
            spent = time.perf_counter() - begun, time.process_time() - cpu
            np.save(folder / f"{name}.npy", norm_relu(out.float())[0, 0].numpy())
        return spent

    return turn


def step_turn(name: str, folder: Path):
    """A function that takes one training step and returns the seconds it took."""
    half, fast = STEP_VARIANTS[name]
    made, loss = network().train(), loss_of()
    if fast:
        compiled(made, 3)
    optimiser = torch.optim.Adam(made.parameters(), 1e-3)
    pairs = [tube(PATCH, 7 + n) for n in range(2)]
    image, soft = (torch.cat(part) for part in zip(*pairs, strict=True))
    losses: list[float] = []

    def turn():
        begun, cpu = time.perf_counter(), time.process_time()
        context = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
        with context:
            output = made(image)
        value = loss(output, soft)
        value.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(value.item())
        spent = time.perf_counter() - begun, time.process_time() - cpu
        np.save(folder / f"{name}.npy", np.array(losses))
        return spent

    return turn


def child(what: str, name: str, folder: Path) -> None:
    """One variant: a turn for each line that comes in."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    turn = {"window": window_turn, "step": step_turn}[what](name, folder)
    for _ in sys.stdin:
        wall, cpu = turn()
        print(json.dumps({"wall": wall, "cpu": cpu, "peak_gib": peak_gib()}), flush=True)


def rounds(what: str, names: list[str], folder: Path, count: int, threads: int) -> dict[str, list[dict]]:
    """All variants' turns in order; one process steps at a time."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    children = {
        name: subprocess.Popen(
            [sys.executable, __file__, "child", what, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in names
    }
    found: dict[str, list[dict]] = {name: [] for name in names}
    for turn in range(count + 1):
        for name, process in children.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                sys.exit(f"{name} ended early")
            found[name].append(json.loads(line))
            print(turn, name, {k: round(v, 2) for k, v in found[name][-1].items()}, file=sys.stderr)
    for process in children.values():
        process.stdin.close()
        process.wait()
    return found


def summary(found: dict[str, list[dict]]) -> dict[str, dict]:
    """Medians, ratios against the first variant, first turns and peaks."""
    base = next(iter(found.values()))[1:]
    rows = {}
    for name, turns in found.items():
        later = turns[1:]
        rows[name] = {
            "first_cpu_s": round(turns[0]["cpu"], 2),
            "peak_gib": round(turns[-1]["peak_gib"], 2),
            **{f"{kind}_s": round(median(t[kind] for t in later), 2) for kind in ("wall", "cpu")},
            **{
                f"{kind}_ratio": round(median(a[kind] / b[kind] for a, b in zip(base, later, strict=True)), 2)
                for kind in ("wall", "cpu")
            },
        }
    return rows


def window(given: argparse.Namespace, folder: Path) -> dict:
    weights = given.weights or folder / "made.pt"
    if not weights.exists():
        train(weights, given.training)
    (folder / "weights.pt").write_bytes(weights.read_bytes())
    rows = summary(rounds("window", given.only or list(WINDOW_VARIANTS), folder, given.rounds, given.threads))
    exact = np.load(folder / "eager fp32.npy")
    truth = tube(WINDOW, 0)[1][0, 0].numpy()
    for name, row in rows.items():
        soft = np.load(folder / f"{name}.npy")
        row["mean_difference"] = float(np.abs(soft - exact).mean())
        row["dice_with_eager"] = dice(soft, exact)
        row["dice_with_truth"] = dice(soft, truth)
        row["volume_change_percent"] = round(100 * float(soft.sum() / exact.sum() - 1), 4)
    return rows


def step(given: argparse.Namespace, folder: Path) -> dict:
    rows = summary(rounds("step", given.only or list(STEP_VARIANTS), folder, given.rounds, given.threads))
    for name, row in rows.items():
        row["losses"] = [round(float(v), 4) for v in np.load(folder / f"{name}.npy")]
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["window", "step"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--training", type=int, default=60, help="steps on tubes, for weights")
    parser.add_argument("--weights", type=Path, help="file for the weights; made where it is missing")
    parser.add_argument("--only", nargs="+", help="variants, the first one eager fp32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = {"window": window, "step": step}[given.what](given, Path(place))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    print(json.dumps({"threads": given.threads, "rounds": given.rounds, "load": load, "rows": rows}))
