"""`softseg.centred`: a tube far off the centre is inside the crop, and a scan without one is cropped as always."""

from __future__ import annotations

from typing import Literal

import mriad
import numpy as np
import pytest
import torch
from mriad.errors import CheckpointError, DataError, StorageError
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.engine import Autocast, Engine, engines_that_ran
from mriad.inference.load import load_predictor, save_predictor
from mriad.interfaces import Model
from mriad.registry import copy_of, registry, using
from mriad.vocabulary import LabelSet, Task, Volume
from mriad_data.cropping import CenterCrop
from mriad_data.orientation import Orient
from mriad_data.resampling import Resample
from mriad_softseg.centred_predictor import weighted_centre
from mriad_softseg.commands import app
from typer.testing import CliRunner

TASK = Task(("T2w",), {"": LabelSet.of({"cord": 1})}, "raw")
SIZE = (70, 80, 40)  # voxels of 1 mm, right–left, front–back, head–feet


class Copied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.scale


class CopyModel(Model):
    """The network that gives back its input."""

    type: Literal["centred_test.copy"] = "centred_test.copy"

    def build(self, task):
        return Copied()


class CopiedByDomain(Copied):
    """One structure in domain "a", a second and empty one in "b"."""

    def forward(self, x, domain):
        return x * self.scale if domain == "a" else torch.cat([x * self.scale, x * 0], 1)


class DomainModel(Model):
    type: Literal["centred_test.domains"] = "centred_test.domains"

    def build(self, task):
        return CopiedByDomain()


@pytest.fixture(autouse=True)
def _with_the_copying_network():
    known = copy_of(registry())
    known.add(CopyModel, "centred_test", "mriad-centred-test")
    known.add(DomainModel, "centred_test", "mriad-centred-test")
    with using(known):
        yield


def _model(folder, steps=None, task=TASK, model=None):
    if steps is None:
        steps = [
            Orient(axes="RPI"),
            Resample(spacing_mm=[1, 1, 1], image_order=1),
            CenterCrop(size=[24, 24, 32]),
        ]
    predict = PredictSection.model_validate({"head": "softseg.clamp", "window": [24, 24, "full"]})
    return save_predictor(
        folder,
        task=task,
        predict=predict,
        model=model or CopyModel(),
        preprocessing=steps,
        parameters=[None] * len(steps),
        networks={"network": Copied().state_dict()},
    )


def _tube(at=(58, 14), radius=5.0, size=SIZE):
    """A tube along the third axis; 1 inside, linear over one voxel at its wall."""
    x, y = np.ogrid[: size[0], : size[1]]
    disc = np.clip(radius + 0.5 - np.hypot(x - at[0], y - at[1]), 0, 1)
    data = np.repeat(disc[:, :, None], size[2], 2).astype(np.float32)
    return Volume(data, Grid.of(size, np.diag([1.0, 1.0, 1.0, 1.0])))


def _centred(tmp_path, **model):
    made = CliRunner().invoke(app, ["centre", str(_model(tmp_path / "m", **model)), str(tmp_path / "c")])
    assert made.exit_code == 0, made.output
    return tmp_path / "c"


def test_a_tube_outside_the_usual_crop_is_found(tmp_path):
    """The copying network makes the prediction the image itself, wherever the crop lies."""
    scan = _tube()
    inside = np.s_[:, :, 4:36]  # the crop keeps 32 of 40 slices
    usual = mriad.predict(_model(tmp_path / "plain"), scan, engine="torch")
    assert usual.probabilities.max() == 0
    found = mriad.predict(_centred(tmp_path), scan)
    assert found.grid == scan.grid
    np.testing.assert_allclose(found.probabilities[0][inside], scan.data[inside], atol=1e-5)


@pytest.mark.parametrize("at", [(58, 14), (3, 77), (34.5, 39.5), (20, 60)])
def test_the_crop_lies_about_the_tube_as_far_as_the_volume_reaches(tmp_path, at):
    predictor = load_predictor(_centred(tmp_path))
    scan = _tube(at)
    centre = predictor.centre(_prepared(predictor, scan))
    wall = [min(max(c, 2), n - 3) for c, n in zip(at, SIZE, strict=False)]  # a cut tube has another centre
    np.testing.assert_allclose(centre[:2], wall, atol=1.0 if wall != list(at) or min(at) < 6 else 0.35)
    box = predictor._cropped(_prepared(predictor, scan), centre)
    assert box.grid.shape == (24, 24, 32)
    assert box.field is None or box.field.all()  # nothing is padded while the volume is larger than the box
    middle = box.grid.world([(n - 1) / 2 for n in box.grid.shape])
    wanted = [min(max(c, 11.5), n - 12.5) for c, n in zip(centre[:2], SIZE, strict=False)]
    np.testing.assert_allclose(middle[:2], wanted, atol=0.51)
    assert abs(middle[2] - (SIZE[2] - 1) / 2) <= 0.5


