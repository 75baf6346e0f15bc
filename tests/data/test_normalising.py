"""z-scores are taken over what was acquired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mriad.errors import DataError
from mriad_data.cropping import CenterCrop
from mriad_data.normalising import ZScore


def test_each_channel_gets_mean_0_and_deviation_1(grid, make_sample):
    sample = make_sample(grid)
    scaled = replace(sample, image=sample.image * np.float32([[[[3]]], [[[50]]]]) + 7)
    after = ZScore().apply(scaled, None)
    np.testing.assert_allclose(after.image.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(after.image.std((1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(after.image, ZScore().apply(sample, None).image, atol=1e-4)
    assert after.image.dtype == np.float32
    assert after.target is sample.target


def test_padding_neither_counts_nor_changes_the_rest(grid, make_sample):
    sample = make_sample(grid)
    padded = CenterCrop(size=[30, 30, 30], fill=1e6).apply(sample, None)
    after = ZScore().apply(padded, None)
    inside = np.broadcast_to(padded.field, after.image.shape).astype(bool)
    np.testing.assert_allclose(after.image[inside], ZScore().apply(sample, None).image.ravel(), atol=1e-5)
    assert (after.image[~inside] == 0).all()


def test_channels_may_share_one_scale(grid, make_sample):
    sample = make_sample(grid)
    ratio = replace(sample, image=sample.image * np.float32([[[[1]]], [[[10]]]]))
    after = ZScore(per_channel=False).apply(ratio, None).image
    assert after.mean() == pytest.approx(0, abs=1e-5)
    assert after.std() == pytest.approx(1, abs=1e-4)
    spread = ratio.image.std((1, 2, 3))
    assert after[1].std() / after[0].std() == pytest.approx(spread[1] / spread[0], rel=1e-4)


def test_the_background_of_a_stripped_image_stays_0(grid, make_sample):
    sample = make_sample(grid)
    image = np.abs(sample.image) + 100
    image[:, :4] = 0
    after = ZScore(over="nonzero").apply(replace(sample, image=image), None).image
    assert (after[:, :4] == 0).all()
    np.testing.assert_allclose(after[:, 4:].mean((1, 2, 3)), 0, atol=1e-5)


@pytest.mark.parametrize("over", ["field", "nonzero"])
def test_a_constant_channel_is_named(grid, make_sample, over):
    sample = make_sample(grid)
    image = sample.image.copy()
    image[1] = 5 if over == "field" else 0
    with pytest.raises(DataError, match="constant") as found:
        ZScore(over=over).apply(replace(sample, image=image), None)
    assert "channel  1" in str(found.value)
