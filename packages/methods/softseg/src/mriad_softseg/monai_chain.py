"""The public code's chain of MONAI transforms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import monai.transforms as mt
from mriad.errors import ExperimentError
from mriad_standard.foreign import PARTS, by_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from mriad.vocabulary import Task
    from torch import Tensor

    from mriad_softseg.augment import MonaiChain


def chain(config: MonaiChain, keys: Sequence[str], soft: bool, size: Sequence[int]) -> list[Any]:
    """The transforms in order, for tensors of these names.

    Args:
        config: ranges and probabilities.
        keys: of `PARTS`, image first.
        soft: whether the target is soft.
        size: X, Y, Z; translations are shares of it.
    """
    image = ["image"]
    shift = config.translation
    if config.translation_unit == "extent":
        shift = (shift[0] * size[0], shift[1] * size[1], shift[2] * size[2])

    def modes(of_image: int | str, linear: int | str) -> list[int | str]:
        kinds: dict[str, int | str] = {"image": of_image, "target": linear if soft else "nearest"}
        return [kinds.get(key, "nearest") for key in keys]

    def either_way(largest: Sequence[float]) -> list[tuple[float, float]]:
        return [(-x, x) for x in largest]

    flips: list[int | None] = [None] if config.flip == "together" else [0, 1, 2]
    return [
        mt.RandAffined(
            keys,
            mode=modes(2, 1),
            prob=config.affine_probability,
            rotate_range=either_way([math.radians(a) for a in config.rotation_deg]),
            scale_range=either_way(config.scale),
            translate_range=either_way(shift),
        ),
        mt.Rand3DElasticd(
            keys,
            mode=modes("bilinear", "bilinear"),
            prob=config.elastic_probability,
            sigma_range=config.elastic_sigma,
            magnitude_range=config.elastic_magnitude,
        ),
        mt.RandSimulateLowResolutiond(
            image, zoom_range=config.low_resolution_zoom, prob=config.low_resolution_probability
        ),
        mt.RandAdjustContrastd(image, gamma=config.gamma, prob=config.gamma_probability),
        mt.RandBiasFieldd(image, coeff_range=config.bias_coefficient, degree=3, prob=config.bias_probability),
        mt.RandGaussianNoised(image, mean=0.0, std=config.noise_std[1], prob=config.noise_probability),
        mt.RandGaussianSmoothd(
            image,
            sigma_x=config.blur_sigma,
            sigma_y=config.blur_sigma,
            sigma_z=config.blur_sigma,
            prob=config.blur_probability,
        ),
        mt.RandScaleIntensityd(image, factors=config.scaling, prob=config.scaling_probability),
        *[mt.RandFlipd(keys, prob=config.flip_probability, spatial_axis=axis) for axis in flips],
        mt.NormalizeIntensityd(image, nonzero=False, channel_wise=False),
    ]


class MonaiChainAugmenter:
    """See `mriad_softseg.augment.MonaiChain`."""

    def __init__(self, config: MonaiChain, task: Task) -> None:
        if task.dimensions != 3:
            raise ExperimentError(
                f"{config.type} needs volumes",
                where={"task": f"{task.dimensions}D"},
                remedy="use softseg.augment, which takes slices too",
            )
        if config.noise_std[0] != 0:
            raise ExperimentError(
                f"{config.type}: MONAI draws the noise's standard deviation from 0 upwards",
                where={"noise_std": config.noise_std},
                remedy="begin the range at 0, or use softseg.augment",
            )
        self.config = config
        self._made: dict[Any, mt.Compose] = {}

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch, on the device of the input."""
        return by_sample(batch, draws, "MONAI's chain", self._apply)

    def _apply(self, parts: dict[str, Tensor], spacing: Sequence[float], seed: int) -> dict[str, Tensor]:
        keys = tuple(part for part in PARTS if part in parts)
        soft = "target" in parts and parts["target"].is_floating_point()
        size = tuple(parts["image"].shape[1:])
        made = self._made.get((keys, soft, size))
        if made is None:
            made = self._made[keys, soft, size] = mt.Compose(chain(self.config, keys, soft, size))
        made.set_random_state(seed=seed)
        moved: Any = made({key: parts[key].float() for key in keys})
        return {key: moved[key].as_tensor().contiguous() for key in keys}