def _prepared(predictor, scan):
    from mriad.preparation import prepare_volumes

    return prepare_volumes({"T2w": scan}, predictor.inner.steps[:2], (None, None))


def test_the_larger_of_two_components_counts(tmp_path):
    scan = _tube()
    blob = scan.data.copy()
    blob[8:12, 60:64, 10:14] = 1
    predictor = load_predictor(_centred(tmp_path))
    centre = predictor.centre(_prepared(predictor, Volume(blob, scan.grid)))
    np.testing.assert_allclose(centre[:2], (58, 14), atol=0.35)


def test_nothing_found_is_said_and_gives_the_usual_prediction(tmp_path):
    empty = np.zeros(SIZE, np.float32)
    empty[34:37, 39:42, 19:22] = 1  # 27 mm³: no cord
    scan = Volume(empty, Grid.of(SIZE, np.eye(4)))
    with pytest.warns(
        RuntimeWarning, match="found no component of 500 mm³; the crop lies about the volume's centre"
    ):
        found = mriad.predict(_centred(tmp_path), scan)
    usual = mriad.predict(tmp_path / "m", scan, engine="torch")
    np.testing.assert_array_equal(found.probabilities, usual.probabilities)


class TestDomains:
    """A network with norms and structures by domain, asked twice."""

    @pytest.fixture
    def place(self, tmp_path):
        sets = {"a": LabelSet.of({"cord": 1}), "b": LabelSet.of({"cord": 1, "csf": 2})}
        task = Task(("T2w",), sets, "raw", domains=("a", "b"))
        return _centred(tmp_path, task=task, model=DomainModel())

    @pytest.mark.parametrize(("domain", "structures"), [("a", 1), ("b", 2)])
    def test_both_passes_are_asked_for_the_domain(self, place, domain, structures):
        scan, inside = _tube(), np.s_[:, :, 4:36]
        for found in (
            mriad.predict(place, scan, domain=domain),
            load_predictor(place, domain=domain)({"T2w": scan}),
            mriad.predict(load_predictor(place), scan, domain=domain),
        ):
            assert found.probabilities.shape[0] == len(found.label_set) == structures
            np.testing.assert_allclose(found.probabilities[0][inside], scan.data[inside], atol=1e-5)

    def test_a_domain_that_is_not_said_or_not_known_is_refused_with_those_that_are(self, place):
        for domain in ("", "c"):
            with pytest.raises(DataError, match="needs to know the domain") as caught:
                mriad.predict(place, _tube(), domain=domain)
            assert "one of a, b" in str(caught.value)
            assert "--domain a" in str(caught.value)


class TestEngine:
    def test_both_passes_run_by_the_engine_that_is_asked_for(self, tmp_path):
        place, scan = _centred(tmp_path), _tube()
        predictor = load_predictor(place, engine=Engine("torch", "bf16"))
        assert [type(network) for network in predictor.networks] == [Autocast]
        found = predictor({"T2w": scan}).probabilities
        np.testing.assert_allclose(found[0][:, :, 4:36], scan.data[:, :, 4:36], atol=2**-8)

    def test_openvino_gives_what_torch_gives(self, tmp_path):
        pytest.importorskip("openvino")
        place, scan = _centred(tmp_path), _tube()
        predictor = load_predictor(place, engine=Engine("openvino"))
        found = predictor({"T2w": scan}).probabilities
        assert engines_that_ran(predictor.networks) == ("openvino",)
        expected = load_predictor(place)({"T2w": scan}).probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_weighted_centre_by_hand():
    soft = np.zeros((5, 5, 5), np.float32)
    soft[1, 1, 1], soft[2, 1, 1], soft[4, 4, 4] = 0.6, 0.9, 1.0
    np.testing.assert_allclose(weighted_centre(soft, 0.5, 2), [(0.6 + 1.8) / 1.5, 1, 1], rtol=1e-6)
    assert weighted_centre(soft, 0.5, 3) is None
    assert weighted_centre(soft, 1.0, 0) is None


def test_what_cannot_be_centred_is_refused(tmp_path):
    plain = _model(tmp_path / "no-crop", [Orient(axes="RPI")])
    with pytest.raises(CheckpointError) as caught:
        CliRunner().invoke(app, ["centre", str(plain), str(tmp_path / "c")], catch_exceptions=False)
    assert "exactly one centre crop" in str(caught.value)
    assert "data.orient" in str(caught.value)
    assert not (tmp_path / "c").exists()
    place = _centred(tmp_path)
    with pytest.raises(StorageError, match="there already"):
        CliRunner().invoke(app, ["centre", str(tmp_path / "m"), str(place)], catch_exceptions=False)
    weights = place / "network" / "weights.pt"
    torch.save({"network": {"scale": torch.tensor(2.0)}}, weights)
    with pytest.raises(CheckpointError, match="not the one that the predictor was made with"):
        load_predictor(place)
