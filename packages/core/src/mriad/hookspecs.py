"""Every hook of mriad: the plugin author's table of contents.

A plugin is a module (or object) named by an entry point of the group `mriad.plugins`; the entry point's name is the
plugin's name and begins every `type` that it registers. Keep the module light: import torch and the like only in
the modules that `build` imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.component import Component

GROUP = "mriad.plugins"
API_VERSION = 1
"""Version of the hooks and public interfaces. A plugin module may state `MRIAD_API = 1`."""

hookspec = pluggy.HookspecMarker("mriad")
hookimpl = pluggy.HookimplMarker("mriad")


class RegisterComponent(Protocol):
    """Callback that takes one component class (usable as a decorator)."""

    def __call__(self, component: type[Component]) -> type[Component]:
        """Register and give back."""
        ...


class RegisterExperiment(Protocol):
    """Callback that takes an experiment's name (without the plugin) and its YAML file."""

    def __call__(self, name: str, path: Path) -> None:
        """Register."""
        ...


class RegisterCommand(Protocol):
    """Callback that takes a command's name, its target "module:attribute" and one line of help."""

    def __call__(self, name: str, target: str, help: str) -> None:
        """Register."""
        ...


@hookspec
def mriad_register_components(register: RegisterComponent) -> None:
    """Offer datasets, augmenters, models, losses and every other interface. Call `register` once a class."""


@hookspec
def mriad_register_experiments(register: RegisterExperiment) -> None:
    """Offer experiments as YAML package data; users name them `plugin:name`."""


@hookspec
def mriad_register_commands(register: RegisterCommand) -> None:
    """Offer commands of `mriad`. The target is imported only when the command is run."""
