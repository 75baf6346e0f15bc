"""data.histogram_match: the scale of Nyúl and Udupa, against TorchIO's implementation and by hand."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError
from mriad.preparation import Recipe, fit_steps, prepare
from mriad.vocabulary import Case, LabelSet
from mriad_data.cropping import CenterCrop
from mriad_data.foreground import CropToForeground
from mriad_data.histogram import HistogramMatch
from pydantic import ValidationError


@pytest.fixture
def persons(grid, make_sample):
    """Five persons of one anatomy and other scanner scales."""
    made = []
    for n in range(5):
        sample = make_sample(grid, seed=n, case=f"c{n}")
        image = np.exp(0.4 * sample.image) * np.float32(10 ** (n - 2)) + np.float32(3 * n)
        made.append(replace(sample, image=image, person=f"p{n}"))
    return made


def _torchio(samples, tmp_path, over, probe):
    """Landmarks and one mapped image by TorchIO, channel 0."""
    torch, tio = pytest.importorskip("torch"), pytest.importorskip("torchio")
    paths = []
    for sample in samples:
        paths.append(tmp_path / f"{sample.case}.nii")
        nib.save(nib.Nifti1Image(sample.image[0], sample.grid.matrix), paths[-1])

    def foreground(tensor):
        if over == "field":
            return np.ones(tensor.shape, bool)
        values = tensor.numpy()
        return values > values.mean(dtype=np.float64)

    marks = tio.HistogramStandardization.train(paths, masking_function=foreground, progress=False)
    image = tio.ScalarImage(tensor=torch.from_numpy(probe.image[:1].copy()))
    transform = tio.HistogramStandardization(
        {"image": marks}, masking_method=lambda x: torch.from_numpy(foreground(x))
    )
    # It learns 13 landmarks, quartiles among them, and applies the 11 that are published.
    return np.delete(marks, [3, 9]), transform(tio.Subject(image=image))["image"].numpy()[0]


@pytest.mark.parametrize("over", ["field", "above_mean"])
def test_landmarks_and_images_agree_with_torchio(persons, tmp_path, over):
    step = HistogramMatch(over=over)
    marks, image = _torchio(persons[:4], tmp_path, over, persons[4])
    fitted = step.fit(persons[:4])
    np.testing.assert_allclose(fitted["landmarks"][0], marks, atol=1e-4)
    mine = step.apply(persons[4], fitted).image[0]
    np.testing.assert_allclose(mine, image, atol=2e-3 * np.ptp(image) / 100)


def test_real_scans_agree_with_torchio(real_data, tmp_path):
    from mriad.images import read_volume
    from mriad.vocabulary import Sample

    samples = []
    for path in sorted((real_data / "hippocampus" / "imagesTr").glob("*.nii*")):
        volume = read_volume(path)
        if volume.data.dtype != np.float32 or len(samples) == 9:
            continue  # in 8 bits percentiles tie, and TorchIO sends ties elsewhere
        image = volume.data[None].astype(np.float32)
        samples.append(Sample(path.name.split(".")[0], image, volume.grid, person=path.name))
    step = HistogramMatch()
    marks, image = _torchio(samples[:8], tmp_path, "above_mean", samples[8])
    fitted = step.fit(samples[:8])
    np.testing.assert_allclose(fitted["landmarks"][0], marks, atol=1e-3)
    np.testing.assert_allclose(step.apply(samples[8], fitted).image[0], image, atol=1e-2)


def test_scanner_scales_vanish(persons):
    step = HistogramMatch(over="field")
    fitted = step.fit(persons)
    medians = [np.median(step.apply(sample, fitted).image[0]) for sample in persons]
    assert max(medians) - min(medians) < 1e-3
    before = [np.median(sample.image[0]) for sample in persons]
    assert max(before) / min(before) > 10


def test_a_person_with_many_scans_counts_once(persons):
    step = HistogramMatch()
    once = step.fit(persons[:2])
    again = [replace(persons[1], case=f"again{n}") for n in range(6)]
    assert step.fit([*persons[:2], *again])["landmarks"] == pytest.approx(np.array(once["landmarks"]))
    assert once["persons"] == 2


def test_unit_ends_in_0_and_1_and_padding_is_0(persons):
    step = HistogramMatch(unit=True)
    fitted = step.fit(persons)
    padded = CenterCrop(size=[30, 30, 30], fill=1e6).apply(persons[0], None)
    after = step.apply(padded, fitted).image
    inside = np.broadcast_to(padded.field, after.shape).astype(bool)
    assert (after[~inside] == 0).all()
    assert (after.min(), after.max()) == (0, 1)
    np.testing.assert_allclose(after[inside], step.apply(persons[0], fitted).image.ravel(), atol=1e-6)
    plain = HistogramMatch().apply(persons[0], fitted).image
    np.testing.assert_allclose(step.apply(persons[0], fitted).image, np.clip(plain / 100, 0, 1), atol=1e-6)


@pytest.mark.parametrize("unit", [False, True])
def test_the_background_of_a_skull_stripped_image_stays_0(persons, unit):
    brain = np.zeros(persons[0].grid.shape, bool)
    brain[2:6, 3:9, 2:5] = True
    stripped = [replace(s, image=(s.image + 100 * s.image.max()) * brain) for s in persons]
    step = HistogramMatch(over="nonzero", unit=unit, percentiles=[0, 50, 100])
    after = step.apply(stripped[0], step.fit(stripped))
    assert (after.image[:, ~brain] == 0).all()
    alone = replace(stripped[0], image=stripped[0].image[:, 2:6, 3:9, 2:5])
    inside = HistogramMatch(over="field", unit=unit, percentiles=[0, 50, 100]).apply(
        alone, step.fit(stripped)
    )
    np.testing.assert_array_equal(after.image[:, 2:6, 3:9, 2:5], inside.image)
    cut = CropToForeground().apply(after, None)
    assert cut.grid == stripped[0].grid.crop((2, 3, 2), (4, 6, 3))


def test_order_of_intensities_is_kept_with_few_grey_levels(grid, make_sample):
    sample = make_sample(grid)
    coarse = replace(sample, image=np.rint(sample.image * 1.2).astype(np.float32))
    step = HistogramMatch(over="field")
    after = step.apply(coarse, step.fit([sample])).image
    values = np.unique(coarse.image[0])
    means = [after[0][coarse.image[0] == v].mean() for v in values]
    assert (np.diff(means) > 0).all()


def test_it_is_fitted_on_training_cases_alone(persons, tmp_path, write):
    cases = []
    for sample in persons:
        path = write(tmp_path / f"{sample.case}.nii.gz", sample.image[0], sample.grid.matrix)
        from mriad.images import FileSource

        cases.append(Case(sample.case, sample.person, {"image": FileSource(str(path))}))
    recipe = Recipe(("image",), LabelSet(()), steps=(HistogramMatch(),), parameters=(None,))
    fitted = fit_steps(cases[:3], recipe)
    singles = [replace(sample, image=sample.image[:1]) for sample in persons[:3]]
    wanted = HistogramMatch().fit(singles)
    assert fitted.parameters[0]["landmarks"] == pytest.approx(np.array(wanted["landmarks"]))
    assert len(prepare(cases, fitted)) == 5
    assert fitted.key(cases[4]) != fit_steps(cases[:2], recipe).key(cases[4])


def test_bad_input_is_named(persons, grid, make_sample):
    step = HistogramMatch()
    fitted = step.fit(persons)
    with pytest.raises(DataError, match="was not fitted"):
        step.apply(persons[0], None)
    with pytest.raises(DataError, match="no training case"):
        step.fit([])
    with pytest.raises(DataError, match="another number of channels") as found:
        step.apply(replace(persons[0], image=persons[0].image[:1]), fitted)
    assert "expected  2" in str(found.value)
    flat = persons[0].image.copy()
    flat[1] = 4
    with pytest.raises(DataError, match="constant between its percentiles 1 and 99") as found:
        step.apply(replace(persons[0], image=flat), fitted)
    assert "case     c0" in str(found.value)
    flat[1, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        step.fit([replace(persons[0], image=flat)])
    with pytest.raises(ValidationError, match="must ascend"):
        HistogramMatch(percentiles=[10, 10, 90])
