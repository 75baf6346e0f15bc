"""What the plugin `data` offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.hookspecs import hookimpl

if TYPE_CHECKING:
    from mriad.hookspecs import RegisterCommand, RegisterComponent

MRIAD_API = 1


@hookimpl
def mriad_register_components(register: RegisterComponent) -> None:
    """Readers, steps, store, splits, samplers."""
    from mriad_data import cropping, manifest, normalising, orientation, patches, resampling, splits, store
    from mriad_data.phantom.dataset import PhantomSpine

    register(manifest.Manifest)
    register(orientation.Orient)
    register(resampling.Resample)
    register(cropping.CenterCrop)
    register(normalising.ZScore)
    register(store.ArrayStore)
    register(splits.KFold)
    register(splits.RandomSplit)
    register(splits.FileSplit)
    register(patches.Patch)
    register(patches.Slice)
    register(PhantomSpine)


@hookimpl
def mriad_register_commands(register: RegisterCommand) -> None:
    """`mriad data`; its module is imported when it is run."""
    register("data", "mriad_data.commands:app", "Make and look after data sets.")
