"""Networks, flips, head, window: what is averaged, and that training modes come back."""

import numpy as np
import pytest
import torch
from inference_fakes import (
    CORD,
    TWO,
    ConvModel,
    Copy,
    DomainNet,
    KeepAbove,
    oblique,
    predict_section,
    task_of,
)
from monai.inferers import sliding_window_inference
from mriad.errors import DataError, ExperimentError, ShapeError
from mriad.geometry import Grid
from mriad.inference.predictor import predict_whole
from mriad.inference.segmenter import Segmenter
from mriad.vocabulary import Sample, Task
from torch import nn


def _sample(shape=(12, 10, 8), channels=1, seed=0, affine=None):
    image = np.random.default_rng(seed).standard_normal((channels, *shape)).astype(np.float32)
    return Sample("a", image, Grid.of(shape, np.eye(4) if affine is None else affine))


def _conv(task, seed=0):
    torch.manual_seed(seed)
    return ConvModel().build(task).eval()


def _monai(network, image, window, after):
    with torch.no_grad():
        found = sliding_window_inference(
            torch.from_numpy(image)[None],
            window,
            1,
            lambda x: after(network(x)),
            overlap=0.5,
            mode="gaussian",
        )
    return found[0].numpy()


def test_softmax_blends_probabilities_as_monai_does():
    task, sample = task_of("softmax", TWO), _sample()
    network = _conv(task)
    found = predict_whole([network], sample, predict_section("fake.softmax", window=[6, 6, 6]), task)
    theirs = _monai(network, sample.image, (6, 6, 6), lambda x: x.softmax(1))[1:]
    np.testing.assert_allclose(found, theirs, atol=1e-5)


def test_sigmoid_blends_probabilities_as_monai_does():
    task, sample = task_of("sigmoid", TWO), _sample()
    network = _conv(task)
    found = predict_whole([network], sample, predict_section("fake.sigmoid", window=[6, 6, 6]), task)
    np.testing.assert_allclose(found, _monai(network, sample.image, (6, 6, 6), torch.sigmoid), atol=1e-5)


def test_raw_blends_outputs_as_monai_does():
    task, sample = task_of("raw", TWO), _sample()
    network = _conv(task)
    found = predict_whole([network], sample, predict_section("fake.clamp", window=[6, 6, 6]), task)
    theirs = _monai(network, sample.image, (6, 6, 6), lambda x: x).clip(0, 1)
    np.testing.assert_allclose(found, theirs, atol=1e-5)


@pytest.mark.parametrize(("link", "head"), [("softmax", "fake.softmax"), ("sigmoid", "fake.sigmoid")])
def test_folds_and_flips_average_probabilities(link, head):
    """Whole-volume window: the mean over networks and the 4 combinations of two flips, by hand."""
    task, sample = task_of(link, TWO), _sample()
    networks = [_conv(task, s) for s in (0, 1)]
    section = predict_section(head, test_time={"flips": ["x", "z"]})
    found = predict_whole(networks, sample, section, task)
    image, parts = torch.from_numpy(sample.image)[None], []
    for network in networks:
        for dims in ([], [2], [4], [2, 4]):
            with torch.no_grad():
                raw = network(image.flip(dims)).flip(dims)
            parts.append(raw.softmax(1)[:, 1:] if link == "softmax" else raw.sigmoid())
    np.testing.assert_allclose(found, torch.stack(parts).mean(0)[0].numpy(), atol=1e-6)


def test_raw_link_averages_raw_outputs():
    task, sample = task_of("raw"), _sample()
    found = predict_whole([Copy(1, 3.0), Copy(1, -1.0)], sample, predict_section(), task)
    np.testing.assert_allclose(
        found, sample.image.clip(0, 1), atol=1e-6
    )  # not the mean of two clamped images


def test_flips_change_nothing_for_a_pointwise_network_and_twins_are_one():
    task, sample = task_of("softmax", TWO), _sample()
    section = predict_section("fake.softmax", window=[5, 6, 7])
    flipped = predict_section("fake.softmax", window=[5, 6, 7], test_time={"flips": ["x", "y", "z"]})
    one = predict_whole([Copy(3, 2.0)], sample, section, task)
    np.testing.assert_allclose(predict_whole([Copy(3, 2.0)], sample, flipped, task), one, atol=1e-6)
    np.testing.assert_allclose(predict_whole([Copy(3, 2.0)] * 2, sample, section, task), one, atol=1e-6)


def test_a_network_that_returns_its_input_is_not_written_to():
    sample = _sample()
    before = sample.image.copy()
    section = predict_section(test_time={"flips": ["x"]})
    found = predict_whole([nn.Identity()], sample, section, task_of())
    np.testing.assert_array_equal(sample.image, before)
    np.testing.assert_allclose(found, before.clip(0, 1), atol=1e-6)


def test_a_head_that_is_not_voxelwise_sees_the_stitched_volume():
    """The maximum for NormReLU is the stitched volume's, never a window's (specs/softseg.md section 5)."""
    sample = _sample((20, 6, 6))
    found = predict_whole(
        [Copy(1, 2.0)], sample, predict_section("fake.norm_relu", window=[4, 6, 6]), task_of()
    )
    expected = sample.image.clip(0) / sample.image.max()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.max() == pytest.approx(1)
    empty = Sample("a", -np.abs(sample.image), sample.grid)
    assert not predict_whole([Copy(1, 2.0)], empty, predict_section("fake.norm_relu"), task_of()).any()


