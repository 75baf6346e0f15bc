"""The program `mriad`: a group whose commands are imported when they are run."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from mriad.cli.commands import PANELS, table
from mriad.errors import MriadError, PluginError
from mriad.plugins import discover, discover_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.cli.commands import Command

DEBUG = "--debug"
SETTINGS = {"help_option_names": ["-h", "--help"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0 done, 1 an error that was explained, 2 a wrong use.

    Args:
        arguments: instead of those of the process.
    """
    given, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    with warnings.catch_warnings():
        warn = _Warnings(warnings.showwarning)
        warnings.showwarning = warn
        warnings.filterwarnings("always", "plugin '", RuntimeWarning)  # once each: `_Warnings` sees to that
        try:
            program(warn.say).main(given, prog_name="mriad")
        except MriadError as error:
            if debug:
                raise
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


def program(warn: Callable[[str], None]) -> TyperGroup:
    """The group of all commands, none of them imported; `warn` is told what is wrong with plugins."""
    plugins = discover_commands()
    commands, faults = table(plugins.registry.commands.values())
    for text in (*(broken.summary for broken in plugins.broken), *faults):
        warn(text)
    app = typer.Typer(
        cls=PanelGroup,
        add_completion=False,
        context_settings=SETTINGS,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich's help takes longer to import than everything else here
    )
    app.callback()(_root)
    group = get_group(app)
    for command in commands.values():
        group.add_command(LazyCommand(command), command.name)
    return group


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mriad {version('mriad')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
    strict_plugins: Annotated[
        bool, typer.Option("--strict-plugins", help="Refuse to work while a plugin is broken.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """MRI segmentation that survives a change of contrast, scanner, site or label budget.

    Begin with: mriad quickstart
    """
    broken = discover().broken if strict_plugins else []
    if broken:
        raise PluginError(
            f"{len(broken)} of the plugins cannot be loaded",
            where={b.name: f"{b.distribution} {b.version}: {b.error}" for b in broken},
            remedy="mriad plugins doctor",
        )


class PanelGroup(TyperGroup):
    """Lists its commands in the panels of `mriad.cli.commands`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a panel."""
        shown = [c for c in self.commands.values() if isinstance(c, LazyCommand)]
        for panel in PANELS:
            rows = [(c.command.name, c.command.help) for c in shown if c.command.panel == panel]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


class LazyCommand(TyperCommand):
    """Stands for a command in the help of the group, and becomes it when it is run."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name, help=command.help, rich_markup_mode=None)
        self.command = command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the real command: from here on that is what runs."""
        return load(self.command).make_context(info_name, args, parent=parent, **extra)


def load(command: Command) -> Any:
    """Import a command and return it in the form that the group runs.

    Raises:
        PluginError: its module, a package that it needs, or its attribute is missing.
    """
    module_name, _, attribute = command.target.partition(":")
    where = {"target": command.target, "distribution": command.distribution}
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        own = module_name == missing or module_name.startswith(f"{missing}.")
        raise PluginError(
            f"the command '{command.name}' is not part of this installation"
            if own
            else f"the command '{command.name}' needs the package '{missing}'",
            where=where | {"missing": missing},
            remedy=f"pip install --upgrade {command.distribution if own else missing}",
        ) from error
    except ImportError as error:
        raise PluginError(
            f"the command '{command.name}' cannot be imported", where=where | {"reason": error}
        ) from error
    except AttributeError as error:
        raise PluginError(
            f"the command '{command.name}' names something that is not there",
            where=where,
            remedy=f"pip install --upgrade {command.distribution}",
        ) from error
    if isinstance(target, typer.Typer):
        # Always as a group: typer would make a single command of an app that has one.
        target.rich_markup_mode = None
        group = get_group(target)
        group.no_args_is_help = True
        group.help = group.help or command.help
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(command.name)(target)
    return get_command(app)


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take `--debug` out, wherever it stands: people add it at the end of the line that failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before = [a for a in arguments[:end] if a != DEBUG]
    return before + arguments[end:], len(before) < end


class _Warnings:
    """Shows what is wrong with plugins in one line each, once, and other warnings as they were."""

    def __init__(self, other: Callable[..., None]) -> None:
        self.other = other
        self.said: set[str] = set()

    def __call__(self, message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, RuntimeWarning) and str(message).startswith("plugin '"):
            self.say(str(message))
        else:
            self.other(message, category, *rest, **more)

    def say(self, text: str) -> None:
        """Print a line, unless it was printed before."""
        if text not in self.said:
            self.said.add(text)
            print(f"warning: {text}", file=sys.stderr)
