"""`mriad plugins`: what is installed, and what each plugin and component offers."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mriad.cli.next_step import next_step
from mriad.cli.plugin_doctor import doctor
from mriad.cli.plugin_scaffold import new
from mriad.errors import PluginError
from mriad.plugins import discover
from mriad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mriad.component import Component
    from mriad.plugins import LoadedPlugin

app = typer.Typer(add_completion=False, help="List, show, check and begin plugins.")
app.command()(doctor)
app.command()(new)


@app.command("list")
def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the plugins and how many components of each interface they offer.

    Example: mriad plugins list
    """
    found = discover()
    rows: list[dict[str, Any]] = [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "components": _counts(plugin.name),
            "experiments": sum(n.startswith(f"{plugin.name}:") for n in found.registry.experiments),
            "commands": sorted(c.name for c in found.registry.commands.values() if c.plugin == plugin.name),
        }
        for plugin in found.loaded
    ]
    broken = [
        {"plugin": b.name, "distribution": b.distribution, "version": b.version, "error": str(b.error)}
        for b in found.broken
    ]
    if as_json:
        typer.echo(json.dumps({"loaded": rows, "broken": broken}, indent=1))
        return
    table = [("plugin", "distribution", "version", "offers")]
    table += [(r["plugin"], r["distribution"], r["version"], _offers(r)) for r in rows]
    table += [
        (b["plugin"], b["distribution"], b["version"], f"BROKEN: {b['error'].splitlines()[0]}")
        for b in broken
    ]
    typer.echo("\n".join(columns(table)))
    next_step("mriad plugins doctor" if broken else "mriad plugins show NAME", "a plugin or a component")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin, or a component's type.", show_default=False)],
) -> None:
    """Show what a plugin offers, or the fields of a component.

    Examples: mriad plugins show standard, mriad plugins show standard.dice_ce
    """
    components = [
        (interface, known[name].component)
        for interface, known in registry().components.items()
        if name in known
    ]
    plugin = next((p for p in discover().loaded if p.name == name), None)
    if components:
        for interface, component in components:
            typer.echo("\n".join(_describe_component(interface, component)))
        next_step("mriad schema --out schema.json", "for completion in an editor")
    elif plugin is not None:
        typer.echo("\n".join(_describe_plugin(plugin)))
        next_step("mriad plugins show TYPE", "the fields of a component")
    else:
        raise _unknown(name)


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Rows of text with aligned columns, two spaces apart."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))] if rows else []
    return [
        indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _counts(plugin: str) -> dict[str, int]:
    counts = {
        interface: sum(entry.plugin == plugin for entry in known.values())
        for interface, known in registry().components.items()
    }
    return {interface: n for interface, n in counts.items() if n}


def _offers(row: dict[str, Any]) -> str:
    parts = [f"{n} {interface}" for interface, n in row["components"].items()]
    if row["experiments"]:
        parts.append(f"{row['experiments']} experiments")
    if row["commands"]:
        parts.append(f"commands {', '.join(row['commands'])}")
    return ", ".join(parts) or "nothing"


def _describe_plugin(plugin: LoadedPlugin) -> Iterable[str]:
    known = registry()
    yield f"{plugin.name}  from {plugin.distribution} {plugin.version}"
    yield from columns(
        [("module", plugin.module.__name__), ("imported in", f"{plugin.import_seconds * 1e3:.0f} ms")], "  "
    )
    rows = [
        (interface, name, _first_line(entry.component))
        for interface, entries in known.components.items()
        for name, entry in sorted(entries.items())
        if entry.plugin == plugin.name
    ]
    experiments = sorted(n for n in known.experiments if n.startswith(f"{plugin.name}:"))
    commands = sorted(c.name for c in known.commands.values() if c.plugin == plugin.name)
    rows += [("experiment", name, str(known.experiments[name][0])) for name in experiments]
    rows += [("command", f"mriad {name}", known.commands[name].help) for name in commands]
    yield from columns(rows, "  ")


def _describe_component(interface: str, component: type[Component]) -> Iterable[str]:
    yield f"{component.type_name()}  ({interface}, {component.__module__}.{component.__qualname__})"
    yield ""
    yield from (f"  {line}".rstrip() for line in inspect.getdoc(component).splitlines())  # type: ignore[union-attr]
    yield ""
    rows = [
        (
            field.alias or name,
            "required" if field.is_required() else repr(field.get_default(call_default_factory=True)),
            inspect.formatannotation(field.annotation).replace("typing.", ""),
            field.description or "",
        )
        for name, field in component.model_fields.items()
        if name != "type"
    ]
    yield from columns([("field", "default", "type", "meaning"), *rows], "  ") if rows else ["  no fields"]


def _first_line(component: type[Component]) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _unknown(name: str) -> PluginError:
    found = discover()
    broken = next((b for b in found.broken if b.name == name), None)
    if broken is not None:
        return PluginError(
            f"plugin '{name}' cannot be loaded",
            where={"distribution": f"{broken.distribution} {broken.version}", "error": broken.error},
            remedy="mriad plugins doctor",
        )
    import difflib

    types = [t for known in found.registry.components.values() for t in known]
    names = [*(p.name for p in found.loaded), *types]
    close = difflib.get_close_matches(name, names, n=1)
    return PluginError(
        f"no plugin or component is called '{name}'",
        where={"did you mean": close[0]} if close else {},
        remedy=f"mriad plugins list, or: pip install mriad-{name.partition('.')[0]}",
    )
