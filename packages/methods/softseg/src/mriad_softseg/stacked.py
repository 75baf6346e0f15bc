"""The numbers of `mriad_softseg.big_aug`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from mriad_softseg import intensity
from mriad_softseg.fused import joined, moved, resample, samples_of
from mriad_softseg.recipes import Affine, Elastic, Recipe, Three

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor

    from mriad_softseg.big_aug import Stack
    from mriad_softseg.fused import Noise


@dataclass(frozen=True)
class StackRecipe:
    """What one sample gets; None or 1 or 0 leaves a step out.

    sharpen: α, then σ of the first and of the second blur. perturbation: factor and shift.
    """

    space: Recipe = field(default_factory=Recipe)
    sharpen: Three | None = None
    blur: Three | None = None
    noise: float = 0.0
    brightness: float = 0.0
    gamma: float = 1.0
    perturbation: tuple[float, float] = (1.0, 0.0)


def draw_stack(config: Stack, draws: Draws, dimensions: int) -> list[StackRecipe]:
    """A recipe for each sample; everything is drawn for every one, as in `mriad_softseg.recipes`."""
    host = draws.host
    sharp, alpha = host.chance(config.sharpen_probability), host.uniform(*config.sharpen)
    first, between = host.uniform(*config.sharpen_sigma), host.uniform(0, 1)
    second = config.sharpen_sigma[0] + between * (first - config.sharpen_sigma[0])
    blurred, blur = host.chance(config.blur_probability), host.uniform(*config.blur_sigma, (3,))
    noisy, std = host.chance(config.noise_probability), host.uniform(*config.noise_std)
    lit, shift = host.chance(config.brightness_probability), host.uniform(-1, 1) * config.brightness
    curved, gamma = host.chance(config.gamma_probability), host.uniform(*config.gamma)
    perturbed = host.chance(config.perturbation_probability)
    factor = 1 + host.uniform(-1, 1) * config.perturbation_scale
    offset = host.uniform(-1, 1) * config.perturbation_shift
    turned = host.chance(config.affine_probability)
    angles = host.uniform(-1, 1, (3,)) * torch.tensor(config.rotation_deg) * (math.pi / 180)
    steps = config.sampling_steps(host)
    if dimensions == 2:
        angles = angles * torch.tensor([0.0, 0.0, 1.0])
        steps[:, 2] = 1
    bent = host.chance(config.elastic_probability)
    sigma, magnitude = host.uniform(*config.elastic_sigma), host.uniform(*config.elastic_magnitude)
    recipes = []
    for i in range(len(draws)):
        a, b, c = angles[i].tolist()
        p, q, r = steps[i].tolist()
        x, y, z = blur[i].tolist()
        recipes.append(
            StackRecipe(
                space=Recipe(
                    affine=Affine((a, b, c), (p, q, r)) if turned[i] else None,
                    elastic=Elastic(float(sigma[i]), float(magnitude[i])) if bent[i] else None,
                ),
                sharpen=(float(alpha[i]), float(first[i]), float(second[i])) if sharp[i] else None,
                blur=(x, y, z) if blurred[i] else None,
                noise=float(std[i]) if noisy[i] else 0.0,
                brightness=float(shift[i]) if lit[i] else 0.0,
                gamma=float(gamma[i]) if curved[i] else 1.0,
                perturbation=(float(factor[i]), float(offset[i])) if perturbed[i] else (1.0, 0.0),
            )
        )
    return recipes


def sharpened(image: Tensor, alpha: float, first: float, second: float) -> Tensor:
    """b + α·(b − c), b the image blurred by `first` voxels and c b blurred by `second`."""
    b = intensity.blur(image, (first,) * 3, "repeat")
    c = intensity.blur(b, (second,) * 3, "repeat")
    return torch.lerp(b, c, -alpha)


class StackedAugmentation:
    """See `mriad_softseg.big_aug`."""

    def __init__(self, config: Stack) -> None:
        if config.backend == "compiled":
            resample(config, torch.device("cpu"))  # said now, not in the first step
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch."""
        config = self.config
        dimensions = batch.image.ndim - 2
        recipes = draw_stack(config, draws, dimensions)
        out = []
        for i, (parts, recipe) in enumerate(zip(samples_of(batch), recipes, strict=True)):
            spacing = (*batch.spacing[i], 1.0)[:3] if batch.spacing else (1.0, 1.0, 1.0)

            def noise(shape: Sequence[int], row: int = i) -> Tensor:
                return draws.noise(shape, [row])[0]

            image = self.shaded(self.started(parts.image, parts.field), recipe, noise)
            parts = replace(parts, image=image)
            new = moved(config, parts, recipe.space, spacing, config.elastic_sigma[0], noise, dimensions)
            if config.z_score != "off":
                mean, std = intensity.moments(new.image, new.field if config.z_score == "field" else None)
                new = replace(new, image=new.image.sub_(mean).div_(std))
            out.append(new)
        return joined(batch, out)

    def started(self, image: Tensor, acquired: Tensor | None) -> Tensor:
        """A copy on the scale that the ranges are meant for."""
        if self.config.start == "z_score":
            mean, std = intensity.moments(image, acquired)
            return (image - mean).div_(std)
        low, span = intensity.extremes(image)
        return (image - low).div_(torch.where(span > 0, span, 1))

    def shaded(self, image: Tensor, recipe: StackRecipe, noise: Noise) -> Tensor:
        """Quality, then appearance; `image` (C, X, Y, Z) is written to."""
        if recipe.sharpen is not None:
            image = sharpened(image, *recipe.sharpen)
        if recipe.blur is not None:
            image = intensity.blur(image, recipe.blur, "repeat")
        if recipe.noise:
            image.add_(noise(image.shape), alpha=recipe.noise)
        if recipe.brightness:
            image.add_(recipe.brightness)
        if recipe.gamma != 1:
            intensity.gamma_(image, recipe.gamma)
        factor, shift = recipe.perturbation
        return image.mul_(factor).add_(shift)
