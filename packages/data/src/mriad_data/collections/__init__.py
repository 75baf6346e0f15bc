"""Published collections in their published layouts, each a reader by name; pages in docs/data."""

from mriad_data.collections.base import Collection
from mriad_data.collections.brains import Brats2021, Ixi, SynthSegMaps
from mriad_data.collections.lesions import Isbi2015, Ms7t, Msseg2016, UmclMs
from mriad_data.collections.others import CrossModa, Hippocampus, Joint
from mriad_data.collections.spines import SpineExternal, SpineGeneric

COLLECTIONS: tuple[type[Collection], ...] = (
    SpineGeneric,
    SpineExternal,
    UmclMs,
    Isbi2015,
    Msseg2016,
    Ms7t,
    Brats2021,
    Ixi,
    SynthSegMaps,
    CrossModa,
    Joint,
    Hippocampus,
)

__all__ = [
    "COLLECTIONS",
    "Brats2021",
    "Collection",
    "CrossModa",
    "Hippocampus",
    "Isbi2015",
    "Ixi",
    "Joint",
    "Ms7t",
    "Msseg2016",
    "SpineExternal",
    "SpineGeneric",
    "SynthSegMaps",
    "UmclMs",
]
