"""`data.registered` and its commands: contrasts on other grids become one case; labels move with theirs."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from mriad.api import component
from mriad.errors import DataError, LabelGeometryError
from mriad.images import read_volume
from mriad.preparation import Recipe, prepare
from mriad_data.registration import Registration, Transform
from mriad_data.registration import sources as registered_sources
from mriad_data.registration.resampling import covered
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from registration_phantom import anatomy, grid, head_points, pose, scan

STRUCTURES = {"grey": 2, "white": 3}
T1, FLAIR = grid(), grid((1.8, 2.2, 3.5), (1, -1, 2), 17, (150, 180, 120), flip=(-1, 1, 1))
TRUTH = pose(170, 10, 10)


def _labels(on, moved=None) -> np.ndarray:
    tissue = anatomy(on, moved)
    return np.where(np.isin(tissue, (2, 3)), tissue, 0).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, write):
    """Two persons, T1w and a moved FLAIR; a label drawn on each; one row a person, and one a contrast."""
    wide, long = ["id,person,image:T1w,image:FLAIR,label:hard,kind:hard,label:lesion,kind:lesion"], []
    long = ["id,person,contrast,image:image,label:hard,kind:hard"]
    for n in (1, 2):
        write(tmp_path / f"t{n}.nii.gz", scan("T1w", T1, seed=n).data, T1.matrix)
        write(tmp_path / f"f{n}.nii.gz", scan("FLAIR", FLAIR, TRUTH, seed=9 + n).data, FLAIR.matrix)
        write(tmp_path / f"tl{n}.nii.gz", _labels(T1), T1.matrix)
        write(tmp_path / f"fl{n}.nii.gz", _labels(FLAIR, TRUTH), FLAIR.matrix)
        wide.append(f"c{n},p{n},t{n}.nii.gz,f{n}.nii.gz,tl{n}.nii.gz,hard,fl{n}.nii.gz,hard")
        long.append(f"c{n}t,p{n},T1w,t{n}.nii.gz,tl{n}.nii.gz,hard")
        long.append(f"c{n}f,p{n},FLAIR,f{n}.nii.gz,fl{n}.nii.gz,hard")
    (tmp_path / "wide.csv").write_text("\n".join(wide))
    (tmp_path / "long.csv").write_text("\n".join(long))
    return tmp_path


def _registered(folder, table="wide", **fields):
    manifest = {"type": "data.manifest", "path": str(folder / f"{table}.csv"), "structures": STRUCTURES}
    return component("dataset", "data.registered", dataset=manifest, reference="T1w", **fields)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Transforms are searched once for all tests here."""
    return tmp_path_factory.mktemp("transforms")


def test_a_case_lies_on_the_reference_and_labels_move_with_their_contrast(folder, cache):
    index = _registered(folder, drawn_on={"lesion": "FLAIR"}, cache=cache).build()
    case = pickle.loads(pickle.dumps(index[0]))
    assert case.channels["T1w"].fingerprint == index[0].channels["T1w"].fingerprint
    sample = prepare([case], Recipe(("T1w", "FLAIR"), index.label_set, "lesion", "hard"))[0]
    assert sample.grid == T1
    assert sample.image.shape == (2, *T1.shape)
    np.testing.assert_array_equal(sample.image[0], scan("T1w", T1, seed=1).data)
    seen = covered(FLAIR, TRUTH, T1)
    assert 0.3 < seen.mean() < 0.95
    np.testing.assert_array_equal(sample.validity[0].astype(bool), sample.validity[0] == 1)
    assert (
        sample.validity[0].astype(bool) == seen
    ).mean() > 0.99  # outside FLAIR's view nothing was annotated
    assert (sample.image[1][sample.validity[0] == 0] == 0).mean() > 0.99
    truth = np.searchsorted([0, 2, 3], _labels(T1))
    for s in (1, 2):
        mine, other = (sample.target[0] == s) & seen, (truth == s) & seen
        assert 2 * (mine & other).sum() / (mine.sum() + other.sum()) > 0.85
    assert case.labels["hard"].source.location.endswith("tl1.nii.gz")  # the reference's own is left alone


def test_cases_of_one_contrast_are_joined(folder, cache):
    index = _registered(folder, "long", join=True, cache=cache).build()
    assert [case.id for case in index] == ["p1", "p2"]
    assert list(index[0].channels) == ["T1w", "FLAIR"]
    volume = index[0].channels["FLAIR"].read()
    assert volume.grid == T1
    wide = _registered(folder, cache=cache).build()[0].channels["FLAIR"]
    assert wide.fingerprint == index[0].channels["FLAIR"].fingerprint
    assert wide.fingerprint != _registered(folder, image_order=1).build()[0].channels["FLAIR"].fingerprint


def test_transforms_are_kept_and_a_damaged_one_is_searched_again(folder, cache, monkeypatch):
    source = _registered(folder, contrasts=["T1w", "FLAIR"], cache=cache).build()[0].channels["FLAIR"]
    first = source.read().data
    link = source.links[0]
    file = cache / f"{link.fingerprint}.json"
    assert Transform.load(file).distance(TRUTH, head_points()).mean() < 0.5

    searches = []
    search = registered_sources.register
    monkeypatch.setattr(registered_sources, "register", lambda *a: searches.append(1) or search(*a))
    monkeypatch.setattr(registered_sources, "_known", {})
    np.testing.assert_array_equal(source.read().data, first)
    assert searches == []  # from the file
    file.write_text("{ half of a fi")
    registered_sources._known.clear()
    np.testing.assert_array_equal(source.read().data, first)
    assert searches == [1]
    assert Transform.load(file) == link.transform()


