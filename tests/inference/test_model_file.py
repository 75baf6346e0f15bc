"""One file, nothing pickled: exported, imported, listed, refused."""

import json
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from inference_fakes import KeepAbove, Reorient, save_fake, volume_of
from mriad.errors import CheckpointError, PluginError, StorageError
from mriad.inference.load import identity, load_predictor, start_weights
from mriad.model_file import (
    KEY,
    ModelCard,
    export_model,
    find_model,
    import_model,
    list_models,
    predictor_folder,
    read_card,
    read_model,
)
from safetensors.torch import load_file, save_file


def _scan():
    return volume_of(np.random.default_rng(0).standard_normal((8, 9, 7)))


def _exported(tmp_path, name="cord", **more):
    return export_model(save_fake(tmp_path / "p", **more), tmp_path / name, licence="CC-BY-4.0")


def _ensemble(tmp_path):
    for seed in (0, 1):
        save_fake(tmp_path / f"m{seed}", seed=seed)
    (tmp_path / "all").mkdir()
    members = {"type": "core.ensemble", "members": ["../m0", "../m1"]}
    (tmp_path / "all" / "predictor.json").write_text(json.dumps(members))
    return tmp_path / "all"


def _rewrite(file, change_card=None, change_tensors=None):
    """Write a model file again with a changed card or changed tensors."""
    header = file.read_bytes()
    length = struct.unpack("<Q", header[:8])[0]
    card = json.loads(json.loads(header[8 : 8 + length])["__metadata__"][KEY])
    tensors = load_file(file)
    if change_card:
        change_card(card)
    if change_tensors:
        change_tensors(tensors)
    save_file(tensors, file, metadata={KEY: json.dumps(card)})


def test_a_file_predicts_as_its_folder_does(tmp_path):
    folder = save_fake(
        tmp_path / "p", preprocessing=[Reorient(axes="PIR")], predict={"postprocess": [KeepAbove()]}
    )
    file = export_model(folder, tmp_path / "cord", licence="CC-BY-4.0")
    assert file.name == "cord.mriad.safetensors"
    a, b = (load_predictor(p)({"T2w": _scan()}).probabilities for p in (folder, file))
    np.testing.assert_array_equal(a, b)


def test_an_ensemble_is_one_file(tmp_path):
    folder = _ensemble(tmp_path)
    file = export_model(folder, tmp_path, licence="MIT", name="five")
    assert file == tmp_path / "five.mriad.safetensors"
    assert read_card(file).ensemble
    a, b = (load_predictor(p)({"T2w": _scan()}).probabilities for p in (folder, file))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(CheckpointError, match=r"several sets of weights(.|\n)*members  2"):
        start_weights(file)
    assert set(start_weights(file, member=1)) == {"network"}


def test_the_card_says_what_it_is(tmp_path):
    stage = tmp_path / "stage"
    save_fake(stage / "predictor")
    (stage / "done.json").write_text(json.dumps({"summary": {"steps": 100, "best": 0.9}}))
    card = read_card(export_model(stage, tmp_path / "cord", licence=" CC-BY-4.0 "))
    assert (card.name, card.licence, card.channels, card.structures) == (
        "cord",
        "CC-BY-4.0",
        ("T2w",),
        ("cord",),
    )
    assert card.training == {"steps": 100, "best": 0.9}
    assert card.versions["torch"]
    assert identity(tmp_path / "cord.mriad.safetensors") == card.digest
    with pytest.raises(CheckpointError, match="--licence"):
        export_model(stage, tmp_path / "x", licence="")


def test_start_weights_are_the_folders(tmp_path, runs):
    file = _exported(tmp_path)
    a, b = start_weights(tmp_path / "p"), start_weights(file)
    assert set(a) == set(b) == {"network"}
    assert all(torch.equal(a["network"][k], b["network"][k]) for k in a["network"])
    import_model(file)
    assert set(start_weights("cord")) == {"network"}


def test_tied_and_empty_and_half_precision_tensors_travel(tmp_path):
    """State dicts hold more than float32 matrices."""
    from mriad.inference.load import read_bundle
    from mriad.inference.stored import Bundle, Member

    folder = save_fake(tmp_path / "p")
    member = read_bundle(folder).members[0]
    tied = torch.arange(6.0)
    state = {"a": tied, "b": tied, "count": torch.tensor(3), "none": torch.zeros(0), "half": tied.bfloat16()}
    bundle = Bundle((Member(member.document, {"network": state}),), False, "here")
    import mriad.inference.load as load

    original = load.read_bundle
    load.read_bundle = lambda place: bundle
    try:
        file = export_model(folder, tmp_path / "m", licence="MIT")
    finally:
        load.read_bundle = original
    found = read_model(file).members[0].states["network"]
    assert all(torch.equal(found[k], state[k]) and found[k].dtype == state[k].dtype for k in state)


def test_import_list_find_and_predict_by_name(tmp_path, runs):
    assert list_models() == {}
    file = _exported(tmp_path)
    path = import_model(file)
    assert path == runs / "models" / "cord" / "model.mriad.safetensors"
    record = json.loads((path.parent / "run.json").read_text())
    assert record["inputs"][0]["file"] == "cord.mriad.safetensors"
    assert len(record["inputs"][0]["sha256"]) == 64
    assert find_model("cord") == path
    import_model(file, name="other")
    (runs / "models" / "broken").mkdir()
    (runs / "models" / "broken" / "model.mriad.safetensors").write_bytes(b"no")
    found = list_models()
    assert list(found) == ["broken", "cord", "other"]
    assert isinstance(found["cord"], ModelCard)
    assert isinstance(found["broken"], CheckpointError)
    with pytest.raises(StorageError, match=r"'cord' is there already, the same one(.|\n)*--model cord"):
        import_model(file)
    import_model(file, overwrite=True)


