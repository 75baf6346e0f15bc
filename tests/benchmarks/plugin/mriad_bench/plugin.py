"""The plugin of the benchmarks."""

from __future__ import annotations

from mriad.hookspecs import hookimpl

MRIAD_API = 1


@hookimpl
def mriad_register_components(register):
    from mriad_bench import configs

    for component in (configs.Volumes, configs.Paced):
        register(component)
