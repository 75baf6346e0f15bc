"""Contracts of predictors and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mriad.testing.contract import check_config, finite, own_randomness, require, untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.interfaces import CasePredictor, Stage
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
