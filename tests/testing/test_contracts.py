"""The contract checks pass sound components and catch listed mutants, each by its message."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from mriad import testing
from mriad.interfaces import Augmenter, Dataset, Learner, Loss, Model, PreprocessingStep
from mriad.testing import ContractError
from mriad.training.algorithm import LearnerSetup
from mriad.vocabulary import CaseIndex, Volume
from mriad_shapes import configs


def fails(check, *arguments, match: str) -> None:
    with pytest.raises(ContractError, match=match):
        check(*arguments)


class Random(configs.BlobSource):
    """Draws from NumPy's global state."""

    def read(self):
        volume = super().read()
        return Volume(volume.data + np.random.rand(*volume.data.shape), volume.grid)


class Seven(configs.BlobSource):
    """Labels of value 7."""

    def read(self):
        volume = super().read()
        return Volume(volume.data * 7, volume.grid)


class Changed(configs.BlobSource):
    """Voxels changed by a function that a test sets; sources must pickle, so it is no argument."""

    change = staticmethod(lambda volume: volume)

    def read(self):
        return self.change(super().read())


class TestDataset:
    def test_sound(self):
        testing.check_dataset(configs.Blobs())

    def mutant(self, change):
        class Mutant(Dataset):
            type: Literal["shapes.mutant"] = "shapes.mutant"

            def build(self):
                index = configs.Blobs(persons=2).build()
                return CaseIndex([change(case) for case in index], index.label_set)

        return Mutant()

    def test_a_case_without_a_person(self):
        fails(testing.check_dataset, self.mutant(lambda c: replace(c, person="")), match="has no person")

    def test_a_source_that_draws_from_global_state(self):
        mutant = self.mutant(lambda c: replace(c, channels={"image": Random(1, 8, 0, "image")}))
        fails(testing.check_dataset, mutant, match="NumPy's global random state")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: Volume(v.data * np.nan, v.grid), "NaN or infinity"),
            (lambda v: Volume(v.data * 0 + 1, v.grid), "is constant"),
            (lambda v: Volume(v.data[..., None], v.grid), "is 4D"),
            (lambda v: Volume(v.data, v.grid.crop((1, 0, 0), v.grid.shape)), "mm off its image"),
        ],
    )
    def test_voxels_that_cannot_be_used(self, change, message, monkeypatch):
        monkeypatch.setattr(Changed, "change", staticmethod(change))
        mutant = self.mutant(lambda c: replace(c, channels={"image": Changed(1, 8, 0, "image")}))
        fails(testing.check_dataset, mutant, match=message)

    def test_label_values_outside_the_label_set(self):
        label = replace(configs.Blobs().build()[0].labels["hard"], source=Seven(0, 8, 0, "label"))
        mutant = self.mutant(lambda c: c.with_labels(hard=label))
        fails(testing.check_dataset, mutant, match=r"holds \[7\], which the label set lacks")


class Scale(PreprocessingStep):
    """A sound step."""

    type: Literal["shapes.scale"] = "shapes.scale"

    def apply(self, sample, parameters):
        return replace(sample, image=(sample.image * 2).astype(np.float32))


