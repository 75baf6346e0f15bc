"""`synthseg.atlas_em` at work: a scan in, posteriors on its own voxels out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mriad.errors import DataError
from mriad.inference.prediction import CasePrediction, OnWindow, PredictionStream
from mriad.inference.predictor import ordered
from mriad.inference.slab import Slab, planes_per_slab
from mriad.preparation import prepare_volumes
from mriad.vocabulary import LabelSet, Sample, Volume
from mriad_data.registration import Registration, register
from mriad_data.resampling import Resample
from scipy import ndimage

from mriad_synthseg.atlas import BACKGROUND, Atlas, Classes
from mriad_synthseg.atlas_warp import TINY, Axes, Deform, PriorReader, Warp, improved
from mriad_synthseg.mixture import Fit, SmoothBasis, Voxels, run_em, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_synthseg.atlas_stage import AtlasSettings

_DARK = 0.03
"""Added before the logarithm, as a share of the 99.5th percentile: keeps the noise of air from spreading."""
_GROWN_MM = 10.0  # of the mask in which voxels are fitted and segmented
_SEEN = 0.01  # prior of all structures above which a voxel is in the mask, before it is grown
_POSSIBLE = 1e-4
"""Prior of all structures together, up to which a voxel is background whatever its intensity says. A likelihood ratio
has no bound, so that fat or an eye, which no Gaussian of the background fits, could become a structure anywhere."""
_EM_STEPS = 30
_GAIN = 1e-4  # log-likelihood per voxel; less ends a turn
_NATIVE_VOXELS = 200_000  # that the Gaussians are fitted to at the end
_AFFINE_TURNS = 4  # of Gaussians and affine on the coarse level; each helps the other
_START_MM = 5.0  # finest level of the first, rigid search
_START_POINTS = 6_000
_FEWEST = 4


def classes_of(names: Sequence[str], settings: AtlasSettings) -> Classes:
    """The classes of the settings.

    Raises:
        ValueError: a structure or class is unknown.
    """
    return Classes.of_structures(names, settings.classes, settings.gaussians, settings.background_gaussians)


def counted(names: Sequence[str], settings: AtlasSettings) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What is segmented, and for each structure of the atlas which of these it counts as (−1: background).

    Raises:
        ValueError: `counts_as` names what the atlas does not have, or a structure that itself counts as another.
    """
    for name, whole in settings.counts_as.items():
        if name not in names or (whole not in names and whole != BACKGROUND):
            raise ValueError(f"counts_as: '{name}: {whole}' names what the atlas does not have")
        if whole in settings.counts_as:
            raise ValueError(f"counts_as: '{whole}' itself counts as '{settings.counts_as[whole]}'")
    kept = tuple(name for name in names if name not in settings.counts_as)
    if not kept:
        raise ValueError("counts_as leaves no structure to segment")
    target = [settings.counts_as.get(name, name) for name in names]
    return kept, tuple(-1 if name == BACKGROUND else kept.index(name) for name in target)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything that was fitted to one scan."""

    warp: Warp
    fit: Fit
    axes: Axes
    history: tuple[float, ...]
    """Log-likelihood per voxel at `working_mm` after each turn of Gaussians and displacement."""


class AtlasPredictor:
    """A `CasePredictor` and `StreamingPredictor`; see `mriad_synthseg.atlas_stage.AtlasEM`.

    Raises:
        ValueError: settings that name what the atlas does not have.
    """

    exclusive = True

    def __init__(self, atlas: Atlas, settings: AtlasSettings, channels: tuple[str, ...]) -> None:
        self.atlas, self.settings, self.channels = atlas, settings, channels
        names = atlas.label_set.names
        self.classes = classes_of(names, settings)
        kept, self._counts_as = counted(names, settings)
        self.label_set: LabelSet = atlas.label_set.only(kept)

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment one case; the result lies on the grid of the first channel.

        Raises:
            DataError: a channel is missing, unknown, not 3D, not finite, constant, on another grid, or too thin.
        """
        return self.stream(channels).collect()

    def stream(self, channels: Mapping[str, Volume], on_window: OnWindow | None = None) -> PredictionStream:
        """Fit now; evaluate the posteriors while the slabs are taken."""
        sample = prepare_volumes(ordered(channels, self.channels), (), ())
        if min(sample.grid.shape) < _FEWEST:
            raise DataError(
                "a scan is too thin to lay an atlas on",
                where={"grid": sample.grid.describe(), "expected": f"{_FEWEST} voxels along each axis"},
                remedy="give the whole scan, not single slices",
            )
        fitted = self.fit(sample)
        slabs = self._posteriors(sample, fitted, on_window)
        return PredictionStream(slabs, sample.grid, self.label_set, True)

    def fit(self, sample: Sample) -> Fitted:
        """Affine, displacement, Gaussians and bias of one scan."""
        settings = self.settings
        axes = Axes.of(sample.grid)
        scale = [_scale_of(channel) for channel in sample.image]
        coarse = _resampled(sample, settings.coarse_mm)
        smooth = self._reader(axes, settings.coarse_mm / 2)
        warp = Warp.start(axes, self._start(coarse), settings.control_mm)
        # Air would outweigh the scalp among the voxels without a name, and the brain would stretch to explain it.
        mask = self._mask(smooth, warp, axes.positions(coarse.grid), coarse.grid)
        level = _Level(coarse, axes, scale, settings, mask)
        for _ in range(_AFFINE_TURNS):
            fit, _ = level.fitted(smooth, warp, None, self.classes, bias=False)
            warp, gain = improved(
                warp, smooth, level.positions, level.mask, level.likelihood(fit, len(self.classes)),
                Deform(affine=True, displacement=False, stiffness=settings.stiffness),
            )  # fmt: skip
            if gain < _GAIN:
                break
        return self._fine(sample, axes, scale, warp)

    def _fine(self, sample: Sample, axes: Axes, scale: Sequence[tuple[float, float]], warp: Warp) -> Fitted:
        settings = self.settings
        reader = self._reader(axes, 0.0)
        working = _resampled(sample, settings.working_mm)
        positions = axes.positions(working.grid)
        level = _Level(working, axes, scale, settings, self._mask(reader, warp, positions, working.grid))
        fit, _ = level.fitted(reader, warp, None, self.classes, bias=False)
        history = []
        for turn in range(settings.rounds + 1):
            fit, _ = level.fitted(reader, warp, fit, self.classes, bias=True)
            history.append(fit.objective / level.count)
            if turn == settings.rounds:
                break
            warp, gain = improved(
                warp, reader, positions, level.mask, level.likelihood(fit, len(self.classes)),
                Deform(affine=turn == 0, displacement=True, stiffness=settings.stiffness),
            )  # fmt: skip
            if gain < _GAIN and turn > 0:
                break
        return Fitted(warp, self._at_native(sample, axes, scale, reader, warp, fit), axes, tuple(history))

    def _at_native(
        self,
        sample: Sample,
        axes: Axes,
        scale: Sequence[tuple[float, float]],
        reader: PriorReader,
        warp: Warp,
        fit: Fit,
    ) -> Fit:
        """Gaussians fitted once more to a sample of native voxels, whose noise is not averaged; the bias stays."""
        native = axes.positions(sample.grid)
        step = max(1, int(np.ceil((sample.image[0].size / _NATIVE_VOXELS / 4) ** (1 / 3))))
        places = [p[step // 2 :: step] for p in native]
        chosen = replace(
            sample,
            image=np.ascontiguousarray(
                sample.image[:, step // 2 :: step, step // 2 :: step, step // 2 :: step]
            ),
        )
        mask = self._mask(reader, warp, places, None)
        level = _Level(chosen, axes, scale, self.settings, mask, places)
        found, _ = level.fitted(reader, warp, fit, self.classes, bias=False)
        return found

    def _start(self, sample: Sample) -> NDArray[np.float64]:
        """A rigid transform (4, 4) scan world → atlas world to begin with, by mutual information with the classes.

        Rigid, because an atlas of a brain that may stretch lays its border on the scalp as soon as on the brain's.
        """
        values = np.linspace(0.4, 1.0, len(self.classes) - 1)
        merged = self.classes.merged(self.atlas.priors)
        picture = np.tensordot(np.concatenate([[0.0], values]).astype(np.float32), merged, axes=1)
        atlas = Volume(picture, self.atlas.grid)
        scan = Volume(sample.image[0], sample.grid)
        how = Registration(kind="rigid", min_gain=0.0, working_mm=_START_MM, samples=_START_POINTS)
        try:
            return register(atlas, scan, how).transform.array
        except DataError:  # the files' positions are unrelated
            return register(atlas, scan, how.model_copy(update={"start": "centres"})).transform.array

    def _reader(self, axes: Axes, smooth_mm: float) -> PriorReader:
        """Of class priors, smoothed further."""
        merged = self.classes.merged(self.atlas.priors)
        if smooth_mm > 0:
            for channel in merged:
                ndimage.gaussian_filter(
                    channel, smooth_mm / self.atlas.grid.spacing[0], output=channel, mode="nearest"
                )
        return PriorReader(merged, self.atlas.grid, axes)

    def _mask(
        self,
        reader: PriorReader,
        warp: Warp,
        positions: Sequence[NDArray[np.float64]],
        grid: Grid | None,
    ) -> NDArray[np.bool_]:
        """Where a structure may lie, grown by 10 mm."""
        spacing = [float(p[1] - p[0]) if len(p) > 1 else 1.0 for p in positions]
        with torch.no_grad():
            places = reader.places(warp, positions)
            background = reader.read(places.reshape(-1, 3))[0].reshape(places.shape[:3]).numpy()
        seen = background < 1 - _SEEN
        if not seen.any():
            raise DataError(
                "the atlas finds no place in a scan",
                where={"grid": grid.describe() if grid else "×".join(str(len(p)) for p in positions)},
                remedy="check that the scan shows what the atlas was made of, and its orientation",
            )
        mask: NDArray[np.bool_] = ndimage.distance_transform_edt(~seen, sampling=spacing) <= _GROWN_MM
        return mask

    def _posteriors(self, sample: Sample, fitted: Fitted, on_window: OnWindow | None) -> Iterator[Slab]:
        """Posteriors (S, …) on the native grid, in slabs across the first axis."""
        axes, fit = fitted.axes, fitted.fit
        structures = PriorReader(self.atlas.priors, self.atlas.grid, axes)
        # The atlas's background, not the class: a structure may share Gaussians with it.
        background = PriorReader(self.atlas.priors[:1], self.atlas.grid, axes)
        positions = axes.positions(sample.grid)
        scale = [_scale_of(channel) for channel in sample.image]
        count = sample.grid.shape[0]
        step = planes_per_slab(3 * len(self._counts_as), sample.grid.shape, 0)
        for begin in range(0, count, step):
            end = min(begin + step, count)
            some = [positions[0][begin:end], *positions[1:]]
            out = np.zeros((len(self.label_set), end - begin, *sample.grid.shape[1:]), np.float32)
            part = replace(sample, image=sample.image[:, begin:end])
            with torch.no_grad():
                places = background.places(fitted.warp, some)
                outside = background.read(places.reshape(-1, 3))[0].reshape(places.shape[:3])
                near = (outside < 1 - _POSSIBLE).numpy()
                if near.any():
                    priors = structures.read(places[torch.from_numpy(near)]).numpy()
                    level = _Level(part, axes, scale, self.settings, near, some)
                    values = level.voxels(np.zeros((level.count, len(self.classes)))).unbiased(
                        fit.coefficients
                    )
                    likelihood = fit.mixture.class_log_likelihood(values, len(self.classes))
                    out[:, near] = self._posterior(priors, likelihood)
            yield Slab(0, begin, torch.from_numpy(out))
            if on_window is not None:
                on_window(end, count)

    def _posterior(
        self, priors: NDArray[np.float32], log_likelihood: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(1 + K, N) priors and (N, C) likelihoods → (S, N) posteriors of what is segmented."""
        likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True)).T.astype(np.float32)
        joint = (priors + np.float32(TINY / len(priors))) * likelihood[list(self.classes.of)]
        joint /= joint.sum(0)
        out = np.zeros((len(self.label_set), priors.shape[1]), np.float32)
        for k, target in enumerate(self._counts_as):
            if target >= 0:
                out[target] += joint[k + 1]
        return np.clip(out, 0, 1)


class _Level:
    """A scan at one resolution: logarithms of its voxels in a mask, and how they are fitted."""

    def __init__(
        self,
        sample: Sample,
        axes: Axes,
        scale: Sequence[tuple[float, float]],
        settings: AtlasSettings,
        mask: NDArray[np.bool_],
        positions: Sequence[NDArray[np.float64]] | None = None,
    ) -> None:
        self.positions = list(positions) if positions is not None else axes.positions(sample.grid)
        self.mask, self.settings, self.axes = mask, settings, axes
        self.count = int(mask.sum())
        columns = [_logarithm(c[mask], *s) for c, s in zip(sample.image, scale, strict=True)]
        self.values = np.stack(columns, axis=1).astype(np.float64)

    def voxels(self, log_prior: NDArray[np.float64]) -> Voxels:
        """What is fitted."""
        basis = SmoothBasis.over(self.positions, self.axes.extents, self.settings.bias_mm)
        return Voxels(self.values, log_prior, self.mask, basis, self.settings.bias_sd)

    def fitted(
        self, reader: PriorReader, warp: Warp, fit: Fit | None, classes: Classes, bias: bool
    ) -> tuple[Fit, list[float]]:
        """Expectation–maximisation under the priors that the warp reads."""
        with torch.no_grad():
            prior = reader.read(reader.places(warp, self.positions)[torch.from_numpy(self.mask)])
        prior64 = prior.numpy().T.astype(np.float64) + TINY
        prior64 /= prior64.sum(1, keepdims=True)
        voxels = self.voxels(np.log(prior64))
        if fit is None:
            fit = Fit(start(self.values, prior64, classes.gaussians))
        return run_em(voxels, fit, _EM_STEPS, _GAIN, bias)

    def likelihood(self, fit: Fit, classes: int) -> NDArray[np.float64]:
        """log p(y | class) (N, C) with the bias taken out."""
        values = self.voxels(np.zeros((self.count, classes))).unbiased(fit.coefficients)
        return fit.mixture.class_log_likelihood(values, classes)


def _scale_of(channel: NDArray[np.float32]) -> tuple[float, float]:
    """What becomes 0 and 1: the smallest value (or the 0.1st percentile, above it) and the 99.5th percentile."""
    low, high = (float(v) for v in np.percentile(channel, [0.1, 99.5]))
    if not high > low:
        low, high = float(channel.min()), float(channel.max())
    return low, high


def _logarithm(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """log(0.03 + scaled): a multiplicative bias becomes an addition."""
    scaled = np.maximum((values.astype(np.float64) - low) / (high - low), 0)
    out: NDArray[np.float64] = np.log(_DARK + scaled)
    return out


def _resampled(sample: Sample, spacing_mm: float) -> Sample:
    """Means over voxels of `spacing_mm`; axes that are as coarse already stay."""
    wanted = [max(s, spacing_mm) if s < 0.99 * spacing_mm else "keep" for s in sample.grid.spacing]
    small = Resample(spacing_mm=wanted, image_order=1, slice_profile=True)
    return small.apply(sample, None)
