"""`mriad doctor`: is this installation and machine fit to run mriad?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mriad.atomic import atomic_file
from mriad.cli.next_step import next_step
from mriad.errors import StorageError
from mriad.memory import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "note", "FAIL"]
LIBRARIES = ("torch", "numpy", "nibabel", "pydantic", "ray", "mlflow", "monai", "torchio")
LITTLE_MEMORY_GIB = 6
"""What `mriad quickstart` may use."""
LITTLE_DISK_GIB = 5


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: State
    what: str
    value: str


def doctor(
    runs: Annotated[
        Path | None, typer.Option(help="Runs root to check. [default: ./mriad-runs]", show_default=False)
    ] = None,
) -> None:
    """Check versions, cores, memory, GPU, whether runs can be written, and plugins. Exit 1 if something fails.

    Example: mriad doctor
    """
    findings = [*versions(), *machine(), *gpu(), *place(runs), *plugins()]
    width = max(len(f.what) for f in findings)
    for finding in findings:
        typer.echo(f"{finding.state:<4}  {finding.what:<{width}}  {finding.value}")
    failed = [f for f in findings if f.state == "FAIL"]
    if failed:
        typer.echo(f"\n{len(failed)} of {len(findings)} checks failed: {', '.join(f.what for f in failed)}")
        raise typer.Exit(1)
    next_step("mriad quickstart", "trains and tracks a small experiment")


def versions() -> Iterator[Finding]:
    """Python, our distributions and the libraries that matter; nothing is imported."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    ours = sorted(
        {d.metadata["Name"] for d in metadata.distributions() if d.metadata["Name"].startswith("mriad")}
    )
    for name in (*ours, *LIBRARIES):
        try:
            yield Finding("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            needed = name not in ("monai", "torchio")
            yield Finding("FAIL" if needed else "note", name, f"not installed; pip install {name}")


def machine() -> Iterator[Finding]:
    """Cores, threads and memory that this process may use."""
    from mriad.launch.protocol import visible_cpus

    cores, all_cores = visible_cpus(), os.cpu_count() or 1
    yield Finding("ok", "cores", str(cores) if cores == all_cores else f"{cores} of {all_cores}")
    if "OMP_NUM_THREADS" in os.environ:
        yield Finding("note", "threads", f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} is set")
    total = memory_bytes()
    if total is not None:
        gib = total / 2**30
        little = gib < LITTLE_MEMORY_GIB
        yield Finding(
            "note" if little else "ok", "memory", f"{gib:.1f} GiB" + (" is little" if little else "")
        )


def gpu() -> Iterator[Finding]:
    """CUDA devices as torch sees them."""
    try:
        import torch
    except ImportError as error:
        yield Finding("FAIL", "gpu", f"torch cannot be imported: {error}")
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda
        yield Finding(
            "note", "gpu", f"none; torch {f'is built for CUDA {built}' if built else 'is the CPU build'}"
        )
        return
    for index in range(torch.cuda.device_count()):
        info = torch.cuda.get_device_properties(index)
        text = f"{info.name}, {info.total_memory / 2**30:.0f} GiB, "
        yield Finding("ok", f"gpu {index}", text + ("bf16" if torch.cuda.is_bf16_supported() else "no bf16"))


def place(runs: Path | None) -> Iterator[Finding]:
    """Whether the runs root can be written and has room; it is not made."""
    from mriad.launch.files import runs_root

    root = runs_root(runs).path
    existing = next((p for p in (root, *root.parents) if p.exists()), Path("/"))
    try:
        with atomic_file(existing / ".mriad-doctor") as temporary:
            temporary.write_bytes(b"mriad")
        (existing / ".mriad-doctor").unlink()
    except StorageError as error:
        yield Finding("FAIL", "runs", f"{root} {str(error).splitlines()[0]}")
        return
    yield Finding("ok", "runs", f"{root} can be written")
    free = shutil.disk_usage(existing).free / 2**30
    yield Finding("note" if free < LITTLE_DISK_GIB else "ok", "disk", f"{free:.0f} GiB free")


def plugins() -> Iterator[Finding]:
    """Plugins in use, and those that are broken."""
    from mriad.plugins import discover

    found = discover()
    yield Finding("ok", "plugins", ", ".join(p.name for p in found.loaded) or "none")
    for broken in found.broken:
        what = f"{broken.distribution} {broken.version}: {str(broken.error).splitlines()[0]}"
        yield Finding("note", f"plugin {broken.name}", f"broken, {what}; see: mriad plugins doctor")
    if sys.flags.dont_write_bytecode or os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding("note", "bytecode", "is not written: each process compiles, so Ray starts slowly")
