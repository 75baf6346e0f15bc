"""What a prediction costs beside its network, and the memory of a large one.

Run by hand: `python tests/benchmarks/bench_inference.py memory` and `… time`. Each prints one JSON object.

memory: a NIfTI scan of 512 × 512 × 400 voxels (int16), 5 structures and background (6 softmax outputs), windows of
128 × 128 × 128 with overlap 0.5, read from a file, predicted by `mriad predict`'s code and written as a file, in a
process of its own; the figure is that process's peak resident size (`ru_maxrss`). The network is one convolution: its
activations are small beside the accumulators. Variants: hard output on the working grid's lattice, soft output, and
a native grid that has to be interpolated. Bound: 6 GiB.

time: a U-Net of 5 levels on a smaller scan; seconds in the network's calls against the seconds of the whole
prediction (preparation, windows, blending, head, native grid, label map), in one run with one thread, by the clock
and in CPU seconds (which a busy machine disturbs less). Bound: 10 %.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar, Literal

import nibabel as nib
import numpy as np
import torch
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.files import Job, predict_files
from mriad.inference.load import identity, load_predictor, save_predictor
from mriad.inference.prediction import stream_of
from mriad.inference.scans import Scan
from mriad.interfaces import Head, Model, PreprocessingStep
from mriad.registry import Registry, using
from mriad.vocabulary import LabelSet, Sample, Task, Volume
from torch import nn

LABELS = LabelSet.of({f"s{n}": n for n in range(1, 6)})
TASK = Task(("T2w",), {"": LABELS}, "softmax")
SCAN = (512, 512, 400)
WINDOW = 128


class Softmax(Head):
    """The usual head."""

    type: Literal["bench.softmax"] = "bench.softmax"

    @property
    def link(self):
        return "softmax"

    def build(self, task):
        return lambda raw: raw.softmax(dim=0)[1:]


class Cheap(Model):
    """One convolution."""

    type: Literal["bench.cheap"] = "bench.cheap"

    def build(self, task):
        return nn.Conv3d(len(task.channels), task.outputs(), 3, padding=1)


class UNet(Model):
    """nnU-Net's plain U-Net (MONAI's DynUNet) at half its width; the finest level has the full resolution."""

    type: Literal["bench.unet"] = "bench.unet"
    features: tuple[int, ...] = (16, 32, 64, 128, 160)

    def build(self, task):
        from monai.networks.nets import DynUNet

        levels = len(self.features)
        return DynUNet(
            spatial_dims=3,
            in_channels=len(task.channels),
            out_channels=task.outputs(),
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=self.features,
        )

    def divisor(self):
        return 16


class Stretch(PreprocessingStep):
    """Nearest-neighbour change of the voxel size along each axis: cheap, and the way back has to interpolate."""

    type: Literal["bench.stretch"] = "bench.stretch"
    version: ClassVar[int] = 1
    by: float = 0.9

    def apply(self, sample, parameters):
        index = [np.arange(0, n, 1 / self.by).astype(int) for n in sample.grid.shape]
        image = np.ascontiguousarray(sample.image[:, index[0]][:, :, index[1]][:, :, :, index[2]])
        matrix = sample.grid.matrix
        matrix[:3, :3] /= self.by
        return Sample(sample.case, image, Grid.of(image.shape[1:], matrix))


def registered() -> Registry:
    registry = Registry()
    for component in (Softmax, Cheap, UNet, Stretch):
        registry.add(component, "bench", "mriad-bench")
    return registry


def section(window: int) -> PredictSection:
    return PredictSection.model_validate({"head": "bench.softmax", "window": [window] * 3, "overlap": 0.5})


def save(folder: Path, model: Model, window: int, steps: list[PreprocessingStep]) -> Path:
    torch.manual_seed(0)
    return save_predictor(
        folder,
        task=TASK,
        predict=section(window),
        model=model,
        preprocessing=steps,
        parameters=[None] * len(steps),
        networks={"network": model.build(TASK).state_dict()},
    )


def write_scan(path: Path, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    data = np.empty(shape, np.int16)
    for k in range(shape[2]):
        data[:, :, k] = rng.integers(0, 1000, shape[:2])
    nib.save(nib.Nifti1Image(data, np.diag([0.5, 0.5, 0.5, 1])), path)


def peak_gib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30


def memory_child(folder: Path, form: str, steps: str) -> None:
    """In its own process: load, predict, write; print the peak."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with using(registered()):
        model = save(folder / "model", Cheap(), WINDOW, [Stretch()] if steps == "stretch" else [])
        predictor = load_predictor(model)
        before = peak_gib()
        begun = time.perf_counter()
        job = Job("cheap", identity(model), form, folder / "out", overwrite=True)
        outcome = predict_files(predictor, [Scan({"T2w": folder / "scan.nii"})], job)
    assert not outcome.failed, outcome.failed
    row = {"form": form, "steps": steps, "baseline_gib": round(before, 2), "peak_gib": round(peak_gib(), 2)}
    print(json.dumps({**row, "seconds": round(time.perf_counter() - begun, 1)}))


