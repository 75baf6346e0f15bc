"""Splits of an index of a million rows, and patches from volumes of growing size.

    python tests/benchmarks/bench_splits.py [--rows 1000000] [--persons 250000]

Prints the seconds of each split (best of three, columns read included) beside those of a list of as many objects, and
for patches the bytes of the file that the kernel brought in and the milliseconds of a draw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mriad.geometry import Grid
from mriad.vocabulary import CaseIndex, LabelSet, Sample, Task
from mriad_data.patches import Patch, Slice
from mriad_data.splits import FileSplit, KFold, LeaveDomainOut, LeaveOneOut, RandomSplit

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = Task(("T1w",), {"": LabelSet.of({"a": 1})}, "softmax")


def table_index(rows: int, persons: int) -> CaseIndex:
    """A columnar index whose persons are in no order."""
    import pyarrow as pa
    from mriad_data.index import TableIndex

    order = np.random.default_rng(0).integers(0, persons, rows)
    contrasts = ("T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI")
    table = pa.table(
        {
            "id": [f"case-{i:07}" for i in range(rows)],
            "person": [f"sub-{p:06}" for p in order.tolist()],
            "contrast": [contrasts[i % 6] for i in range(rows)],
            "domain": [f"site{p % 40:02}" for p in order.tolist()],
        }
    )
    return TableIndex(table, LabelSet(()))


def best(work: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """Seconds by the clock and of this process's processor time, of the fastest call."""
    found = []
    for _ in range(times):
        start, busy = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - busy))
    return min(seconds for seconds, _ in found), min(seconds for _, seconds in found)


def splits(rows: int, persons: int) -> None:
    """Every kind of split once."""
    index = table_index(rows, persons)
    baseline = best(lambda: [object() for _ in range(rows)])
    print(f"{rows} rows, {persons} persons, 40 domains; a list of {rows} objects takes {baseline[0]:.3f} s")
    print(f"  {'split':31} by the clock   processor")
    with tempfile.TemporaryDirectory() as folder:
        names = sorted(set(index.column("person")))
        path = Path(folder) / "split.json"
        parts = {"train": names[2:], "validation": names[:1], "test": names[1:2]}
        path.write_text(json.dumps(parts))
        chosen = {
            "k_fold": KFold(),
            "random_split": RandomSplit(),
            "leave_one_out": LeaveOneOut(within="domain"),
            "leave_domain_out (contrast)": LeaveDomainOut(),
            "leave_domain_out (domain, k 5)": LeaveDomainOut(by="domain", k=5),
            "file": FileSplit(path=path),
        }
        for name, split in chosen.items():
            clock, busy = best(lambda split=split: split.build(index, 0, 0))
            print(f"  {name:31} {clock:10.3f} s {busy:10.3f} s")


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in memory."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            found = line.endswith(str(path))
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def patches() -> None:
    """One 64³ patch and one 64² slice from volumes of growing size."""
    print("a patch of 64³ and a slice of 64²: bytes brought in, ms a draw")
    with tempfile.TemporaryDirectory() as folder:
        for side in (128, 256, 512, 768):
            path = Path(folder) / f"{side}.bin"
            with path.open("wb") as file:
                file.truncate(side**3 * 4)
            line = f"  {side}³ float32 = {side**3 * 4 / 2**20:6.0f} MiB"
            for sampler in (
                Patch(size=[64, 64, 64], foreground=0),
                Slice(axis="sagittal", size=[64, 64], foreground=0),
            ):
                image = np.memmap(path, np.float32, "r", shape=(1, side, side, side)).view(np.ndarray)
                sample = Sample("c", image, Grid.of((side,) * 3, np.eye(4)))
                draw = sampler.build(TASK)
                box = draw(sample, np.random.default_rng(0), (0, 0, 0))
                np.ascontiguousarray(box.image)
                touched = resident(path)
                _, seconds = best(
                    lambda draw=draw, sample=sample: np.ascontiguousarray(
                        draw(sample, np.random.default_rng(0), (0, 0, 0)).image
                    ),
                    20,
                )
                line += f"  {touched / 2**20:6.2f} MiB {seconds * 1e3:6.3f} ms"
                del image, sample, box
            print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--persons", type=int, default=250_000)
    given = parser.parse_args()
    splits(given.rows, given.persons)
    patches()
