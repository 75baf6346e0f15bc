"""Predictor folders: saved, loaded, averaged, refused."""

import json
import pickle

import numpy as np
import pytest
import torch
from inference_fakes import (
    TWO,
    Coarser,
    ConvModel,
    CopyModel,
    DomainModel,
    KeepAbove,
    Reorient,
    Scale,
    fake_registry,
    oblique,
    predict_section,
    save_fake,
    task_of,
    volume_of,
)
from mriad.errors import CheckpointError, DataError, ExperimentError, PluginError, StorageError
from mriad.inference.load import identity, load_predictor, save_predictor, start_weights
from mriad.inference.predictor import EnsemblePredictor, NetworkPredictor
from mriad.registry import using


def _scan(shape=(12, 10, 8), seed=0, affine=None):
    data = np.random.default_rng(seed).standard_normal(shape)
    return volume_of(data, oblique(2) if affine is None else affine)


def _edit(folder, **changes):
    path = folder / "predictor.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_saved_and_loaded_predicts_on_the_native_grid(tmp_path):
    """Preprocessing reorients, crops and scales; the result lies on the scan's own grid, bit for bit."""
    steps = [Reorient(axes="PIR", start=(2, 0, -1), size=(6, 8, 14)), Scale()]
    folder = save_fake(tmp_path / "p", model=CopyModel(), preprocessing=steps, parameters=[None, {"by": 2.0}])
    predictor = load_predictor(folder)
    assert isinstance(predictor, NetworkPredictor)
    assert predictor.channels == ("T2w",)
    assert predictor.label_set.names == ("cord",)
    scan = _scan()
    found = predictor({"T2w": scan})
    assert found.grid == scan.grid
    assert found.probabilities.shape == (1, 12, 10, 8)
    inside = Reorient(axes="PIR", start=(2, 0, -1), size=(6, 8, 14))
    from mriad.inference.native import to_native
    from mriad.inference.slab import collect, slabs_of_array
    from mriad.vocabulary import Sample

    kept = inside.apply(Sample("a", np.ones((1, 12, 10, 8), np.float32), scan.grid), None)
    mask = collect(to_native(slabs_of_array(kept.image), 1, kept.grid, scan.grid), 1, scan.grid.shape)
    np.testing.assert_allclose(found.probabilities, (scan.data / 2).clip(0, 1)[None] * mask, atol=1e-6)


def test_the_way_back_interpolates_where_voxels_differ(tmp_path):
    folder = save_fake(tmp_path / "p", model=CopyModel(), preprocessing=[Coarser()])
    ramp = np.broadcast_to(np.linspace(0, 1, 13)[:, None, None], (13, 5, 5))
    found = load_predictor(folder)({"T2w": volume_of(ramp, oblique(1))})
    np.testing.assert_allclose(found.probabilities[0], ramp, atol=1e-5)


def test_document_is_plain_and_names_no_machine(tmp_path):
    folder = save_fake(tmp_path / "p", preprocessing=[Reorient()], inputs={"a": "/somewhere/else"})
    raw = json.loads((folder / "predictor.json").read_text())
    assert raw["format"] == 1
    assert raw["task"]["channels"] == ["T2w"]
    assert raw["task"]["inputs"] == {}
    assert raw["preprocessing"][0]["type"] == "fake.reorient"
    assert raw["step_versions"] == [1]
    assert raw["versions"]["torch"] == torch.__version__.split("+")[0] or raw["versions"]["torch"]
    assert sorted(p.name for p in folder.iterdir()) == ["predictor.json", "weights.pt"]