def memory() -> None:
    with tempfile.TemporaryDirectory() as place:
        write_scan(Path(place) / "scan.nii", SCAN)
        rows = []
        for form, steps in (("hard", "none"), ("soft", "none"), ("soft-uint8", "none"), ("hard", "stretch")):
            command = [sys.executable, __file__, "memory-child", place, form, steps]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr)
    bare = 4 * 6 * np.prod(SCAN) / 2**30
    worst = max(row["peak_gib"] for row in rows)
    print(
        json.dumps({"scan": SCAN, "all_outputs_float32_gib": round(bare, 2), "rows": rows, "ok": worst < 6})
    )


class Timed(nn.Module):
    """Counts the seconds of the network's own calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seconds = self.cpu = 0.0
        self.calls = 0

    def forward(self, x):
        begun, cpu = time.perf_counter(), time.process_time()
        out = self.network(x)
        self.seconds += time.perf_counter() - begun
        self.cpu += time.process_time() - cpu
        self.calls += 1
        return out


def timing(shape: tuple[int, int, int], window: int) -> None:
    """The network's calls are timed inside the very run whose whole is timed: one ratio, one machine state."""
    torch.set_num_threads(1)
    data = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    rows = []
    with tempfile.TemporaryDirectory() as place, using(registered()):
        for steps in ([], [Stretch()]):
            predictor = load_predictor(save(Path(place) / "model", UNet(), window, steps))
            timed = Timed(predictor.segmenter.networks[0])
            object.__setattr__(predictor.segmenter, "networks", (timed,))
            channels = {"T2w": Volume(data, Grid.of(shape, np.eye(4)))}
            timed(torch.zeros(1, 1, window, window, window))  # warm up
            timed.seconds, timed.cpu, timed.calls = 0.0, 0.0, 0
            begun, cpu = time.perf_counter(), time.process_time()
            stream_of(predictor, channels).hard()
            whole, cpu = time.perf_counter() - begun, time.process_time() - cpu
            row = {
                "steps": [s.type_name() for s in steps],
                "calls": timed.calls,
                "network_s": round(timed.seconds, 2),
                "whole_s": round(whole, 2),
                "network_cpu_s": round(timed.cpu, 2),
                "whole_cpu_s": round(cpu, 2),
                "overhead": round(whole / timed.seconds - 1, 4),
                "overhead_cpu": round(cpu / timed.cpu - 1, 4),
            }
            print(row, file=sys.stderr)
            rows.append(row)
    ok = all(row["overhead"] < 0.1 for row in rows)
    print(json.dumps({"scan": shape, "window": window, "rows": rows, "ok": ok}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["memory", "memory-child", "time"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 192, 160))
    parser.add_argument("--window", type=int, default=96)
    given = parser.parse_args()
    if given.what == "memory":
        memory()
    elif given.what == "memory-child":
        memory_child(Path(given.rest[0]), given.rest[1], given.rest[2])
    else:
        timing(tuple(given.shape), given.window)
