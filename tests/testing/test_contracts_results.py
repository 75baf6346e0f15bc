"""The contract checks of predictors, stages and metrics pass sound ones and catch listed mutants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
from mriad import testing
from mriad.geometry import Grid
from mriad.inference.prediction import CasePrediction
from mriad.interfaces import Metric, Stage
from mriad.stages.artefact import Artefact, StageContext
from mriad.testing import ContractError
from mriad.vocabulary import Volume


def fails(check, *arguments, match: str) -> None:
    with pytest.raises(ContractError, match=match):
        check(*arguments)


class TestPredictor:
    channels: ClassVar = {
        "T1w": Volume(
            np.random.default_rng(0).random((6, 5, 4)).astype(np.float32), Grid.of((6, 5, 4), np.eye(4))
        ),
        "T2w": Volume(
            np.random.default_rng(1).random((6, 5, 4)).astype(np.float32), Grid.of((6, 5, 4), np.eye(4))
        ),
    }

    def predictor(self, function):
        class Found:
            channels = ("T1w", "T2w")
            label_set = testing.a_task().label_set()

            def __call__(self, channels):
                return function(self, channels)

        return Found()

    @staticmethod
    def sound(self, channels):
        maps = np.stack([channels["T1w"].data, 1 - channels["T1w"].data])
        return CasePrediction(maps, channels["T1w"].grid, self.label_set)

    def test_sound(self):
        testing.check_predictor(self.predictor(self.sound), self.channels)

    def changed(self, **more):
        return self.predictor(lambda p, c: replace(self.sound(p, c), **{k: f(p, c) for k, f in more.items()}))

    def test_wrong_channel_order(self):
        mutant = self.predictor(
            lambda p, c: CasePrediction(
                np.stack([v.data for v in c.values()]), next(iter(c.values())).grid, p.label_set
            )
        )
        fails(testing.check_predictor, mutant, self.channels, match="channel order")

    def test_another_grid(self):
        mutant = self.changed(grid=lambda p, c: c["T1w"].grid.crop((1, 0, 0), (6, 5, 4)))
        fails(testing.check_predictor, mutant, self.channels, match="1 mm off its image")

    def test_nan_range_and_shape(self):
        nan = self.changed(probabilities=lambda p, c: self.sound(p, c).probabilities * np.float32(np.nan))
        fails(testing.check_predictor, nan, self.channels, match="NaN")
        big = self.changed(probabilities=lambda p, c: self.sound(p, c).probabilities * 3)
        fails(testing.check_predictor, big, self.channels, match=r"leave \[0, 1\]")
        few = self.changed(probabilities=lambda p, c: self.sound(p, c).probabilities[:1])
        fails(testing.check_predictor, few, self.channels, match="has shape")

    def test_global_random_state_and_mutation(self):
        noisy = self.changed(probabilities=lambda p, c: np.random.rand(2, 6, 5, 4).astype(np.float32))
        fails(testing.check_predictor, noisy, self.channels, match="global random state")

        def mutate(p, c):
            c["T2w"].data[0] += 1
            return self.sound(p, c)

        copied = {n: Volume(v.data.copy(), v.grid) for n, v in self.channels.items()}
        fails(testing.check_predictor, self.predictor(mutate), copied, match="writes into its input 'T2w'")


class TestStage:
    def stage(self, run, makes="table"):
        kind = makes

        class Made(Stage):
            type: Literal["shapes.made"] = "shapes.made"
            makes = kind

            def run(self, context):
                return run(context)

        return Made()

    def context(self, folder):
        folder.mkdir()
        return StageContext("made", folder, None, {}, 0, 0, "f" * 64, None, None)

    def test_sound(self, tmp_path):
        context = self.context(tmp_path / "s")
        testing.check_stage(self.stage(lambda c: Artefact("table", c.folder, c.fingerprint)), context)

    def test_mutants(self, tmp_path):
        context = self.context(tmp_path / "s")
        kind = self.stage(lambda c: Artefact("weights", c.folder, c.fingerprint))
        fails(testing.check_stage, kind, context, match="made a weights, but declares a table")
        outside = self.stage(lambda c: Artefact("table", tmp_path, c.fingerprint))
        fails(testing.check_stage, outside, context, match="outside its own folder")
        name = self.stage(lambda c: Artefact("table", c.folder, "0"))
        fails(testing.check_stage, name, context, match="must hand on the fingerprint")


class Overlap(Metric):
    """A sound metric: Dice."""

    type: Literal["shapes.sound"] = "shapes.sound"
    worst = 0.0

    def build(self):
        return dice


def dice(prediction, reference, grid, validity=None):
    keep = np.ones(reference.shape, bool) if validity is None else validity
    p, g = (prediction > 0.5) & keep, (reference > 0.5) & keep
    total = p.sum() + g.sum()
    if not total:
        return math.nan, "empty"
    return float(2 * (p & g).sum() / total), "" if p.any() else "miss"


class TestMetric:
    def test_sound(self):
        testing.check_metric(Overlap())

    def mutant(self, function):
        class Mutant(Overlap):
            def build(self):
                return function

        return Mutant()

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda p, g, s, v=None: (1 - dice(p, g, s, v)[0], ""), "prefers a wrong prediction"),
            (lambda p, g, s, v=None: dice(p, g, s), "not annotated"),
            (
                lambda p, g, s, v=None: (math.nan, "") if not p.any() else dice(p, g, s, v),
                "without the note 'miss'",
            ),
            (lambda p, g, s, v=None: dice(p, g, s, v) if p.any() else (1.0, "miss"), "scores a miss"),
            (
                lambda p, g, s, v=None: (1.0, "") if not (p.any() or g.any()) else dice(p, g, s, v),
                "nothing to find",
            ),
            (
                lambda p, g, s, v=None: (
                    dice(p, g, s, v)[0] - 1e-4 * p.any((1, 2)).argmax(),
                    dice(p, g, s, v)[1],
                ),
                "are flipped",
            ),
            (lambda p, g, s, v=None: (dice(p, g, s, v)[0] + np.random.rand() * 0, ""), "global random state"),
        ],
    )
    def test_mutants(self, function, message):
        fails(testing.check_metric, self.mutant(function), match=message)

    def test_input_mutated(self):
        def mutate(p, g, s, v=None):
            p[0] = 1
            return dice(p, g, s, v)

        fails(
            testing.check_metric, self.mutant(mutate), match="writes into its input 'prediction'|writes into"
        )


def test_a_component_without_a_type_is_told_so():
    class Nameless(Overlap):
        type: str = ""

    fails(testing.check_metric, Nameless.model_construct(), match="has no `type`")