@pytest.mark.slow
def test_to_a_template_in_one_interpolation(folder, cache, write):
    space = grid((2.5, 2.5, 2.5), degrees=5)
    write(folder / "template.nii.gz", scan("T1w", space, pose(9, 8, 6, 0.05), seed=5).data, space.matrix)
    write(folder / "atlas.nii.gz", _labels(space, pose(9, 8, 6, 0.05)), space.matrix)
    template = {
        "image": folder / "template.nii.gz",
        "labels": folder / "atlas.nii.gz",
        "structures": STRUCTURES,
        "registration": {"kind": "affine"},
    }
    index = _registered(folder, template=template, cache=cache).build()
    case = index[0]
    assert len(case.channels["FLAIR"].links) == 2
    assert len(case.channels["T1w"].links) == 1
    sample = prepare([case], Recipe(("T1w", "FLAIR"), index.label_set, "hard", "hard"))[0]
    assert sample.grid.same(space)
    atlas = prepare([case], Recipe(("T1w",), index.label_set, "template", "pseudo"))[0].target[0]
    seen = sample.validity[0] == 1
    for s in (1, 2):
        mine, other = (sample.target[0] == s) & seen, (atlas == s) & seen
        assert 2 * (mine & other).sum() / (mine.sum() + other.sum()) > 0.8


def test_a_template_on_another_label_set_is_refused(folder):
    wrong = {
        "image": folder / "t2.nii.gz",
        "labels": folder / "tl2.nii.gz",
        "structures": {"grey": 1, "white": 2},
    }
    with pytest.raises(DataError, match="the template is on another label set than the data set") as found:
        _registered(folder, template=wrong).build()
    assert "template  grey = 1, white = 2" in str(found.value)
    assert "data set  grey = 2, white = 3" in str(found.value)
    with pytest.raises(DataError, match="a file of the template is missing"):
        _registered(folder, template={"image": folder / "none.nii.gz"}).build()


def test_contrasts_that_do_not_overlap_are_named(folder, write):
    far = FLAIR.matrix
    far[:3, 3] += 500
    write(folder / "f1.nii.gz", scan("FLAIR", FLAIR, TRUTH).data, far)
    index = _registered(folder).build()
    with pytest.raises(DataError, match="two images do not overlap as their files place them") as found:
        prepare(index, Recipe(("T1w", "FLAIR"), index.label_set))
    text = str(found.value)
    assert "t1.nii.gz" in text
    assert "f1.nii.gz" in text
    assert "case" in text
    assert "c1" in text


def test_a_label_on_another_grid_than_its_contrast_is_refused(folder, cache):
    index = _registered(folder, drawn_on={"hard": "FLAIR"}, cache=cache).build()
    with pytest.raises(LabelGeometryError, match="label and image do not share a voxel grid"):
        index[0].labels["hard"].source.read()
    with pytest.raises(DataError, match="drawn on 'PD', which a case does not have"):
        _registered(folder, drawn_on={"hard": "PD"}).build()


def test_all_faulty_cases_come_in_one_report(folder):
    with pytest.raises(DataError, match="2 cases cannot be registered") as found:
        _registered(folder, contrasts=["T1w", "T2w"]).build()
    assert "c1" in str(found.value)
    assert "no T2w; it has T1w, FLAIR" in str(found.value)
    with pytest.raises(DataError, match="4 cases cannot be registered") as found:
        _registered(folder, "long").build()
    assert "`join: true`" in str(found.value)
    text = (folder / "long.csv").read_text()
    (folder / "long.csv").write_text(text + "\nagain,p1,T1w,t2.nii.gz,tl2.nii.gz,hard")
    with pytest.raises(DataError, match="1 cases cannot be registered") as found:
        _registered(folder, "long", join=True).build()
    assert "a second T1w of p1" in str(found.value)


@pytest.mark.slow
def test_the_commands(folder):
    from mriad_data.commands import app

    run = CliRunner()
    moved, kept = folder / "moved.nii.gz", folder / "t.json"
    words = ["register", str(folder / "f1.nii.gz"), str(folder / "t1.nii.gz"), "--out", str(moved)]
    result = run.invoke(app, [*words, "--transform", str(kept), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[0])
    assert not found["kept"]
    assert found["mutual_information"]["found"] > found["mutual_information"]["start"]
    assert Transform.of(found["matrix"]) == Transform.load(kept)
    assert read_volume(moved).grid.same(T1)

    again = run.invoke(app, words)
    assert again.exit_code != 0
    assert "nothing is overwritten" in str(again.exception)

    there, back = folder / "there.nii.gz", folder / "back.nii.gz"
    label, like = str(folder / "fl1.nii.gz"), str(folder / "t1.nii.gz")
    result = run.invoke(app, ["transform", label, like, str(kept), "--kind", "hard", "--out", str(there)])
    assert result.exit_code == 0, result.output
    assert set(np.unique(read_volume(there).data)) == {0, 2, 3}
    words = ["transform", str(there), str(folder / "f1.nii.gz"), str(kept), "--kind", "hard", "--inverse"]
    result = run.invoke(app, [*words, "--out", str(back)])
    assert result.exit_code == 0, result.output
    first, last = read_volume(label).data, read_volume(back).data
    assert first.shape == last.shape
    assert 2 * ((first == 3) & (last == 3)).sum() / ((first == 3).sum() + (last == 3).sum()) > 0.85


def test_settings_are_part_of_the_identity(folder):
    plain = _registered(folder).build()[0].channels["FLAIR"]
    other = _registered(folder, registration=Registration(kind="affine")).build()[0].channels["FLAIR"]
    assert plain.fingerprint != other.fingerprint
