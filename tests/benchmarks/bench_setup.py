"""What the benchmarks share: environment, experiments, a table, a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PLUGIN = Path(__file__).parent / "plugin"


def environment(**more: str) -> dict[str, str]:
    """The environment of a measured process: one thread, the benchmarks' plugin on the path."""
    path = os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH", "")]))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MRIAD_", "PYTHONDONTWRITE"))}
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **more}


def experiment(
    name: str,
    *,
    patch: Sequence[int],
    features: Sequence[int],
    steps: int,
    size: int,
    persons: int = 10,
    report_every: int = 0,
    augment: dict[str, Any] | None = None,
    learner: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A supervised run on noise volumes of size³ voxels, two patches a step; nothing is validated."""
    return {
        "name": name,
        "data": {
            "dataset": {"type": "bench.volumes", "persons": persons, "size": size},
            "labels": "hard",
            "split": {"type": "data.random_split", "validation": 1, "test": 1},
            "preprocessing": [{"type": "data.orient", "axes": "RAS"}, {"type": "data.z_score"}],
        },
        "streams": {
            "labelled": {
                "batch": 2,
                "sampler": {"type": "data.patch", "size": list(patch), "foreground": 0.5},
            }
        },
        "augment": [{"type": "standard.augment", **augment}] if augment else [],
        "model": {"type": "standard.plain_unet", "features": list(features)},
        "loss": {"type": "standard.dice_ce"},
        "learner": {"type": "bench.paced", **(learner or {})},
        "budget": {"steps": steps, "validate_every": report_every or steps, "checkpoint_every": steps},
        "predict": {"head": {"type": "standard.softmax"}, "window": list(patch)},
        "stages": {"train": {"type": "core.train"}},
    }


NNUNET = {
    "flip_probability": 0.5,
    "affine_probability": 0.36,
    "rotation_deg": [30, 30, 30],
    "scale": [0.7, 1.4],
    "gamma_probability": 0.3,
    "gamma": [0.7, 1.5],
    "scaling_probability": 0.15,
    "noise_probability": 0.1,
}
"""About as often as nnU-Net's default: rotation 0.2, scale 0.2 → an affine in 1 − 0.8² of the samples."""


def machine() -> str:
    """Cores, load and versions in one line."""
    found = [f"{name} {metadata.version(name)}" for name in ("torch", "ray", "mlflow")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = "/".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{cores} CPU cores, load {load}, Python {platform.python_version()}, " + ", ".join(found)


def descendants(root: int) -> dict[int, float]:
    """CPU seconds so far of a process and all below it, by process id (Linux)."""
    parents, seconds = {}, {}
    tick = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid], seconds[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: seconds[pid] for pid in found if pid in seconds}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns."""
    text = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in text) for i in range(len(head))]
    for row in text:
        print("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip())


def conclude(result: dict[str, Any], out: Path | None) -> None:
    """Print where it was measured; write the figures where a file is named; exit 1 where a target is missed."""
    print(machine())
    if out is not None:
        out.write_text(json.dumps({**result, "machine": machine()}, indent=1) + "\n")
    sys.exit(0 if result["met"] else 1)
