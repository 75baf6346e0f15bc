"""Engines: the same numbers as torch within what a precision allows, and a plain word where one cannot run."""

import importlib.util
import json
import os
import subprocess
import sys

import mriad
import mriad.inference.engine as engine_module
import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from inference_fakes import DomainNet, save_fake, task_of, volume_of
from mriad.cli.predict import predict as predict_command
from mriad.errors import ExperimentError
from mriad.inference.engine import Autocast, Converted, Engine, engine_version, takes_domain
from mriad.inference.load import load_predictor
from mriad_standard.models import PlainUNet
from torch import nn
from typer.testing import CliRunner

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed (an extra)"
)


def _unet(features=(4, 8)):
    torch.manual_seed(0)
    model = PlainUNet(features=list(features), convs_per_stage=1, deep_supervision=True)
    return model.build(task_of("raw")).eval()


def _window(shape=(1, 1, 8, 12, 16), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _computes_bf16():
    return "BF16" in engine_module._openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@needs_openvino
def test_openvino_gives_the_numbers_of_torch_for_every_shape():
    network = _unet()
    run = Engine("openvino").run(network, CPU)
    with torch.inference_mode():
        for shape in ((1, 1, 8, 12, 16), (1, 1, 8, 8, 8), (1, 1, 8, 12, 16)):
            image = _window(shape)
            before = image.clone()
            found = run(image)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, network(image), atol=2e-5, rtol=1e-4)
            assert torch.equal(image, before)
        kept = found.clone()
        run(_window(seed=2))
    assert torch.equal(found, kept)  # outputs of two windows do not share memory


@needs_openvino
def test_bf16_is_close_to_fp32_and_not_the_same():
    if not _computes_bf16():
        pytest.skip("this CPU does not compute in bf16")
    network, image = _unet(), _window()
    with torch.inference_mode():
        exact = network(image)
        found = Engine("openvino", "bf16").run(network, CPU)(image)
    difference = (found - exact).abs().mean() / exact.abs().mean()
    assert 1e-4 < difference < 3e-2  # 2⁻⁸ = 4e-3 a product


def test_torch_in_bf16_is_close_to_fp32_and_not_the_same():
    network, image = _unet(), _window()
    with torch.inference_mode():
        exact = network(image)
        found = Engine("torch", "bf16").run(network, CPU)(image).float()
    assert 1e-4 < (found - exact).abs().mean() / exact.abs().mean() < 3e-2


def test_torch_in_fp32_is_the_network_itself():
    network = _unet()
    assert Engine().run(network, CPU) is network


@needs_openvino
def test_a_predictor_gives_the_same_with_either_engine(tmp_path):
    place = save_fake(tmp_path, predict={"window": [8, 8, 8]})
    image = volume_of(np.random.default_rng(0).standard_normal((12, 10, 9)))
    one = mriad.predict(place, image, engine="torch")
    other = mriad.predict(place, image)  # auto
    np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-5)
    networks = load_predictor(place, engine=Engine("auto")).segmenter.networks
    assert [type(network) for network in networks] == [Converted]


class Stubborn(nn.Module):
    """Chooses its way by values, which neither tracer nor exporter can follow."""

    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


@needs_openvino
def test_a_network_that_cannot_be_converted_is_run_by_torch_and_that_is_said_once(recwarn):
    run = Engine("auto").run(Stubborn().eval(), CPU)
    with torch.inference_mode(), pytest.warns(RuntimeWarning, match="torch runs it"):
        assert torch.equal(run(torch.ones(1, 1, 2, 2, 2)), torch.full((1, 1, 2, 2, 2), 2.0))
    recwarn.clear()
    with torch.inference_mode():
        assert torch.equal(run(-torch.ones(1, 1, 2, 2, 2)), torch.full((1, 1, 2, 2, 2), -2.0))
    assert not recwarn


