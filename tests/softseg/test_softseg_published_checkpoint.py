"""The public checkpoint: written here as its trainer writes it, read without running it, predicting the same."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from mriad.cli import main
from mriad.errors import CheckpointError
from mriad.images import FileSource
from mriad.inference.load import load_predictor
from mriad.model_file import find_model, read_card
from mriad_softseg.published_checkpoint import architecture, convert, read_tensors

STRIDES = [[1, 1, 1], [2, 2, 2], [1, 2, 2]]


def public_network(features=(4, 6, 6), channels=1) -> PlainConvUNet:
    """The public code's network (nnU-Net's), a small one, by the library that it uses."""
    torch.manual_seed(3)
    return PlainConvUNet(
        input_channels=channels,
        n_stages=3,
        features_per_stage=list(features),
        conv_op=torch.nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * 3,
        strides=STRIDES,
        num_classes=1,
        n_conv_per_stage=[2, 2, 2],
        n_conv_per_stage_decoder=[2, 2],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    ).eval()


def lightning(network: torch.nn.Module, **more: object) -> dict[str, object]:
    """As a trainer saves it: every tensor under every name that the modules have for it, below `net.`."""
    state = {f"net.{k}": v for k, v in network.state_dict().items()}
    return {"epoch": 7, "global_step": 1000, "state_dict": state, **more}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "best_model.ckpt"
    torch.save(lightning(public_network()), path)
    return path


def test_the_architecture_is_read_from_the_shapes(checkpoint):
    found = architecture(read_tensors(checkpoint), checkpoint)
    assert found == {
        "features": [4, 6, 6],
        "strides": STRIDES,
        "kernel_sizes": [[3, 3, 3]] * 3,
        "convs_per_stage": 2,
        "deep_supervision": True,
    }


def test_the_published_size_is_recognised(tmp_path):
    """Six resolutions of 32 to 320 features, as the public plans say."""
    features = [32, 64, 128, 256, 320, 320]
    strides = [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]]
    with torch.device("meta"):
        network = PlainConvUNet(
            1, 6, features, torch.nn.Conv3d, 3, strides, [2] * 6, 1, [2] * 5, True,
            torch.nn.InstanceNorm3d, {"affine": True}, None, None, torch.nn.LeakyReLU, {}, True,
        )  # fmt: skip
    found = architecture(
        {k.replace(".conv.", ".all_modules.0."): v for k, v in network.state_dict().items()}, tmp_path
    )
    assert found["features"] == features
    assert found["strides"] == strides


def test_the_predictor_computes_what_the_public_network_does(checkpoint, tmp_path):
    folder = convert(checkpoint, tmp_path / "predictor")
    rng = np.random.default_rng(0)
    # RPI at 1 mm and of the crop's size, so that only z-score, network and head are left to do.
    affine = np.diag([-1.0, -1.0, -1.0, 1.0])
    voxels = rng.gamma(2, 50, (64, 192, 20)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    got = load_predictor(folder)({"image": FileSource(path).read()}).probabilities[0]

    image = nibabel.load(path).get_fdata(dtype=np.float32)
    oriented = nibabel.orientations.axcodes2ornt(("R", "P", "I"))
    turned = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine), oriented)
    image = nibabel.orientations.apply_orientation(image, turned)
    scaled = torch.from_numpy(((image - image.mean()) / image.std()).copy())[None, None]
    with torch.no_grad():
        raw = public_network()(scaled)[0][0, 0].clamp(min=0)
    expected = (raw / raw.max()).numpy()
    back = nibabel.orientations.ornt_transform(oriented, nibabel.orientations.io_orientation(affine))
    expected = nibabel.orientations.apply_orientation(expected, back)
    assert expected.max() == 1
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_the_command_makes_a_model_by_name(checkpoint, tmp_path, capsys):
    runs = tmp_path / "runs"
    with pytest.raises(SystemExit) as left:
        main(["softseg", "import", str(checkpoint), "--licence", "MIT", "--runs", str(runs)])
    assert left.value.code in (0, None)
    assert "next: mriad predict SCAN --model softseg" in capsys.readouterr().err
    card = read_card(find_model("softseg", runs))
    assert card.structures == ("cord",)
    assert card.licence == "MIT"
    assert card.training["converted from"] == "best_model.ckpt"


def test_without_a_model_the_message_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        find_model("softseg", tmp_path)
    assert "no weights ship with mriad" in caught.value.remedy
    assert "mriad model import FILE.mriad.safetensors --name softseg" in caught.value.remedy
    assert "mriad train softseg:" in caught.value.remedy
    assert "mriad softseg import FILE --licence NAME" in caught.value.remedy


def test_what_would_run_code_is_refused(tmp_path):
    path = tmp_path / "best_model.ckpt"
    torch.save(lightning(public_network(), hyper_parameters=SimpleNamespace(lr=1)), path)
    with pytest.raises(CheckpointError, match="does not run what lies in a file") as caught:
        read_tensors(path)
    assert (
        'torch.save(torch.load(FILE, weights_only=False)["state_dict"], "weights.pt")' in caught.value.remedy
    )


def test_bare_tensors_are_taken(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(public_network().state_dict(), path)
    whole = tmp_path / "whole.ckpt"
    torch.save(lightning(public_network()), whole)
    bare, wrapped = read_tensors(path), read_tensors(whole)
    assert bare.keys() == wrapped.keys()
    assert all(torch.equal(bare[k], wrapped[k]) for k in bare)


def test_copies_that_differ_are_refused(tmp_path):
    state = lightning(public_network())
    tensors = dict(state["state_dict"])
    copy = next(k for k in tensors if k.startswith("net.decoder.encoder.") and k.endswith("weight"))
    tensors[copy] = tensors[copy] + 1
    path = tmp_path / "changed.ckpt"
    torch.save({"state_dict": tensors}, path)
    with pytest.raises(CheckpointError, match="two copies of one layer differ"):
        read_tensors(path)


def test_a_missing_layer_is_named(tmp_path):
    tensors = {
        k: v for k, v in public_network().state_dict().items() if not k.startswith("decoder.seg_layers.1")
    }
    path = tmp_path / "cut.pt"
    torch.save(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        convert(path, tmp_path / "out")
    assert "decoder.seg_layers.1.weight" in str(caught.value)
    assert "missing" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [({"state_dict": {"net.fc.weight": torch.zeros(2)}}, "holds no U-Net"), ({"epoch": 3}, "holds no U-Net")],
)
def test_another_network_is_refused(tmp_path, content, said):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said):
        read_tensors(path)


def test_several_channels_are_refused(tmp_path):
    path = tmp_path / "two.pt"
    torch.save(public_network(channels=2).state_dict(), path)
    with pytest.raises(CheckpointError, match="several channels"):
        convert(path, tmp_path / "out")
