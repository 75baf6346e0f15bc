"""The last line of a command: what to do next."""

from __future__ import annotations

import sys


def next_step(command: str, why: str = "") -> None:
    """Name the next useful command, such as `next_step("mriad ui", "compare runs")`.

    It goes to standard error, so that what a command prints can be piped into a file.
    """
    print(f"\nnext: {command}{f'   ({why})' if why else ''}", file=sys.stderr)
