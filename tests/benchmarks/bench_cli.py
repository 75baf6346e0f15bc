"""How long `mriad --help` and `mriad plugins list` take, as a process of their own.

Run by hand: `python tests/benchmarks/bench_cli.py`. A first call of each writes the bytecode and is left out; the
commands then take turns. The figure is the median by the clock, with the CPU seconds beside it, which other work on
the machine disturbs less; a bare interpreter is the floor. Bound: 0.5 s.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench_setup import conclude, environment, table

MRIAD = str(Path(sys.executable).with_name("mriad"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "mriad --help": [MRIAD, "--help"],
    "mriad plugins list": [MRIAD, "plugins", "list"],
}
BOUND_S = 0.5


def once(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    env = environment()
    env["PYTHONPATH"] = env["PYTHONPATH"].partition(":")[
        2
    ]  # as a user has it: without the benchmarks' plugin
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(runs: int, out: Path | None) -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            row = once(command)
            if turn:
                found[name].append(row)
    rows, result = [], {"runs": runs, "commands": {}, "met": True}
    for name, times in found.items():
        clock, cpu = median(t for t, _ in times), median(c for _, c in times)
        least = min(t for t, _ in times)
        rows.append([name, f"{clock:.3f} s", f"{least:.3f} s", f"{cpu:.3f} s"])
        result["commands"][name] = {"median_s": clock, "least_s": least, "cpu_s": cpu}
        result["met"] &= clock < BOUND_S
    table(["", "median", "least", "CPU"], rows)
    conclude(result, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    main(given.runs, given.out)
