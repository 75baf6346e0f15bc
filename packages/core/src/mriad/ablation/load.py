"""From a file to an ablation: every fault with its line, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mriad.ablation.model import RESERVED, Ablation
from mriad.errors import ExperimentError
from mriad.experiment.faults import faults_of, report
from mriad.experiment.load import expand_variables
from mriad.experiment.node import Fault, Node
from mriad.experiment.override import override
from mriad.experiment.shape import resolve_paths
from mriad.experiment.yaml_file import read_file
from mriad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.experiment.override import Assignment


@dataclass(frozen=True)
class LoadedAblation:
    """An ablation with where its values came from."""

    ablation: Ablation
    root: Node
    path: Path

    def assignments(self, variant: str) -> list[Assignment]:
        """What a variant lays on the base, with the lines of the file."""
        written = self.root.child("variants")
        node = written.child(variant) if written is not None else None
        entries = node.value if node is not None and isinstance(node.value, dict) else {}
        return [(tuple(key.split(".")), value) for key, value in entries.items() if key not in RESERVED]

    def section(self, name: str) -> list[Assignment]:
        """The entries of `budget` or `resources` as assignments to the same section of an experiment."""
        node = self.root.child(name)
        entries = node.value if node is not None and isinstance(node.value, dict) else {}
        return [((name, key), value) for key, value in entries.items()]


def load_ablation(source: Path | str, overrides: Sequence[str] = ()) -> LoadedAblation:
    """Read an ablation file, or `plugin:name` of a packaged one.

    Raises:
        ExperimentError: no such file, not YAML, or not a valid ablation; all faults in one message.
    """
    path = _find(source)
    document = read_file(path)
    faults: list[Fault] = list(document.faults)
    root, more = override(document.root, overrides)
    faults += more
    assert isinstance(root.value, dict)
    if "name" not in root.value:
        root = Node({"name": Node(path.stem, root.origin), **root.value}, root.origin)
    root = resolve_paths(expand_variables(root, faults), (Ablation,))
    try:
        ablation = Ablation.model_validate(root.plain())
    except ValidationError as error:
        faults += faults_of(error, root, Ablation)
    if faults:
        raise report(faults, source, "ablation")
    return LoadedAblation(ablation, root, path)


def is_ablation(path: Path) -> bool:
    """Whether a YAML file is an ablation and no experiment: it has `base` and `variants`.

    Raises:
        ExperimentError: it is no YAML mapping.
    """
    root = read_file(path).root
    return root.child("base") is not None and root.child("variants") is not None


def _find(source: Path | str) -> Path:
    path = Path(source).expanduser()
    if path.is_file():
        return path.absolute()
    named = registry().experiments
    if str(source) in named:
        return Path(named[str(source)][0])
    raise ExperimentError(
        "no such ablation file",
        where={"file": path},
        remedy="give a YAML file with `base:` and `variants:`; docs/how-to/ablate.md begins with one",
    )
