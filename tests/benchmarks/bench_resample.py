"""How long it takes to load a scan, bring its axes in order and resample it to 1 mm, beside four libraries.

Run by hand: `python tests/benchmarks/bench_resample.py`. The scan is made here: a sagittal head of 256³ int16 voxels
of 0.9375 mm with texture and noise, gzipped (about half its size). Each contender runs in turn in one process on one
core with one thread, in another order in each round, so that load on the machine hits all of them. CPU times of each
one's fastest round are compared, since load only adds to them; medians of CPU and wall time stand beside. "mriad" is
the way of every run: `load_sample`, then `data.orient` and `data.resample`; once with isal's gzip and once with
Python's. Linear stands beside linear, cubic splines beside cubic splines. Bounds: mriad's
*cubic* result in half of SimpleITK's time for its *linear* one, and at scipy's own values
(`scipy.ndimage.affine_transform`, order 3, float64) within 1e-4 of the range. SimpleITK holds borders differently and
TorchIO and MONAI choose other new grids, so their values are not compared here; tests/data does that.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.update(OMP_NUM_THREADS="1", ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
from bench_setup import conclude, table

if TYPE_CHECKING:
    from collections.abc import Callable

SPACING = 0.9375
BOUND = 2.0


def make_scan(path: Path, size: int) -> None:
    """A head with texture and noise whose axes run P, I, R, as a sagittal acquisition stores them."""
    import nibabel as nib
    from scipy import ndimage

    draw = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    radius = np.sqrt((x / 0.7) ** 2 + (y / 0.85) ** 2 + (z / 0.75) ** 2)
    texture = 30 * ndimage.gaussian_filter(draw.standard_normal((size,) * 3, np.float32), 3)
    head = (radius < 1) * (600 + 200 * texture) + ((radius > 0.9) & (radius < 1)) * 300
    voxels = np.abs(head + 12 * draw.standard_normal((size,) * 3, np.float32)).astype(np.int16)
    affine = np.array([[0, 0, 1, -120], [-1, 0, 0, 120], [0, -1, 0, 110], [0, 0, 0, 1.0]])
    affine[:, :3] *= SPACING
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)


def mriad(path: Path, order: int, fast: bool) -> Any:
    """Our own way, with isal's gzip or without."""
    from mriad.images import FileSource
    from mriad.preparation import apply_steps, load_sample
    from mriad.vocabulary import Case, LabelSet
    from mriad_data.orientation import Orient
    from mriad_data.resampling import Resample

    hidden = {} if fast else {"isal": None, "isal.isal_zlib": None}
    kept = {name: sys.modules.get(name) for name in hidden}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        case = Case("c", "p", {"T1w": FileSource(str(path))})
        sample = load_sample(case, ["T1w"], None, "none", LabelSet.of({"a": 1}))
        steps = [Orient(axes="RAS"), Resample(spacing_mm=[1, 1, 1], image_order=order)]
        return apply_steps(sample, steps, [None, None])
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def simpleitk(path: Path, cubic: bool) -> Any:
    import SimpleITK as sitk  # noqa: N813 (its own habit)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    size = [round(n * s) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    place = (image.GetOrigin(), (1.0, 1.0, 1.0), image.GetDirection(), 0.0, sitk.sitkFloat32)
    kind = sitk.sitkBSpline if cubic else sitk.sitkLinear
    return sitk.GetArrayViewFromImage(sitk.Resample(image, size, sitk.Transform(), kind, *place))


def nibabel_scipy(path: Path, cubic: bool) -> Any:
    import nibabel as nib
    from scipy import ndimage

    image = nib.as_closest_canonical(nib.load(path))
    data = image.get_fdata(dtype=np.float32)
    return ndimage.zoom(data, image.header.get_zooms()[:3], order=3 if cubic else 1, mode="nearest")


def torchio(path: Path, cubic: bool) -> Any:
    import torchio as tio

    image = tio.ToCanonical()(tio.ScalarImage(path))
    return tio.Resample(1, image_interpolation="bspline" if cubic else "linear")(image).data


def monai(path: Path, cubic: bool) -> Any:
    import torch
    from monai import transforms

    torch.set_num_threads(1)
    load = transforms.LoadImage(image_only=True, ensure_channel_first=True)
    image = transforms.Orientation("RAS")(load(path))
    return transforms.Spacing((1.0, 1.0, 1.0), mode=3 if cubic else "bilinear", padding_mode="border")(image)


