"""The callable of `synthseg.generate`: checks the batch, draws, then applies with one of two back ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mriad.errors import DataError, ExperimentError

from mriad_synthseg.drawing import Drawn, draw
from mriad_synthseg.fields import coordinates, doubled, upsampled
from mriad_synthseg.painting import (
    Palette,
    blurred,
    coarsened,
    compact,
    finished,
    looked_up,
    mixed,
    with_shapes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from mriad.vocabulary import Task
    from torch import Tensor

    from mriad_synthseg.generate import Generate

Painted = tuple["Tensor", "Tensor", "Tensor | None"]


class Generator:
    """See `mriad_synthseg.generate.Generate`."""

    def __init__(self, config: Generate, task: Task) -> None:
        if task.dimensions != 3:
            raise ExperimentError(
                "synthseg.generate paints volumes",
                where={"task": f"{task.dimensions}D, {task.slices} slices"},
                remedy="leave out `slices` of the stream",
            )
        self.config = config
        self.settings = config.settings
        self.stored = task.label_set() if task.stored_label_set is None else task.stored_label_set
        self.roles = config.roles(self.stored)
        self.channels = max(1, len(task.channels))
        self.priors = None
        if config.priors or config.priors_file is not None:
            from mriad_synthseg.priors import priors_of_stage, read_priors

            path = config.priors_file or priors_of_stage(task.inputs, config.priors)
            self.priors = read_priors(path, self.roles, config.priors_absent)
        self.compiled = _compiled(config.backend)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the painted batch."""
        target = self._checked(batch)
        inside = tuple(target.shape[2:])
        size = tuple(self.config.size) or inside
        spacing = batch.spacing or ((1.0, 1.0, 1.0),) * len(batch)
        parameters = draw(
            self.settings,
            self.roles,
            draws,
            channels=self.channels,
            inside=inside,
            size=size,
            spacing=spacing,
            priors=self.priors,
            shapes=self.config.background_shapes,
            shape_nodes=self.config.background_shape_nodes,
        )
        noise = draws.noise((self.channels, *size))
        images, targets, valid = [], [], []
        for b, drawn in enumerate(parameters):
            validity = None if batch.validity is None else batch.validity[b, 0]
            image, made, seen = self.paint(target[b], drawn, noise[b], validity)
            images.append(image)
            targets.append(made)
            valid.append(seen)
        return replace(
            batch,
            image=_stacked(images),
            target=_stacked(targets),
            validity=None
            if batch.validity is None
            else torch.stack([v for v in valid if v is not None])[:, None],
            field=None,
        )

    def paint(
        self,
        target: Tensor,
        drawn: Drawn,
        noise: Tensor,
        validity: Tensor | None = None,
    ) -> Painted:
        """Apply the parameters of one sample.

        Args:
            target: (1, X, Y, Z) indices or (S, X, Y, Z) fractions of tissue.
            drawn: what to do.
            noise: (C, *size) standard normal; overwritten.
            validity: (X, Y, Z), 0 where the map is not annotated.

        Returns:
            image (C, *size) float32, target (1 or S', *size), validity (*size) or None.
        """
        palette = Palette.of(drawn, self.roles)
        if target.is_floating_point():
            return self._paint_soft(target, drawn, palette, noise, validity)
        outputs = len(self.roles.segmented) + 1
        seen = None
        if self.compiled is not None and target.device.type == "cpu" and validity is None:
            given = compact(target[0], palette.mean.shape[1])
            output, images = self.compiled.paint(given, drawn, palette, noise, outputs, self.settings)
        else:
            label, seen = self._deformed(target, drawn, palette, noise.shape[1:], validity)
            table = compact(palette.output, outputs).to(label.device)
            output = table.index_select(0, label.reshape(-1).int()).view_as(label)
            images = [self._degraded(mixed(label, palette, c, noise[c]), drawn, c) for c in range(len(noise))]
        return self._acquired(images, drawn), output[None], seen

    def _deformed(
        self, target: Tensor, drawn: Drawn, palette: Palette, size: Sequence[int], validity: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        inside = target.shape[1:]
        at = coordinates(drawn, inside, size, self.settings.velocity_doubled, target.device)
        maps, beyond = [compact(target[0], palette.mean.shape[1])], [0]
        if validity is not None:
            maps.append(validity)
            beyond.append(1)  # nothing lies beyond the map, and that is known
        label, *rest = looked_up(maps, at, size, beyond)
        return with_shapes(label, drawn, palette.structures), rest[0] if rest else None

    def _degraded(self, image: Tensor, drawn: Drawn, channel: int) -> Tensor:
        """Blur, unless an acquisition does it later; bias, clip, [0, 1], exponent."""
        image = blurred(image, drawn.blur)
        bias = drawn.bias[channel : channel + 1]
        if bool((bias != 0).any()):
            image *= upsampled(bias.to(image.device), image.shape)[0].exp_()
        return finished(image, self.settings.clip, float(drawn.exponent[channel]))

    def _acquired(self, images: Sequence[Tensor], drawn: Drawn) -> Tensor:
        scan = drawn.acquisition
        return _stacked(images if scan is None else [coarsened(image, scan) for image in images])

    def _paint_soft(
        self,
        target: Tensor,
        drawn: Drawn,
        palette: Palette,
        noise: Tensor,
        validity: Tensor | None,
    ) -> Painted:
        """As `paint`, with fractions of tissue looked up linearly."""
        size, device = noise.shape[1:], target.device
        inside = target.shape[1:]
        at = doubled(coordinates(drawn, inside, size, self.settings.velocity_doubled, device), size)
        scale = at.new_tensor([2.0 / max(n - 1, 1) for n in inside]).reshape(3, 1, 1, 1)
        grid = (at * scale - 1).flip(0).permute(1, 2, 3, 0)[None]
        tissue = F.grid_sample(target[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[
            0
        ]
        background = (1 - tissue.sum(0)).clamp_min_(0)
        shape = with_shapes(torch.zeros(size, dtype=torch.uint8, device=device), drawn, palette.structures)
        images = []
        for c in range(len(noise)):
            mean, std = palette.mean[c].to(device), palette.std[c].to(device)
            tissues = slice(1, palette.structures)
            flat = tissue.reshape(len(tissue), -1)
            mu = (mean[tissues] @ flat).view_as(background) + mean[shape.int()] * background
            variance = (std[tissues].square() @ flat).view_as(background) + std[
                shape.int()
            ].square() * background
            images.append(self._degraded(noise[c] * variance.sqrt_() + mu, drawn, c))
        made = tissue.new_zeros((len(self.roles.segmented), *size))
        for channel, index in zip(tissue, palette.output[1 : palette.structures].tolist(), strict=True):
            if index:
                made[index - 1] += channel
        seen = None
        if validity is not None:
            mask = F.grid_sample(
                1 - validity[None, None], grid, mode="nearest", padding_mode="zeros", align_corners=True
            )
            seen = 1 - mask[0, 0]
        return self._acquired(images, drawn), made.clamp_(0, 1), seen

    def _checked(self, batch: Batch) -> Tensor:
        """The target, refused where it is not one of this label set."""
        target = batch.target
        cases = ", ".join(batch.cases)
        if target is None:
            raise DataError(
                "synthseg.generate paints label maps, and this batch has none",
                where={"cases": cases},
                remedy="set `labelled: true` on the stream, and data.labels to what the maps are",
            )
        structures = len(self.stored)
        if target.is_floating_point():
            if target.shape[1] != structures:
                raise DataError(
                    "soft label maps have another number of channels than the label set",
                    where={
                        "cases": cases,
                        "channels": target.shape[1],
                        "label set": f"{structures} ({', '.join(self.stored.names[:8])})",
                    },
                    remedy="one channel a structure; a float file with label values is to be called hard",
                )
            return target
        low, high = (int(v) for v in target.aminmax())
        if low < 0 or high > structures:
            strange = [v for v in target.unique().tolist() if not 0 <= v <= structures]
            raise DataError(
                "a label map holds values outside the generation table",
                where={
                    "cases": cases,
                    "indices": ", ".join(map(str, strange[:8])),
                    "label set": f"0 to {structures} ({', '.join(self.stored.names[:8])} …)",
                },
                remedy="indices are 0 for background and s + 1 for structure s of the label set",
            )
        return target


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """`torch.stack`, but one row is not copied."""
    return rows[0][None] if len(rows) == 1 else torch.stack(list(rows))


def _compiled(backend: str):  # type: ignore[no-untyped-def]
    """The module of compiled kernels, or None.

    Raises:
        ExperimentError: numba is asked for and not installed.
    """
    if backend == "torch":
        return None
    try:
        from mriad_synthseg import compiled
    except ImportError as error:
        if backend == "auto":
            return None
        raise ExperimentError(
            "backend: numba needs numba",
            where={"reason": error},
            remedy='pip install "mriad-synthseg[fast]", or backend: auto',
        ) from error
    return compiled