class TestPreprocessing:
    def test_sound(self):
        testing.check_preprocessing(Scale())

    def mutant(self, change):
        class Mutant(Scale):
            def apply(self, sample, parameters):
                return change(sample)

        return Mutant()

    def test_label_resampled_as_an_image(self):
        def smooth(sample):
            target = sample.target.astype(np.float32)
            mean = (target + np.roll(target, 1, 1)) / 2
            kept = mean if sample.target.dtype == np.float32 else np.rint(mean * 3).astype(np.uint8)
            return replace(sample, target=kept)

        fails(testing.check_preprocessing, self.mutant(smooth), match="is the label resampled like an image")

    def test_label_becomes_float(self):
        mutant = self.mutant(lambda s: replace(s, target=s.target.astype(np.float64)))
        fails(testing.check_preprocessing, mutant, match="hard targets stay integers")

    def test_soft_label_leaves_its_range(self):
        def overshoot(sample):
            soft = sample.target.dtype == np.float32
            return replace(sample, target=sample.target * 1.2 if soft else sample.target)

        fails(testing.check_preprocessing, self.mutant(overshoot), match=r"out of \[0, 1\]")

    def test_input_mutated(self):
        def mutate(sample):
            sample.image[:] = 0
            return sample

        fails(testing.check_preprocessing, self.mutant(mutate), match="writes into its input 'image'")

    def test_global_random_state(self):
        def noise(sample):
            return replace(
                sample, image=sample.image + np.random.rand(*sample.image.shape).astype(np.float32)
            )

        fails(testing.check_preprocessing, self.mutant(noise), match="global random state")

    def test_nan(self):
        mutant = self.mutant(lambda s: replace(s, image=s.image * np.float32(np.nan)))
        fails(testing.check_preprocessing, mutant, match="NaN")

    def test_grid_not_kept(self):
        mutant = self.mutant(lambda s: replace(s, image=s.image[:, :-4], target=s.target[:, :-4]))
        fails(testing.check_preprocessing, mutant, match="does not fit its grid")

    def test_voxels_moved_without_their_grid(self):
        mutant = self.mutant(lambda s: replace(s, image=np.roll(s.image, 4, 1)))
        fails(testing.check_preprocessing, mutant, match="moves the image by")


class TestAugmenter:
    def test_sound(self):
        testing.check_augmenter(configs.Jitter())

    def mutant(self, change):
        class Mutant(Augmenter):
            type: Literal["shapes.mutant"] = "shapes.mutant"

            def build(self, task):
                return change

        return Mutant()

    def test_global_random_state(self):
        def noise(batch, draws):
            return replace(batch, image=batch.image + torch.randn(batch.image.shape))

        fails(testing.check_augmenter, self.mutant(noise), match="torch's global random state")

    def test_depends_on_the_seed_of_the_process(self):
        def noise(batch, draws):
            with torch.random.fork_rng(devices=[]):
                return replace(batch, image=batch.image + torch.randn(batch.image.shape))

        fails(testing.check_augmenter, self.mutant(noise), match="another result for the same keys")

    def test_depends_on_batch_mates(self):
        def centre(batch, draws):
            return replace(batch, image=batch.image - batch.image.mean())

        fails(testing.check_augmenter, self.mutant(centre), match="batch mates")

    def test_input_mutated(self):
        def mutate(batch, draws):
            batch.image.mul_(2)
            return batch

        fails(testing.check_augmenter, self.mutant(mutate), match="writes into its input")

    def test_label_resampled_as_an_image(self):
        def smooth(batch, draws):
            if batch.target.dtype.is_floating_point:
                return batch
            return replace(batch, target=batch.target * 2)

        fails(testing.check_augmenter, self.mutant(smooth), match="is the label resampled like an image")

    def test_nan(self):
        mutant = self.mutant(lambda b, d: replace(b, image=b.image * math.nan))
        fails(testing.check_augmenter, mutant, match="NaN")

    def test_target_left_behind(self):
        mutant = self.mutant(lambda b, d: replace(b, image=b.image[..., :-2]))
        fails(testing.check_augmenter, mutant, match="different sizes")


class TestModel:
    def test_sound(self):
        testing.check_model(configs.TinyNet())

    def mutant(self, make):
        class Mutant(Model):
            type: Literal["shapes.mutant"] = "shapes.mutant"

            def build(self, task):
                return make(task)

        return Mutant()

    def test_wrong_channels(self):
        mutant = self.mutant(lambda task: torch.nn.Conv3d(2, 2, 1))
        fails(testing.check_model, mutant, match=r"gives \(2, 2\), expected \(2, 3\)")

    def test_smaller_output(self):
        mutant = self.mutant(lambda task: torch.nn.Conv3d(2, 3, 3))
        fails(testing.check_model, mutant, match=r"\(2, 3, 14, 14, 14\), expected \(2, 3, 16, 16, 16\)")

    def test_weights_from_elsewhere(self):
        def make(task):
            net = torch.nn.Conv3d(2, 3, 1)
            net.weight.data = torch.from_numpy(np.random.rand(3, 2, 1, 1, 1).astype(np.float32))
            return net

        fails(testing.check_model, self.mutant(make), match="from something else than torch's generator")

    def test_nan(self):
        def make(task):
            net = torch.nn.Conv3d(2, 3, 1)
            net.bias.data.fill_(math.nan)
            return net

        fails(testing.check_model, self.mutant(make), match="from something else|NaN or infinity")


