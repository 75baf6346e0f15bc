"""`mriad synthseg`: what the plugin adds to the command line. Each command lives in a module of its own."""

from __future__ import annotations

import typer

from mriad_synthseg.import_command import import_weights
from mriad_synthseg.priors_command import priors
from mriad_synthseg.segment_command import segment

app = typer.Typer(
    name="synthseg",
    help="Learn priors; segment with volumes and quality; import the public weights.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("priors")(priors)
app.command("segment")(segment)
app.command("import")(import_weights)
