"""How long the training loop waits for its batches when the store is warm.

Run by hand: `python tests/benchmarks/bench_data.py`. One process on one CPU core (where the system can pin it) with
one torch thread and no loader processes trains on volumes of 192³ voxels that lie in `data.store`: two patches of
64 × 96 × 96 voxels a step, augmented by `standard.augment`. The figure is the loop's own: seconds in `next(batches)`
of the seconds of the loop; the first step is in it. Drawing (read, cut, collate) and augmentation, which runs on
the device and so on the same core here, are listed apart. Bound: 5 % with a U-Net of nnU-Net's width and
nnU-Net's augmentation probabilities; a smaller network and augmentation of every sample show where it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_setup import NNUNET, conclude, environment, experiment, table

PATCH = (64, 96, 96)
BOUND = 0.05
ALWAYS = {name: 1.0 if name.endswith("_probability") else value for name, value in NNUNET.items()}
VARIANTS: dict[str, dict[str, Any]] = {
    "nnU-Net's width, nnU-Net's augmentation": {"features": [32, 64, 128, 256, 320], "augment": NNUNET},
    "nnU-Net's width, every sample augmented": {"features": [32, 64, 128, 256, 320], "augment": ALWAYS},
    "a quarter of the width, every sample augmented": {"features": [8, 16, 32, 64, 80], "augment": ALWAYS},
}


def child(folder: Path) -> None:
    """One variant: fill the store, then train; print the figures."""
    import torch

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    from mriad.experiment.model import Experiment
    from mriad.launch.trial import TrialOptions, run_trial
    from mriad.training.streams import Stream, StreamSet

    spent = {"draw": 0.0, "finish": 0.0, "draw_cpu": 0.0, "finish_cpu": 0.0}

    def timed(owner: type, name: str, key: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any) -> Any:
            began, cpu = time.perf_counter(), time.process_time()
            result = function(*args)
            spent[key] += time.perf_counter() - began
            spent[f"{key}_cpu"] += time.process_time() - cpu
            return result

        setattr(owner, name, call)

    timed(Stream, "draw", "draw")
    timed(StreamSet, "_finish", "finish")
    raw = json.loads((folder / "experiment.json").read_text())
    options = TrialOptions(runs=folder.parent / "runs", tracking="off")
    warm = {**raw, "name": "warm", "budget": {**raw["budget"], "steps": 1, "validate_every": 1}}
    warm["model"] = {**raw["model"], "features": [2, 4]}
    run_trial(Experiment.model_validate(warm), options)  # fills the store
    spent.update(dict.fromkeys(spent, 0.0))
    cpu = time.process_time()
    made = run_trial(Experiment.model_validate(raw), options).artefacts["train"].summary
    seconds, steps = float(made["seconds"]), int(made["steps"])
    row = {
        "waiting_fraction": float(made["waiting_seconds"]) / seconds,
        "step_s": (seconds - float(made["waiting_seconds"])) / steps,
        "draw_s": spent["draw"] / steps,
        "augment_s": spent["finish"] / steps,
        "waiting_fraction_cpu": (spent["draw_cpu"] + spent["finish_cpu"]) / (time.process_time() - cpu),
    }
    print(json.dumps(row))


def main(steps: int, size: int, out: Path | None) -> None:
    rows: list[list[object]] = []
    result: dict[str, Any] = {"steps": steps, "size": size, "variants": {}}
    with tempfile.TemporaryDirectory() as place:
        for number, (title, variant) in enumerate(VARIANTS.items()):
            folder = Path(place) / str(number)
            folder.mkdir()
            chosen = experiment(f"data{number}", patch=PATCH, steps=steps, size=size, **variant)
            (folder / "experiment.json").write_text(json.dumps(chosen))
            command = [sys.executable, __file__, "child", str(folder)]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            row = json.loads(done.stdout.splitlines()[-1])
            result["variants"][title] = row
            waits = f"{100 * row['waiting_fraction']:.2f} %"
            times = [f"{row[k]:.3f} s" for k in ("step_s", "draw_s", "augment_s")]
            rows.append([title, waits, f"{100 * row['waiting_fraction_cpu']:.2f} %", *times])
    table(["", "waiting", "by CPU time", "step", "drawing", "augmentation"], rows)
    result["met"] = next(iter(result["variants"].values()))["waiting_fraction"] < BOUND
    conclude(result, out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(Path(sys.argv[2]))
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=192, help="voxels a side of the volumes")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    main(given.steps, given.size, given.out)
