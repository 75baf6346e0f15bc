"""TorchIO transforms as augmenters."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torchio

from mriad_standard.foreign import by_sample, construct, find, global_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor


def _classes() -> dict[str, type]:
    found = {}
    for name in dir(torchio):
        thing = getattr(torchio, name)
        if inspect.isclass(thing) and issubclass(thing, torchio.Transform) and not inspect.isabstract(thing):
            found[name] = thing
    return found


class TorchIOAugmenter:
    """See `mriad_standard.adapters.TorchIO`."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        kind = find("TorchIO", _classes(), name)
        self.name = kind.__name__
        reserved = {"copy": False}  # every sample is a copy already
        self.transform = construct("TorchIO", kind, arguments, reserved)
        self.soft_transform: Any = None
        if issubclass(kind, torchio.transforms.SpatialTransform):
            # TorchIO knows images and label maps. A soft target is moved as an image by a twin with the same
            # seed, since beside the image it would share the image's interpolation and padding.
            known = inspect.signature(kind).parameters
            own = {"image_interpolation": "linear", "default_pad_value": 0}
            twin = {**arguments, **{key: value for key, value in own.items() if key in known}}
            self.soft_transform = construct("TorchIO", kind, twin, reserved)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch, on the device of the input."""
        return by_sample(batch, draws, f"TorchIO {self.name}", self._apply)

    def _apply(self, parts: dict[str, Tensor], spacing: Sequence[float], seed: int) -> dict[str, Tensor]:
        space = parts["image"].ndim - 1
        affine = np.diag([*(float(s) for s in spacing), *[1.0] * (4 - space)])
        soft = parts.pop("target") if "target" in parts and parts["target"].is_floating_point() else None
        result = _run(self.transform, parts, affine, space)
        if soft is not None and self.soft_transform is not None:
            with global_seed(seed):
                result["target"] = _run(self.soft_transform, {"image": soft}, affine, space)["image"]
        return result


def _run(transform: Any, parts: dict[str, Tensor], affine: Any, space: int) -> dict[str, Tensor]:
    """Apply to a subject of one image and label maps; a 2D slice becomes a volume of one slice."""
    subject = torchio.Subject(
        {
            part: (torchio.ScalarImage if part == "image" else torchio.LabelMap)(
                tensor=tensor.reshape(*tensor.shape, *[1] * (3 - space)), affine=affine
            )
            for part, tensor in parts.items()
        }
    )
    result = transform(subject)
    return {part: _flat(result[part].data, space) for part in parts}


def _flat(tensor: Tensor, space: int) -> Tensor:
    return tensor if space == 3 else tensor.squeeze(-1)
