"""The last line of a command: what to do next."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def next_step(command: str, why: str = "") -> None:
    """Name the next useful command, such as `next_step("mriad ui", "compare runs")`.

    It goes to standard error, so that what a command prints can be piped into a file.
    """
    print(f"\nnext: {command}{f'   ({why})' if why else ''}", file=sys.stderr)


def set_flags(overrides: Sequence[str] | None) -> str:
    """Overrides as they are typed after a command, such as " --set seed=1": the next command needs them too."""
    return "".join(f" --set {shlex.quote(text)}" for text in overrides or ())


def runs_flag(runs: object | None) -> str:
    """A runs root as it is typed after a command, such as " --runs /data/runs"; "" where it is the default."""
    return f" --runs {shlex.quote(str(runs))}" if runs else ""
