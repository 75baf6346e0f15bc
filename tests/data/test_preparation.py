"""Case → sample: what is checked, what is fitted on whom, and what is shared in the store."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
from mriad.errors import DataError, LabelGeometryError
from mriad.geometry import Grid
from mriad.images import FileSource
from mriad.interfaces import PreprocessingStep
from mriad.preparation import Recipe, fit_steps, load_sample, prepare, prepare_volumes
from mriad.vocabulary import Case, Label, LabelSet, Volume
from mriad_data.cropping import CenterCrop
from mriad_data.normalising import ZScore
from mriad_data.orientation import Orient
from mriad_data.store import ArrayStore

CORD = LabelSet.of({"cord": 1})
SHAPE = (6, 7, 8)
APPLIED: list[str] = []


class Shift(PreprocessingStep):
    """Adds a number; counts how often it ran."""

    type: Literal["test.shift"] = "test.shift"
    by: float = 1.0

    def apply(self, sample, parameters):
        APPLIED.append(sample.case)
        return replace(sample, image=sample.image + np.float32(self.by))


class Centre(PreprocessingStep):
    """Subtracts the mean of the training samples."""

    type: Literal["test.centre"] = "test.centre"
    fitted: ClassVar[bool] = True

    def fit(self, samples):
        return {"mean": float(np.mean([s.image.mean() for s in samples]))}

    def apply(self, sample, parameters):
        return replace(sample, image=sample.image - np.float32(parameters["mean"]))


class Break(PreprocessingStep):
    """Fails."""

    type: Literal["test.break"] = "test.break"

    def apply(self, sample, parameters):
        raise KeyError("oops")


class Bent(PreprocessingStep):
    """Crops the image and leaves the grid."""

    type: Literal["test.bent"] = "test.bent"

    def apply(self, sample, parameters):
        return replace(sample, image=sample.image[:, 1:])


@pytest.fixture
def make_case(tmp_path, write):
    """make_case(id, label=array, affine=..., image=...) → a case of files."""

    def make(
        name="sub-01", label=None, affine=None, label_affine=None, image=None, kind="hard", contrast="T2w"
    ):
        seed = sum(map(ord, name))
        voxels = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) if image is None else image
        channels = {"T2w": FileSource(str(write(tmp_path / f"{name}.nii.gz", voxels, affine)))}
        labels = {}
        if label is not None:
            place = affine if label_affine is None else label_affine
            path = write(tmp_path / f"{name}_seg.nii.gz", label, place)
            labels = {kind: Label(kind, FileSource(str(path)))}
        return Case(name, name, channels, labels, contrast=contrast)

    return make


def box(value=1):
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:4, 2:4] = value
    return label


def test_a_case_is_read_onto_its_own_grid(make_case):
    affine = np.diag([-2.0, 1, 1, 1])
    case = make_case(label=box(), affine=affine)
    sample = load_sample(case, ["T2w"], "hard", "hard", CORD)
    assert (sample.image.shape, sample.image.dtype) == ((1, *SHAPE), np.float32)
    np.testing.assert_array_equal(sample.target[0], box())
    np.testing.assert_allclose(sample.grid.matrix, affine)
    assert (sample.case, sample.person, sample.contrast) == ("sub-01", "sub-01", "T2w")
    assert load_sample(case, ["T2w"], None, "none", CORD).target is None
    assert load_sample(case, [], "hard", "hard", CORD).image.shape == (0, *SHAPE)


def test_another_spacing_of_the_label_is_shown_with_its_axis(make_case):
    case = make_case(
        label=box(), affine=np.diag([0.8, 0.8, 0.8, 1]), label_affine=np.diag([0.8, 0.8, 0.82, 1])
    )
    with pytest.raises(LabelGeometryError) as found:
        load_sample(case, ["T2w"], "hard", "hard", CORD)
    text = str(found.value)
    assert text.startswith("label and image do not share a voxel grid")
    assert "sub-01, contrast T2w" in text
    assert "6×7×8, 0.8×0.8×0.8 mm" in text
    assert "6×7×8, 0.8×0.8×0.82 mm" in text
    assert "← spacing differs on axis 2 by 0.02 mm" in text
    assert "sub-01_seg.nii.gz" in text
    assert "nearest neighbour" in text


@pytest.mark.parametrize(
    ("shape", "change", "text"),
    [
        ((6, 7, 9), np.eye(4), "shape differs on axis 2: 9 instead of 8"),
        (SHAPE, np.diag([-1.0, 1, 1, 1]), "direction of axis 0 differs by 180°"),
        (
            SHAPE,
            np.array([[1.0, 0, 0, 0], [0, 1, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "+0.5 mm along world y",
        ),
    ],
)
def test_other_differences_are_named(make_case, shape, change, text):
    case = make_case(label=np.zeros(shape, np.uint8), affine=np.eye(4), label_affine=change)
    with pytest.raises(LabelGeometryError) as found:
        load_sample(case, ["T2w"], "hard", "hard", CORD)
    assert text in str(found.value)


def test_rounding_of_the_header_is_no_difference(make_case):
    off = np.eye(4)
    off[0, 3] = 5e-4
    load_sample(make_case(label=box(), affine=np.eye(4), label_affine=off), ["T2w"], "hard", "hard", CORD)


def test_channels_on_different_grids_are_refused():
    data = np.random.default_rng(0).normal(size=SHAPE)
    here, there = Grid.of(SHAPE, np.eye(4)), Grid.of(SHAPE, np.diag([1, 1, 2.0, 1]))
    with pytest.raises(LabelGeometryError, match="channel FLAIR and image do not share") as found:
        prepare_volumes({"T1w": Volume(data, here), "FLAIR": Volume(data, there)}, [], [])
    assert "spacing differs on axis 2 by 1 mm" in str(found.value)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "an image is constant: every voxel is 3"), (np.nan, "NaN")]
)
def test_a_constant_or_nan_image_is_refused(make_case, value, text):
    case = make_case(image=np.full(SHAPE, value, np.float32))
    with pytest.raises(DataError) as found:
        load_sample(case, ["T2w"], None, "none", CORD)
    assert text in str(found.value)
    assert "sub-01" in str(found.value)
    volume = Volume(np.full(SHAPE, value), Grid.of(SHAPE, np.eye(4)))
    with pytest.raises(DataError, match="constant" if value == value else "NaN"):
        prepare_volumes({"T2w": volume}, [], [])


def test_a_label_outside_the_label_set_names_case_and_file(make_case):
    with pytest.raises(DataError, match="outside the label set") as found:
        load_sample(make_case(label=box(4)), ["T2w"], "hard", "hard", CORD)
    assert "sub-01" in str(found.value)
    assert "sub-01_seg.nii.gz" in str(found.value)


def test_unknown_channels_and_labels_list_what_there_is(make_case):
    case = make_case(label=box())
    with pytest.raises(DataError, match="no channel 'T1w'") as found:
        load_sample(case, ["T1w"], None, "none", CORD)
    assert "T2w" in str(found.value)
    with pytest.raises(DataError, match="no label 'soft'") as found:
        load_sample(case, ["T2w"], "soft", "soft", CORD)
    assert "hard" in str(found.value)
    with pytest.raises(DataError, match="no case has a label named 'truth'"):
        prepare([case], Recipe(("T2w",), CORD, "truth", "hard"))


def test_a_failing_step_is_named_with_its_place_and_case(make_case):
    recipe = Recipe(("T2w",), CORD, steps=(Shift(), Break()), parameters=(None, None))
    with pytest.raises(DataError, match="a preprocessing step failed") as found:
        prepare([make_case()], recipe)
    text = str(found.value)
    assert "1 (test.break)" in text
    assert "sub-01" in text
    assert "KeyError: 'oops'" in text
    assert "6×7×8" in text
    with pytest.raises(DataError, match="do not fit its grid"):
        prepare([make_case()], Recipe(("T2w",), CORD, steps=(Bent(),), parameters=(None,)))


def test_a_constant_image_inside_a_step_is_named_with_the_step(make_case):
    image = np.zeros(SHAPE, np.float32)
    image[0] = 1
    recipe = Recipe(("T2w",), CORD, steps=(CenterCrop(size=[2, 2, 2]), ZScore()), parameters=(None, None))
    with pytest.raises(DataError, match="constant") as found:
        prepare([make_case(image=image)], recipe)
    assert "1 (data.z_score)" in str(found.value)


def test_prepared_samples_are_made_once_and_read_from_the_store(make_case, tmp_path):
    cases = [make_case(f"sub-{i}", label=box()) for i in range(3)]
    store = ArrayStore().build(tmp_path / "store")
    recipe = Recipe(("T2w",), CORD, "hard", "hard", (Orient(axes="LPS"), Shift()), (None, None), store)
    APPLIED.clear()
    seen = []
    prepared = prepare(cases, recipe, progress=lambda *a: seen.append(a))
    assert [case.id for case in cases] == APPLIED
    assert seen == [(1, 3), (2, 3), (3, 3)]
    prepare(cases, recipe)
    assert len(APPLIED) == 3
    direct = prepare(cases, replace(recipe, store=None))
    for i, case in enumerate(cases):
        np.testing.assert_array_equal(prepared.of(case.id).image, direct[i].image)
        np.testing.assert_array_equal(prepared[i].target, direct[i].target)
        assert prepared[i].grid == direct[i].grid
    assert not prepared[0].image.flags.writeable
    assert [s.case for s in prepared[1:]] == ["sub-1", "sub-2"]
    assert pickle.loads(pickle.dumps(recipe)).key(cases[0]) == recipe.key(cases[0])


def test_workers_prepare_the_same(make_case, tmp_path):
    cases = [make_case(f"sub-{i}", label=box()) for i in range(3)]
    steps, none = (Orient(axes="LPS"), CenterCrop(size=[4, 4, 4])), (None, None)
    inline = prepare(cases, Recipe(("T2w",), CORD, "hard", "hard", steps, none))
    store = ArrayStore().build(tmp_path / "store")
    spawned = prepare(cases, Recipe(("T2w",), CORD, "hard", "hard", steps, none, store), workers=1)
    for a, b in zip(inline, spawned, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_what_changes_voxels_changes_the_key_and_nothing_else_does(make_case, monkeypatch):
    case = make_case(label=box())
    recipe = Recipe(("T2w",), CORD, "hard", "hard", (Shift(),), (None,))
    key = recipe.key(case)
    assert recipe.key(replace(case, id="other", person="p2", contrast="T1w")) == key
    assert replace(recipe, steps=(Shift(by=2),)).key(case) != key
    assert replace(recipe, parameters=({"a": 1},)).key(case) != key
    assert replace(recipe, kind="soft").key(case) != key
    assert replace(recipe, label_set=LabelSet.of({"cord": 1}, ignore=[9])).key(case) != key
    other = make_case("sub-02", label=box())
    assert recipe.key(other) != key
    monkeypatch.setattr(Shift, "version", 2)
    assert recipe.key(case) != key


def test_a_case_of_the_same_voxels_keeps_its_own_name(make_case, tmp_path):
    case = make_case(label=box())
    twin = replace(case, id="twin", person="p2", domain="B")
    recipe = Recipe(("T2w",), CORD, "hard", "hard", store=ArrayStore().build(tmp_path / "store"))
    prepared = prepare([case, twin], recipe)
    assert [(s.case, s.person, s.domain) for s in prepared] == [("sub-01", "sub-01", ""), ("twin", "p2", "B")]


def test_fitted_steps_see_the_training_cases_after_the_steps_before(make_case, tmp_path):
    cases = [make_case(f"sub-{i}") for i in range(4)]
    store = ArrayStore().build(tmp_path / "store")
    recipe = Recipe(("T2w",), CORD, steps=(Shift(by=10), Centre(), Centre()), store=store)
    APPLIED.clear()
    fitted = fit_steps(cases[:2], recipe)
    assert set(APPLIED) == {"sub-0", "sub-1"}
    means = [load_sample(c, ["T2w"], None, "none", CORD).image.mean() for c in cases[:2]]
    assert fitted.parameters[0] is None
    assert fitted.parameters[1]["mean"] == pytest.approx(np.mean(means) + 10, abs=1e-4)
    assert fitted.parameters[2]["mean"] == pytest.approx(0, abs=1e-4)
    other = fit_steps(cases[1:3], recipe)
    assert other.key(cases[3]) != fitted.key(cases[3])
    APPLIED.clear()
    prepare(cases[3:], fitted)
    prepare(cases[3:], other)
    assert APPLIED == ["sub-3"]  # what comes before the first fitted step is shared by the folds


def test_without_fitted_steps_nothing_is_read():
    broken = Case("x", "x", {"T2w": FileSource("/nowhere.nii.gz")})
    recipe = Recipe(("T2w",), CORD, steps=(Shift(),))
    assert fit_steps([broken], recipe).parameters == (None,)


def test_unlabelled_cases_have_no_target(make_case):
    cases = [make_case("a", label=box()), make_case("b")]
    prepared = prepare(cases, Recipe(("T2w",), CORD, "hard", "hard"))
    assert prepared[0].target is not None
    assert prepared[1].target is None


def test_prediction_prepares_the_same_voxels_as_training(make_case):
    case = make_case(label=box(), affine=np.diag([-1.0, 2, 1, 1]))
    steps = (Orient(axes="RAS"), CenterCrop(size=[4, 9, 4]), ZScore())
    trained = prepare([case], Recipe(("T2w",), CORD, "hard", "hard", steps, (None,) * 3))[0]
    given = prepare_volumes({"T2w": case.channels["T2w"].read()}, steps, (None,) * 3)
    np.testing.assert_array_equal(given.image, trained.image)
    np.testing.assert_array_equal(given.field, trained.field)
    assert given.grid == trained.grid
    assert given.target is None
