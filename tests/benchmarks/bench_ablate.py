"""What an ablation costs around the training of its trials, on this machine.

    python tests/benchmarks/bench_ablate.py [--trials 24] [--launcher ray]

1. Overhead: wall seconds of an ablation of tiny one-worker trials, less their training, a trial; and the CPU seconds
   of all processes (Ray's own included), which other work on the machine does not stretch.
2. Memory of the driver: resident set while many short trials go by; its slope must be nothing but noise.
3. Packing: the same trials one after the other and several at once in local processes (on a GPU where there is one).

Prints a table; `--out FILE.json` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
SHAPES = HERE / "plugins" / "shapes"
sys.path[:0] = [str(SHAPES), str(HERE / "trials"), str(HERE / "ablation")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(SHAPES), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ablation_processes import descendants  # noqa: E402 - found by the path above


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Memory(threading.Thread):
    """Samples the driver's resident set, and the CPU time of all that it has started, once a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, int]] = []
        self.cpu: dict[int, float] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        while not self.ended.wait(1.0):
            self.samples.append((time.monotonic() - start, resident()))
            for pid in (os.getpid(), *descendants(os.getpid())):
                self.cpu[pid] = max(self.cpu.get(pid, 0.0), cpu_seconds(pid))

    def slope(self) -> float:
        """MiB a minute over the second half, when everything is imported."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 4:
            return float("nan")
        times, sizes = zip(*half, strict=True)
        return statistics.linear_regression(times, sizes).slope * 60 / 2**20


def run(trials: int, launcher: str, at_once: int = 0, steps: int = 20) -> dict[str, Any]:
    """One ablation of `trials` seeds × 2 variants; wall and CPU seconds, seconds of training, memory."""
    from ablation_setup import write
    from mriad.ablation.load import load_ablation
    from mriad.ablation.plan import make_plan
    from mriad.ablation.run import AblationOptions, run_ablation

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), seeds=list(range(trials // 2)), budget={"steps": steps})
        plan = make_plan(load_ablation(path))
        memory = Memory()
        before = cpu_seconds(os.getpid())
        memory.start()
        start = time.perf_counter()
        outcome = run_ablation(
            plan,
            AblationOptions(launcher=launcher, runs=Path(folder) / "runs", tracking="off", at_once=at_once),  # type: ignore[arg-type]
        )
        wall = time.perf_counter() - start
        memory.ended.set()
        assert not outcome.failed, outcome.failed
        training = sum(t.record()["compute"].get("seconds", 0.0) for t in outcome.study.finished)
        return {
            "trials": len(plan.trials),
            "wall": wall,
            "cpu": sum(memory.cpu.values()) - before,
            "training": training,
            "first_to_last": max(t.record()["ended"] for t in outcome.study.finished)
            - min(t.record()["started"] for t in outcome.study.finished),
            "each": statistics.median(
                t.record()["ended"] - t.record()["started"] for t in outcome.study.finished
            ),
            "slope": memory.slope(),
            "peak": max((size for _, size in memory.samples), default=0) / 2**20,
        }


def main() -> None:
    """Run the parts and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--launcher", choices=["ray", "inline"], default="ray")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found: dict[str, Any] = {"load": load}
    found["overhead"] = one = run(given.trials, given.launcher)
    lanes = len(os.sched_getaffinity(0)) if given.launcher == "ray" else 1
    # What a lane spends on a trial beyond its training; Ray's own start and end are the rest of the wall time.
    around = one["first_to_last"] * lanes / one["trials"] - one["training"] / one["trials"]
    print(f"load {load:.1f}, launcher {given.launcher}, {one['trials']} trials")
    print(f"wall                   {one['wall']:8.1f} s")
    print(
        f"CPU, all processes     {one['cpu']:8.1f} s: {one['cpu'] / one['trials']:.2f} s a trial, training included"
    )
    print(f"training               {one['training']:8.1f} s in all")
    print(f"around a trial         {around:8.2f} s of its lane ({lanes} at once)")
    print(f"from start to end      {one['each']:8.2f} s a trial (median)")
    print(
        f"driver's memory        {one['peak']:8.0f} MiB at most, {one['slope']:+.2f} MiB a minute in the second half"
    )
    if given.launcher == "inline":
        found["packed"] = packed = run(given.trials, "inline", at_once=given.at_once)
        speed = one["wall"] / packed["wall"]
        print(
            f"{given.at_once} at once              {packed['wall']:8.1f} s: {speed:.2f} × the speed of one by one"
        )
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
