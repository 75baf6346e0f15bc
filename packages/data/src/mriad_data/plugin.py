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
    from mriad_data import (
        cropping,
        manifest,
        normalising,
        ontology,
        orientation,
        patches,
        resampling,
        splits,
        store,
        union,
        without,
    )
    from mriad_data.bias_field import N4
    from mriad_data.bids import Bids
    from mriad_data.collections import COLLECTIONS
    from mriad_data.dicom import Dicom
    from mriad_data.foreground import CropToForeground
    from mriad_data.histogram import HistogramMatch
    from mriad_data.index_file import IndexFile
    from mriad_data.intensity import MinMax, Percentile
    from mriad_data.label_maps import LabelMaps
    from mriad_data.nnunet import NnunetRaw
    from mriad_data.padding import Pad
    from mriad_data.phantom.brain.dataset import PhantomBrain
    from mriad_data.phantom.dataset import PhantomSpine
    from mriad_data.registration.dataset import Registered
    from mriad_data.skull_strip import SkullStrip

    register(manifest.Manifest)
    register(Bids)
    register(NnunetRaw)
    register(LabelMaps)
    register(Dicom)
    register(IndexFile)
    for collection in COLLECTIONS:
        register(collection)
    register(orientation.Orient)
    register(resampling.Resample)
    register(cropping.Crop)
    register(cropping.CenterCrop)
    register(CropToForeground)
    register(Pad)
    register(normalising.ZScore)
    register(MinMax)
    register(Percentile)
    register(HistogramMatch)
    register(N4)
    register(SkullStrip)
    register(Registered)
    register(store.ArrayStore)
    register(ontology.MapLabels)
    register(union.Union)
    register(splits.KFold)
    register(splits.RandomSplit)
    register(splits.FileSplit)
    register(splits.PublishedSplit)
    register(splits.LeaveOneOut)
    register(splits.LeaveDomainOut)
    register(patches.Patch)
    register(patches.Slice)
    register(patches.EverySlice)
    register(PhantomSpine)
    register(PhantomBrain)
    register(without.Without)


@hookimpl
def mriad_register_commands(register: RegisterCommand) -> None:
    """`mriad data`; its module is imported when it is run."""
    register("data", "mriad_data.commands:app", "Make and look after data sets.")
