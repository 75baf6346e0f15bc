from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from mriad.errors import ExperimentError, ShapeError
from mriad_standard import PlainUNet, ResidualUNet
from safetensors.torch import load, save
from torch import nn

SMALL = {"features": [4, 6, 8]}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("config", [PlainUNet(**SMALL), ResidualUNet(**SMALL, blocks_per_stage=[1, 1, 2])])
def test_shapes_and_modes(make_task, config, dimensions):
    config = config.model_copy(update={"deep_supervision": True})
    network = config.build(make_task(structures=2, channels=2, dimensions=dimensions))
    image = torch.randn(1, 2, *(8, 12, 16)[:dimensions])
    outputs = network(image)
    assert [tuple(o.shape[2:]) for o in outputs] == [
        (8, 12, 16)[:dimensions],
        (4, 6, 8)[:dimensions],
    ]
    assert all(o.shape[:2] == (1, 3) for o in outputs)
    network.eval()
    with torch.no_grad():
        assert network(image).shape == outputs[0].shape
    network.train()
    assert isinstance(network(image), list)


def test_without_deep_supervision_training_gives_one_tensor(make_task):
    assert isinstance(PlainUNet(**SMALL).build(make_task())(torch.randn(1, 1, 8, 8, 8)), torch.Tensor)


def dna(**changes):
    arguments = {
        "input_channels": 1, "n_stages": 3, "features_per_stage": [4, 6, 8], "conv_op": nn.Conv3d,
        "kernel_sizes": 3, "strides": [1, 2, 2], "num_classes": 3, "conv_bias": True,
        "norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    return {**arguments, **changes}


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (PlainUNet(**SMALL), lambda: PlainConvUNet(**dna(n_conv_per_stage=2, n_conv_per_stage_decoder=2))),
        (
            ResidualUNet(**SMALL, blocks_per_stage=[1, 2, 1]),
            lambda: ResidualEncoderUNet(**dna(n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=1)),
        ),
    ],
    ids=["plain", "residual"],
)
def test_same_network_as_the_library_gives(make_task, config, reference):
    ours, theirs = config.build(make_task()), reference()
    count = sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == count
    # Its weights go in by name, though it lists each tensor under several names.
    state = theirs.state_dict()
    assert set(ours.state_dict()) < set(state)
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))


def test_state_dict_names_each_tensor_once(make_task):
    network = PlainUNet(**SMALL).build(make_task())
    state = network.state_dict()
    assert len({t.data_ptr() for t in state.values()}) == len(state)
    network.load_state_dict(load(save(state)))
    twin = copy.deepcopy(network)
    assert twin.encoder is not network.encoder
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(twin(image), network(image))


def test_initial_weights(make_task):
    network = PlainUNet(features=[32, 64]).build(make_task())
    weight = network.encoder.stages[1][0].convs[1].all_modules[0].weight
    # He: variance 2 / ((1 + slope²) · fan_in)
    assert weight.var().item() == pytest.approx(2 / (1.0001 * 64 * 27), rel=0.05)
    assert all((m.bias == 0).all() for m in network.modules() if isinstance(m, nn.Conv3d))


def test_anisotropic_strides_and_kernels(make_task):
    config = PlainUNet(
        features=[2, 3, 4],
        strides=[1, [2, 2, 1], [2, 2, 2]],
        kernel_sizes=[[3, 3, 1], 3, 3],
        deep_supervision=True,
    )
    assert config.divisor() == 4
    assert config.divisors(3) == (4, 4, 2)
    outputs = config.build(make_task())(torch.randn(1, 1, 8, 8, 6))
    assert [tuple(o.shape[2:]) for o in outputs] == [(8, 8, 6), (4, 4, 6)]


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("kind", [PlainUNet, ResidualUNet])
def test_norms(make_task, norm, kind):
    extra = {"blocks_per_stage": [1, 1, 1]} if kind is ResidualUNet else {}
    network = kind(**SMALL, **extra, norm=norm).build(make_task())
    kinds = {
        type(m).__name__
        for m in network.modules()
        if "Norm" in type(m).__name__ and "Conv" not in type(m).__name__
    }
    assert kinds == {"instance": {"InstanceNorm3d"}, "batch": {"BatchNorm3d"}, "none": set()}[norm]
    assert torch.isfinite(network(torch.randn(2, 1, 8, 8, 8))).all()


def test_size_that_does_not_divide(make_task):
    network = PlainUNet(**SMALL).build(make_task())
    with pytest.raises(
        ShapeError, match=r"(?s)cannot take.*\(8, 10, 8\).*multiples of \(4, 4, 4\).*\[8, 12, 8\]"
    ):
        network(torch.randn(1, 1, 8, 10, 8))
    with pytest.raises(ShapeError, match="a 3D network takes 3 spatial axes"):
        network(torch.randn(1, 1, 8, 8))
    with pytest.raises(ShapeError, match="single voxel"):
        network(torch.randn(1, 1, 4, 4, 4))
    PlainUNet(**SMALL, norm="none").build(make_task())(torch.randn(1, 1, 4, 4, 4))


def test_lists_are_checked(make_task):
    with pytest.raises(ValueError, match="strides has 2 entries, features 3"):
        PlainUNet(**SMALL, strides=[1, 2])
    with pytest.raises(ValueError, match="kernel_sizes must be odd"):
        PlainUNet(**SMALL, kernel_sizes=[3, 2, 3])
    with pytest.raises(ValueError, match="first of strides is 2"):
        PlainUNet(**SMALL, strides=[2, 2, 2])
    with pytest.raises(ValueError, match="blocks_per_stage has 6 entries, features 3"):
        ResidualUNet(**SMALL)
    with pytest.raises(ExperimentError, match=r"(?s)strides does not fit a 2D task.*\[2, 2, 1\]"):
        PlainUNet(**SMALL, strides=[1, [2, 2, 1], 2]).build(make_task(dimensions=2))


def test_the_library_brings_no_vision_packages():
    code = (
        "import sys, mriad_standard.unet; "
        "print([m for m in ('timm', 'torchvision', 'monai', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
