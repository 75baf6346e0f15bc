"""What starting one run takes, from the command to its first step, part by part.

Run by hand: `python tests/benchmarks/bench_start.py`. It starts `mriad train x.yaml --launcher ray` (tracking into a
fresh SQLite store, as by default) and `… --launcher inline` in processes of their own, several times in turn. Points
in time come from the process itself (functions of the driver are wrapped), from the benchmarks' data set and learner
in the worker, and from the files that a worker writes when it begins. Data are ten volumes of 32³ voxels, prepared in
the run. Beside it the CPU seconds of all processes, which do not depend on who else uses the cores. Bound: 20 s from
the command to the first step.
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
from typing import Any

from bench_setup import PLUGIN, conclude, descendants, environment, experiment, table

BOUND_S = 20.0
PARTS = {
    "ray": (
        ("interpreter, mriad's command line", "command line"),
        ("experiment read and checked", "experiment loaded"),
        ("the trial's modules imported", "trial began"),
        ("torch and the launcher imported", "launcher made"),
        ("cases gathered, run recorded", "run recorded"),
        ("mlflow imported", "tracking ready"),
        ("stage graph, ray imported", "Ray wanted"),
        ("ray.init", "Ray ready"),
        ("Ray Train: controller, worker process, its imports", "worker entered"),
        ("the call unpickled", "worker began"),
        ("plugins, experiment, cases", "data set built"),
        ("data prepared, streams", "learner built"),
        ("network, first batch", "step 0 began"),
    ),
    "inline": (
        ("interpreter, mriad's command line", "command line"),
        ("experiment read and checked", "experiment loaded"),
        ("the trial's modules imported", "trial began"),
        ("torch and the launcher imported", "launcher made"),
        ("cases gathered, run recorded", "run recorded"),
        ("mlflow imported", "tracking ready"),
        ("stage graph", "worker began"),
        ("experiment, cases", "data set built"),
        ("data prepared, streams", "learner built"),
        ("network, first batch", "step 0 began"),
    ),
}


def child(arguments: list[str]) -> None:
    """`mriad ARGUMENTS`, with its driver's functions wrapped."""
    sys.path.insert(0, str(PLUGIN))
    from mriad.cli.app import main
    from mriad_bench.marks import mark

    mark("command line")
    _wrap("mriad.experiment.load", "load_located", mark, after="experiment loaded")
    sys.meta_path.insert(0, _Late(mark))
    sys.argv = ["mriad", *arguments]
    main()


def _wrap(module: str, path: str, mark: Any, before: str = "", after: str = "") -> None:
    import importlib

    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        if before:
            mark(before)
        result = function(*args, **kwargs)
        if after:
            mark(after)
        return result

    setattr(owner, name, timed)


class _Late:
    """Wraps functions of a module when something imports it, so that the driver's order of imports stays."""

    def __init__(self, mark: Any) -> None:
        self.mark = mark
        self.left = {
            "mriad.launch.trial": [
                ("run_trial", "trial began", ""),
                ("_start", "launcher made", "run recorded"),
            ],
            "mriad.tracking.sender": [("Sender.__enter__", "", "tracking ready")],
            "mriad.launch.ray_launcher": [("RayLauncher._embed", "Ray wanted", "Ray ready")],
        }

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in self.left:
            return None
        import importlib.util

        wanted = self.left.pop(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            for function, before, after in wanted:
                _wrap(name, function, self.mark, before, after)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def once(launcher: str) -> dict[str, float]:
    """Start a run in a fresh folder; return seconds since the command by mark."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        chosen = experiment("start", patch=[16] * 3, features=[8, 16], steps=3, size=32)
        (folder / "x.yaml").write_text(json.dumps(chosen))  # JSON is YAML
        marks = folder / "marks.jsonl"
        command = [sys.executable, __file__, "child", "train", str(folder / "x.yaml")]
        command += ["--launcher", launcher, "--runs", str(folder / "runs")]
        began, cpu = time.time(), 0.0
        with (folder / "log").open("w") as log:
            run = subprocess.Popen(
                command, env=environment(MRIAD_BENCH_MARKS=str(marks)), stdout=log, stderr=log, cwd=folder
            )
            while run.poll() is None:
                if not cpu and marks.exists() and '"step 0 began"' in marks.read_text():
                    cpu = sum(descendants(run.pid).values())
                time.sleep(0.1)
        ended = time.time()
        if run.returncode:
            sys.exit((folder / "log").read_text())
        rows = [json.loads(line) for line in marks.read_text().splitlines()]
        found: dict[str, float] = {}
        worker = next(r["pid"] for r in rows if r["name"] == "learner built")
        for row in rows:
            name = row["name"]
            if name == "data set built" and (row["pid"] != worker or _counted(rows, row, worker, launcher)):
                continue
            found.setdefault(name, row["time"] - began)
        stage = next((folder / "runs" / "stages").glob("*/launch.json")).parent
        found["worker began"] = (stage / "launch.json").stat().st_mtime - began
        if launcher == "ray":
            found["worker entered"] = (stage / "attempts.json").stat().st_mtime - began
        found |= {"end of the command": ended - began, "cpu": cpu}
        return found


def _counted(rows: list[dict], row: dict, worker: int, launcher: str) -> bool:
    """Inline the driver builds the data set too, to record it: only the last time before the learner counts."""
    built = [r for r in rows if r["name"] == "data set built" and r["pid"] == worker]
    learner = next(r for r in rows if r["name"] == "learner built")
    return launcher == "inline" and row is not [r for r in built if r["time"] <= learner["time"]][-1]


def main(runs: int, out: Path | None) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    once("inline")  # bytecode, the disk's cache
    for _ in range(runs):
        for launcher in PARTS:
            found[launcher].append(once(launcher))
    result: dict[str, Any] = {"runs": runs, "launchers": {}, "met": True}
    for launcher, parts in PARTS.items():
        rows, before = [], [0.0] * runs
        for title, key in parts:
            at = [run[key] for run in found[launcher]]
            rows.append([title, round(median(a - b for a, b in zip(at, before, strict=True)), 2)])
            before = at
        total, steps = median(before), [r["step 1 began"] - r["step 0 began"] for r in found[launcher]]
        whole = median(run["end of the command"] for run in found[launcher])
        rows.append(["from the command to the first step", round(total, 2)])
        cpu = median(run["cpu"] for run in found[launcher])
        rows.append(["(CPU seconds of all its processes until then)", round(cpu, 2)])
        rows.append(["(the first step)", round(median(steps), 2)])
        rows.append(["(the whole command)", round(whole, 2)])
        table([f"--launcher {launcher}", "seconds, median"], rows)
        spread = f"{min(before):.1f} … {max(before):.1f}"
        print(f"to the first step in {runs} runs: {spread} s\n")
        result["launchers"][launcher] = {"parts": rows, "to_first_step": before}
        result["met"] &= total <= BOUND_S
    conclude(result, out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2:])
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    main(given.runs, given.out)
