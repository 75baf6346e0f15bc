"""Applies recipes to a batch: one resampling, then the steps on intensities, sample by sample on the device."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from mriad.errors import ExperimentError

from mriad_softseg import intensity
from mriad_softseg.coordinates import Coordinates, displacement, nodes
from mriad_softseg.recipes import draw_chain
from mriad_softseg.resampling import Parts, flipped, resampled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor

    from mriad_softseg.augment import Chain, Engine
    from mriad_softseg.recipes import Recipe
    from mriad_softseg.resampling import Beyond

    Noise = Callable[[Sequence[int]], Tensor]


def samples_of(batch: Batch) -> list[Parts]:
    """The samples as volumes; a 2D one is one voxel thick along a last axis."""

    def row(x: Tensor | None, i: int) -> Tensor | None:
        return None if x is None else (x[i] if x.ndim == 5 else x[i][..., None])

    found = []
    for i in range(len(batch)):
        image = row(batch.image, i)
        assert image is not None
        masks = (
            None if x is None else x.to(image.dtype) for x in (row(batch.validity, i), row(batch.field, i))
        )
        found.append(Parts(image, row(batch.target, i), *masks))
    return found


def joined(batch: Batch, samples: Sequence[Parts]) -> Batch:
    """The batch with these samples."""
    flat = batch.image.ndim == 4

    def stack(name: str) -> Tensor | None:
        rows = [getattr(s, name) for s in samples]
        if all(row is None for row in rows):
            return None
        # Samples that were not moved have no mask of their own: all of them is valid, all was acquired.
        whole = [torch.ones_like(samples[0].image[:1]) if row is None else row for row in rows]
        out = torch.stack(whole) if len(whole) > 1 else whole[0][None]
        return out[..., 0] if flat else out

    image = stack("image")
    assert image is not None
    return replace(
        batch, image=image, target=stack("target"), validity=stack("validity"), field=stack("field")
    )


def resample(config: Engine, device: torch.device) -> Callable[[Parts, Coordinates, int, Beyond], Parts]:
    """The back end for tensors on a device.

    Raises:
        ExperimentError: the compiled one is asked for and cannot be had.
    """
    on_cpu = device.type == "cpu"
    if config.backend == "torch" or (config.backend == "auto" and not (on_cpu and has_numba())):
        return resampled
    if not (on_cpu and has_numba()):
        raise ExperimentError(
            f"'{config.type_name()}' cannot use its compiled back end",
            where={"device": str(device), "numba": "installed" if has_numba() else "not installed"},
            remedy="pip install 'mriad-softseg[fast]', and augment on the CPU; or backend: auto",
        )
    from mriad_softseg import compiled

    return compiled.resampled


@cache
def has_numba() -> bool:
    """Whether the compiled back end is there."""
    return importlib.util.find_spec("numba") is not None


def moved(
    config: Engine,
    parts: Parts,
    recipe: Recipe,
    spacing: Sequence[float],
    sigma_from: float,
    noise: Noise,
    dimensions: int = 3,
) -> Parts:
    """Flip, deform, scale, move and rotate one sample with at most one resampling; never the input itself."""
    if recipe.affine is None and recipe.elastic is None:
        if any(recipe.flip):
            return flipped(parts, recipe.flip)
        return replace(parts, image=parts.image.clone())
    size = tuple(parts.image.shape[1:])
    bend = None
    if recipe.elastic is not None:
        std = recipe.elastic.std(dimensions)
        bend = displacement(recipe.elastic.sigma, std, size, nodes(size, sigma_from), noise)
    where = Coordinates.of(recipe, size, spacing, bend)
    return resample(config, parts.image.device)(parts, where, config.image_order, config.beyond)


class FusedChain:
    """See `mriad_softseg.augment.Augment`."""

    def __init__(self, config: Chain) -> None:
        if config.backend == "compiled":
            resample(config, torch.device("cpu"))  # said now, not in the first step
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch."""
        dimensions = batch.image.ndim - 2
        samples = samples_of(batch)
        size = samples[0].image.shape[1:]
        recipes = draw_chain(self.config, draws, size, dimensions)
        out = []
        for i, (parts, recipe) in enumerate(zip(samples, recipes, strict=True)):
            spacing = (*batch.spacing[i], 1.0)[:3] if batch.spacing else (1.0, 1.0, 1.0)

            def noise(shape: Sequence[int], row: int = i) -> Tensor:
                return draws.noise(shape, [row])[0]

            new = moved(self.config, parts, recipe, spacing, self.config.elastic_sigma[0], noise, dimensions)
            out.append(replace(new, image=self.shaded(new.image, new.field, recipe, noise)))
        return joined(batch, out)

    def shaded(self, image: Tensor, field: Tensor | None, recipe: Recipe, noise: Noise) -> Tensor:
        """The steps on intensities; `image` (C, X, Y, Z) is written to."""
        config = self.config
        relative = config.intensities == "relative"
        unit: Tensor | float = 1.0
        if relative and recipe.noise:
            unit = intensity.moments(image, field)[1]
        if recipe.zoom != 1:
            image = intensity.low_resolution(image, recipe.zoom, config.low_resolution_pick)
        if recipe.gamma != 1:
            intensity.gamma_(image, recipe.gamma)
        if recipe.bias is not None:
            bias = intensity.bias_field(recipe.bias, image.shape[1:], recipe.flip, image.device)
            if relative:
                low, _ = intensity.extremes(image)
                image.sub_(low).mul_(bias).add_(low)
            else:
                image.mul_(bias)
        if recipe.noise:
            image.add_(noise(image.shape).mul_(recipe.noise * unit))
        if recipe.blur is not None:
            image = intensity.blur(image, recipe.blur, "repeat" if config.beyond == "border" else "zeros")
        if config.z_score == "off":
            return image.mul_(recipe.factor) if recipe.factor != 1 else image
        mean, std = intensity.moments(image, field if config.z_score == "field" else None)
        # A factor on everything cancels here.
        return image.sub_(mean).div_(std)
