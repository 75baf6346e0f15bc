"""Experiments of the hard-shape learners on tiny volumes, and `python trial_setup.py JOB.json` to run one apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mriad.experiment.model import Experiment
from mriad.launch.trial import TrialOptions, run_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
JITTER = [{"type": "shapes.jitter"}]

SHAPES: dict[str, dict[str, Any]] = {
    "supervised": {"streams": {"labelled": {"batch": 2}}, "model": {"norm": "batch"}},
    "alternating": {
        "domains": ["a", "b"],
        "streams": {"source": {"batch": 2, "domain": "a"}, "target": {"batch": 2, "domain": "b"}},
        "model": {"norm": "none"},
    },
    "mean_teacher": {
        "unlabelled": 6,
        "streams": {
            "labelled": {"batch": 2},
            "unlabelled": {"batch": 2, "views": {"weak": [], "strong": JITTER}},
        },
        "model": {"norm": "batch"},
    },
    "cross_pseudo": {
        "unlabelled": 6,
        "streams": {"labelled": {"batch": 2}, "unlabelled": {"batch": 2}},
        "model": {"norm": "instance"},
    },
    "domain_norms": {
        "domains": ["a", "b"],
        "streams": {"a": {"batch": 4}, "b": {"batch": 2}},
        "model": {"norm": "domain"},
    },
}


def raw(shape: str = "supervised", steps: int = 6, persons: int = 9, **over: Any) -> dict[str, Any]:
    """An experiment as YAML would say it: trains, and evaluates where the learner makes a predictor."""
    chosen = SHAPES[shape]
    stages: dict[str, Any] = {"train": {"type": "core.train"}}
    evaluate: dict[str, Any] = {}
    if shape != "alternating":  # its networks translate; nothing of it segments alone
        stages["evaluate"] = {"type": "core.evaluate", "with": "train"}
        evaluate = {"metrics": [{"type": "shapes.overlap"}]}
    return {
        "name": shape,
        "seed": 3,
        "data": {
            "dataset": {
                "type": "shapes.blobs",
                "persons": persons,
                "domains": chosen.get("domains", ["a"]),
                "unlabelled": chosen.get("unlabelled", 0),
            },
            "labels": {"kind": "hard"},
            "split": {"type": "shapes.thirds"},
        },
        "streams": chosen["streams"],
        "augment": JITTER,
        "model": {"type": "shapes.tiny_net", **chosen["model"]},
        "loss": {"type": "shapes.cross_entropy"},
        "learner": {"type": f"shapes.{shape}"},
        "optimiser": {"type": "shapes.adam", "lr": 1e-3},
        "budget": {"steps": steps, "validate_every": 2, "checkpoint_every": 1},
        "predict": {"head": {"type": "shapes.softmax"}},
        "evaluate": evaluate,
        "stages": stages,
        **over,
    }


def experiment(shape: str = "supervised", **over: Any) -> Experiment:
    return Experiment.model_validate(raw(shape, **over))


def write_case(folder: Path, person: int, noise: float = 0.5) -> None:
    """A cube in noise as image and label files; the same arguments write the same voxels."""
    import nibabel as nib
    import numpy as np

    rng = np.random.default_rng(person)
    box = np.zeros((8, 8, 8), np.uint8)
    a, b, c = rng.integers(1, 4, 3)
    box[a : a + 4, b : b + 4, c : c + 4] = 1
    image = (2 * box + rng.normal(0, noise, box.shape)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(image, affine), folder / f"p{person:02d}.nii.gz")
    nib.save(nib.Nifti1Image(box, affine), folder / f"p{person:02d}_label.nii.gz")


def written(folder: Path, persons: int = 9, **over: Any) -> Experiment:
    """The supervised experiment on cases in files."""
    rows = ["id,person,image:image,label:hard"]
    for person in range(persons):
        write_case(folder, person)
        name = f"p{person:02d}"
        rows.append(f"{name},{name},{name}.nii.gz,{name}_label.nii.gz")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "labels.yaml").write_text("structures: {box: 1}\n")
    data = {
        "dataset": {"type": "data.manifest", "path": str(folder)},
        "labels": {"kind": "hard"},
        "split": {"type": "shapes.thirds"},
    }
    return experiment(data=data, **over)


@dataclass
class Log:
    """A reporter that remembers."""

    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def log(self, step: int, values: Any) -> None:
        self.rows.append((step, dict(values)))

    def progress(self, step: int, steps: int) -> None:
        self.steps.append(step)

    def message(self, text: str) -> None:
        self.lines.append(text)


def run(
    given: Experiment, runs: Path, log: Log | None = None, launcher: Any = "inline", tracking: str = "off"
):
    return run_trial(
        given, TrialOptions(launcher=launcher, runs=runs, tracking=tracking, reporter=log or Log())
    )


def weights(trial: Any) -> dict[str, torch.Tensor]:
    """Every tensor of what the training stage made, by network and name."""
    kept = torch.load(trial.artefacts["train"].folder / "weights.pt", weights_only=True)
    return {f"{n}.{k}": t for n, network in kept.items() for k, t in network.items()}


def state(trial: Any) -> dict[str, torch.Tensor]:
    """Every tensor of the learner's last checkpoint: all networks, optimisers and what it keeps besides."""
    folder = trial.artefacts["train"].folder.parent / "checkpoints"
    return dict(_tensors(torch.load(folder / "last.pt", weights_only=True)["learner"], ""))


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{name}/{number}")


def values(trial: Any) -> dict[str, list[tuple[int, float]]]:
    """The metrics that the run wrote down, without those of the clock."""
    from mriad.tracking.record import RunRecord

    history = RunRecord(trial.folder).history()
    return {key: points for key, points in history.items() if not key.startswith("compute/")}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference over all tensors, which must have the same names."""
    assert one.keys() == other.keys()
    assert one
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one if one[k].numel())


def start(job: dict[str, Any], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Run a trial in a process of its own; `job`: experiment, runs, and optionally launcher, limit, pace."""
    path = folder / "job.json"
    path.write_text(json.dumps(job, default=str))
    return subprocess.Popen(
        [sys.executable, str(HERE / "trial_setup.py"), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def wait_for(path: Path, pattern: str, count: int, process: subprocess.Popen[str], patience_s: float) -> None:
    """Return when `count` files match below `path`; fail where the process ends before."""
    until = time.monotonic() + patience_s
    while len(list(path.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"{pattern} did not appear"
        time.sleep(0.02)


def age_leases(runs: Path) -> None:
    """As if a minute had passed since the last sign of the owners."""
    past = time.time() - 60
    for lease in runs.rglob("lease-*.json"):
        os.utime(lease, (past, past))


def main(path: str) -> int:
    """Run the job of a file; print "Kind: message" of an error of ours and return 3."""
    from mriad.errors import MriadError

    job = json.loads(Path(path).read_text())
    if job.get("limit"):
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], resource.RLIM_INFINITY))
    try:
        run(Experiment.model_validate(job["experiment"]), job["runs"], launcher=job.get("launcher", "inline"))
    except MriadError as error:
        print(f"{type(error).__name__}: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
