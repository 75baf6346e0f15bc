"""What is installed, by interface and type name."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mriad.component import Component


@dataclass(frozen=True)
class Registered:
    """A component class and the plugin and distribution that it came from."""

    component: type[Component]
    plugin: str
    distribution: str


@dataclass(frozen=True)
class CommandEntry:
    """A command of a plugin: its target "module:attribute" (a typer app or function) is imported when it is run."""

    name: str
    target: str
    help: str
    plugin: str
    distribution: str


@dataclass
class Registry:
    """Components, named experiments and commands. One claimant a name: a second is refused, both named."""

    components: dict[str, dict[str, Registered]] = field(default_factory=dict)
    experiments: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """`plugin:name` → (YAML file, distribution)."""
    commands: dict[str, CommandEntry] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Name of a plugin that is installed but could not be loaded → its distribution."""

    def add(self, component: type[Component], plugin: str, distribution: str) -> None:
        """Register one class.

        Raises:
            PluginError: no interface, no `type`, a `type` that does not begin with the plugin's name, or taken.
        """
        interface, name = component.interface, component.type_name()
        where = {"class": f"{component.__module__}.{component.__qualname__}", "plugin": plugin}
        if not interface or not name:
            raise PluginError(
                "a component needs an interface as base and a literal `type`",
                where=where,
                remedy='type: Literal["plugin.name"] = "plugin.name"',
            )
        if name.split(".")[0] != plugin or "." not in name:
            raise PluginError(
                f"type '{name}' does not begin with the plugin's name",
                where=where,
                remedy=f"call it '{plugin}.{name.rsplit('.', 1)[-1]}'",
            )
        known = self.components.setdefault(interface, {})
        if name in known and known[name].component is not component:
            raise PluginError(
                f"two plugins offer the {interface} '{name}'",
                where={"first": known[name].distribution, "second": distribution},
                remedy="uninstall one of the two distributions, or rename the component",
            )
        known[name] = Registered(component, plugin, distribution)

    def find(self, interface: str, name: str) -> type[Component] | None:
        """The class, or None."""
        found = self.components.get(interface, {}).get(name)
        return found.component if found else None

    def get(self, interface: str, name: str) -> type[Component]:
        """The class.

        Raises:
            PluginError: not installed; the nearest name or the distribution to install is named.
        """
        found = self.find(interface, name)
        if found is None:
            raise PluginError(f"no {interface} named '{name}' is installed{self.hint(interface, name)}")
        return found

    def names(self, interface: str) -> list[str]:
        """Sorted type names of an interface."""
        return sorted(self.components.get(interface, {}))

    def hint(self, interface: str, name: str) -> str:
        """What to do about an unknown name: the nearest one, or the line that installs its plugin."""
        close = difflib.get_close_matches(name, self.names(interface), n=1)
        if close:
            return f"; did you mean '{close[0]}'?"
        plugin = name.split(".")[0]
        elsewhere = [i for i, known in self.components.items() if name in known]
        if elsewhere:
            return f"; '{name}' is a {elsewhere[0]}"
        if plugin in self.broken:
            return (
                f"; plugin '{plugin}' is installed but cannot be loaded, see: mriad plugins doctor {plugin}"
            )
        if "." in name and plugin not in self.plugins():
            return f"; plugin '{plugin}' is not installed, try: pip install mriad-{plugin}"
        return f"; installed: {', '.join(self.names(interface)) or 'none'}"

    def plugins(self) -> set[str]:
        """Names of plugins that registered a component."""
        return {entry.plugin for known in self.components.values() for entry in known.values()}


_current: Registry | None = None


def registry() -> Registry:
    """The registry of this process; the first call discovers installed plugins."""
    global _current
    if _current is None:
        from mriad.plugins import discover

        _current = discover().registry
    return _current


@contextmanager
def using(replacement: Registry) -> Iterator[Registry]:
    """Use another registry within a block; for tests."""
    global _current
    before, _current = _current, replacement
    try:
        yield replacement
    finally:
        _current = before


def copy_of(original: Registry) -> Registry:
    """A registry that can be added to without changing the original."""
    return Registry(
        {i: dict(known) for i, known in original.components.items()},
        dict(original.experiments),
        dict(original.commands),
        dict(original.broken),
    )


def describe(entry: Registered) -> dict[str, Any]:
    """A row for `mriad plugins list`."""
    return {"type": entry.component.type_name(), "plugin": entry.plugin, "distribution": entry.distribution}
