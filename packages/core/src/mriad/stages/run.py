"""Running a graph: each stage once, in its own folder; skipped when done, resumed when it was cut off."""

from __future__ import annotations

import json
import re
import time
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, get_args

from mriad.atomic import atomic_file, storing
from mriad.errors import LaunchError, MriadError, StageError
from mriad.identity import short
from mriad.stages.artefact import Artefact, ArtefactKind, StageContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mriad.launch.protocol import Launcher
    from mriad.stages.graph import Graph, Node
    from mriad.training.protocols import Reporter

    Guard = Callable[[Path], AbstractContextManager[Any]]

DONE = "done.json"
FORMAT = 1


def stage_folder(runs: Path, name: str, fingerprint: str) -> Path:
    """Where a stage works: RUNS/stages/NAME-FINGERPRINT, with the first 12 digits."""
    return runs / "stages" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{short(fingerprint)}"


def read_done(folder: Path, fingerprint: str) -> Artefact | None:
    """Return what a finished stage made, or None where it has not finished.

    Raises:
        StageError: the record is damaged, belongs to another fingerprint, or what it names is gone.
    """
    path = folder / DONE
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    remedy = f"remove the folder {folder}; the stage is then run again"
    try:
        record = json.loads(text)
        kind, found = record["kind"], record["fingerprint"]
        made = (folder / record["folder"]).resolve()
        sound = record["format"] == FORMAT and kind in get_args(ArtefactKind)
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            "the record of a finished stage is damaged", where={"file": path}, remedy=remedy
        ) from error
    if not sound or found != fingerprint:
        where = {"file": path, "expected": fingerprint, "found": found}
        raise StageError("the record of a finished stage is another stage's", where=where, remedy=remedy)
    if not made.is_dir():
        raise StageError("what a finished stage made is gone", where={"folder": made}, remedy=remedy)
    return Artefact(kind, made, found, record.get("summary", {}))


def run_graph(
    graph: Graph,
    *,
    fingerprints: Mapping[str, str],
    runs: Path,
    reporter: Reporter,
    launcher: Launcher,
    only: str = "",
    guard: Guard | None = None,
    poll_s: float = 1.0,
) -> dict[str, Artefact]:
    """Run the stages in order and return what each made, by name.

    Args:
        graph: as `expand` gives it.
        fingerprints: of each node.
        runs: root of all runs; stages of all experiments share its folder `stages`.
        reporter: given to each stage; also told what is skipped, resumed and waited for.
        launcher: given to each stage.
        only: run this stage and what it needs, not the rest.
        guard: makes the lease on a folder; default `mriad.launch.lease.Lease`. Entering it raises LaunchError
            while another live process has it.
        poll_s: seconds between looks at a stage that another process runs.

    Raises:
        MriadError: a stage failed; its name and folder are in the message. What was finished stays finished.
    """
    wanted = graph.upstream(only) | {only} if only else set(graph.nodes)
    made: dict[str, Artefact] = {}
    for node in graph:
        if node.name in wanted:
            made[node.name] = run_stage(
                node,
                inputs={written: made[name] for written, name in node.inputs.items()},
                fingerprint=fingerprints[node.name],
                runs=runs,
                reporter=reporter,
                launcher=launcher,
                guard=guard,
                poll_s=poll_s,
            )
    return made


