"""Two passes of one network: where is the cord, and what is it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import CheckpointError
from mriad.inference.predictor import NetworkPredictor, ordered
from mriad.inference.slab import collect
from mriad.preparation import apply_steps, prepare_volumes
from mriad_data.boxes import cut_box
from mriad_data.cropping import CenterCrop
from mriad_data.resampling import Resample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.inference.engine import Engine
    from mriad.inference.prediction import CasePrediction, OnWindow, PredictionStream
    from mriad.interfaces import CasePredictor
    from mriad.vocabulary import Sample, Volume
    from numpy.typing import NDArray
    from torch import nn

    from mriad_softseg.centred import Centred


class CentredPredictor:
    """A `CasePredictor` that crops about what a first pass finds.

    Args:
        inner: prepares and predicts; its steps have one `data.center_crop`, at `place`.
        config: of the first pass.
    """

    def __init__(self, inner: NetworkPredictor, config: Centred, place: int) -> None:
        self.inner, self.config, self.place = inner, config, place
        self.channels, self.label_set, self.exclusive = inner.channels, inner.label_set, inner.exclusive

    @classmethod
    def around(cls, inner: CasePredictor, config: Centred, named: str) -> CentredPredictor:
        """Find the crop in a predictor's steps.

        Raises:
            CheckpointError: not one network with exactly one `data.center_crop`.
        """
        steps = inner.steps if isinstance(inner, NetworkPredictor) else ()
        places = [place for place, step in enumerate(steps) if isinstance(step, CenterCrop)]
        if not isinstance(inner, NetworkPredictor) or len(places) != 1:
            raise CheckpointError(
                "only a network with exactly one centre crop can be centred on what it finds",
                where={
                    "model": named,
                    "predictor": type(inner).__name__,
                    "steps": ", ".join(step.type_name() for step in steps) or "none",
                },
                remedy="use the model as it is, or train one with data.center_crop",
            )
        return cls(inner, config, places[0])

    def for_domain(self, domain: str) -> CentredPredictor:
        """The same for cases of a domain, in both passes."""
        return CentredPredictor(self.inner.for_domain(domain), self.config, self.place)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The network of both passes, as it is called."""
        return self.inner.networks

    def with_engine(self, engine: Engine) -> CentredPredictor:
        """The same with its network run by an engine, in both passes."""
        return CentredPredictor(self.inner.with_engine(engine), self.config, self.place)

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment one case; see `NetworkPredictor`."""
        return self.stream(channels).collect()

    def stream(self, channels: Mapping[str, Volume], on_window: OnWindow | None = None) -> PredictionStream:
        """Find the cord now; predict about it while the slabs are taken."""
        given = ordered(channels, self.channels)
        native = next(iter(given.values())).grid
        steps, parameters, domain = self.inner.steps, self.inner.parameters, self.inner.domain
        whole = prepare_volumes(given, steps[: self.place], parameters[: self.place])
        sample = self._cropped(whole, self.centre(whole))
        after = self.place + 1
        sample = apply_steps(sample, steps[after:], parameters[after:], after)
        return self.inner.segmenter.stream(replace(sample, domain=domain), native, on_window, domain=domain)

    def centre(self, whole: Sample) -> NDArray[np.float64] | None:
        """World position (3,) in mm of what the first pass finds in a sample before its crop; None: nothing.

        Raises:
            DataError: the network is domain-specific and the domain is not one of its.
        """
        domain = self.inner.segmenter.domain_of(self.inner.domain)
        structures = len(self.inner.segmenter.task.label_set(domain))
        after = self.place + 1
        spacing = [max(self.config.spacing_mm, n) for n in whole.grid.spacing]  # never finer than the sample
        coarse = Resample(spacing_mm=spacing, image_order=1).apply(whole, None)
        coarse = apply_steps(coarse, self.inner.steps[after:], self.inner.parameters[after:], after)
        slabs = self.inner.segmenter.working(coarse, domain)
        soft = collect(slabs, structures, coarse.grid.shape).max(axis=0)
        least = self.config.least_mm3 / coarse.grid.voxel_volume
        found = weighted_centre(soft, self.config.inside, least)
        if found is None:
            warnings.warn(
                f"the first pass at {self.config.spacing_mm:g} mm found no component of "
                f"{self.config.least_mm3:g} mm³; the crop lies about the volume's centre",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return coarse.grid.world(found)

    def _cropped(self, whole: Sample, centre: NDArray[np.float64] | None) -> Sample:
        step = self.inner.steps[self.place]
        assert isinstance(step, CenterCrop)
        if centre is None:
            return step.apply(whole, None)
        sizes = [
            n if size == "full" else int(size) for n, size in zip(whole.grid.shape, step.size, strict=True)
        ]
        start = []
        for length, size, at, code in zip(
            whole.grid.shape, sizes, whole.grid.voxels(centre), whole.grid.orientation, strict=True
        ):
            middle = (length - size) // 2
            wanted = middle if code in "SI" else round(float(at) - (size - 1) / 2)
            # Within the volume as far as it is larger than the box; a smaller one is padded as always.
            start.append(min(max(wanted, 0), length - size) if length >= size else middle)
        return cut_box(whole, start, sizes, step.fill)


def weighted_centre(soft: NDArray[np.float32], inside: float, least: float) -> NDArray[np.float64] | None:
    """Voxel coordinates (3,) of the weighted centre of the largest component.

    Args:
        soft: (X, Y, Z) in [0, 1].
        inside: voxels above it form components, by faces, edges and corners.
        least: voxels that the largest one needs; None is returned if it has fewer, or there is none.
    """
    from scipy import ndimage

    labels, count = ndimage.label(soft > inside, np.ones((3, 3, 3)))
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    largest = int(sizes.argmax()) + 1
    if sizes[largest - 1] < least:
        return None
    return np.array(ndimage.center_of_mass(np.asarray(soft, np.float64), labels, largest))
