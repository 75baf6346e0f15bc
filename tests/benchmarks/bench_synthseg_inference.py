"""Inference of a 1 mm brain with a network of the paper's size: 5 levels × 2 convolutions, 24 features, 33 outputs.

Run by hand: `python tests/benchmarks/bench_synthseg_inference.py [--threads 2] [--shape 160 192 160] [--ways …]`.
Weights and voxels are random; neither changes the time. Prints one JSON object.

network: one forward pass of the volume, in several ways, interleaved: float32; float32 with channels last; bfloat16
(by autocast and with bfloat16 weights), which helps where the processor has instructions for it. whole: preparation
(orient, resample, percentiles), window, blending, cleaning of posteriors, native grid, label map, volumes. Wall and
CPU seconds, and the peak of the process. Bound: whole under 60 s on 2 cores, without flips.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.predictor import NetworkPredictor
from mriad.inference.segmenter import Segmenter
from mriad.interfaces import Model, PreprocessingStep
from mriad.vocabulary import LabelSet, Task, Volume
from mriad_data.freesurfer import NAMES
from mriad_synthseg.inference_steps import STEPS
from mriad_synthseg.keras_layers import SEGMENTED
from mriad_synthseg.measured_predictor import MeasuredPredictor

LABELS = LabelSet.of({NAMES[value]: value for value in SEGMENTED})
TASK = Task(("image",), {"": LABELS}, "softmax")
HEAD = {"type": "synthseg.posteriors", "groups": [[name] for name in LABELS.names if name != "CSF"]}


def network() -> torch.nn.Module:
    """The network of the public weights, with random ones."""
    torch.manual_seed(0)
    return Model.resolve({"type": "synthseg.unet", "norm": "batch"}).build(TASK).eval()


def timed(call):
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        call()
    return {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}


def forwards(shape: list[int], ways: list[str], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Forward passes in each way, in turns."""
    image = torch.rand(1, 1, *shape)
    nets = {}
    for way in ways:
        net = network()
        if "last" in way:
            net = net.to(memory_format=torch.channels_last_3d)
        if way.startswith("bf16"):
            net = net.to(torch.bfloat16)
        nets[way] = net
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, net in nets.items():
            x = image.to(next(net.parameters()).dtype)
            if "last" in way:
                x = x.contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast("cpu", torch.bfloat16, enabled=way.startswith("autocast")):
                found[way].append(timed(lambda net=net, x=x: net(x)))
    return found


def whole(shape: list[int], flips: list[str]) -> dict[str, float]:
    """A prediction with everything around the network, from voxels of 0.9 mm."""
    grid = Grid.of([round(n / 0.9) for n in shape], np.diag([-0.9, 0.9, 0.9, 1]))
    volume = Volume(np.random.default_rng(0).random(grid.shape, np.float32), grid)
    section = PredictSection.model_validate({"head": HEAD, "test_time": {"flips": flips}})
    segmenter = Segmenter([network()], TASK, section, 16)
    steps = [PreprocessingStep.resolve(step) for step in STEPS]
    predictor = NetworkPredictor(segmenter, steps, [None] * len(steps))
    with tempfile.TemporaryDirectory() as folder:
        measured = MeasuredPredictor(predictor, Path(folder), posteriors=False, overwrite=False)
        return timed(lambda: measured.stream({"image": volume}).hard())


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", type=int, nargs=3, default=[160, 192, 160])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="*", default=["fp32", "fp32_last", "autocast", "bf16", "bf16_last"])
    parser.add_argument("--flips", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    out = {
        "shape": options.shape,
        "threads": options.threads,
        "torch": torch.__version__,
        "network": forwards(options.shape, options.ways, options.rounds),
        "whole": whole(options.shape, options.flips),
    }
    out["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
