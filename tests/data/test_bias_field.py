"""data.n4: known bias fields are found, against SimpleITK called by another path; labels stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.images import read_volume
from mriad.vocabulary import Sample
from mriad_data.bias_field import N4
from mriad_data.cropping import CenterCrop

SHAPE = (48, 56, 40)
FAST = N4(working_mm=8, iterations=[30, 30, 20])


def _grid() -> Grid:
    matrix = np.diag([-3.0, 2.5, 3.5, 1])
    matrix[:3, 3] = (70, -60, -65)
    return Grid.of(SHAPE, matrix)


def _places(shape) -> list[np.ndarray]:
    return np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")


def _bias(shape) -> np.ndarray:
    """A smooth logarithm of a field, about ±0.6."""
    x, y, z = _places(shape)
    return 0.35 * x - 0.25 * y * z + 0.2 * y**2 - 0.15 * z


@pytest.fixture(scope="module")
def head() -> Sample:
    """Three tissues in a ball of 0, with 3 % noise; the target is the tissue."""
    x, y, z = _places(SHAPE)
    radius = np.sqrt(x**2 + y**2 + z**2)
    folds = radius + 0.1 * np.sin(9 * x) * np.sin(8 * y) * np.cos(7 * z)
    tissue = np.select([radius > 0.95, folds > 0.75, folds > 0.5], [0, 1, 2], 3).astype(np.uint8)
    draw = np.random.default_rng(0)
    clean = np.array([0.0, 60, 110, 150])[tissue]
    image = np.where(tissue, clean * draw.normal(1, 0.03, SHAPE), 0).astype(np.float32)
    return Sample("head", image[None], _grid(), tissue[None], np.ones((1, *SHAPE), np.uint8))


def _found(sample: Sample, step: N4) -> np.ndarray:
    """The logarithm of the field that the step divided by, where the image is not 0."""
    after = step.apply(sample, None).image[0]
    inside = sample.image[0] > 0
    return np.log(sample.image[0][inside] / after[inside])


def test_a_known_field_is_found(head):
    inside = head.image[0] > 0
    truth = _bias(SHAPE)[inside]
    biased = replace(head, image=(head.image * np.exp(_bias(SHAPE))).astype(np.float32))
    found = _found(biased, FAST)
    assert np.corrcoef(found, truth)[0, 1] > 0.97
    assert np.std(found - truth) < 0.25 * truth.std()
    after = FAST.apply(biased, None).image[0]
    for tissue in (1, 2, 3):
        where = head.target[0] == tissue
        before, left = (np.std(i[where]) / np.mean(i[where]) for i in (biased.image[0], after))
        assert left < 0.5 * before


def test_the_level_of_the_image_stays_and_an_even_image_hardly_changes(head):
    found = _found(head, FAST)
    assert abs(found.mean()) < 1e-3
    assert found.std() < 0.06


def test_it_agrees_with_simpleitk_called_by_another_path(head):
    biased = (head.image[0] * np.exp(_bias(SHAPE))).astype(np.float32)
    image = sitk.GetImageFromArray(biased.transpose(2, 1, 0))
    image.SetSpacing([3.0, 2.5, 3.5])
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([20, 20, 10])
    small = sitk.Shrink(image, [2, 2, 2])  # voxels left out, not averaged; its own header and mask
    n4.Execute(small, sitk.Cast(small > 0, sitk.sitkUInt8))
    theirs = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0)[biased > 0]
    mine = _found(replace(head, image=biased[None]), FAST)
    assert np.corrcoef(mine, theirs)[0, 1] > 0.97
    assert np.std(mine - theirs) < 0.3 * theirs.std()


def test_channels_are_corrected_alone_and_labels_stay(head):
    biased = (head.image * np.exp(_bias(SHAPE))).astype(np.float32)
    both = replace(head, image=np.concatenate([biased, head.image]))
    after = FAST.apply(both, None)
    np.testing.assert_array_equal(after.image[:1], FAST.apply(replace(head, image=biased), None).image)
    assert after.target is head.target
    assert after.validity is head.validity
    assert after.image.dtype == np.float32


def test_padding_neither_counts_nor_changes(head):
    biased = replace(head, image=(head.image * np.exp(_bias(SHAPE))).astype(np.float32))
    padded = CenterCrop(size=[56, 60, 48], fill=1e5).apply(biased, None)
    after = FAST.apply(padded, None).image[0]
    inside = padded.field[0].astype(bool)
    assert (after[~inside] == 1e5).all()
    plain = FAST.apply(biased, None).image[0]
    tissue = inside & (padded.image[0] > 0)
    assert np.corrcoef(after[tissue], plain[biased.image[0] > 0])[0, 1] > 0.999


def test_a_real_scan(real_data):
    volume = read_volume(real_data / "ms-lesions/cross-sectional/sub-07/sub-07_T1w.nii.gz")
    image = np.maximum(volume.data, 0).astype(np.float32)[::2, ::2, ::2]
    matrix = volume.grid.matrix
    matrix[:3, :3] *= 2
    sample = Sample("sub-07", image[None], Grid.of(image.shape, matrix))
    truth = _bias(image.shape)
    plain = _found(sample, FAST)  # what the source's own correction left
    biased = replace(sample, image=(sample.image * np.exp(truth)).astype(np.float32))
    added = _found(biased, FAST) - plain
    inside = image > 0
    assert np.corrcoef(added, truth[inside])[0, 1] > 0.99


def test_bad_input_is_named(head):
    with pytest.raises(DataError, match="constant where its bias field is estimated") as found:
        FAST.apply(replace(head, image=np.full_like(head.image, 7)), None)
    assert "channel  0" in str(found.value)
    with pytest.raises(DataError, match="too few voxels are above 0") as found:
        FAST.apply(replace(head, image=-1 - head.image), None)
    assert "before intensities are centred on 0" in str(found.value)
    image = head.image.copy()
    image[0, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        FAST.apply(replace(head, image=image), None)
