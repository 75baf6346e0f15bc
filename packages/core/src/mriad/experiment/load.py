"""From a file or a name to an experiment: `extends:`, `--set`, environment variables, paths, validation.

In strings `${NAME}` is the environment variable, `${NAME:-default}` has a default, and `$${` is a
literal `${`.
Relative paths are relative to the file that they are written in; see `mriad.experiment.shape.resolve_paths`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mriad.errors import ExperimentError
from mriad.experiment.faults import faults_of, graph_faults, report, suggestion
from mriad.experiment.merge import merge
from mriad.experiment.model import Experiment
from mriad.experiment.node import Fault, Node
from mriad.experiment.override import assign, override
from mriad.experiment.shape import resolve_paths
from mriad.experiment.yaml_file import read_file
from mriad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.experiment.node import KeyPath, Origin
    from mriad.experiment.override import Assignment

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*:[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(
    r"\$(?P<literal>\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}|\$\{"
)


@dataclass(frozen=True)
class Loaded:
    """An experiment with where its values came from."""

    experiment: Experiment
    root: Node
    """The merged tree, variables and paths resolved."""
    source: Path
    """The file that was asked for."""

    @property
    def tree(self) -> dict[str, Any]:
        """What was written, merged, as plain values; defaults are not in it."""
        return self.root.plain_mapping()

    @property
    def origins(self) -> dict[KeyPath, Origin]:
        """The origin of every value that was written, by path."""
        return {path: node.origin for path, node in self.root.walk() if path}

    def origin(self, path: KeyPath) -> Origin | None:
        """Where the value at a path of the dumped experiment was written; None for a default."""
        node: Node | None = self.root
        for depth, key in enumerate(path):
            assert node is not None
            inside = node.child(key)
            if inside is None:
                # `loss: standard.mse` is dumped as {type: standard.mse}, `labels: soft` as {kind: soft}.
                short = depth == len(path) - 1 and key in ("type", "kind") and isinstance(node.value, str)
                return node.origin if short else None
            node = inside
        return node.origin if node is not None else None


def load(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file, or by the name `plugin:name` that a plugin gave it.

    Args:
        source: a path or a name.
        overrides: texts `a.b=value`; values are YAML, `a.0.b` reaches into a list.

    Raises:
        ExperimentError: no such file or name, not YAML, or not a valid experiment; all faults in one message.
    """
    return load_located(source, overrides).experiment


def load_located(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    laid: Sequence[Assignment] = (),
    folder: Path | None = None,
) -> Loaded:
    """`load`, with the origin of each value.

    Args:
        source: as for `load`.
        overrides: as for `load`.
        laid: values of another file, such as a variant of an ablation; they are laid on before `overrides`.
        folder: what a relative `source` is relative to.

    Raises:
        ExperimentError: as `load`.
    """
    path = find(source, folder)
    root, faults = _read_chain(path, ())
    root, more = assign(root, laid)
    faults += more
    root, more = override(root, overrides)
    faults += more
    root = resolve_paths(_expand(root, (), faults))
    try:
        experiment = Experiment.model_validate(root.plain())
    except ValidationError as error:
        # What already has a fault of its own (an unset variable, a duplicate key) need not be named twice.
        known = {fault.path for fault in faults if fault.path}
        faults += [fault for fault in faults_of(error, root) if fault.path not in known]
    else:
        faults += graph_faults(experiment, root)
    if faults:
        raise report(faults, source)
    return Loaded(experiment, root, path)


def find(source: str | Path, folder: Path | None = None) -> Path:
    """The file of an experiment.

    Args:
        source: a path, or `plugin:name`.
        folder: what a relative path is relative to; default: the working directory.

    Raises:
        ExperimentError: there is no such file or name.
    """
    path = Path(source).expanduser()
    path = folder / path if folder is not None else path
    if path.is_file():
        return path
    if isinstance(source, str) and _NAME.fullmatch(source):
        named = registry().experiments
        if source in named:
            return named[source][0]
        plugin = source.partition(":")[0]
        installed = plugin in registry().plugins() or any(n.startswith(f"{plugin}:") for n in named)
        hint = suggestion(source, sorted(named))
        raise ExperimentError(
            f"no plugin offers the experiment '{source}'",
            where={"hint": hint} if hint else {},
            remedy="mriad plugins list" if installed else f"pip install mriad-{plugin}",
        )
    beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    hint = suggestion(path.name, beside[:20])
    raise ExperimentError(
        "no such experiment file" if not path.is_dir() else "this is a folder, not an experiment file",
        where={"file": path, **({"in the folder": hint} if hint else {})},
        remedy="give a YAML file or `plugin:name`; `mriad init FOLDER` writes an experiment for a data set",
    )


def _read_chain(path: Path, below: tuple[Path, ...]) -> tuple[Node, list[Fault]]:
    """Read a file and what it extends; `below` are the files that led here."""
    if path.resolve() in [p.resolve() for p in below]:
        raise ExperimentError(
            "experiments extend each other in a circle",
            where={"chain": " → ".join(str(p) for p in (*below, path))},
            remedy="take `extends:` out of one of them",
        )
    document = read_file(path)
    faults = document.faults
    assert isinstance(document.root.value, dict)
    over = Node({k: v for k, v in document.root.value.items() if k != "extends"}, document.root.origin)
    parent = document.root.value.get("extends")
    if parent is None:
        return over, faults
    parent = _expand(parent, ("extends",), faults)
    if not isinstance(parent.value, str):
        faults.append(Fault(parent.origin, ("extends",), "should be a file or `plugin:name`"))
        return over, faults
    try:
        found = find(parent.value, path.parent)
    except ExperimentError as error:
        error.where = {"extended in": parent.origin, **error.where}
        raise
    base, more = _read_chain(found, (*below, path))
    return merge(base, over), more + faults


def expand_variables(root: Node, faults: list[Fault]) -> Node:
    """Replace environment variables in every string of a tree; what is not set joins the faults."""
    return _expand(root, (), faults)


def _expand(node: Node, path: KeyPath, faults: list[Fault]) -> Node:
    """Replace environment variables in every string of a tree."""
    if isinstance(node.value, dict):
        return Node({k: _expand(v, (*path, k), faults) for k, v in node.value.items()}, node.origin)
    if isinstance(node.value, list):
        return Node([_expand(v, (*path, i), faults) for i, v in enumerate(node.value)], node.origin)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node

    def value_of(found: re.Match[str]) -> str:
        name = found["name"]
        if found["literal"]:
            return "${"
        if name is None:
            faults.append(
                Fault(node.origin, path, "'${' begins no variable: write ${NAME}, or $${ for itself")
            )
            return found[0]
        value = os.environ.get(name) or found["default"]
        if value is None:
            faults.append(
                Fault(
                    node.origin,
                    path,
                    f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}",
                )
            )
            return found[0]
        return value

    return Node(_VARIABLE.sub(value_of, node.value), node.origin)
