"""MONAI transforms as augmenters."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import monai.transforms
import torch
from monai.transforms import MapTransform, Randomizable, Transform
from mriad.errors import DataError, ExperimentError

from mriad_standard.foreign import PARTS, by_sample, construct, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor

MOVES_VOXELS = ("monai.transforms.spatial", "monai.transforms.croppad")
# Kept apart from its neighbours in the spatial module: it degrades the image and moves nothing.
IMAGE_ONLY = ("RandSimulateLowResolution",)
NEAREST = "nearest"


def _classes() -> dict[str, type]:
    found = {}
    for name in dir(monai.transforms):
        thing = getattr(monai.transforms, name)
        if inspect.isclass(thing) and issubclass(thing, Transform) and not inspect.isabstract(thing):
            found[name] = thing
    return found


class MonaiAugmenter:
    """See `mriad_standard.adapters.Monai`."""

    def __init__(self, name: str, arguments: dict[str, Any], dimensions: int) -> None:
        available = _classes()
        asked = find("MONAI", available, name)
        # The dictionary form takes several tensors with one draw, so it is used wherever there is one.
        self.kind: type = available.get(f"{asked.__name__}d", asked)
        self.is_map = issubclass(self.kind, MapTransform)
        base = self.kind.__name__.removesuffix("d")
        self.spatial = base not in IMAGE_ONLY and (
            self.kind.__module__.startswith(MOVES_VOXELS) or base == "RandSmoothDeform"
        )
        self.name = self.kind.__name__
        if self.spatial and not self.is_map:
            raise ExperimentError(
                f"MONAI {self.name} has no dictionary form, so it cannot move image and target together",
                remedy="choose a transform that has one, such as RandAffined",
            )
        self.arguments = arguments
        self.dimensions = dimensions
        self._made: dict[tuple[tuple[str, ...], bool], Any] = {}
        self._transform(("image",), soft=True)  # arguments are checked now, not in a loader process

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch, on the device of the input."""
        return by_sample(batch, draws, f"MONAI {self.name}", self._apply)

    def _apply(self, parts: dict[str, Tensor], spacing: Sequence[float], seed: int) -> dict[str, Tensor]:
        keys = tuple(part for part in PARTS if part in parts) if self.spatial else ("image",)
        soft = "target" in parts and parts["target"].is_floating_point()
        transform = self._transform(keys, soft)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)
        # MONAI's resampling wants floats; whole numbers below 2**24 survive, and so does their nearest
        # neighbour.
        given = {key: parts[key].float() for key in keys}
        result = transform(given) if self.is_map else {"image": transform(given["image"])}
        if not isinstance(result, dict):
            raise DataError(
                f"MONAI {self.name} gives {len(result)} samples for one",
                remedy="use a sampler of the stream to cut patches",
            )
        return {key: _plain(result[key]) for key in keys}

    def _transform(self, keys: tuple[str, ...], soft: bool) -> Any:
        """The transform for these tensors; made once a combination."""
        if (keys, soft) not in self._made:
            arguments, reserved = dict(self.arguments), {}
            if self.is_map:
                reserved["keys"] = keys
                if self.spatial:
                    self._set_modes(arguments, keys, soft)
            self._made[keys, soft] = construct("MONAI", self.kind, arguments, reserved)
        return self._made[keys, soft]

    def _set_modes(self, arguments: dict[str, Any], keys: tuple[str, ...], soft: bool) -> None:
        """Add an interpolation a key, where the transform resamples; for crops and pads `mode` is padding."""
        parameters = inspect.signature(self.kind).parameters
        field = "grid_mode" if "grid_mode" in parameters else "mode"
        pads = self.kind.__module__.startswith("monai.transforms.croppad")
        if field not in parameters or pads:
            return
        default = parameters[field].default
        # Zoom and resize go through `interpolate`, whose linear mode is named after the number of axes.
        resizes = getattr(default, "value", default) == "area"
        linear = ("trilinear" if self.dimensions == 3 else "bilinear") if resizes else "bilinear"
        image = arguments.get(field, "area" if resizes else linear)
        modes = {"image": image, "target": linear if soft else NEAREST, "validity": NEAREST, "field": NEAREST}
        arguments[field] = [modes[key] for key in keys]


def _plain(value: Any) -> Tensor:
    """A plain tensor of what MONAI returned."""
    value = value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)
    return value.contiguous()
