"""Seconds to make one person of the spine phantom in six contrasts and of the brain phantom in five, on one core.

Run: python tests/benchmarks/bench_phantom.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

from mriad_data.phantom import CONTRASTS, PhantomSpine
from mriad_data.phantom.brain import CONTRASTS as BRAIN_CONTRASTS
from mriad_data.phantom.brain import PhantomBrain
from mriad_data.phantom.brain.volumes import true_volumes

LIMIT_S = 3.0
BRAIN_LIMITS_S = {1.0: 20.0, 3.0: 1.0}


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


def brain(number: int, spacing: float) -> tuple[float, float]:
    """Wall and processor seconds for one person's brain: five images and their label map."""
    settings = {"persons": number, "spacing_mm": spacing, "volumes": False}
    index = PhantomBrain(**settings).build()
    cases = [case for case in index if case.person == f"sub-{number:03d}"]
    wall, processor = time.perf_counter(), time.process_time()
    for case in cases:
        case.channels["image"].read()
    cases[0].labels["hard"].source.read()
    return time.perf_counter() - wall, time.process_time() - processor


def brains() -> None:
    """The brain phantom at 1 and 3 mm, and the count of its true volumes."""
    brain(1, 4.0)
    for spacing, limit in BRAIN_LIMITS_S.items():
        times = [brain(n, spacing) for n in (2, 3, 4)]
        wall, processor = (sorted(t[i] for t in times)[1] for i in (0, 1))
        print(
            f"brain, 160 × 192 × 160 mm at {spacing:g} mm: {wall:.2f} s wall, {processor:.2f} s of processor, "
            f"{len(BRAIN_CONTRASTS)} contrasts"
        )
        print(f"  limit {limit:g} s of processor: {'kept' if processor < limit else 'MISSED'}")
    start = time.process_time()
    true_volumes(0, 2)
    print(f"true volumes of a brain: {time.process_time() - start:.2f} s of processor")


def main() -> None:
    """Print the times; persons differ, so nothing but code is warm."""
    brains()
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
