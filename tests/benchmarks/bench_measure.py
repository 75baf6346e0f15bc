"""Time and memory of measuring a cord: `python tests/benchmarks/bench_measure.py` (one core, the phantom only)."""

from __future__ import annotations

import os
import resource
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mriad.interfaces import Dataset
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.levels import levels_from_map
from mriad_eval.morphometry.literal_sct import literal_area

ROUNDS = 5


def main() -> None:
    """Print one line a contrast: voxels, slices, seconds of our mode and of the literal one, interleaved."""
    phantom = {"type": "data.phantom_spine", "persons": 1, "contrasts": ["T2w", "T2star", "MTon"]}
    for case in Dataset.resolve(phantom).build():
        volume = case.labels["truth"].source.read()
        levels = case.annotations["levels"].read().data
        values = np.asarray(volume.data, dtype=np.float32)
        ours, literal = [], []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            tube = measure_tube(values, volume.grid)
            levels_from_map(tube, values, levels)
            between = time.perf_counter()
            literal_area(values, volume.grid)
            ours.append(between - begun)
            literal.append(time.perf_counter() - between)
        a, b = statistics.median(ours), statistics.median(literal)
        print(
            f"{case.contrast:7} {volume.grid.describe():45} {len(tube):4} slices  "
            f"ours {1000 * a:6.0f} ms  literal {1000 * b:6.0f} ms  ratio {b / a:.1f}"
        )
    print(f"largest resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
