"""The test plugin: small data, a small network, and a learner for each hard shape."""

from __future__ import annotations

from mriad.hookspecs import hookimpl

MRIAD_API = 1


@hookimpl
def mriad_register_components(register):
    from mriad_shapes import configs

    for component in configs.COMPONENTS:
        register(component)
