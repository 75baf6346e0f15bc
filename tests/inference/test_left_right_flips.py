"""Flips across left and right exchange the outputs of structures on both sides."""

import numpy as np
import pytest
import torch
from inference_fakes import predict_section, task_of
from mriad.errors import ExperimentError
from mriad.geometry import Grid
from mriad.inference.predictor import predict_whole
from mriad.sides import mirror_order, mirrored, side_of, without_side
from mriad.vocabulary import LabelSet, Sample
from torch import nn

SIDED = LabelSet.of({"left thalamus": 10, "brain-stem": 16, "right thalamus": 49})


class SidesByPlace(nn.Module):
    """Says left where x is in the lower half of the *array*, right in the upper, as a trained network would."""

    def forward(self, x):
        shape = x.shape[2:]
        out = torch.full((1, 4, *shape), -8.0)
        half = shape[0] // 2
        out[:, 1, :half], out[:, 3, half:] = x[0, 0, :half], x[0, 0, half:]
        out[:, 2] = 0.3 * x[0, 0]
        return out


@pytest.mark.parametrize(
    ("name", "side", "other", "bare"),
    [
        ("left thalamus", "left", "right thalamus", "thalamus"),
        ("Right-Cerebral-White-Matter", "right", "Left-Cerebral-White-Matter", "Cerebral-White-Matter"),
        ("ctx-lh-insula", "left", "ctx-rh-insula", "ctx insula"),
        ("part of left lateral ventricle", "left", "part of right lateral ventricle", "part of lateral ventricle"),
        ("cleft", "", "cleft", "cleft"),
        ("LEFT lung", "left", "RIGHT lung", "lung"),
    ],
)  # fmt: skip
def test_names_of_both_sides(name, side, other, bare):
    assert (side_of(name), mirrored(name), without_side(name)) == (side, other, bare)
    assert mirrored(other) == name


def test_order_is_its_own_inverse():
    order = mirror_order(SIDED.names)
    assert order == (2, 1, 0)
    assert [order[i] for i in order] == [0, 1, 2]


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_left_right_flip_exchanges_sides(link):
    """For a network that tells sides by place, and is symmetric otherwise, flips change nothing."""
    image = np.random.default_rng(0).uniform(2, 4, (1, 6, 5, 4)).astype(np.float32)
    sample = Sample("a", image, Grid.of((6, 5, 4), np.diag([-1.0, 1, 1, 1])))
    task = task_of(link, SIDED)
    network = SidesByPlace() if link == "softmax" else _WithoutBackground()
    plain = predict_whole([network], sample, predict_section(f"fake.{link}"), task)
    flipped = predict_whole(
        [network], sample, predict_section(f"fake.{link}", test_time={"flips": ["x", "z"]}), task
    )
    np.testing.assert_allclose(flipped, plain, atol=1e-6)
    assert plain[0, :3].min() > 0.8 > 0.2 > plain[0, 3:].max()


class _WithoutBackground(SidesByPlace):
    def forward(self, x):
        return super().forward(x)[:, 1:]


def test_only_the_left_right_axis_exchanges_sides():
    """In an array whose second axis is left–right, flips of the first change no side."""
    image = np.random.default_rng(1).uniform(2, 4, (1, 6, 5, 4)).astype(np.float32)
    turned = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    sample = Sample("a", image, Grid.of((6, 5, 4), turned))
    task = task_of("softmax", SIDED)
    flips = predict_section("fake.softmax", test_time={"flips": ["x"]})
    found = predict_whole([SidesByPlace()], sample, flips, task)
    network = SidesByPlace()
    x = torch.from_numpy(image)[None]
    expected = (network(x).softmax(1) + network(x.flip(2)).softmax(1).flip(2))[0, 1:] / 2
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_one_side_alone_cannot_be_flipped():
    alone = LabelSet.of({"left hippocampus": 17})
    image = np.random.default_rng(2).standard_normal((1, 4, 4, 4)).astype(np.float32)
    sample = Sample("a", image, Grid.of((4, 4, 4), np.eye(4)))
    network = nn.Conv3d(1, 2, 1)
    section = predict_section("fake.softmax", test_time={"flips": ["x"]})
    with pytest.raises(ExperimentError, match="no partner on the other side") as caught:
        predict_whole([network], sample, section, task_of("softmax", alone))
    assert "right hippocampus" in str(caught.value)
    assert "leave the left–right axis out" in str(caught.value)
    across = predict_section("fake.softmax", test_time={"flips": ["y"]})
    assert predict_whole([network], sample, across, task_of("softmax", alone)).shape == (1, 4, 4, 4)