class Squares(Loss):
    """A sound loss: squared error of raw outputs."""

    type: Literal["shapes.squares"] = "shapes.squares"

    @property
    def link(self):
        return "raw"

    def build(self, task):
        return squares


def squares(prediction, target, weight=None):
    if not target.dtype.is_floating_point:
        target = torch.cat([(target == s + 1).float() for s in range(prediction.shape[1])], 1)
    weight = torch.ones_like(target[:, :1]) if weight is None else weight
    per_sample = ((prediction - target).square() * weight).flatten(1).sum(1)
    return (per_sample / weight.flatten(1).sum(1).clamp_min(1)).mean()


class TestLoss:
    def test_sound(self):
        testing.check_loss(Squares())

    def mutant(self, function):
        class Mutant(Squares):
            def build(self, task):
                return function

        return Mutant()

    def test_wrong_channel_order(self):
        mutant = self.mutant(lambda p, t, w=None: squares(p.flip(1), t, w))
        fails(testing.check_loss, mutant, match="wrong channel order")

    def test_weight_ignored(self):
        mutant = self.mutant(lambda p, t, w=None: squares(p, t))
        fails(testing.check_loss, mutant, match="weight is 0")

    def test_sum_instead_of_mean(self):
        mutant = self.mutant(lambda p, t, w=None: squares(p, t, w) * len(p))
        fails(testing.check_loss, mutant, match="is not the mean over its samples")

    def test_nan(self):
        mutant = self.mutant(lambda p, t, w=None: squares(p, t, w).sqrt().log() * 0)
        fails(testing.check_loss, mutant, match="NaN or infinity")

    def test_not_a_scalar(self):
        mutant = self.mutant(lambda p, t, w=None: (p - 0).square().mean((2, 3, 4)))
        fails(testing.check_loss, mutant, match="not a scalar")

    def test_input_mutated(self):
        def mutate(p, t, w=None):
            p.add_(1)
            return squares(p, t, w)

        fails(testing.check_loss, self.mutant(mutate), match="writes into its input 'prediction'")


def setup() -> LearnerSetup:
    return LearnerSetup(
        task=testing.a_task(),
        model=configs.TinyNet(),
        loss=configs.CrossEntropy(),
        optimiser=configs.Sgd(),
        schedule=None,
        device=torch.device("cpu"),
        seed=1,
        updates=4,
    )


class TestLearner:
    def test_sound(self):
        testing.check_learner(configs.Supervised(), setup())

    def mutant(self, **methods):
        from mriad_shapes.learners import SupervisedAlgorithm

        algorithm = type("Changed", (SupervisedAlgorithm,), methods)

        class Mutant(Learner):
            type: Literal["shapes.mutant"] = "shapes.mutant"

            def build(self, setup):
                return algorithm(setup)

        return Mutant()

    def test_nothing_is_learnt(self):
        mutant = self.mutant(step=lambda self, batches, run: {})
        fails(testing.check_learner, mutant, setup(), match="changes no weight")

    def test_state_is_lost(self):
        def state(self):
            return {"networks": {"network": self.network.state_dict()}, "optimisers": {}, "extra": {}}

        def load(self, state):
            self.network.load_state_dict(state["networks"]["network"])

        mutant = self.mutant(state_dict=state, load_state_dict=load)
        fails(testing.check_learner, mutant, setup(), match="resumed in mid-way ends with another")

    def test_state_with_code(self):
        mutant = self.mutant(extra_state=lambda self: {"path": Path()}, load_extra_state=lambda self, s: None)
        fails(testing.check_learner, mutant, setup(), match="cannot be loaded without executing code")

    def test_nan_is_reported(self):
        mutant = self.mutant(step=lambda self, batches, run: {"loss": math.nan})
        fails(testing.check_learner, mutant, setup(), match="NaN or infinity")
