"""`mriad plugins doctor`: what each plugin costs at start, what is wrong with it, and what could be better.

A fault is what a user of the plugin would stumble over; a hint is what its author may improve.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from mriad.cli.next_step import next_step
from mriad.errors import MriadError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mriad.component import Component
    from mriad.plugins import LoadedPlugin, Plugins
    from mriad.registry import Registry

HEAVY = ("torch", "monai", "torchio", "ray", "mlflow", "pandas", "matplotlib", "SimpleITK", "scipy")
"""Libraries that cost a start-up its speed; `build` imports them when they are needed."""
_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_]\w*)\}")
_TIMEOUT_S = 120


@dataclass
class Report:
    """What was found about one plugin."""

    plugin: str
    distribution: str
    version: str
    import_seconds: float | None = None
    """To import and register it in a fresh process in which mriad's own interfaces are imported; None: unknown."""
    heavy: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def doctor(
    name: Annotated[str | None, typer.Argument(help="One plugin. [default: all]", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check the plugins: seconds to import, heavy libraries, faults, hints. Exit 1 if there is a fault.

    `mriad plugins doctor --debug` shows the traceback of what broke.

    Example: mriad plugins doctor standard
    """
    from mriad.plugins import discover

    found = discover()
    names = {p.name for p in found.loaded} | {p.name for p in found.broken}
    if name is not None and name not in names:
        raise PluginError(
            f"no plugin is called '{name}'",
            where={"installed": ", ".join(sorted(names))},
            remedy="mriad plugins list",
        )
    reports = examine(found, name)
    if as_json:
        typer.echo(json.dumps([asdict(r) for r in reports], indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join(line for report in reports for line in render(report)))
    faults = [f for r in reports for f in r.faults]
    if faults:
        raised = [b.error for b in found.broken if name in (None, b.name)]
        raise PluginError(
            f"{len(faults)} fault{'s' * (len(faults) > 1)} in "
            + ", ".join(sorted({r.plugin for r in reports if r.faults})),
            remedy="mriad plugins doctor --debug, for tracebacks" if raised else "",
        ) from (ExceptionGroup("plugins that cannot be loaded", raised) if raised else None)
    next_step("mriad plugins show NAME", "what a plugin offers")


def render(report: Report) -> Iterator[str]:
    """The lines of one plugin."""
    seconds = "" if report.import_seconds is None else f"  imported in {report.import_seconds:.2f} s"
    heavy = f", with {', '.join(report.heavy)}" if report.heavy else ""
    state = "FAULT" if report.faults else "ok"
    yield f"{state:<6}{report.plugin}  ({report.distribution} {report.version}){seconds}{heavy}"
    for kind, texts in (("fault", report.faults), ("hint", report.hints)):
        for text in texts:
            first, *rest = text.splitlines()
            yield f"      {kind:<6}{first}"
            yield from (f"            {line}" for line in rest)


def examine(found: Plugins, only: str | None = None) -> list[Report]:
    """A report for each plugin, loaded and broken, by name."""
    from mriad.cli.commands import table

    _, taken = table(found.registry.commands.values())
    reports = []
    for loaded in found.loaded:
        if only in (None, loaded.name):
            reports.append(_examine_loaded(loaded, found.registry))
            reports[-1].faults += [text for text in taken if f"'{loaded.name}'" in text]
    for broken in found.broken:
        if only in (None, broken.name):
            report = Report(broken.name, broken.distribution, broken.version)
            report.faults.append("\n".join(["it is not loaded:", *causes(broken.error)]))
            reports.append(report)
    return sorted(reports, key=lambda r: (r.plugin, r.distribution))


def _examine_loaded(plugin: LoadedPlugin, registry: Registry) -> Report:
    report = Report(plugin.name, plugin.distribution, plugin.version)
    measured = measure(plugin.name)
    if isinstance(measured, str):
        report.faults.append(measured)
    else:
        report.import_seconds, report.heavy = measured["seconds"], measured["heavy"]
    if report.heavy:
        report.hints.append(
            f"registering it imports {', '.join(report.heavy)}: import them where `build` needs them, "
            "or every start of mriad waits"
        )
    if not hasattr(plugin.module, "MRIAD_API"):
        report.hints.append("it does not say which plugin API it was written for: MRIAD_API = 1")
    for known in registry.components.values():
        for entry in known.values():
            if entry.plugin == plugin.name:
                report.faults += component_faults(entry.component)
                report.hints += component_hints(entry.component)
    report.faults += _experiment_faults(plugin.name, registry)
    report.faults += _command_faults(plugin.name, registry)
    return report


def causes(error: BaseException) -> list[str]:
    """An error and what caused it, innermost last, in lines for a person."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None:
        kind = "" if isinstance(current, MriadError) else f"{type(current).__name__}: "
        lines += f"{'because of ' if lines else ''}{kind}{current}".splitlines()
        following = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        current = following
    return lines


def component_faults(component: type[Component]) -> list[str]:
    """What users of a component would stumble over: its name, schema, defaults, or a method that is missing."""
    name = component.type_name()
    faults = []
    if not _TYPE.fullmatch(name):
        faults.append(f"{name}: a type is made of small letters, digits and underscores, as in plugin.name")
    faults += [f"{name}: {missing} is not implemented" for missing in _not_implemented(component)]
    try:
        component.model_json_schema()
    except Exception as error:  # any guest may raise anything
        faults.append("\n".join([f"{name}: it has no JSON Schema:", *causes(error)]))
    if any(f.is_required() for n, f in component.model_fields.items() if n != "type"):
        return faults
    try:
        made = component()
        if type(made).model_validate(made.model_dump(mode="json")) != made:
            faults.append(f"{name}: its defaults change when they are written down and read again")
    except ValidationError as error:
        # A validator of the whole model may ask for one of several fields; a default that its own field refuses
        # is a mistake.
        if any(line["loc"] for line in error.errors()):
            faults.append("\n".join([f"{name}: it cannot be made with its own defaults:", *causes(error)]))
    except Exception as error:  # any guest may raise anything
        faults.append("\n".join([f"{name}: it cannot be made with its own defaults:", *causes(error)]))
    return faults


def component_hints(component: type[Component]) -> list[str]:
    """What would help readers of `mriad plugins show` and of an editor's completion."""
    name, hints = component.type_name(), []
    if not component.__dict__.get("__doc__"):
        hints.append(f"{name}: the class has no docstring")
    bare = [n for n, f in component.model_fields.items() if n != "type" and not f.description]
    if bare:
        hints.append(f"{name}: no description of {', '.join(bare)}; Field(..., description=...)")
    return hints


def _not_implemented(component: type[Component]) -> Iterator[str]:
    """Methods that the interface leaves to its components and this one has not."""
    from mriad.interfaces import interface_named

    base = interface_named(component.interface)
    for name, member in vars(base).items():
        function = member.fget if isinstance(member, property) else member
        code = getattr(function, "__code__", None)
        if code is not None and "NotImplementedError" in code.co_names and getattr(component, name) is member:
            yield name


def _experiment_faults(plugin: str, registry: Registry) -> Iterator[str]:
    from mriad.ablation.load import is_ablation, load_ablation
    from mriad.ablation.plan import resolve
    from mriad.experiment.load import load

    offered = {n: path for n, (path, _) in sorted(registry.experiments.items()) if n.startswith(f"{plugin}:")}
    with _variables_set(offered.values()):
        for name, path in offered.items():
            try:
                if is_ablation(path):
                    resolve(load_ablation(name))
                else:
                    load(name)
            except MriadError as error:
                yield "\n".join([f"experiment {name}:", *causes(error)])


@contextlib.contextmanager
def _variables_set(files: Iterable[Path]) -> Iterator[None]:
    """Give a value to variables that experiments name and that are not set: that is their user's to do."""
    texts = [path.read_text("utf-8", errors="replace") for path in files if path.is_file()]
    names = {n for text in texts for n in _VARIABLE.findall(text)} - set(os.environ)
    os.environ.update(dict.fromkeys(names, "unset"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _command_faults(plugin: str, registry: Registry) -> Iterator[str]:
    from mriad.cli.app import load
    from mriad.cli.commands import MORE, Command

    for entry in registry.commands.values():
        if entry.plugin != plugin:
            continue
        try:
            load(Command(entry.name, entry.target, entry.help, MORE, entry.distribution))
        except Exception as error:  # any guest may raise anything
            yield "\n".join([f"command {entry.name}:", *causes(error)])


def measure(plugin: str) -> dict[str, Any] | str:
    """Import and register one plugin in a fresh process: its seconds and heavy libraries, or what went wrong."""
    code = "import sys; from mriad.cli.plugin_doctor import probe; probe(sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, plugin],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it takes more than {_TIMEOUT_S} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"importing it in a fresh process fails: {lines[-1] if lines else f'exit {done.returncode}'}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def probe(plugin: str) -> None:
    """Runs in the fresh process: print a line of JSON."""
    import importlib
    import time

    from mriad import plugins

    importlib.import_module("mriad.interfaces")  # every plugin needs them: they are not its cost
    before = set(sys.modules)
    found = [c for c in plugins.candidates() if c.name == plugin]
    start = time.perf_counter()
    outcome = plugins.discover(found)
    seconds = time.perf_counter() - start
    if outcome.broken:
        print("\n".join(causes(outcome.broken[0].error)), file=sys.stderr)
        sys.exit(1)
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(json.dumps({"seconds": seconds, "heavy": [h for h in HEAVY if h in new]}))
