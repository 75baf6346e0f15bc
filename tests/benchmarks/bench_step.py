"""What a step costs under Ray Train with MLflow tracking, against the same step inline without tracking.

Run by hand: `python tests/benchmarks/bench_step.py`. Two runs of one experiment are started, each with one torch
thread. A turn passes between them, so that they step in blocks, in the order A B B A A B B A …: of two neighbouring
blocks one is inline and one is under Ray, seconds apart, and other work on the machine falls on both. A step is
timed from its begin to the begin of the next one, so the loop, its reports and the next batch are inside; metrics
are reported every fifth step, checkpoints are not written in the blocks. The first two pairs are left out. mriad
gives Ray's workers the niceness of the inline run (0; Ray's own default is 15).

The figure is the median over pairs of (median step under Ray / median step inline), with the 95 % interval of a
bootstrap over pairs. Beside it: the ratio of the worker's CPU seconds a step, which does not depend on who else
uses the cores, and the CPU seconds of every other process of the Ray run (driver with its tracking thread, raylet,
GCS, agents) while it has the turn and while it waits. Bound: 3 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from bench_setup import conclude, descendants, environment, experiment, table

LEFT_OUT = 2
SIDES = ("inline", "ray")


def child(side: str, folder: Path) -> None:
    """One of the two runs."""
    from mriad.environment import quiet

    quiet()
    from mriad.experiment.model import Experiment
    from mriad.launch.trial import TrialOptions, run_trial

    chosen = Experiment.model_validate(json.loads((folder / "experiment.json").read_text()))
    tracking = "off" if side == "inline" else ""
    run_trial(chosen, TrialOptions(launcher=side, runs=folder / "runs", tracking=tracking))  # type: ignore[arg-type]


def spent(before: dict[int, float], after: dict[int, float]) -> float:
    """CPU seconds between two looks; what ended in between is not counted."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


class Side:
    """A run and its folder of turns."""

    def __init__(self, name: str, place: Path, pairs: int, block: int, patch: int) -> None:
        self.name, self.folder = name, place / name
        self.folder.mkdir()
        chosen = experiment(
            "step",
            patch=[patch] * 3,
            features=[16, 32, 64, 128],
            steps=pairs * block + 1,
            size=64,
            report_every=5,
            learner={"turns": str(self.folder), "block": block, "blocks": pairs},
        )
        chosen["budget"]["checkpoint_every"] = pairs * block + 1
        (self.folder / "experiment.json").write_text(json.dumps(chosen))
        self.log = (self.folder / "log").open("w")
        command = [sys.executable, __file__, "child", name, str(self.folder)]
        self.process = subprocess.Popen(command, env=environment(), stdout=self.log, stderr=self.log)

    def go(self, block: int) -> dict:
        """Let a block run and return its line."""
        before, began = descendants(self.process.pid), time.perf_counter()
        (self.folder / f"go-{block}").touch()
        while True:
            if self.process.poll():
                sys.exit((self.folder / "log").read_text()[-3000:])
            path = self.folder / "blocks.jsonl"
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            if len(lines) > block and lines[block].endswith("\n"):
                break
            time.sleep(0.05)
        after = descendants(self.process.pid)
        row = json.loads(lines[block])
        row["tree"] = spent(before, after)
        row["elapsed"] = time.perf_counter() - began
        return row


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the median over pairs."""
    rng = np.random.default_rng(0)
    found = np.median(rng.choice(values, (5000, len(values))), axis=1)
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def measure(pairs: int, block: int, patch: int) -> dict:
    """Run both and compare."""
    pairs += LEFT_OUT
    with tempfile.TemporaryDirectory() as place:
        sides = {name: Side(name, Path(place), pairs, block, patch) for name in SIDES}
        rows: dict[str, list[dict]] = {name: [] for name in SIDES}
        idle: list[float] = []  # CPU seconds a second of the waiting Ray run
        try:
            for pair in range(pairs):
                for name in SIDES if pair % 2 == 0 else SIDES[::-1]:
                    other = sides["ray"].process.pid
                    before = descendants(other)
                    row = sides[name].go(pair)
                    if name == "inline" and pair >= LEFT_OUT:
                        idle.append(spent(before, descendants(other)) / row["elapsed"])
                    rows[name].append(row)
            for side in sides.values():
                side.process.wait(120)
        finally:
            for side in sides.values():
                if side.process.poll() is None:
                    side.process.terminate()
                    side.process.wait(30)
                side.log.close()
    kept = {name: found[LEFT_OUT:] for name, found in rows.items()}
    step = {name: np.array([np.median(np.diff(r["starts"])) for r in kept[name]]) for name in SIDES}
    mean = {name: np.array([np.mean(np.diff(r["starts"])) for r in kept[name]]) for name in SIDES}
    cpu = {name: np.array([r["cpu"] / block for r in kept[name]]) for name in SIDES}
    rest = [(r["tree"] - r["cpu"]) / block for r in kept["ray"]]
    ratios = {k: v["ray"] / v["inline"] for k, v in (("step", step), ("mean", mean), ("cpu", cpu))}
    result = {
        "pairs": pairs - LEFT_OUT,
        "block": block,
        "seconds": {name: float(median(step[name])) for name in SIDES},
        "mean_seconds": {name: float(median(mean[name])) for name in SIDES},
        "cpu_seconds": {name: float(median(cpu[name])) for name in SIDES},
        "ratio": {k: [float(np.median(v)), *interval(v)] for k, v in ratios.items()},
        "beside_cpu_seconds_a_step": float(median(rest)),
        "waiting_cpu_seconds_a_second": float(median(idle)),
    }
    result["met"] = result["ratio"]["step"][2] < 1.03  # the whole interval: a wide one shows nothing
    return result


def main(given: argparse.Namespace) -> None:
    result = measure(given.pairs, given.block, given.patch)
    names = {
        "step": ("median step", "seconds"),
        "mean": ("mean step", "mean_seconds"),
        "cpu": ("CPU of the training process a step", "cpu_seconds"),
    }
    rows = []
    for key, (title, place) in names.items():
        ratio, low, high = result["ratio"][key]
        a, b = result[place]["inline"], result[place]["ray"]
        rows.append([title, f"{a:.4f} s", f"{b:.4f} s", f"{ratio:.4f}", f"{low:.4f} … {high:.4f}"])
    table(["", "inline", "Ray + MLflow", "ratio", "95 % interval"], rows)
    print(
        f"{result['pairs']} pairs of blocks of {result['block']} steps; the Ray run's other processes use "
        f"{result['beside_cpu_seconds_a_step']:.3f} CPU s a step, and while it waits "
        f"{result['waiting_cpu_seconds_a_second']:.3f} CPU s a second"
    )
    conclude(result, given.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], Path(sys.argv[3]))
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--block", type=int, default=10, help="steps")
    parser.add_argument("--patch", type=int, default=48, help="voxels a side")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    main(parser.parse_args())