def run_stage(
    node: Node,
    *,
    inputs: Mapping[str, Artefact],
    fingerprint: str,
    runs: Path,
    reporter: Reporter,
    launcher: Launcher,
    guard: Guard | None = None,
    poll_s: float = 1.0,
) -> Artefact:
    """Run one stage, unless it is done; wait while another process runs it. Arguments as for `run_graph`.

    Raises:
        MriadError: the stage failed; its name and folder are in the message.
    """
    folder = stage_folder(runs, node.name, fingerprint)
    # Done before: asked without the lease, so that a finished store may be read-only.
    done = read_done(folder, fingerprint)
    if done is not None:
        reporter.message(f"stage '{node.name}' was done before, skipped ({folder})")
        return done
    with storing(folder):
        resumed = folder.is_dir() and any(folder.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        lease = _wait(folder, fingerprint, node.name, reporter, guard or _lease, poll_s)
        if isinstance(lease, Artefact):
            return lease
        held.push(lease.__exit__)
        done = read_done(folder, fingerprint)  # it may have ended between the first look and the lease
        if done is not None:
            reporter.message(f"stage '{node.name}' was done by another process, skipped ({folder})")
            return done
        reporter.message(f"stage '{node.name}' {'resumes' if resumed else 'starts'} in {folder}")
        return _run(node, inputs, fingerprint, folder, reporter, launcher, lease)


def _run(
    node: Node,
    inputs: Mapping[str, Artefact],
    fingerprint: str,
    folder: Path,
    reporter: Reporter,
    launcher: Launcher,
    lease: Any,
) -> Artefact:
    context = StageContext(
        name=node.name,
        folder=folder,
        experiment=node.experiment,
        inputs=inputs,
        fold=node.experiment.fold,
        seed=node.seed,
        fingerprint=fingerprint,
        reporter=reporter,
        launcher=launcher,
        inner=node.inner,
    )
    start = time.perf_counter()
    try:
        artefact = node.stage.run(context)
        _check(node, artefact, folder)
        if hasattr(lease, "check"):
            lease.check()  # a process that slept through its lease must not call another's work done
        record = {
            "format": FORMAT,
            "name": node.name,
            "type": node.stage.type_name(),
            "kind": artefact.kind,
            "folder": artefact.folder.resolve().relative_to(folder.resolve()).as_posix(),
            "fingerprint": fingerprint,
            "inputs": {written: made.fingerprint for written, made in inputs.items()},
            "summary": dict(artefact.summary),
            "seconds": round(time.perf_counter() - start, 3),
            "ended": time.time(),
        }
        text = json.dumps(record, indent=1, allow_nan=True)
        with atomic_file(folder / DONE) as temporary:
            temporary.write_text(text, "utf-8")
    except MriadError as error:
        error.where = {"stage": node.name, **error.where, "stage folder": folder}
        raise
    except Exception as error:
        raise StageError(
            f"stage '{node.name}' failed: {type(error).__name__}: {error}",
            where={"stage": node.name, "type": node.stage.type_name(), "stage folder": folder},
            remedy="correct the cause and run the same command again: finished stages are kept",
        ) from error
    return Artefact(artefact.kind, artefact.folder, fingerprint, artefact.summary)


def _check(node: Node, artefact: Artefact, folder: Path) -> None:
    """A stage must make what it declares, inside its folder."""
    if artefact.kind != node.kind:
        raise StageError(f"{node.stage.type_name()} made a {artefact.kind}, but declares a {node.kind}")
    inside = artefact.folder.resolve()
    if not inside.is_dir() or not (inside == folder.resolve() or folder.resolve() in inside.parents):
        raise StageError(
            f"{node.stage.type_name()} must leave its result in its own folder",
            where={"result": artefact.folder},
        )


def _lease(folder: Path) -> AbstractContextManager[Any]:
    from mriad.launch.lease import Lease

    return Lease(folder)


def _wait(
    folder: Path, fingerprint: str, name: str, reporter: Reporter, guard: Guard, poll_s: float
) -> Artefact | AbstractContextManager[Any]:
    """Enter the lease and return it; or return what the process that holds it has finished."""
    told = False
    while True:
        lease = guard(folder)
        try:
            lease.__enter__()
        except LaunchError as error:
            if not told:
                owner = error.where.get("owner", "another process")
                reporter.message(f"stage '{name}' is being run by {owner}; waiting for it ({folder})")
                told = True
            time.sleep(poll_s)
            done = read_done(folder, fingerprint)
            if done is not None:
                reporter.message(f"stage '{name}' was done by another process, skipped ({folder})")
                return done
        else:
            return lease
