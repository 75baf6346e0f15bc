"""Every command by name, where its code is, and the panel of `mriad --help` that shows it.

To add a command to core, write one line here and a module that defines it; a plugin registers its own through
`mriad_register_commands`. A target is "module:attribute", a function with typer's annotations or a typer app, and
is imported only when the command is run or asked for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mriad.registry import CommandEntry

START, TRAIN, USE, LOOK, MORE = "Start", "Train", "Use", "Look into", "From plugins"
PANELS = (START, TRAIN, USE, LOOK, MORE)
"""In the order of `mriad --help`."""


@dataclass(frozen=True)
class Command:
    """One command before its module is imported."""

    name: str
    target: str
    help: str
    panel: str
    distribution: str = "mriad"


CORE: tuple[Command, ...] = (
    Command("init", "mriad.cli.init:init", "Look at a data set and write an experiment that runs.", START),
    Command("train", "mriad.cli.train:train", "Run the stages of an experiment.", TRAIN),
    Command("ablate", "mriad.cli.ablate:ablate", "Run variants × folds × seeds and compare them.", TRAIN),
    Command("resume", "mriad.cli.train:resume", "Go on with a run that was interrupted.", TRAIN),
    Command("runs", "mriad.cli.runs:app", "List, size and prune runs.", TRAIN),
    Command("ui", "mriad.cli.ui:ui", "Open the MLflow UI on the tracking store.", TRAIN),
    Command("sync", "mriad.cli.sync:sync", "Send what the tracking server has missed.", TRAIN),
    Command("predict", "mriad.cli.predict:predict", "Segment a scan or a folder of scans.", USE),
    Command("model", "mriad.cli.model:app", "Export, import and list models.", USE),
    Command("config", "mriad.cli.config:app", "Show an experiment with the origin of each value.", LOOK),
    Command("schema", "mriad.cli.schema:schema", "Write the JSON Schema of experiment files.", LOOK),
    Command("plugins", "mriad.cli.plugins:app", "List, show, check and begin plugins.", LOOK),
    Command("doctor", "mriad.cli.doctor:doctor", "Check this installation and machine.", LOOK),
)

# Our own plugins use the hook of every plugin, which has no panel; these are where a reader looks for them.
_PANEL_OF = {
    "quickstart": START,
    "data": START,
    "preview": START,
    "evaluate": USE,
    "compare": USE,
    "measure": USE,
}


def table(offered: Iterable[CommandEntry]) -> tuple[dict[str, Command], list[str]]:
    """Return all commands by name, in the order of the panels, and what is wrong with the plugins' ones.

    A plugin cannot take the name of one of core's commands: it is left out and named.

    Args:
        offered: the commands of plugins.
    """
    own = {command.name: command for command in CORE}
    found = dict(own)
    faults: list[str] = []
    for entry in offered:
        if entry.name in own:
            faults.append(
                f"plugin '{entry.plugin}' ({entry.distribution}) offers a command '{entry.name}', "
                "which is mriad's own; it is left out"
            )
            continue
        panel = _PANEL_OF.get(entry.name, MORE)
        found[entry.name] = Command(entry.name, entry.target, entry.help, panel, entry.distribution)
    # quickstart is the first thing that a newcomer runs.
    order = sorted(found.values(), key=lambda c: (PANELS.index(c.panel), c.name != "quickstart"))
    return {command.name: command for command in order}, faults
