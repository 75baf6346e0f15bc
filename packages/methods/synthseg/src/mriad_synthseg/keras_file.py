"""Reading the weights of SynthSeg's Keras network from a user's HDF5 file; h5py is imported when it is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mriad.errors import CheckpointError, PluginError

from mriad_synthseg.keras_layers import PREFIX, Architecture, layers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

_SHOWN = 6
_OPTIMISER = "optimizer_weights"
Arrays = dict[str, dict[str, "NDArray[np.float32]"]]
"""Layer → array's name without ":0" → array."""


def read_arrays(path: Path) -> Arrays:
    """Every array of every layer of an HDF5 file of Keras (a whole model or its weights).

    Raises:
        PluginError: h5py is not installed.
        CheckpointError: missing, not HDF5, or without arrays; two layers of one name hold the same array.
    """
    try:
        import h5py  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise PluginError(
            "reading a .h5 file needs h5py, which is not installed", remedy="pip install h5py"
        ) from error
    found: Arrays = {}

    def visit(name: str, item: Any) -> None:
        parts = name.split("/")
        if not isinstance(item, h5py.Dataset) or parts[0] == _OPTIMISER or len(parts) < 2:
            return
        layer, array = parts[-2], parts[-1].split(":")[0]
        held = found.setdefault(layer, {})
        if array in held:
            raise CheckpointError(
                "two layers of one name are in the file", where={"file": path, "layer": layer, "array": array}
            )
        held[array] = np.asarray(item)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except FileNotFoundError as error:
        raise CheckpointError("there is no such file", where={"file": path}) from error
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            "this is no HDF5 file that can be read",
            where={"file": path, "reason": str(error).splitlines()[0]},
            remedy="download it again; the weights of SynthSeg end in .h5",
        ) from error
    if not found:
        raise CheckpointError(
            "the file holds no weights",
            where={"file": path, "expected": "layers of Keras with arrays, such as unet_likelihood"},
        )
    return found


def architecture_of(arrays: Arrays, path: Path) -> Architecture:
    """The sizes of the network that these arrays belong to.

    Raises:
        CheckpointError: there is no such network in them.
    """
    first = arrays.get(f"{PREFIX}_conv_downarm_0_0", {}).get("kernel")
    last = arrays.get(f"{PREFIX}_likelihood", {}).get("kernel")
    if first is None or last is None or first.ndim != 5 or last.ndim != 5:
        raise CheckpointError(
            "this is not the U-Net of SynthSeg",
            where={
                "file": path,
                "layers": ", ".join(list(arrays)[:_SHOWN]),
                "expected": f"3D kernels of {PREFIX}_conv_downarm_0_0 and {PREFIX}_likelihood",
            },
        )
    places = [m for name in arrays if (m := re.fullmatch(rf"{PREFIX}_conv_downarm_(\d+)_(\d+)", name))]
    return Architecture(
        labels=int(last.shape[-1]),
        levels=1 + max(int(m[1]) for m in places),
        features=int(first.shape[-1]),
        channels=int(first.shape[-2]),
        convolutions=1 + max(int(m[2]) for m in places),
        norm=f"{PREFIX}_bn_down_0" in arrays,
    )


def converted(arrays: Arrays, net: Architecture, path: Path) -> dict[str, Tensor]:
    """Arrays of Keras → tensors by the names of `keras_layers.layers`; each name and shape is checked.

    Raises:
        CheckpointError: a layer or array is missing, has another shape, is not finite, or is not of the network; all
            faults are counted, some are named.
    """
    faults: list[str] = []
    tensors: dict[str, Tensor] = {}
    known: set[str] = set()
    for layer in layers(net):
        known.add(layer.name)
        held = dict(arrays.get(layer.name, {}))
        for name, (ours, shape) in layer.arrays.items():
            array = held.pop(name, None)
            if array is None:
                faults.append(f"{layer.name}/{name} is missing")
            elif array.shape != shape:
                faults.append(f"{layer.name}/{name} has shape {array.shape}, expected {shape}")
            elif not np.isfinite(array).all():
                faults.append(f"{layer.name}/{name} holds NaN or infinite values")
            else:
                moved = array.transpose(4, 3, 0, 1, 2) if array.ndim == 5 else array
                tensors[ours] = torch.from_numpy(np.ascontiguousarray(moved, dtype=np.float32))
        faults += [f"{layer.name}/{name} is not expected" for name in held]
    faults += [
        f"layer {name} is not of the network" for name, held in arrays.items() if held and name not in known
    ]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise CheckpointError(
            "these weights do not fit SynthSeg's U-Net",
            where={"file": path, "faults": "; ".join(faults[:_SHOWN]) + more, "sizes": net},
            remedy="give the file of the segmentation network (synthseg_1.0.h5); SynthSeg 2's other networks "
            "(denoiser, parcellation, quality) have other layers",
        )
    return tensors
