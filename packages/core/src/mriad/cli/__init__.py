"""The command line. Only the command that is run is imported; see `mriad.cli.commands`."""

from mriad.cli.app import main

__all__ = ["main"]
