"""How long it takes to paint a sample from a label map, on one core, beside cornucopia and TorchIO.

Run by hand: `python tests/benchmarks/bench_generator.py`; the peers are installed for it alone
(`uv pip install cornucopia torchio`). The map is made here: 54 values in Voronoi cells inside a ball. Every contender
runs in turn in one process on one core with one thread, in another order in each round, so that load hits all alike;
CPU seconds of each one's fastest round are compared, since load only adds to them. Medians of CPU and wall time stand
beside.

What each does: mriad, preset code2020, as configured: affine, velocity field of 10³ nodes with 7 squarings, one
nearest lookup, mixture, blur, bias field of 4³ nodes, clip, [0, 1], exponent. cornucopia's SynthFromLabelTransform
is set to the same steps, with linear instead of cubic splines, which is its fast way. TorchIO has no velocity field:
its affine and B-spline deformation of the labels (as SimpleITK resamples them), LabelsToImage, Blur, BiasField (a
polynomial), Clamp, RescaleIntensity, Gamma. The original TensorFlow generator is not run; where it was, a sample of
160³ took 1.74 s of CPU time (recorded on another day and machine), and that figure is printed, not compared.

Peak memory is measured in a process of its own for each back end: the largest resident size while ten samples are
painted, above that of the interpreter with everything imported, compiled and the label map in memory.

Bounds at 160³: with numba 20 × cornucopia, 25 × TorchIO and 7 samples a second; PyTorch alone 4 × and 6 ×; memory
1 GiB over the interpreter, at 192³ too.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.update(OMP_NUM_THREADS="1", ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import torch
from bench_setup import conclude, table

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = 54
RECORDED = 1.74  # CPU seconds a sample of the original TensorFlow generator at 160³
BOUNDS = {"mriad numba": (20.0, 25.0), "mriad torch": (4.0, 6.0)}
SAMPLES_A_SECOND = 7.0
MEMORY = 2**30


def a_map(size: int) -> torch.Tensor:
    """(1, n, n, n) int64: Voronoi cells of 53 structures inside a ball, 0 outside."""
    from scipy.spatial import cKDTree

    draw = np.random.default_rng(0)
    seeds = draw.uniform(0.1, 0.9, (300, 3)) * size
    at = np.stack(np.meshgrid(*[np.arange(size, dtype=np.float32)] * 3, indexing="ij"), -1)
    nearest = cKDTree(seeds).query(at.reshape(-1, 3), eps=0.5)[1].reshape(at.shape[:3])
    index = draw.integers(1, LABELS, len(seeds))[nearest]
    index[np.linalg.norm(at - size / 2, axis=-1) > 0.47 * size] = 0
    return torch.from_numpy(index.astype(np.int64))[None]


def mriad(index: torch.Tensor, backend: str) -> Callable[[int], Any]:
    """The generator as a training run calls it, with a batch of one."""
    from mriad.batch import Batch, Draws
    from mriad.vocabulary import LabelSet, Task
    from mriad_synthseg.generate import Generate

    names = LabelSet.of({f"s{i}": i for i in range(1, LABELS)})
    task = Task(channels=("image",), label_sets={"": names}, link="softmax")
    paint = Generate(preset="code2020", backend=backend).build(task)
    size = index.shape[1:]
    batch = Batch(torch.empty(1, 0, *size), (1,), ("m",), index[None], spacing=((1.0, 1.0, 1.0),))
    return lambda n: paint(batch, Draws((n,), "bench"))


def cornucopia(index: torch.Tensor) -> Callable[[int], Any]:
    import cornucopia as cc
    from cornucopia.random import Fixed

    transform = cc.SynthFromLabelTransform(
        order=1,
        translations=0,
        elastic_nodes=Fixed(10),
        elastic_steps=7,
        gmm_fwhm=False,
        bias=Fixed(4),
        motion_fwhm=Fixed(0.7),
        resolution=False,
        snr=False,
        gfactor=False,
        sample_in_background=True,
    )
    return lambda n: transform(index)


def torchio(index: torch.Tensor) -> Callable[[int], Any]:
    import torchio as tio

    mean, std = [(25, 225)] * LABELS, [(5, 25)] * LABELS
    transform = tio.Compose(
        [
            tio.RandomAffine(scales=0.15, degrees=15),
            tio.RandomElasticDeformation(num_control_points=10, max_displacement=7.5),
            tio.RandomLabelsToImage(label_key="map", used_labels=list(range(LABELS)), mean=mean, std=std),
            tio.RandomBlur(std=(0.26, 0.345)),
            tio.RandomBiasField(coefficients=0.3),
            tio.Clamp(0, 300),
            tio.RescaleIntensity((0, 1)),
            tio.RandomGamma(0.5),
        ]
    )
    subject = tio.Subject(map=tio.LabelMap(tensor=index.to(torch.int16)))
    return lambda n: transform(subject)


def status(key: str) -> int:
    """A size of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{key} is not in /proc/self/status")