def difference(path: Path) -> float:
    """Largest difference to scipy's spline, as a share of the range; the same grid, mode "nearest", no smoothing."""
    from mriad.images import read_volume
    from mriad.preparation import apply_steps
    from mriad.vocabulary import Sample
    from mriad_data.orientation import Orient
    from mriad_data.resampling import Resample
    from scipy import ndimage

    volume = read_volume(path)
    first = apply_steps(
        Sample("c", volume.data.astype(np.float32)[None], volume.grid), [Orient(axes="RAS")], [None]
    )
    after = Resample(spacing_mm=[1, 1, 1], antialias=False).apply(first, None)
    ratio = 1 / np.array(first.grid.spacing)
    offset = (np.array(first.grid.shape) - 1) / 2 - ratio * (np.array(after.grid.shape) - 1) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ndimage.affine_transform(
            first.image[0].astype(np.float64), ratio, offset, after.grid.shape, order=3, mode="nearest"
        )
    return float(np.abs(expected - after.image[0]).max() / np.ptp(first.image))


def _median(times: list[tuple[float, float]], which: int) -> float:
    return statistics.median(t[which] for t in times)


def main(size: int, rounds: int, slow_rounds: int, out: Path | None) -> None:
    """Measure, print, compare with the bound."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    contenders: dict[tuple[str, str], Callable[[Path], Any]] = {
        ("mriad", "linear"): lambda p: mriad(p, 1, True),
        ("mriad without isal", "linear"): lambda p: mriad(p, 1, False),
        ("SimpleITK", "linear"): lambda p: simpleitk(p, False),
        ("TorchIO", "linear"): lambda p: torchio(p, False),
        ("nibabel + scipy", "linear"): lambda p: nibabel_scipy(p, False),
        ("MONAI", "linear"): lambda p: monai(p, False),
        ("mriad", "cubic"): lambda p: mriad(p, 3, True),
        ("mriad without isal", "cubic"): lambda p: mriad(p, 3, False),
        ("SimpleITK", "cubic"): lambda p: simpleitk(p, True),
        ("TorchIO", "cubic"): lambda p: torchio(p, True),
        ("nibabel + scipy", "cubic"): lambda p: nibabel_scipy(p, True),
        ("MONAI", "cubic"): lambda p: monai(p, True),
    }
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in contenders}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        make_scan(path, size)
        for turn in range(rounds + 1):  # the first round imports and warms up
            keys = list(contenders)
            random.Random(turn).shuffle(keys)
            for key in keys:
                slow = key[1] == "cubic" and "mriad" not in key[0]
                if slow and turn > slow_rounds:
                    continue
                gc.collect()  # what the one before left behind is not this one's time
                began, cpu = time.perf_counter(), time.process_time()
                contenders[key](path)
                if turn:
                    spent[key].append((time.perf_counter() - began, time.process_time() - cpu))
        apart = difference(path)
        packed = path.stat().st_size
    figures = {
        key: {
            "cpu": min(c for _, c in times),
            "median_cpu": _median(times, 1),
            "median_wall": _median(times, 0),
        }
        for key, times in spent.items()
    }
    base = figures["SimpleITK", "linear"]["cpu"]
    rows = [
        [
            name,
            kind,
            *(f"{t:.3f} s" for t in found.values()),
            f"{base / found['cpu']:.2f} ×",
            len(spent[name, kind]),
        ]
        for (name, kind), found in figures.items()
    ]
    head = [
        "",
        "interpolation",
        "CPU, fastest",
        "CPU, median",
        "wall, median",
        "speed, SimpleITK linear = 1",
        "rounds",
    ]
    table(head, rows)
    print("speed: by the fastest CPU time; SimpleITK with linear interpolation is 1")
    ratio = base / figures["mriad", "cubic"]["cpu"]
    print(f"mriad's cubic result {ratio:.2f} × as fast as SimpleITK's linear one (bound {BOUND:g})")
    print(
        f"largest difference to scipy's spline: {apart:.1e} of the range (bound 1e-4); file {packed / 1e6:.1f} MB"
    )
    result = {
        "size": size,
        "seconds": {f"{name}, {kind}": found for (name, kind), found in figures.items()},
        "ratio": ratio,
        "difference": apart,
        "met": ratio >= BOUND and apart <= 1e-4,
    }
    conclude(result, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="voxels a side of the scan")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--slow-rounds", type=int, default=2, help="of the others' cubic splines (seconds each)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    main(given.size, given.rounds, given.slow_rounds, given.out)