def test_reading_cards_needs_no_torch(tmp_path):
    file = _exported(tmp_path)
    code = (
        "import sys; from mriad.model_file import read_card, list_models; "
        f"card = read_card({str(file)!r}); "
        "print(card.structures, [m for m in ('torch', 'nibabel') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "('cord',) []"


def test_a_model_that_is_not_there(tmp_path, runs):
    import_model(_exported(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        find_model("crod")
    text = str(caught.value)
    assert "there is no model 'crod'" in text
    assert "models there  cord" in text
    assert "mriad model import FILE" in text
    assert "mriad train EXPERIMENT.yaml" in text


def test_run_stage_and_predictor_folders_are_found(tmp_path, runs):
    stage = runs / "stages" / "train-0123456789ab"
    save_fake(stage / "predictor")
    (stage / "done.json").write_text(json.dumps({"folder": "predictor", "summary": {}}))
    run = runs / "runs" / "x-abcdefabcdef"
    run.mkdir(parents=True)
    rows = [
        {"name": "train", "kind": "predictor", "fingerprint": "0123456789ab" + "0" * 52},
        {"name": "evaluate", "kind": "table", "fingerprint": "f" * 64},
    ]
    (run / "stages.json").write_text(json.dumps(rows))
    for place in (run, stage, stage / "predictor"):
        assert predictor_folder(place).resolve() == (stage / "predictor").resolve()
        assert find_model(place).resolve() == (stage / "predictor").resolve()
    for name in ("x-abcdefabcdef", "train-0123456789ab"):  # the bare name, wherever the user stands
        assert find_model(name).resolve() == (stage / "predictor").resolve()
        assert find_model(name, runs).resolve() == (stage / "predictor").resolve()
    with pytest.raises(CheckpointError, match=r"no predictor in this folder(.|\n)*mriad train"):
        predictor_folder(tmp_path)


def test_runs_are_named_where_a_model_is_not_there(tmp_path, runs):
    for name in ("cord-abcdefabcdef", "unfinished"):
        (runs / "runs" / name).mkdir(parents=True)
    (runs / "runs" / "cord-abcdefabcdef" / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"runs there\s+cord-abcdefabcdef\n"):
        find_model("cord-abcdefabcdee")
    with pytest.raises(CheckpointError, match=r"no predictor in this folder(.|\n)*mriad resume"):
        find_model("cord-abcdefabcdef")


# What must be refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 5, 100, -8])
def test_truncated_files(tmp_path, keep):
    file = _exported(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    with pytest.raises(
        CheckpointError, match=r"damaged(.|\n)*cord.mriad.safetensors(.|\n)*copy or export it again"
    ):
        load_predictor(file)


def test_every_flipped_byte_is_noticed(tmp_path):
    file = _exported(tmp_path)
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    for at in [9, len(whole) - 1, *rng.integers(0, len(whole), 30)]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        file.write_bytes(damaged)
        try:
            card = read_card(file)
            read_model(file)
        except (CheckpointError, PluginError):
            continue
        # Only what the digest leaves out, because it may be changed: name, licence, date, figures.
        file.write_bytes(whole)
        assert card.members == read_card(file).members


def test_a_strange_safetensors_file(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"no mriad model(.|\n)*mriad model export"):
        load_predictor(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_predictor(tmp_path / "absent.safetensors")


def test_a_pickle_is_not_opened_as_one(tmp_path):
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"network": Bomb()}, tmp_path / "x.mriad.safetensors")
    with pytest.raises(CheckpointError, match="damaged or no model file"):
        load_predictor(tmp_path / "x.mriad.safetensors")
    assert not marker.exists()


def test_other_format_version(tmp_path):
    file = _exported(tmp_path)
    _rewrite(file, lambda card: card.update(format=7))
    with pytest.raises(CheckpointError, match="format version 7; this mriad reads 1"):
        read_card(file)


def test_card_that_lacks_something(tmp_path):
    file = _exported(tmp_path)
    _rewrite(file, lambda card: card.pop("licence"))
    with pytest.raises(CheckpointError, match=r"its card lacks something(.|\n)*licence"):
        read_card(file)


def test_changed_tensors_do_not_match_the_digest(tmp_path):
    file = _exported(tmp_path)
    _rewrite(file, change_tensors=lambda tensors: tensors["0/network/0.bias"].add_(1))
    with pytest.raises(CheckpointError, match="does not match its digest"):
        load_predictor(file)


@pytest.mark.parametrize("key", ["5/network/x", "-1/network/x", "0/stranger/x", "flat"])
def test_tensors_that_belong_nowhere(tmp_path, key):
    from mriad import model_file

    file = _exported(tmp_path)

    def change(tensors):
        tensors[key] = tensors.pop("0/network/0.bias")

    _rewrite(file, change_tensors=change)
    card = read_card(file)
    digest = model_file._digest(card.members, card.ensemble, load_file(file))
    _rewrite(file, lambda card: card.update(digest=digest))
    with pytest.raises(CheckpointError, match="belongs to no network"):
        read_model(file)


@pytest.mark.parametrize("name", ["../evil", "", ".hidden", "a/b"])
def test_names_that_would_leave_the_models_folder(tmp_path, runs, name):
    file = _exported(tmp_path)
    _rewrite(file, lambda card: card.update(name=name))
    with pytest.raises(CheckpointError, match="cannot name a model"):
        import_model(file)


def test_export_overwrites_nothing_and_a_full_disk_is_said(tmp_path):
    file = _exported(tmp_path)
    before = file.read_bytes()
    with pytest.raises(StorageError, match="there already"):
        _exported(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            export_model(tmp_path / "p", file, licence="MIT", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
