"""Guarded discovery of plugins: one that is broken is reported and never takes the program down."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy

from mriad import hookspecs
from mriad.errors import PluginError
from mriad.registry import CommandEntry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mriad.component import Component

ONLY = "MRIAD_PLUGINS"
"""Environment variable: a comma-separated list of plugins to load; the others are left out."""


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be loaded, and why."""

    name: str
    distribution: str
    version: str
    error: Exception

    @property
    def summary(self) -> str:
        """One line for a person."""
        reason = str(self.error).splitlines()[0] if str(self.error) else type(self.error).__name__
        return (
            f"plugin '{self.name}' ({self.distribution} {self.version}) is not loaded: {reason}; "
            "see: mriad plugins doctor"
        )


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that is in use."""

    name: str
    distribution: str
    version: str
    module: Any
    import_seconds: float


@dataclass
class Plugins:
    """The outcome of a discovery."""

    registry: Registry = field(default_factory=Registry)
    loaded: list[LoadedPlugin] = field(default_factory=list)
    broken: list[BrokenPlugin] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """An entry point before it is loaded."""

    name: str
    distribution: str
    version: str
    entry: Any
    """Anything with `load() -> module`."""


def candidates() -> Iterable[Candidate]:
    """Entry points of the group, each distribution once, `MRIAD_PLUGINS` respected, in order of name."""
    wanted = {n.strip() for n in os.environ[ONLY].split(",") if n.strip()} if ONLY in os.environ else None
    seen: set[tuple[str, str]] = set()
    found: list[Candidate] = []
    for distribution in metadata.distributions():
        for entry in distribution.entry_points.select(group=hookspecs.GROUP):
            name = distribution.metadata["Name"]
            if (name, entry.name) in seen or (wanted is not None and entry.name not in wanted):
                continue
            seen.add((name, entry.name))
            found.append(Candidate(entry.name, name, distribution.version, entry))
    return sorted(found, key=lambda c: (c.name, c.distribution))


_last: Plugins | None = None


def discover(found: Iterable[Candidate] | None = None) -> Plugins:
    """Load every plugin, register what it offers; collect what is broken and warn once.

    Args:
        found: candidates to load instead of the installed ones; for tests.
    """
    global _last
    if found is None and _last is not None:
        return _last
    plugins = _load_all(candidates() if found is None else found, _collect)
    for broken in plugins.broken:
        warnings.warn(broken.summary, RuntimeWarning, stacklevel=2)
    if found is None:
        _last = plugins
    return plugins


def discover_commands(found: Iterable[Candidate] | None = None) -> Plugins:
    """Ask every plugin for its commands alone, without a warning: what `mriad --help` needs, and fast.

    Components are not made, so the registry of the result has none, and what is wrong with them is not found.
    """
    return _load_all(candidates() if found is None else found, _collect_commands)


def _load_all(
    found: Iterable[Candidate], collect: Callable[[pluggy.PluginManager, Candidate, Registry], None]
) -> Plugins:
    plugins = Plugins()
    for candidate in found:
        try:
            _load(candidate, plugins, collect)
        except Exception as error:  # any guest may raise anything, and must not take the host down
            plugins.broken.append(
                BrokenPlugin(candidate.name, candidate.distribution, candidate.version, error)
            )
            plugins.registry.broken[candidate.name] = candidate.distribution
    return plugins


def _load(
    candidate: Candidate,
    plugins: Plugins,
    collect: Callable[[pluggy.PluginManager, Candidate, Registry], None],
) -> None:
    """Load one plugin into `plugins`, wholly or not at all."""
    twin = next((p for p in plugins.loaded if p.name == candidate.name), None)
    if twin is not None:
        raise PluginError(
            f"two distributions offer a plugin named '{candidate.name}'",
            where={"first": twin.distribution, "second": candidate.distribution},
            remedy="uninstall one of the two",
        )
    start = time.perf_counter()
    module = candidate.entry.load()
    seconds = time.perf_counter() - start
    stated = getattr(module, "MRIAD_API", hookspecs.API_VERSION)
    if stated != hookspecs.API_VERSION:
        raise PluginError(
            f"plugin '{candidate.name}' was written for plugin API {stated}; "
            f"this mriad has {hookspecs.API_VERSION}",
            remedy=f"upgrade {candidate.distribution} or mriad",
        )
    manager = pluggy.PluginManager("mriad")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=candidate.name)
    manager.check_pending()  # a misspelt hook is an error, not silence
    # A plugin's offers are collected apart and merged at once, so that a fault half-way leaves nothing behind.
    offers = Registry()
    collect(manager, candidate, offers)
    _merge(offers, plugins.registry)
    plugins.loaded.append(
        LoadedPlugin(candidate.name, candidate.distribution, candidate.version, module, seconds)
    )


def _collect(manager: pluggy.PluginManager, candidate: Candidate, offers: Registry) -> None:
    name, distribution = candidate.name, candidate.distribution

    def component(component: type[Component]) -> type[Component]:
        offers.add(component, name, distribution)
        return component

    def experiment(name: str, path: Path) -> None:
        offers.experiments[f"{candidate.name}:{name}"] = (path, distribution)

    manager.hook.mriad_register_components(register=component)
    manager.hook.mriad_register_experiments(register=experiment)
    _collect_commands(manager, candidate, offers)


def _collect_commands(manager: pluggy.PluginManager, candidate: Candidate, offers: Registry) -> None:
    def command(name: str, target: str, help: str) -> None:
        offers.commands[name] = CommandEntry(name, target, help, candidate.name, candidate.distribution)

    manager.hook.mriad_register_commands(register=command)


def _merge(offers: Registry, registry: Registry) -> None:
    for name, entry in offers.commands.items():
        if name in registry.commands:
            raise PluginError(
                f"two plugins offer the command '{name}'",
                where={"first": registry.commands[name].distribution, "second": entry.distribution},
                remedy="uninstall one of the two",
            )
    # Names of components begin with the plugin's, and plugin names are distinct: they cannot collide here.
    for known in offers.components.values():
        for found in known.values():
            registry.add(found.component, found.plugin, found.distribution)
    registry.experiments.update(offers.experiments)
    registry.commands.update(offers.commands)
