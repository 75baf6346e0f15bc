"""Seconds to make one person of the spine phantom in six contrasts, on one core.

Run: python tests/benchmarks/bench_phantom.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

from mriad_data.phantom import CONTRASTS, PhantomSpine

LIMIT_S = 3.0


def person(number: int, **settings: object) -> tuple[float, float]:
    """Wall and processor seconds for one person: images and the labels hard, soft and truth of six contrasts."""
    index = PhantomSpine(persons=number, **settings).build()
    cases = [case for case in index if case.person == f"sub-{number:03d}"]
    wall, processor = time.perf_counter(), time.process_time()
    for case in cases:
        case.channels["image"].read()
        for label in case.labels.values():
            label.source.read()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print the times; persons differ, so nothing but code is warm."""
    person(1, size_mm=(48, 72, 72), spacing_mm=2.0)
    for name, settings in (
        ("64 × 192 × 192 mm, resolutions of the paper", {}),
        ("64 × 96 × 96 mm at 2 mm (32 × 48 × 48 voxels)", {"size_mm": (64, 96, 96), "spacing_mm": 2.0}),
    ):
        times = [person(n, **settings) for n in (2, 3, 4)]
        wall, processor = (sorted(t[i] for t in times)[1] for i in (0, 1))
        print(f"{name}: {wall:.2f} s wall, {processor:.2f} s of processor, {len(CONTRASTS)} contrasts")
        if not settings:
            for clock, seconds in (("processor time", processor), ("wall time", wall)):
                print(f"  limit {LIMIT_S:g} s by {clock}: {'kept' if seconds < LIMIT_S else 'MISSED'}")
            # On a busy machine wall time counts other processes too.
            print(f"  load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