class TestWhatRan:
    """`run.json`: the engine that was asked for, and the one that computed what was written."""

    def _predict(self, tmp_path, *shapes, engine="auto"):
        place = tmp_path / "model"
        if not place.exists():
            save_fake(place)
        (tmp_path / "in").mkdir(exist_ok=True)
        for number, shape in enumerate(shapes):
            scan = nib.Nifti1Image(np.indices(shape, np.float32)[0], np.eye(4))
            nib.save(scan, tmp_path / "in" / f"{number}.nii.gz")
        app = typer.Typer()
        app.command()(predict_command)
        given = ["--model", place, "--out", tmp_path / "out", "--engine", engine, "--threads", 1]
        done = CliRunner().invoke(app, [str(word) for word in (tmp_path / "in", *given)])
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "out" / "run.json").read_text())

    @pytest.fixture
    def converts(self, monkeypatch):
        """OpenVINO as if installed, which takes windows of up to the given number of voxels."""

        def with_room_for(voxels):
            def compiled(network, image, precision):
                if image.numel() > voxels:
                    raise RuntimeError("no kernel for this shape")
                return type("Request", (), {"infer": lambda _, given, **__: [network(image * 0).numpy()]})()

            monkeypatch.setattr(engine_module, "_obstacle", lambda device, precision: "")
            monkeypatch.setattr(engine_module, "_compiled", compiled)

        return with_room_for

    def test_torch_where_the_network_was_not_converted(self, tmp_path, converts):
        converts(0)
        with pytest.warns(RuntimeWarning, match="torch runs it"):
            record = self._predict(tmp_path, (4, 4, 4))
        assert record["config"]["engine_asked"] == "auto"
        assert record["config"]["engine"] == engine_version("torch")
        assert record["inputs"][0]["engine"] == engine_version("torch")

    def test_both_where_a_later_shape_was_not_converted(self, tmp_path, converts):
        converts(64)
        with pytest.warns(RuntimeWarning, match="torch runs it"):
            record = self._predict(tmp_path, (4, 4, 4), (5, 5, 5), (4, 4, 4))
        both = [engine_version("openvino"), engine_version("torch")]
        assert [row["engine"] for row in record["inputs"]] == [both[0], both[1], both[1]]
        assert record["config"]["engine"] == ", ".join(both)

    def test_nothing_where_all_was_done_before(self, tmp_path):
        for expected in (engine_version("torch"), None):
            record = self._predict(tmp_path, (4, 4, 4), engine="torch")
            assert record["config"]["engine"] == expected
            assert record["config"]["engine_asked"] == "torch"
        assert "engine" not in record["inputs"][0]

    @needs_openvino
    def test_openvino_with_its_version(self, tmp_path):
        record = self._predict(tmp_path, (4, 4, 4), engine="openvino")
        assert record["config"]["engine"].startswith("openvino 20")


@needs_openvino
def test_a_demanded_engine_that_cannot_convert_is_refused():
    run = Engine("openvino").run(Stubborn().eval(), CPU)
    with torch.inference_mode(), pytest.raises(ExperimentError) as caught:
        run(torch.ones(1, 1, 2, 2, 2))
    assert "OpenVINO cannot run this network" in str(caught.value)
    assert "--engine torch" in str(caught.value)


@needs_openvino
def test_what_the_network_refuses_stays_its_own_error():
    from mriad.errors import ShapeError

    run = Engine("auto").run(_unet(), CPU)
    with torch.inference_mode(), pytest.raises(ShapeError, match="cannot take an input of this size"):
        run(_window((1, 1, 7, 8, 8)))


def test_without_openvino_auto_is_torch_and_openvino_is_refused(monkeypatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    network = _unet()
    assert Engine("auto").run(network, CPU) is network
    assert Engine("auto").used("cpu") == ("torch", "it is not installed: pip install 'mriad[openvino]'")
    with pytest.raises(ExperimentError) as caught:
        Engine("openvino").run(network, CPU)
    assert "pip install 'mriad[openvino]'" in str(caught.value)


def test_openvino_on_a_gpu_is_refused_and_auto_is_torch_there():
    assert Engine("auto").used("cuda:0")[0] == "torch"
    with pytest.raises(ExperimentError, match="OpenVINO cannot run"):
        Engine("openvino").run(nn.Identity(), torch.device("cuda:0"))


@needs_openvino
def test_a_network_that_is_asked_with_a_domain_is_refused_by_openvino():
    with pytest.raises(ExperimentError) as caught:
        Engine("openvino").run(DomainNet(("a", "b")).eval(), CPU)
    assert "domain" in str(caught.value)


def test_a_network_that_is_asked_with_a_domain_stays_with_torch():
    network = DomainNet(("a", "b")).eval()
    assert Engine("auto").run(network, CPU) is network
    wrapped = Engine("torch", "bf16").run(network, CPU)
    assert isinstance(wrapped, Autocast)
    assert takes_domain(wrapped)
    assert wrapped(torch.zeros(1, 1, 2, 2, 2), domain="b").max().item() == pytest.approx(0.2)


@pytest.mark.parametrize(("name", "precision"), [("onnx", "fp32"), ("torch", "int8")])
def test_unknown_names_are_refused(name, precision):
    with pytest.raises(ExperimentError, match=r"there is no (engine|precision) of this name"):
        Engine(name, precision)


def test_a_predictor_without_networks_takes_no_engine(tmp_path):
    document = {"type": "fake.constant", "format": 1}
    (tmp_path / "predictor.json").write_text(json.dumps(document))
    load_predictor(tmp_path, engine=Engine("auto"))
    with pytest.raises(ExperimentError, match="asks no networks, so it takes no engine"):
        load_predictor(tmp_path, engine=Engine("torch", "bf16"))


@needs_openvino
def test_openvino_reports_nothing_to_its_makers():
    """Its import and every conversion would be told over the network; here a socket is an error."""
    code = """
import socket, sys
def refuse(*a, **k):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from mriad.inference.engine import Engine
run = Engine("openvino").run(torch.nn.Conv3d(1, 1, 3, padding=1).eval(), torch.device("cpu"))
with torch.inference_mode():
    run(torch.zeros(1, 1, 8, 8, 8))
print([m for m in sys.modules if m.startswith("openvino_telemetry.")],
      sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__)
"""
    quiet = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] openvino.tools.ovc.telemetry_stub"