def test_several_networks_in_one_folder_are_averaged(tmp_path):
    both = save_fake(tmp_path / "both", networks=("one", "two"))
    weights = torch.load(both / "weights.pt", weights_only=True)
    parts = []
    for name in ("one", "two"):
        save_predictor(
            tmp_path / name,
            task=task_of(),
            predict=predict_section(),
            model=ConvModel(),
            preprocessing=[],
            parameters=[],
            networks={"network": weights[name]},
        )
        network = load_predictor(tmp_path / name).segmenter.networks[0]
        with torch.no_grad():
            parts.append(network(torch.from_numpy(np.asarray(_scan().data, np.float32))[None, None])[0])
    expected = ((parts[0] + parts[1]) / 2).clamp(0, 1)
    np.testing.assert_allclose(load_predictor(both)({"T2w": _scan()}).probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_an_ensemble_is_the_mean_of_its_members(tmp_path, order):
    """Members have preprocessing and parameters of their own; low cut and postprocessing come after the mean."""
    predict = {"postprocess": [KeepAbove(level=0.2)], "window": [6, 6, 6]}
    for name, axes, by in (("a", "PIR", 1.0), ("b", "LAS", 3.0)):
        steps, learnt = [Reorient(axes=axes), Scale()], [None, {"by": by}]
        model, where = CopyModel(), tmp_path / name
        save_fake(where, model=model, preprocessing=steps, parameters=learnt, predict=predict)
    ensemble = tmp_path / "all"
    ensemble.mkdir()
    members = [f"../{name}" for name in order]
    (ensemble / "predictor.json").write_text(json.dumps({"type": "core.ensemble", "members": members}))
    predictor = load_predictor(ensemble)
    assert isinstance(predictor, EnsemblePredictor)
    scan = _scan()
    mean = (scan.data.clip(0, 1) + (scan.data / 3).clip(0, 1)) / 2
    found = predictor({"T2w": scan}).probabilities[0]
    np.testing.assert_allclose(found, np.where(mean > 0.2, mean, 0), atol=1e-5)
    seen = []
    predictor.stream({"T2w": scan}, lambda d, t: seen.append((d, t))).collect()
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_members_that_differ_are_refused(tmp_path):
    one = load_predictor(save_fake(tmp_path / "a"))
    with pytest.raises(ExperimentError, match=r"differ in structures(.|\n)*csf"):
        EnsemblePredictor([one, load_predictor(save_fake(tmp_path / "b", labels=TWO))])
    with pytest.raises(ExperimentError, match="differ in channels"):
        EnsemblePredictor([one, load_predictor(save_fake(tmp_path / "c", channels=("T1w",)))])
    other = save_fake(tmp_path / "d", predict={"postprocess": [KeepAbove()]})
    with pytest.raises(ExperimentError, match="differ in postprocess"):
        EnsemblePredictor([one, load_predictor(other)])
    with pytest.raises(ExperimentError, match="at least one member"):
        EnsemblePredictor([])


def test_channels_by_name_in_any_order(tmp_path):
    folder = save_fake(tmp_path / "p", model=CopyModel(), channels=("T1w", "FLAIR"))
    predictor, a, b = load_predictor(folder), _scan(seed=1), _scan(seed=2)
    found = predictor({"FLAIR": b, "T1w": a})
    np.testing.assert_allclose(
        found.probabilities[0], a.data.clip(0, 1), atol=1e-6
    )  # the first of the *model's*
    with pytest.raises(DataError) as caught:
        predictor({"T1w": a, "T2w": b})
    text = str(caught.value)
    assert "model's channels  T1w, FLAIR" in text
    assert "missing           FLAIR" in text
    assert "not the model's   T2w" in text
    assert "--channel T1w=FILE --channel FLAIR=FILE" in text


def test_constant_scan_and_other_grids_are_refused(tmp_path):
    predictor = load_predictor(save_fake(tmp_path / "p", channels=("T1w", "FLAIR")))
    with pytest.raises(DataError, match="grid"):
        predictor({"T1w": _scan(), "FLAIR": _scan(affine=oblique(3))})


def test_domains(tmp_path):
    folder = save_fake(tmp_path / "p", model=DomainModel(), domains=("a", "b"))
    scan = _scan()
    found = load_predictor(folder, domain="b")({"T2w": scan})
    np.testing.assert_allclose(found.probabilities, 0.2, atol=1e-6)
    predictor = load_predictor(folder)
    with pytest.raises(DataError, match="--domain a"):
        predictor({"T2w": scan})
    np.testing.assert_allclose(predictor.for_domain("a")({"T2w": scan}).probabilities, 0.1, atol=1e-6)


def test_a_predictor_of_a_plugin_builds_itself(tmp_path):
    (tmp_path / "predictor.json").write_text(
        json.dumps({"format": 1, "type": "fake.constant", "value": 0.75})
    )
    scan = _scan()
    assert (load_predictor(tmp_path)({"T2w": scan}).probabilities == 0.75).all()
    (tmp_path / "predictor.json").write_text(json.dumps({"format": 1, "type": "fake.none"}))
    with pytest.raises(CheckpointError, match=r"no predictor named 'fake\.none' is installed"):
        load_predictor(tmp_path)


def test_start_weights(tmp_path):
    folder = save_fake(tmp_path / "p", networks=("student", "teacher"))
    found = start_weights(folder)
    assert set(found) == {"student", "teacher"}
    assert found["teacher"]["0.weight"].shape == (4, 1, 3, 3, 3)
    (
        folder / "predictor.json"
    ).unlink()  # bare weights, as a stage whose networks segment nothing leaves them
    assert set(start_weights(folder)) == {"student", "teacher"}
    with pytest.raises(CheckpointError, match=r"no model 'nothing'(.|\n)*mriad model import"):
        start_weights("nothing")
    torch.save({"step": 3}, folder / "weights.pt")
    with pytest.raises(CheckpointError, match=r"not the weights of networks(.|\n)*step"):
        start_weights(folder)


def test_identity_changes_with_weights_and_document(tmp_path):
    a, b, c = (save_fake(tmp_path / n, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert identity(a) == identity(b) != identity(c)
    _edit(b, predict={**json.loads((b / "predictor.json").read_text())["predict"], "low_cut": 0.1})
    assert identity(a) != identity(b)


# What must be refused ------------------------------------------------------------------------------------------


def test_another_architecture_names_a_few_tensors(tmp_path):
    folder = save_fake(tmp_path / "p")
    _edit(folder, model={"type": "fake.conv", "width": 5})
    with pytest.raises(CheckpointError) as caught:
        load_predictor(folder)
    assert "another architecture" in str(caught.value)
    assert "0.weight (4, 1, 3, 3, 3) ≠ (5, 1, 3, 3, 3)" in str(caught.value)
    _edit(folder, model={"type": "fake.copy"})
    with pytest.raises(CheckpointError, match=r"missing\s+scale(.|\n)*unexpected\s+0.weight, 0.bias"):
        load_predictor(folder)


class _Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("bare", [False, True])
def test_weights_that_carry_code_are_refused_and_not_run(tmp_path, bare):
    folder, marker = save_fake(tmp_path / "p"), tmp_path / "executed"
    if bare:
        (folder / "weights.pt").write_bytes(pickle.dumps({"network": _Bomb(marker)}))
    else:
        torch.save({"network": _Bomb(marker)}, folder / "weights.pt")
    with pytest.raises(CheckpointError, match="damaged" if bare else "holds code"):
        load_predictor(folder)
    assert not marker.exists()
    torch.load(folder / "weights.pt", weights_only=False) if not bare else pickle.loads(
        (folder / "weights.pt").read_bytes()
    )
    assert marker.exists()  # it would have been run by a loader that trusts


def test_damaged_missing_and_foreign_folders(tmp_path):
    with pytest.raises(CheckpointError, match=r"no predictor in this folder(.|\n)*predictor.json"):
        load_predictor(tmp_path)
    folder = save_fake(tmp_path / "p")
    whole = (folder / "weights.pt").read_bytes()
    (folder / "weights.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"weights\.pt is damaged"):
        load_predictor(folder)
    (folder / "weights.pt").unlink()
    with pytest.raises(CheckpointError, match=r"lost its weights(.|\n)*run the training stage again"):
        load_predictor(folder)
    (folder / "predictor.json").write_text('{"format": 1, "task"')
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_predictor(folder)
    (folder / "predictor.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no JSON object"):
        load_predictor(folder)


def test_other_format_versions_name_both_numbers(tmp_path):
    folder = save_fake(tmp_path / "p")
    _edit(folder, format=2)
    with pytest.raises(
        CheckpointError, match=r"format version 2; this mriad reads 1(.|\n)*pip install --upgrade"
    ):
        load_predictor(folder)
    _edit(folder, format=0)
    with pytest.raises(CheckpointError, match=r"format version 0(.|\n)*export the model again"):
        load_predictor(folder)


def test_a_missing_plugin_gives_the_install_line(tmp_path):
    folder = save_fake(tmp_path / "p")
    _edit(folder, model={"type": "stranger.net"})
    with pytest.raises(PluginError, match="pip install mriad-stranger"):
        load_predictor(folder)


def test_an_unknown_field_is_named(tmp_path):
    folder = save_fake(tmp_path / "p")
    _edit(folder, model={"type": "fake.conv", "wdth": 5})
    with pytest.raises(CheckpointError, match=r"not valid(.|\n)*wdth"):
        load_predictor(folder)


def test_an_ensemble_without_members(tmp_path):
    (tmp_path / "predictor.json").write_text(json.dumps({"type": "core.ensemble", "members": []}))
    with pytest.raises(CheckpointError, match="names no members"):
        load_predictor(tmp_path)


def test_states_with_more_than_tensors_are_not_saved(tmp_path):
    more = {"task": task_of(), "predict": predict_section(), "preprocessing": [], "parameters": []}
    with pytest.raises(CheckpointError, match=r"more than tensors(.|\n)*_extra_state"):
        save_predictor(tmp_path / "p", model=ConvModel(), networks={"n": {"_extra_state": object()}}, **more)
    with pytest.raises(CheckpointError, match="without a `model:` section"):
        save_predictor(tmp_path / "p", model=None, networks={}, **more)
    assert not (tmp_path / "p").exists()


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_fake(tmp_path / "file" / "p")


def test_an_absent_device_is_named(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(CheckpointError, match=r"cannot be built on 'cuda'(.|\n)*--device cpu"):
        load_predictor(save_fake(tmp_path / "p"), device="cuda")


def test_a_step_whose_numbers_changed_is_reported(tmp_path, monkeypatch):
    folder = save_fake(tmp_path / "p", preprocessing=[Reorient()])
    monkeypatch.setattr(Reorient, "version", 2)
    with (
        using(fake_registry()),
        pytest.warns(RuntimeWarning, match="version 1 when this model was trained and is 2"),
    ):
        load_predictor(folder)
