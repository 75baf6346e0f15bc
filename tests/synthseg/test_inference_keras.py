"""The converter on files that h5py writes here, against a network in plain torch calls."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mriad.errors import CheckpointError, DataError, PluginError
from mriad.inference.load import load_predictor
from mriad_synthseg.import_command import save_converted
from mriad_synthseg.keras_file import architecture_of, converted, read_arrays
from mriad_synthseg.keras_layers import SEGMENTED, Architecture, layers
from mriad_synthseg.unet import BATCH_NORM_EPSILON

NET = Architecture(labels=4, levels=3, features=2)


def write(path, net=NET, nested=True, change=None):
    """A file as Keras writes it: group of the layer, in it a group of the same name, arrays ending in ":0"."""
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra: pip install h5py")
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in layers(net):
        for name, (_, shape) in layer.arrays.items():
            values = rng.normal(0, 0.4, shape).astype(np.float32)
            arrays[layer.name, name] = np.abs(values) + 0.5 if name == "moving_variance" else values
    if change is not None:
        change(arrays)
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if nested else file
        for (layer, name), values in arrays.items():
            root.create_dataset(f"{layer}/{layer}/{name}:0", data=values)
        if nested:
            file.create_dataset("optimizer_weights/Adam/unet_likelihood/kernel/m:0", data=np.zeros(3))
            root.create_group("unet_maxpool_0")
    return {layer: {n: v for (k, n), v in arrays.items() if k == layer} for layer, _ in arrays}


def by_hand(arrays, x, net=NET):
    """The network straight from Keras's arrays, without a module: (1, C, X, Y, Z) → (1, labels, X, Y, Z)."""

    def conv(name, x):
        kernel = torch.from_numpy(arrays[name]["kernel"]).permute(4, 3, 0, 1, 2)
        return F.conv3d(x, kernel, torch.from_numpy(arrays[name]["bias"]), padding=kernel.shape[-1] // 2)

    def norm(name, x):
        a = {k: torch.from_numpy(v)[:, None, None, None] for k, v in arrays[name].items()}
        return (x - a["moving_mean"]) / (a["moving_variance"] + 1e-3).sqrt() * a["gamma"] + a["beta"]

    skips = []
    for level in range(net.levels):
        for i in range(2):
            x = F.elu(conv(f"unet_conv_downarm_{level}_{i}", x))
        skips.append(x)  # before the batch norm
        x = norm(f"unet_bn_down_{level}", x)
        if level < net.levels - 1:
            x = F.max_pool3d(x, 2)
    for step in range(net.levels - 1):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        x = torch.cat([skips[net.levels - 2 - step], x], 1)
        for i in range(2):
            x = F.elu(conv(f"unet_conv_uparm_{net.levels + step}_{i}", x))
        x = norm(f"unet_bn_up_{step}", x)
    return conv("unet_likelihood", x)


@pytest.mark.parametrize("nested", [True, False])
def test_every_array_is_found_by_name_and_shape(tmp_path, nested):
    arrays = write(tmp_path / "net.h5", nested=nested)
    read = read_arrays(tmp_path / "net.h5")
    assert {k: set(v) for k, v in read.items()} == {k: set(v) for k, v in arrays.items()}
    assert architecture_of(read, tmp_path) == NET
    tensors = converted(read, NET, tmp_path)
    kernel = arrays["unet_conv_downarm_1_0"]["kernel"]
    assert tensors["down.1.convs.0.weight"].shape == (4, 2, 3, 3, 3)
    assert tensors["down.1.convs.0.weight"][3, 1, 0, 1, 2] == kernel[0, 1, 2, 1, 3]
    np.testing.assert_array_equal(tensors["up.0.norm.running_var"], arrays["unet_bn_up_1"]["moving_variance"])
    assert len(tensors) == sum(len(v) for v in arrays.values())


def test_the_published_sizes():
    """5 levels, 24 features, 33 labels: 18 convolutions, 1 likelihood, 9 batch norms, channels as published."""
    listed = list(layers(Architecture(labels=33)))
    assert [sum(x.kind == kind for x in listed) for kind in ("convolution", "norm")] == [19, 9]
    shapes = {x.name: x.arrays for x in listed}
    assert shapes["unet_conv_downarm_4_1"]["kernel"][1] == (3, 3, 3, 384, 384)
    assert shapes["unet_conv_uparm_5_0"]["kernel"][1] == (3, 3, 3, 576, 192)
    assert shapes["unet_conv_uparm_8_0"]["kernel"][1] == (3, 3, 3, 72, 24)
    assert shapes["unet_likelihood"]["kernel"][1] == (1, 1, 1, 24, 33)
    assert len(SEGMENTED) == 32
    assert list(SEGMENTED) == sorted(SEGMENTED)
    assert BATCH_NORM_EPSILON == 1e-3


def _drop(arrays):
    del arrays["unet_bn_up_0", "gamma"]


def _reshape(arrays):
    arrays["unet_conv_uparm_3_0", "kernel"] = np.zeros((3, 3, 3, 5, 4), np.float32)


def _spoil(arrays):
    arrays["unet_likelihood", "bias"] = np.full(4, np.nan, np.float32)


def _extend(arrays):
    arrays["unet2_conv_downarm_0_0", "kernel"] = np.zeros((3, 3, 3, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop, "unet_bn_up_0/gamma is missing"),
        (_reshape, r"unet_conv_uparm_3_0/kernel has shape \(3, 3, 3, 5, 4\), expected \(3, 3, 3, 12, 4\)"),
        (_spoil, "unet_likelihood/bias holds NaN"),
        (_extend, "layer unet2_conv_downarm_0_0 is not of the network"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, said):
    write(tmp_path / "net.h5", change=change)
    read = read_arrays(tmp_path / "net.h5")
    with pytest.raises(CheckpointError, match=said) as caught:
        converted(read, architecture_of(read, tmp_path), tmp_path / "net.h5")
    assert "synthseg_1.0.h5" in str(caught.value)


def test_files_of_another_kind_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra: pip install h5py")
    with pytest.raises(CheckpointError, match="no such file"):
        read_arrays(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(CheckpointError, match="no HDF5 file that can be read"):
        read_arrays(tmp_path / "text.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_arrays(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("dense/dense/kernel:0", data=np.zeros((3, 3)))
    with pytest.raises(CheckpointError, match="not the U-Net of SynthSeg"):
        architecture_of(read_arrays(tmp_path / "other.h5"), tmp_path / "other.h5")


def test_without_h5py_the_remedy_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PluginError, match="needs h5py") as caught:
        read_arrays(tmp_path / "net.h5")
    assert "pip install h5py" in str(caught.value)


def test_the_imported_model_predicts_what_keras_arrays_say(tmp_path):
    arrays = write(tmp_path / "net.h5")
    table = tmp_path / "labels.tsv"
    table.write_text("label\tname\n0\tbackground\n7\tleft a\n46\tright a\n16\tb\n")
    folder = tmp_path / "model"
    save_converted(tmp_path / "net.h5", folder, labels=table)
    predictor = load_predictor(folder)
    assert predictor.label_set.names == ("left_a", "b", "right_a")  # in the order of their values
    (network,) = predictor.segmenter.networks
    x = torch.from_numpy(np.random.default_rng(1).random((1, 1, 8, 12, 16)).astype(np.float32))
    with torch.no_grad():
        np.testing.assert_allclose(network(x).numpy(), by_hand(arrays, x).numpy(), atol=1e-4)
    steps = [step.type_name() for step in predictor.steps]
    assert steps == ["data.orient", "data.resample", "data.percentile"]
    assert predictor.segmenter.predict.test_time.flips == ["x"]


def test_another_number_of_labels_is_refused(tmp_path):
    write(tmp_path / "net.h5")
    with pytest.raises(DataError, match="not as many as the network's outputs") as caught:
        save_converted(tmp_path / "net.h5", tmp_path / "model")
    assert "--labels TABLE" in str(caught.value)


def test_the_command_writes_a_model_file(tmp_path, capsys):
    from mriad.cli.app import main
    from mriad.model_file import read_card

    write(tmp_path / "net.h5", Architecture(labels=33, levels=2, features=2))
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "synthseg",
                "import",
                str(tmp_path / "net.h5"),
                "--out",
                str(tmp_path / "ss"),
                "--licence",
                "X-1",
            ]
        )
    assert ended.value.code in (0, None), capsys.readouterr()
    card = read_card(tmp_path / "ss.mriad.safetensors")
    assert (len(card.structures), card.licence) == (32, "X-1")
    assert "32 structures" in capsys.readouterr().out
