"""data.min_max and data.percentile, against numpy and TorchIO; padding never counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mriad.errors import DataError
from mriad_data.cropping import CenterCrop
from mriad_data.intensity import MinMax, Percentile
from mriad_data.normalising import ZScore
from pydantic import ValidationError

STEPS = [MinMax(), Percentile(), ZScore()]


@pytest.fixture
def bright(grid, make_sample):
    """Two channels of other scales, with a hard target and a validity mask."""
    sample = make_sample(grid)
    image = sample.image * np.float32([[[[3]]], [[[50]]]]) + np.float32([[[[100]]], [[[-7]]]])
    return replace(sample, image=image, validity=np.ones((1, *grid.shape), np.uint8))


def test_min_max_ends_at_low_and_high(bright):
    after = MinMax(low=-1, high=3).apply(bright, None)
    for channel, old in zip(after.image, bright.image, strict=True):
        assert (channel.min(), channel.max()) == (-1, 3)
        wanted = (old - old.min()) / np.ptp(old) * 4 - 1
        np.testing.assert_allclose(channel, wanted, atol=1e-5)
    assert after.image.dtype == np.float32


def test_percentile_agrees_with_torchio(bright):
    torch, tio = pytest.importorskip("torch"), pytest.importorskip("torchio")
    mine = Percentile(lower=2, upper=97).apply(bright, None).image
    rescale = tio.RescaleIntensity(out_min_max=(0, 1), percentiles=(2, 97))
    for c in range(2):
        theirs = rescale(tio.ScalarImage(tensor=torch.from_numpy(bright.image[c : c + 1].copy()))).numpy()[0]
        np.testing.assert_allclose(mine[c], theirs, atol=1e-5)


def test_percentile_may_leave_the_tails(bright):
    after = Percentile(lower=10, upper=90, low=0, high=10, clip=False).apply(bright, None).image
    for channel in after:
        assert np.percentile(channel, 10) == pytest.approx(0, abs=1e-4)
        assert np.percentile(channel, 90) == pytest.approx(10, abs=1e-4)
        assert channel.min() < 0 < 10 < channel.max()


@pytest.mark.parametrize("step", [MinMax(), Percentile(lower=1, upper=99)])
def test_padding_neither_counts_nor_keeps_its_value(bright, step):
    padded = CenterCrop(size=[30, 30, 30], fill=1e6).apply(bright, None)
    after = step.apply(padded, None)
    inside = np.broadcast_to(padded.field, after.image.shape).astype(bool)
    np.testing.assert_allclose(after.image[inside], step.apply(bright, None).image.ravel(), atol=1e-5)
    assert (after.image[~inside] == 0).all()


@pytest.mark.parametrize(
    "step", [MinMax(per_channel=False), Percentile(per_channel=False, lower=0, upper=100)]
)
def test_channels_may_share_one_scale(bright, step):
    after = step.apply(bright, None).image
    low, high = bright.image.min(), bright.image.max()
    np.testing.assert_allclose(after, (bright.image - low) / (high - low), atol=1e-5)


def test_the_background_of_a_stripped_image_stays_low(bright):
    image = np.abs(bright.image) + 100
    image[:, :4] = 0
    after = MinMax(over="nonzero").apply(replace(bright, image=image), None).image
    assert (after[:, :4] == 0).all()
    assert after[:, 4:].min() == 0
    assert np.median(after[:, 4:]) > 0.1  # without `nonzero` the gap below 100 would press all up


@pytest.mark.parametrize("step", STEPS)
def test_labels_validity_and_place_are_untouched(bright, step):
    before = bright.image.copy()
    after = step.apply(bright, None)
    assert after.target is bright.target
    assert after.validity is bright.validity
    assert after.grid == bright.grid
    np.testing.assert_array_equal(bright.image, before)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("over", ["field", "nonzero"])
def test_a_constant_channel_is_named(bright, step, over):
    image = bright.image.copy()
    image[1] = 5 if over == "field" else 0
    with pytest.raises(DataError, match="an image is constant") as found:
        step.model_copy(update={"over": over}).apply(replace(bright, image=image), None)
    assert "channel  1" in str(found.value)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_named_and_not_called_constant(bright, step, bad):
    image = bright.image.copy()
    image[1, 2, 3, 4] = bad
    with pytest.raises(DataError, match="holds NaN or infinite values") as found:
        step.apply(replace(bright, image=image), None)
    assert "channel  1" in str(found.value)
    assert "1 of" in str(found.value)


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ValidationError, match=r"`low` .* must be below `high`"):
        MinMax(low=1, high=1)
    with pytest.raises(ValidationError, match=r"`lower` .* must be below `upper`"):
        Percentile(lower=50, upper=50)
