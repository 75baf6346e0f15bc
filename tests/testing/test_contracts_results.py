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
    best = 1.0
    if_missed = 0.0
    if_false_positive = 0.0

    def build(self):
        return lambda pair: dice(pair.prediction, pair.reference, pair.grid, pair.validity)


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
                return lambda pair: function(pair.prediction, pair.reference, pair.grid, pair.validity)

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

    def test_what_is_declared_is_what_is_measured(self):
        class Silent(Overlap):
            if_missed = None

        class Modest(Overlap):
            best = 0.9

        class Strict(Overlap):
            if_false_positive = -1.0

        fails(testing.check_metric, Silent(), match="of a miss is 0, declared is no value")
        fails(testing.check_metric, Modest(), match=r"declares 0.9 as best, a perfect prediction has 1")
        fails(testing.check_metric, Strict(), match="of a false positive is 0, declared is -1")


class Volume3d(Overlap):
    """A sound measurement: neither good nor bad."""

    type: Literal["shapes.size"] = "shapes.size"
    direction = "none"
    best = None

    def build(self):
        def size(pair):
            keep = np.ones(pair.prediction.shape, bool) if pair.validity is None else pair.validity
            return float((pair.prediction[keep] > 0.5).sum()), ""

        return size


class TestMeasurement:
    def test_sound(self):
        testing.check_metric(Volume3d())

    def test_counts_what_is_not_annotated(self):
        class Mutant(Volume3d):
            def build(self):
                return lambda pair: (float((pair.prediction > 0.5).sum()), "")

        fails(testing.check_metric, Mutant(), match="not annotated")


class Sliced(Overlap):
    """A sound slice metric."""

    type: Literal["shapes.sliced"] = "shapes.sliced"
    level = "slice"

    def build(self):
        def every(pair):
            for z in range(pair.grid.shape[2]):
                keep = None if pair.validity is None else pair.validity[..., z]
                value, note = dice(pair.prediction[..., z], pair.reference[..., z], pair.grid, keep)
                if note != "empty":
                    yield z, value, note

        return lambda pair: list(every(pair))


class TestSliceMetric:
    def test_sound(self):
        testing.check_metric(Sliced())

    def test_order(self):
        class Mutant(Sliced):
            def build(self):
                good = super().build()
                return lambda pair: good(pair)[::-1]

        fails(testing.check_metric, Mutant(), match="out of order")


class Spread(Metric):
    """A sound person metric."""

    type: Literal["shapes.spread"] = "shapes.spread"
    level = "person"
    direction = "lower"
    worst = 1e6

    def needs(self):
        return ("size",)

    def build(self):
        return self.spread

    @staticmethod
    def spread(rows):
        values = [row.value for row in rows]
        if len(values) < 2 or any(math.isnan(v) for v in values):
            return math.nan, "miss" if any(row.note == "miss" for row in rows) else "incomplete"
        return float(np.std(sorted(values), ddof=1)), ""


class TestPersonMetric:
    def test_sound(self):
        testing.check_metric(Spread())

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (
                lambda rows: (rows[0].value if rows else math.nan, "" if rows else "incomplete"),
                "order of rows",
            ),
            (lambda rows: (0.0, ""), "without any row"),
            (lambda rows: (math.nan, "incomplete") if not rows else Spread.spread(rows[:0]), None),
            (
                lambda rows: (
                    (float(np.nanmax([r.value for r in rows])), "") if rows else (math.nan, "incomplete")
                ),
                "is better where a contrast is missed",
            ),
        ],
    )
    def test_mutants(self, function, message):
        class Mutant(Spread):
            def build(self):
                return function

        if message is None:  # never a value: useless, but no lie
            testing.check_metric(Mutant())
        else:
            fails(testing.check_metric, Mutant(), match=message)

    def test_needs_nothing(self):
        class Mutant(Spread):
            def needs(self):
                return ()

        fails(testing.check_metric, Mutant(), match="needs no case metric")

    def test_a_miss_needs_a_worst_value(self):
        class Mutant(Spread):
            worst = None

        fails(testing.check_metric, Mutant(), match="needs a worst value")


def test_a_component_without_a_type_is_told_so():
    class Nameless(Overlap):
        type: str = ""

    fails(testing.check_metric, Nameless.model_construct(), match="has no `type`")