def memory(size: int, backend: str) -> None:
    """Print the peak while ten samples are painted, over what was there before them."""
    torch.set_num_threads(1)
    index = a_map(size)
    mriad(index[:, :16, :16, :16].clone(), backend)(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    paint = mriad(index, backend)
    for n in range(10):
        paint(n)
    print(status("VmHWM") - before)


def peak_of(size: int, backend: str) -> int:
    """`memory`, in a process of its own."""
    command = [sys.executable, __file__, "--size", str(size), "--memory", backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def measure(size: int, rounds: int, peer_rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each round, by contender; the first round imports, compiles and warms up."""
    index = a_map(size)
    made: dict[str, Callable[[int], Any]] = {
        "mriad numba": mriad(index, "numba"),
        "mriad torch": mriad(index, "torch"),
        "cornucopia": cornucopia(index),
        "TorchIO": torchio(index),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        names = list(made)
        random.Random(turn).shuffle(names)
        for name in names:
            if not name.startswith("mriad") and turn > peer_rounds:
                continue
            began, cpu = time.perf_counter(), time.process_time()
            made[name](turn)
            if turn:
                spent[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return spent


def main(size: int, rounds: int, peer_rounds: int, out: Path | None) -> None:
    """Measure, print, compare with the bounds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    spent = measure(size, rounds, peer_rounds)
    best = {name: min(cpu for _, cpu in times) for name, times in spent.items()}
    rows = [
        [
            name,
            f"{best[name]:.3f} s",
            f"{statistics.median(c for _, c in times):.3f} s",
            f"{statistics.median(w for w, _ in times):.3f} s",
            f"{1 / best[name]:.2f}",
            f"{best['cornucopia'] / best[name]:.1f} ×",
            f"{best['TorchIO'] / best[name]:.1f} ×",
            len(times),
        ]
        for name, times in spent.items()
    ]
    head = [
        "",
        "CPU, fastest",
        "CPU, median",
        "wall, median",
        "samples/s",
        "cornucopia = 1",
        "TorchIO = 1",
        "rounds",
    ]
    table(head, rows)
    if size == 160:
        ratio = RECORDED / best["mriad numba"]
        print(f"original TensorFlow generator: {RECORDED} s recorded elsewhere, not run here ({ratio:.1f} ×)")
    peaks = {backend: peak_of(size, backend) for backend in ("numba", "torch")}
    for backend, peak in peaks.items():
        print(f"peak memory over the interpreter, {backend}: {peak / 2**20:.0f} MiB (bound 1024)")
    met = all(peak <= MEMORY for peak in peaks.values())
    for name, (over_cornucopia, over_torchio) in BOUNDS.items():
        met &= (
            best["cornucopia"] / best[name] >= over_cornucopia
            and best["TorchIO"] / best[name] >= over_torchio
        )
    if size == 160:
        met &= 1 / best["mriad numba"] >= SAMPLES_A_SECOND
    print("bounds: numba 20 × cornucopia, 25 × TorchIO, 7 samples/s at 160³; torch 4 × and 6 ×; met:", met)
    conclude({"size": size, "cpu_seconds": best, "peak_bytes": peaks, "met": bool(met)}, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=160, help="voxels a side")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-rounds", type=int, default=3, help="of the peers (seconds each)")
    parser.add_argument("--memory", choices=["numba", "torch"], help="only print this back end's peak")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    if given.memory:
        memory(given.size, given.memory)
    else:
        main(given.size, given.rounds, given.peer_rounds, given.out)