def test_extreme_outputs_survive_the_way_to_the_head():
    for link, head, labels in (("softmax", "fake.softmax", TWO), ("sigmoid", "fake.sigmoid", TWO)):
        sample = Sample(
            "a", np.array([-1e4, 0, 1e4], np.float32).reshape(1, 3, 1, 1), Grid.of((3, 1, 1), np.eye(4))
        )
        task = task_of(link, labels)
        network = Copy(task.outputs(), 1.0)
        raw = network(torch.from_numpy(sample.image)[None]).detach()[0]
        expected = raw.softmax(0)[1:] if link == "softmax" else raw.sigmoid()
        found = predict_whole([network], sample, predict_section(head), task)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_low_cut_then_postprocess_on_the_native_grid():
    image = np.array([0.1, 0.3, 0.4, 0.9], np.float32).reshape(1, 4, 1, 1)
    sample = Sample("a", image, Grid.of((4, 1, 1), np.eye(4)))
    cut = predict_whole([Copy(1, 1.0)], sample, predict_section(low_cut=0.3), task_of())
    np.testing.assert_allclose(cut.ravel(), [0, 0, 0.4, 0.9], atol=1e-6)
    section = predict_section(low_cut=0.05, postprocess=[KeepAbove(level=0.35)])
    both = predict_whole([Copy(1, 1.0)], sample, section, task_of())
    np.testing.assert_allclose(both.ravel(), [0, 0, 0.4, 0.9], atol=1e-6)


def test_prediction_onto_another_native_grid():
    sample = _sample((12, 10, 8), affine=oblique(5))
    native = sample.grid.crop((2, -1, 3), (6, 12, 4))
    found = predict_whole([Copy(1, 1.0)], sample, predict_section(), task_of(), native=native)
    assert found.shape == (1, 6, 12, 4)
    np.testing.assert_allclose(found[0, :, 1:11], sample.image[0, 2:8, :, 3:7].clip(0, 1), atol=1e-6)
    assert not found[0, :, 0].any()


def test_modes_of_training_come_back_module_by_module():
    network = _conv(task_of()).train()
    network[2].eval()  # frozen by the learner
    found = [
        predict_whole([network], _sample(), predict_section(window=[6, 6, 6]), task_of()) for _ in range(2)
    ]
    np.testing.assert_array_equal(found[0], found[1])  # dropout was off
    assert [m.training for m in network] == [True, True, False, True]
    assert network.training
    # The native grid needs only the first windows: the rest is not run, and the modes still come back.
    calls = []
    native = _sample().grid.crop((0, 0, 0), (2, 10, 8))
    section = predict_section(window=[4, 10, 8])
    predict_whole(
        [network], _sample(), section, task_of(), native=native, on_window=lambda d, t: calls.append((d, t))
    )
    assert calls[-1][0] < calls[-1][1]
    assert network.training


def test_no_gradients_are_kept():
    network = _conv(task_of())
    predict_whole([network], _sample(), predict_section(), task_of())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_divisor_pads_the_whole_volume_window():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return x

    found = predict_whole(
        [Watch()], _sample((5, 9, 8)), predict_section(), task_of(), model=ConvModel(step=4)
    )
    assert seen == [(8, 12, 8)]
    assert found.shape == (1, 5, 9, 8)


@pytest.mark.parametrize(("slices", "axis"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_two_dimensional_networks_read_slices(slices, axis):
    task = Task(("T2w",), {"": CORD}, "raw", dimensions=2, slices=slices)
    torch.manual_seed(0)
    network = ConvModel().build(task).eval()
    shape = [6, 6, 6]
    shape[axis] = 37
    sample = _sample(tuple(shape))
    section = predict_section(window=["full", "full"])
    found = predict_whole([network], sample, section, task)
    with torch.no_grad():
        stack = torch.from_numpy(np.moveaxis(sample.image, axis + 1, 0).copy())
        expected = np.moveaxis(network(stack).clamp(0, 1).numpy(), 0, axis + 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_dimensional_slices_follow_the_orientation_of_the_grid():
    affine = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # axes A, S, R
    sample = _sample((6, 20, 5), affine=affine)
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return x

    task = Task(("T2w",), {"": CORD}, "raw", dimensions=2, slices="axial")
    predict_whole([Watch()], sample, predict_section(), task)
    assert {s[1:] for s in seen} == {(1, 6, 5)}


def test_domain_specific_networks_are_asked_by_name():
    task = Task(("T2w",), {"": CORD}, "raw", domains=("a", "b"))
    network = DomainNet(("a", "b"))
    for domain, value in (("a", 0.1), ("b", 0.2)):
        sample = Sample("x", np.ones((1, 3, 3, 3), np.float32), Grid.of((3, 3, 3), np.eye(4)), domain=domain)
        found = predict_whole([network], sample, predict_section(), task)
        np.testing.assert_allclose(found, value, atol=1e-6)
    with pytest.raises(DataError, match=r"needs to know the domain(.|\n)*not given(.|\n)*one of a, b"):
        predict_whole([network], _sample(), predict_section(), task)
    # Domains that mattered in training only ask nothing of a prediction.
    predict_whole([Copy(1, 1.0)], _sample(), predict_section(), task)


def test_misfits_are_named():
    with pytest.raises(
        ExperimentError, match=r"head does not read outputs(.|\n)*fake.softmax: softmax(.|\n)*raw"
    ):
        Segmenter([Copy(1, 1.0)], task_of("raw"), predict_section("fake.softmax"))
    with pytest.raises(ExperimentError, match="which slices"):
        Segmenter([Copy(1, 1.0)], Task(("a",), {"": CORD}, "raw", dimensions=2), predict_section())
    with pytest.raises(ShapeError, match=r"does not have the model's channels(.|\n)*channels  2"):
        predict_whole([Copy(1, 1.0)], _sample(channels=2), predict_section(), task_of())
    with pytest.raises(ShapeError, match="output does not fit its task"):
        predict_whole([Copy(2, 1.0)], _sample(), predict_section(), task_of())
