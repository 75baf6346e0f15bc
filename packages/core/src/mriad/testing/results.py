"""Contracts of predictors, stages and metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad.geometry import Grid
from mriad.testing.contract import check_config, finite, own_randomness, require, untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.interfaces import CasePredictor, Metric, Stage
    from mriad.stages.artefact import StageContext
    from mriad.vocabulary import Volume


def check_predictor(predictor: CasePredictor, channels: Mapping[str, Volume]) -> None:
    """Predict one case twice, with its channels in either order.

    Raises:
        ContractError: the result is not on the case's grid, not in [0, 1], not finite, not reproducible, depends on
            the order in which channels are given, or the input is written to.
    """
    require(set(predictor.channels) == set(channels), f"the predictor asks for {predictor.channels}")
    grid = channels[predictor.channels[0]].grid
    with (
        untouched("the predictor", {n: v.data for n, v in channels.items()}),
        own_randomness("the predictor"),
    ):
        found = predictor(dict(channels))
        again = predictor(dict(channels))
        turned = predictor(dict(reversed(list(channels.items()))))
    maps = np.asarray(found.probabilities)
    expected = (len(predictor.label_set), *grid.shape)
    require(maps.shape == expected, f"the prediction has shape {maps.shape}, expected {expected}")
    require(found.grid.same(grid), f"the prediction lies {found.grid.distance(grid):g} mm off its image")
    finite("the prediction", maps)
    low, high = float(maps.min()), float(maps.max())
    require(low >= -1e-6 and high <= 1 + 1e-6, f"probabilities leave [0, 1]: {low:g} to {high:g}")
    require(
        np.array_equal(maps, np.asarray(again.probabilities)), "a second prediction of the same case differs"
    )
    require(
        np.array_equal(maps, np.asarray(turned.probabilities)),
        "the prediction depends on the channel order in which images are given",
    )


def check_stage(stage: Stage, context: StageContext) -> None:
    """Run the stage, then once more in the same folder, as after an interruption.

    Raises:
        ContractError: it makes another kind than it declares, leaves its folder, or cannot be run again.
    """
    check_config(stage)
    name = stage.type_name()
    expected = stage.result(context.experiment)
    for round_ in ("first", "second"):
        made = stage.run(context)
        require(made.kind == expected, f"{name} made a {made.kind}, but declares a {expected}")
        inside = made.folder.resolve()
        root = context.folder.resolve()
        require(inside == root or root in inside.parents, f"{name} leaves its result outside its own folder")
        require(inside.is_dir(), f"{name} made no folder in its {round_} run")
        require(
            made.fingerprint == context.fingerprint, f"{name} must hand on the fingerprint that it is given"
        )


def check_metric(metric: Metric) -> None:
    """Measure perfect, slightly wrong, very wrong, empty and absent structures.

    Raises:
        ContractError: a worse prediction scores better, a miss improves the value, inputs are written to, results
            depend on flips, invalid voxels count, or unit, direction or worst value are missing.
    """
    check_config(metric)
    name, measure = metric.type_name(), metric.build()
    require(bool(metric.unit), f"{name} has no unit")
    require(metric.direction in ("higher", "lower", "toward"), f"{name} has no direction")
    require(
        (metric.direction == "toward") == (metric.toward is not None),
        f"{name}: set `toward` with that direction",
    )
    require(" " not in metric.key(), f"{name}: the key '{metric.key()}' holds a space")
    grid = Grid.of((14, 12, 10), np.diag([1.0, 1.0, 2.0, 1.0]))
    truth = _box(grid, 3)
    with untouched(name, {"prediction": truth, "reference": truth}), own_randomness(name):
        perfect, _ = measure(truth, truth, grid)
    near, _ = measure(_box(grid, 2), truth, grid)
    far, _ = measure(_box(grid, 1), truth, grid)
    finite(f"{name} of a perfect prediction", perfect)
    cost = _cost(metric)
    require(
        cost(perfect) <= cost(near),
        f"{name} prefers a wrong prediction ({near:g}) to a perfect one ({perfect:g})",
    )
    require(
        cost(near) <= cost(far), f"{name} prefers a worse prediction ({far:g}) to a better one ({near:g})"
    )
    nothing = np.zeros_like(truth)
    missed, note = measure(nothing, truth, grid)
    if math.isnan(missed):
        require(note == "miss", f"{name} gives NaN for a missed structure without the note 'miss'")
    else:
        require(
            cost(missed) >= cost(far),
            f"{name} scores a miss ({missed:g}) better than a bad prediction ({far:g})",
        )
    value, note = measure(nothing, nothing, grid)
    require(
        math.isnan(value) and note != "miss",
        f"{name} must give NaN where there is nothing to find and nothing found",
    )
    flipped, _ = measure(_box(grid, 2)[::-1], truth[::-1], grid)
    require(
        math.isclose(flipped, near, rel_tol=1e-6, abs_tol=1e-9), f"{name} changes when both masks are flipped"
    )
    validity = np.ones(grid.shape, bool)
    validity[..., :2] = False
    spoilt = truth.copy()
    spoilt[..., :2] = 1
    masked, _ = measure(spoilt, truth, grid, validity)
    clean, _ = measure(truth, truth, grid, validity)
    require(
        masked == clean or cost(masked) <= cost(clean) + 1e-9, f"{name} counts voxels that are not annotated"
    )


def _box(grid: Grid, thickness: int) -> Any:
    """A box of 7 × 6 × `thickness` · 2 voxels, off the middle of the first axis, float32."""
    mask = np.zeros(grid.shape, np.float32)
    mask[3:10, 3:9, 5 - thickness : 5 + thickness] = 1
    return mask


def _cost(metric: Metric) -> Any:
    if metric.direction == "higher":
        return lambda value: -value
    if metric.direction == "lower":
        return lambda value: value
    best = metric.toward or 0.0
    return lambda value: abs(value - best)
