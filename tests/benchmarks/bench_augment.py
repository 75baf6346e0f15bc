"""How many volumes a second the soft segmentation paper's augmentation makes, beside three libraries.

Run by hand: `python tests/benchmarks/bench_augment.py`; `pip install batchgeneratorsv2` first. One sample
of 64 × 192 × 320 voxels, image and soft target, float32 in memory, with the paper's steps, ranges and
probabilities, on one core with one thread. Contenders take turns in one process, each round with another
set of draws (the same count for all), so that load on the machine hits all of them; CPU times are compared,
wall times stand beside. Peak memory is that of a process of its own that makes six volumes, above what it
held before the first.

"MONAI chain" is `softseg.monai_chain`: the public code's own transforms. TorchIO and batchgeneratorsv2 run
their nearest equivalents: TorchIO deforms by control points, and batchgeneratorsv2 does rotation, scaling
and deformation in one resampling as we do, and has no polynomial bias field (left out, in its favour).

Bounds, all by CPU time: compiled 8 × the MONAI chain and 3 × batchgeneratorsv2; PyTorch alone 4 × and 1.8
×; both under half of the MONAI chain's peak memory.
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

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from bench_setup import conclude, table

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (64, 192, 320)
COMPILED, PLAIN, MONAI, PEER = "mriad, compiled", "mriad, PyTorch", "MONAI chain", "batchgeneratorsv2"
BOUNDS = {(COMPILED, MONAI): 8.0, (COMPILED, PEER): 3.0, (PLAIN, MONAI): 4.0, (PLAIN, PEER): 1.8}
MEMORY = 0.5


def sample() -> tuple[Any, Any]:
    """A cord in a textured body on intensities of hundreds, and its soft mask, (1, X, Y, Z) each."""
    import torch
    from scipy import ndimage

    draw = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(n, dtype=np.float32) - n / 2 for n in SIZE], indexing="ij", sparse=True)
    tube = np.clip(5.5 - np.hypot(x - 3 * np.sin(z / 40), y + 8 * np.sin(z / 60)), 0, 1)
    texture = ndimage.gaussian_filter(draw.standard_normal(SIZE, np.float32), 2)
    body = (np.hypot(x / 28, y / 85) < 1) * (1 + 3 * texture)
    image = 300 * body + 200 * tube + 10 * draw.standard_normal(SIZE, np.float32)
    return torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(tube.astype(np.float32))[None]


def mriad(name: str, **fields: Any) -> Callable[[int], Any]:
    """One of our own augmenters."""
    import mriad_softseg
    from mriad.batch import Batch, Draws, sample_key
    from mriad.testing import a_task

    image, target = sample()
    built = getattr(mriad_softseg, name)(**fields).build(a_task("raw", ("image",)))

    def make(turn: int) -> Any:
        key = sample_key(0, "bench", turn, "case")
        batch = Batch(image[None], (key,), ("case",), target[None], spacing=((1.0, 1.0, 1.0),))
        return built(batch, Draws(batch.keys, "augment"))

    return make


def torchio(_: str = "") -> Callable[[int], Any]:
    """The nearest transforms of TorchIO."""
    import torch
    import torchio as tio

    image, target = sample()
    chain = tio.Compose(
        [
            tio.RandomAffine(scales=0.2, degrees=20, translation=(6, 19, 32), p=0.9),
            tio.RandomElasticDeformation(num_control_points=7, max_displacement=2, p=0.5),
            tio.RandomAnisotropy(axes=(0, 1, 2), downsampling=(1, 2), p=0.25),
            tio.RandomGamma(log_gamma=(np.log(0.5), np.log(3)), p=0.5),
            tio.RandomBiasField(coefficients=0.5, order=3, p=0.3),
            tio.RandomNoise(std=(0, 0.1), p=0.1),
            tio.RandomBlur(std=(0, 2), p=0.3),
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
            tio.ZNormalization(),
        ]
    )

    def make(turn: int) -> Any:
        torch.manual_seed(turn)
        # Resampled linearly like the image, as a soft target must be.
        return chain(tio.Subject(image=tio.ScalarImage(tensor=image), target=tio.ScalarImage(tensor=target)))

    return make


def batchgeneratorsv2(_: str = "") -> Callable[[int], Any]:
    """The nearest transforms of batchgeneratorsv2."""
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    image, target = sample()
    angle = np.deg2rad(20)
    chain = ComposeTransforms(
        [
            SpatialTransform(
                SIZE,
                patch_center_dist_from_border=0,
                random_crop=False,
                p_elastic_deform=0.5,
                elastic_deform_scale=(0.02, 0.05),
                elastic_deform_magnitude=(0.5, 1),
                p_rotation=0.9,
                rotation=(-angle, angle),
                p_scaling=0.9,
                scaling=(0.8, 1.2),
                padding_mode_image="border",
            ),
            RandomTransform(SimulateLowResolutionTransform((0.5, 1), True, True, ()), 0.25),
            RandomTransform(GammaTransform((0.5, 3), 0, True, 1, 0), 0.5),
            RandomTransform(GaussianNoiseTransform((0, 0.1)), 0.1),
            RandomTransform(GaussianBlurTransform((0.01, 2)), 0.3),
            RandomTransform(MultiplicativeBrightnessTransform((0.75, 2), True), 0.15),
            MirrorTransform((0, 1, 2)),
        ]
    )

    def make(turn: int) -> Any:
        torch.manual_seed(turn)
        np.random.seed(turn)
        found = chain(image=image.clone(), regression_target=target.clone())
        x = found["image"]
        found["image"] = (x - x.mean()) / x.std()
        return found

    return make


CONTENDERS: dict[str, Callable[[], Callable[[int], Any]]] = {
    COMPILED: lambda: mriad("Augment", backend="compiled"),
    "mriad, compiled, order 2": lambda: mriad("Augment", backend="compiled", image_order=2),
    PLAIN: lambda: mriad("Augment", backend="torch"),
    MONAI: lambda: mriad("MonaiChain"),
    "TorchIO": torchio,
    PEER: batchgeneratorsv2,
}


def peak_of(name: str) -> float:
    """GiB above what was held before, in a process of its own."""
    code = [sys.executable, __file__, "--memory-of", name]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_memory(name: str) -> None:
    """Print the peak of six volumes in GiB (Linux)."""
    make = CONTENDERS[name]()

    def kept(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith(field))

    # Not ru_maxrss, which a process inherits from the one that started it.
    Path("/proc/self/clear_refs").write_text("5")
    held = kept("VmRSS:")
    for turn in range(6):
        make(turn)
    print(kept("VmHWM:") - held)


def main(rounds: int, volumes: int, out: Path | None) -> None:
    """Measure, print, compare with the bounds."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore")
    made = {name: build() for name, build in CONTENDERS.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for name, make in made.items():
        for turn in range(3 if "compiled" in name else 1):  # imports, compiles, warms up
            make(10_000 + turn)
    turns = dict.fromkeys(made, 0)
    for round_ in range(rounds):
        names = list(made)
        random.Random(round_).shuffle(names)
        for name in names:
            for _ in range(volumes):
                began, cpu = time.perf_counter(), time.process_time()
                made[name](turns[name])
                spent[name].append((time.process_time() - cpu, time.perf_counter() - began))
                turns[name] += 1
    speed = {name: len(s) / sum(cpu for cpu, _ in s) for name, s in spent.items()}
    wall = {name: len(s) / sum(w for _, w in s) for name, s in spent.items()}
    rows = [
        [
            name,
            f"{speed[name]:.2f}",
            f"{wall[name]:.2f}",
            f"{statistics.median(cpu for cpu, _ in spent[name]) * 1000:.0f} ms",
            f"{speed[name] / speed[MONAI]:.2f} ×",
            len(spent[name]),
        ]
        for name in made
    ]
    table(["", "volumes/CPU s", "volumes/s", "median CPU", "of the MONAI chain", "volumes"], rows)
    ratios = {}
    met = True
    for (ours, other), bound in BOUNDS.items():
        ratios[f"{ours} : {other}"] = ratio = speed[ours] / speed[other]
        met = met and ratio >= bound
        print(f"{ours}: {ratio:.1f} × {other} (bound {bound:g})")
    sys.stdout.flush()
    memory = {name: peak_of(name) for name in made}
    table(["", "peak memory"], [[name, f"{memory[name]:.2f} GiB"] for name in made])
    for ours in (COMPILED, PLAIN):
        share = memory[ours] / memory[MONAI]
        met = met and share < MEMORY
        print(f"{ours}: {share:.2f} of the MONAI chain's memory (bound {MEMORY:g})")
    figures = {"volumes_per_cpu_s": speed, "volumes_per_s": wall, "peak_gib": memory, "ratios": ratios}
    conclude({**figures, "met": met}, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--volumes", type=int, default=4, help="of each contender in a round")
    parser.add_argument("--memory-of", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    if given.memory_of:
        measure_memory(given.memory_of)
    else:
        main(given.rounds, given.volumes, given.out)
