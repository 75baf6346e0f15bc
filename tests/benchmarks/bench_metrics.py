"""Dice, ASSD, HD95 and MSSD of one pair on one core: mriad beside MONAI and, where installed, surface-distance.

    OMP_NUM_THREADS=1 MRIAD_TEST_DATA=... python tests/benchmarks/bench_metrics.py [--repeat 5] [--only NAME]

The programs take turns within one run, so that a busy machine slows all of them. Printed are medians, ratios, the
peak memory of a process that does it once, and how far the numbers are apart. Masks: white matter of a real T1w in
192³ against a bent copy, and the lesions of two patients against copies with lesions moved, dropped and invented.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad_eval.metrics import (
    AverageSymmetricSurfaceDistance,
    Dice,
    HausdorffPercentile,
    MaximumSymmetricSurfaceDistance,
)
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

Numbers = dict[str, float]
OURS = (Dice(), AverageSymmetricSurfaceDistance(), HausdorffPercentile(), MaximumSymmetricSurfaceDistance())


def bent(mask: np.ndarray, seed: int, smooth: float, size: float) -> np.ndarray:
    """The mask under a smooth random displacement, `size` voxels SD."""
    rng = np.random.default_rng(seed)
    places = np.indices(mask.shape, dtype=np.float32)
    for axis in range(3):
        field = ndimage.gaussian_filter(rng.standard_normal(mask.shape).astype(np.float32), smooth)
        places[axis] += field * (size / field.std())
    return ndimage.map_coordinates(mask.astype(np.float32), places, order=1) > 0.5


def brain(data: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """White matter in 192³."""
    image = nib.load(data / "brain-labels/real/sub-vxm_T1w_label-synthseg_dseg.nii.gz")
    mask = np.isin(np.asarray(image.dataobj), [2, 41])
    cut = tuple(slice(max((n - 192) // 2, 0), max((n - 192) // 2, 0) + 192) for n in mask.shape)
    mask = mask[cut]
    mask = np.pad(mask, [((192 - n) // 2, 192 - n - (192 - n) // 2) for n in mask.shape])
    return bent(mask, 0, 6, 1.5), mask, tuple(float(s) for s in image.header.get_zooms()[:3])


def lesions(data: Path, person: str) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Every lesion bent, a fifth dropped, and a twentieth of the image's voxels' worth of blobs invented."""
    folder = data / "ms-lesions/cross-sectional" / person
    image = nib.load(folder / f"{person}_label-lesion_seg.nii.gz")
    brain_mask = np.asarray(nib.load(folder / f"{person}_label-brain_mask.nii.gz").dataobj) > 0
    g = np.asarray(image.dataobj) > 0
    labels, count = ndimage.label(g)
    rng = np.random.default_rng(1)
    p = bent(np.isin(labels, 1 + rng.permutation(count)[: count - count // 5]), 2, 4, 0.8)
    seeds = np.zeros_like(g)
    inside = np.argwhere(brain_mask)
    seeds[tuple(inside[rng.choice(len(inside), count // 4, replace=False)].T)] = True
    return (
        p | ndimage.binary_dilation(seeds, iterations=2),
        g,
        tuple(map(float, image.header.get_zooms()[:3])),
    )


def with_mriad(p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...]) -> Numbers:
    pair = StructurePair(p, g, Grid.of(p.shape, np.diag([*spacing, 1.0])))
    return {metric.key(): metric.build()(pair)[0] for metric in OURS}  # type: ignore[call-arg, arg-type, index, misc]


def with_monai(p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...]) -> Numbers:
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDistanceMetric

    a, b = (torch.from_numpy(m)[None, None] for m in (p, g))
    return {
        "dice": float(DiceMetric()(a, b)),
        "assd": float(SurfaceDistanceMetric(symmetric=True)(a, b, spacing=spacing)),
        "hd95": float(HausdorffDistanceMetric(percentile=95)(a, b, spacing=spacing)),
        "mssd": float(HausdorffDistanceMetric()(a, b, spacing=spacing)),
    }


def with_deepmind(p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...]) -> Numbers:
    theirs = importlib.import_module("surface_distance")
    a, b = p > 0.5, g > 0.5
    found = theirs.compute_surface_distances(b, a, spacing)
    back, forth = theirs.compute_average_surface_distance(found)
    return {
        "dice": theirs.compute_dice_coefficient(b, a),
        "assd": (back + forth) / 2,
        "hd95": theirs.compute_robust_hausdorff(found, 95),
        "mssd": theirs.compute_robust_hausdorff(found, 100),
    }


def memory(program: str, p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Peak memory in MiB of a fresh process that loads the two masks and runs the program once, imports included."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pair.npz"
        np.savez(file, p=p, g=g, spacing=np.array(spacing))
        done = subprocess.run(
            [sys.executable, __file__, "--grow", program, str(file)],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[-1])


def grow(program: str, file: Path) -> None:
    """Print the peak memory of this process after one run."""
    held = np.load(file)
    p, g, spacing = held["p"], held["g"], tuple(float(s) for s in held["spacing"])
    PROGRAMS[program](p, g, spacing)
    # Not getrusage: its peak comes over from the parent.
    status = Path("/proc/self/status").read_text()
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)


PROGRAMS: dict[str, Callable[..., Numbers]] = {
    "mriad": with_mriad,
    "MONAI": with_monai,
    "surface-distance": with_deepmind,
}


def main() -> None:
    """Print one table a pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--grow", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.grow:
        grow(options.grow[0], Path(options.grow[1]))
        return
    import torch

    torch.set_num_threads(1)
    programs = dict(PROGRAMS)
    if not importlib.util.find_spec("surface_distance"):
        del programs["surface-distance"]
    data = Path(os.environ["MRIAD_TEST_DATA"])
    pairs: dict[str, Any] = {
        "brain 192³": lambda: brain(data),
        "lesions sub-19": lambda: lesions(data, "sub-19"),
        "lesions sub-07": lambda: lesions(data, "sub-07"),
    }
    for name, make in pairs.items():
        if options.only not in name:
            continue
        p, g, spacing = make()
        p, g = p.astype(np.float32), g.astype(np.float32)
        print(f"\n{name}: {p.shape}, {int(p.sum())} and {int(g.sum())} voxels, {spacing} mm")
        seconds: dict[str, list[float]] = {key: [] for key in programs}
        values: dict[str, Numbers] = {}
        for _ in range(options.repeat):
            for key, run in programs.items():
                start = time.perf_counter()
                values[key] = run(p, g, spacing)
                seconds[key].append(time.perf_counter() - start)
        mine = statistics.median(seconds["mriad"])
        for key in programs:
            median = statistics.median(seconds[key])
            apart = max(abs(values[key][k] - v) / max(abs(v), 1e-12) for k, v in values["mriad"].items())
            shown = ", ".join(f"{k} {v:.6g}" for k, v in values[key].items())
            print(
                f"  {key:17} {median * 1000:8.1f} ms  {median / mine:6.1f} ×  {memory(key, p, g, spacing):.0f}"
                f" MiB  {shown}  (largest relative difference {apart:.1e})"
            )


if __name__ == "__main__":
    main()
