"""Trains an experiment in a process where no top-level name is found but the standard library's, ours, and those of
the allowed distributions and their requirements; run by `test_inline_needs_little`.

Arguments: the experiment's YAML file, the runs folder. Prints a line of JSON.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata

ALLOWED = ["torch", "numpy", "scipy", "pydantic", "pluggy", "nibabel", "ruamel.yaml"]
OURS = {"mriad", "mriad_data", "mriad_shapes"}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def with_requirements(names):
    found, waiting = set(), [plain(n) for n in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [plain(re.match(r"[A-Za-z0-9._-]+", n).group()) for n in needs if "extra ==" not in n]
    return found


owned = with_requirements(ALLOWED)
roots = {
    module
    for module, owners in metadata.packages_distributions().items()
    if any(plain(owner) in owned for owner in owners)
}
refused = []


class Guard:
    """Stands before the real finders; what it refuses looks as if it were not installed."""

    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        standard = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        if not (standard or top in OURS or top in roots):
            refused.append(name)
            return None
        return next((s for f in self.finders if (s := f.find_spec(name, path, target)) is not None), None)

    def find_distributions(self, *arguments):
        for finder in self.finders:
            if hasattr(finder, "find_distributions"):
                yield from finder.find_distributions(*arguments)


sys.meta_path[:] = [Guard(list(sys.meta_path))]
before = {n.partition(".")[0] for n in sys.modules}

import mriad  # noqa: E402 (guarded)

experiment = mriad.Experiment.load(sys.argv[1])
run = mriad.train(experiment, runs=sys.argv[2], tracking="off")
known = before | OURS | roots | set(sys.stdlib_module_names)
# Some compiled extensions make a module out of nothing; what was imported has a file.
loaded = {n.partition(".")[0] for n, m in sys.modules.items() if getattr(m, "__file__", None)} - known
print(
    json.dumps(
        {
            "metrics": [row.metric for row in run.summary],
            "steps": run.artefacts["train"].summary["steps"],
            "refused": sorted(set(refused)),
            "loaded": sorted(n for n in loaded if not n.startswith("_")),
            "roots": sorted(roots),
        }
    )
)
