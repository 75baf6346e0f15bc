"""`mriad init`: what it recognises, what it writes, and that it writes over nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from mriad.cli.init import init
from mriad.errors import DataError, MriadError, SplitError, StorageError
from mriad.experiment.load import load
from mriad.layouts import recognise
from mriad.starter import experiment_name, patch_size
from mriad.survey import survey
from typer.testing import CliRunner

SHAPE = (12, 10, 8)


def image(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def mask(*values):
    data = np.zeros(SHAPE, np.uint8)
    for i, value in enumerate(values):
        data[2 * i : 2 * i + 2, 2:5, 2:5] = value
    return data


AFFINE = np.diag([-0.8, 0.9, 2.0, 1])


@pytest.fixture
def siblings(tmp_path, write):
    """BIDS-like names: two contrasts a person, a cord mask beside each, a few other labels."""
    root = tmp_path / "My data"
    for i in range(1, 5):
        for contrast in ("T1w", "T2w"):
            stem = f"sub-{i:02}/anat/sub-{i:02}_{contrast}"
            write(root / f"{stem}.nii.gz", image(i), AFFINE)
            write(root / f"{stem}_label-cord_seg.nii.gz", mask(1), AFFINE)
    write(root / "sub-01/anat/sub-01_T2w_label-lesion_seg.nii.gz", mask(1), AFFINE)
    write(root / "sub-05/anat/sub-05_T2w.nii.gz", image(5), AFFINE)
    return root


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(init)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, MriadError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_it_writes_an_experiment_that_loads_and_says_what_it_saw(siblings, runs):
    output = run(siblings)
    folder = runs / "experiments" / "My-data"
    assert sorted(p.name for p in folder.iterdir()) == [
        *("experiment.yaml", "labels.yaml", "manifest.csv", "run.json"),
    ]
    assert "cases     8 of 4 persons" in output
    assert "T1w (4), T2w (4)" in output
    assert "0.8×0.9×2 mm and 12×10×8 voxels" in output
    assert "cord = 1 (hard; endings seen: label-cord_seg (8), label-lesion_seg (1))" in output
    assert "left out  sub-05/anat/sub-05_T2w.nii.gz: no label that ends in _label-cord_seg" in output
    assert f"train it  mriad train {folder / 'experiment.yaml'}" in output
    assert f"next: mriad preview {folder / 'experiment.yaml'}" in output
    experiment = load(folder / "experiment.yaml")
    index = experiment.data.dataset.build()
    assert len(index) == 8
    assert index.label_set.names == ("cord",)
    assert {case.contrast for case in index} == {"T1w", "T2w"}
    sides = experiment.data.split.build(index, 0, 0)
    assert all(sides.values())
    record = json.loads((folder / "run.json").read_text())
    assert record["inputs"]["sha256"] == index.fingerprint
    assert record["inputs"]["cases"] == 8
    assert "# the median voxel size" in (folder / "experiment.yaml").read_text()


def test_the_experiment_prepares_and_draws(siblings, runs):
    from mriad.preparation import Recipe, prepare
    from mriad.vocabulary import Task

    run(siblings, "--name", "x")
    experiment = load(runs / "experiments" / "x" / "experiment.yaml")
    index = experiment.data.dataset.build()
    steps = tuple(experiment.data.preprocessing)
    recipe = Recipe(
        tuple(experiment.data.channels), index.label_set, "hard", "hard", steps, (None,) * len(steps)
    )
    sample = prepare(list(index)[:1], recipe)[0]
    assert sample.grid.orientation == "RAS"
    task = Task(recipe.channels, {"": index.label_set}, "softmax")
    patch = experiment.streams["labelled"].sampler.build(task)(sample, np.random.default_rng(0), (0, 0, 0))
    assert all(n % experiment.model.divisor() == 0 for n in patch.image.shape[1:])


def test_nothing_is_overwritten(siblings, runs):
    run(siblings)
    file = runs / "experiments" / "My-data" / "experiment.yaml"
    file.write_text("mine")
    with pytest.raises(StorageError, match="nothing is overwritten") as found:
        run(siblings)
    assert "--out" in str(found.value)
    assert file.read_text() == "mine"


def test_another_label_can_be_chosen(siblings):
    layout = recognise(siblings, "label-lesion_seg")
    assert [case.id for case in layout.cases] == ["sub-01_T2w"]
    with pytest.raises(DataError, match="no label file ends in '_label-gm_seg'") as found:
        recognise(siblings, "label-gm_seg")
    assert "label-cord_seg" in str(found.value)


def test_labels_in_derivatives_belong_to_their_images(tmp_path, write):
    for i in (1, 2, 3):
        write(tmp_path / f"sub-{i}/ses-a/anat/sub-{i}_ses-a_T2w.nii.gz", image(i))
        name = f"derivatives/manual/sub-{i}/ses-a/anat/sub-{i}_ses-a_T2w_seg.nii.gz"
        write(tmp_path / name, mask(1))
    layout = recognise(tmp_path)
    assert [(c.person, c.session, c.contrast) for c in layout.cases] == [
        (f"sub-{i}", "a", "T2w") for i in (1, 2, 3)
    ]


def test_plain_names_in_folders_of_their_own(tmp_path, write):
    for i in (1, 2, 3):
        write(tmp_path / f"case{i}/image.nii.gz", image(i))
        write(tmp_path / f"case{i}/image_seg.nii.gz", mask(i))
    looked = survey(tmp_path)
    assert [case.id for case in looked.index] == ["case1_image", "case2_image", "case3_image"]
    assert looked.index.label_set.names == ("structure_1", "structure_2", "structure_3")
    assert len(looked.index.persons) == 3


@pytest.mark.parametrize("flavour", ["decathlon", "nnunet"])
def test_decathlon_and_nnunet_folders(tmp_path, write, flavour):
    for i in (1, 2, 3):
        if flavour == "nnunet":
            for channel in (0, 1):
                write(tmp_path / f"imagesTr/brain_{i}_{channel:04}.nii.gz", image(i + 9 * channel))
        else:
            write(tmp_path / f"imagesTr/brain_{i}.nii.gz", image(i))
        write(tmp_path / f"labelsTr/brain_{i}.nii.gz", mask(1, 2))
    write(tmp_path / "imagesTr/brain_4.nii.gz", image(4))
    (tmp_path / "imagesTr/._brain_1.nii.gz").write_bytes(b"junk")
    facts = {
        "decathlon": {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        },
        "nnunet": {
            "channel_names": {"0": "T1w", "1": "T2 FLAIR"},
            "labels": {"background": 0, "a": 1, "b": 2},
        },
    }
    (tmp_path / "dataset.json").write_text(json.dumps(facts[flavour]))
    looked = survey(tmp_path)
    assert [case.id for case in looked.index] == ["brain_1", "brain_2", "brain_3"]
    assert looked.left_out == ("brain_4: no label in labelsTr",)
    expected = {
        "decathlon": (("MRI",), ("Anterior", "Posterior")),
        "nnunet": (("T1w", "T2_FLAIR"), ("a", "b")),
    }
    assert (looked.channels, looked.index.label_set.names) == expected[flavour]


def test_four_digits_may_number_the_case(tmp_path, write):
    for i in (1, 2, 3):
        write(tmp_path / f"imagesTr/case_{i:04}.nii.gz", image(i))
        write(tmp_path / f"labelsTr/case_{i:04}.nii.gz", mask(1))
    assert [case.id for case in recognise(tmp_path).cases] == ["case_0001", "case_0002", "case_0003"]


def test_a_manifest_is_used_where_it_is(siblings, runs):
    run(siblings, "--name", "first")
    output = run(runs / "experiments" / "first", "--name", "second")
    assert "layout    manifest manifest.csv" in output
    folder = runs / "experiments" / "second"
    assert not (folder / "manifest.csv").exists()
    assert len(load(folder / "experiment.yaml").data.dataset.build()) == 8


def test_cases_that_cannot_be_used_are_left_out_with_the_reason(tmp_path, write):
    for i in range(5):
        write(tmp_path / f"sub-{i}_T2w.nii.gz", image(i))
        write(tmp_path / f"sub-{i}_T2w_seg.nii.gz", mask(1))
    write(tmp_path / "sub-1_T2w_seg.nii.gz", mask(1), np.diag([1, 1, 2.0, 1]))
    (tmp_path / "sub-2_T2w.nii.gz").write_bytes(b"no image")
    write(tmp_path / "sub-3_T2w.nii.gz", np.zeros((*SHAPE, 2), np.float32))
    looked = survey(tmp_path)
    assert [case.id for case in looked.index] == ["sub-0_T2w", "sub-4_T2w"]
    text = "\n".join(looked.left_out)
    assert "sub-1_T2w: label: spacing differs on axis 2 by 1 mm" in text
    assert "sub-2_T2w: the file is truncated or not a NIfTI image" in text
    assert "sub-3_T2w: a 3D image is meant, but the file is 4D" in text


def test_soft_labels_are_recognised(tmp_path, write, runs):
    for i in range(3):
        write(tmp_path / f"d/sub-{i}_T2w.nii.gz", image(i))
        write(tmp_path / f"d/sub-{i}_T2w_label-cord_probseg.nii.gz", mask(1).astype(np.float32) / 2)
    assert "cord = 1 (soft" in run(tmp_path / "d")
    assert load(runs / "experiments" / "d" / "experiment.yaml").data.labels.kind == "soft"


def test_too_little_is_said(tmp_path, write):
    with pytest.raises(DataError, match="there is no such folder"):
        recognise(tmp_path / "none")
    with pytest.raises(DataError, match="no image with a label was recognised") as found:
        recognise(tmp_path)
    assert "X_seg.nii.gz" in str(found.value)
    for i in range(2):
        write(tmp_path / f"sub-{i}_T2w.nii.gz", image(i))
        write(tmp_path / f"sub-{i}_T2w_seg.nii.gz", mask(1))
    with pytest.raises(SplitError, match="need three persons, but there are 2"):
        run(tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_and_patch_sizes():
    assert experiment_name("My data (v2)") == "My-data-v2"
    assert experiment_name("…") == "experiment"
    assert patch_size((35, 50, 35)) == [40, 56, 40]
    assert patch_size((200, 200, 20)) == [104, 104, 24]
    assert patch_size((1, 9, 8)) == [8, 16, 8]
