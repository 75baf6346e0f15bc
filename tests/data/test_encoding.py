"""Label values become indices, soft channels and validity."""

from __future__ import annotations

import numpy as np
import pytest
from mriad.encoding import encode_label
from mriad.errors import DataError
from mriad.vocabulary import LabelSet

BRAIN = LabelSet.of({"left": 2, "right": 41}, ignore=[255])
CORD = LabelSet.of({"cord": 1})


def line(*values, dtype=np.int16):
    return np.array(values, dtype).reshape(-1, 1, 1)


def test_values_become_indices_in_label_set_order():
    target, validity = encode_label(line(0, 41, 2, 41), "hard", "hard", LabelSet.of({"right": 41, "left": 2}))
    assert target.shape == (1, 4, 1, 1)
    assert target.dtype == np.uint8
    assert target.ravel().tolist() == [0, 1, 2, 1]
    assert validity is None


def test_ignored_values_are_invalid_and_never_background():
    target, validity = encode_label(line(0, 2, 255), "hard", "hard", BRAIN)
    assert target.ravel().tolist() == [0, 1, 0]
    assert validity.dtype == np.uint8
    assert validity.ravel().tolist() == [1, 1, 0]


def test_a_validity_mask_and_ignored_values_add_up():
    _, validity = encode_label(line(0, 2, 255, 2), "sparse", "hard", BRAIN, line(0, 5, 1, 1))
    assert validity.ravel().tolist() == [0, 1, 0, 1]


def test_float_files_of_whole_numbers_are_labels():
    target, _ = encode_label(line(0, 2, 41, dtype=np.float32), "hard", "hard", BRAIN)
    assert target.ravel().tolist() == [0, 1, 2]


def test_many_structures_use_a_wider_index():
    many = LabelSet.of({f"s{i}": i for i in range(1, 301)})
    target, _ = encode_label(line(0, 300), "hard", "hard", many)
    assert target.dtype == np.int16
    assert target.ravel().tolist() == [0, 300]


@pytest.mark.parametrize("value", [7, -3, 70000])
def test_a_value_outside_the_label_set_is_named_with_file_and_label_set(value):
    with pytest.raises(DataError) as found:
        encode_label(line(0, 2, value, dtype=np.int64), "hard", "hard", BRAIN, file="seg.nii.gz")
    text = str(found.value)
    assert "a label holds values outside the label set" in text
    assert f"values     {value}" in text
    assert "seg.nii.gz" in text
    assert "0 background, 2 left, 41 right, 255 ignored" in text
    assert "`ignore`" in text


def test_a_label_resampled_like_an_image_is_recognised():
    with pytest.raises(DataError, match="values that are not whole numbers") as found:
        encode_label(line(0, 0.5, 1, dtype=np.float32), "hard", "hard", CORD)
    assert "nearest neighbour" in str(found.value)


def test_soft_values_are_kept_and_clipped_only_within_rounding():
    target, _ = encode_label(line(-1e-4, 0.3, 1.0005, dtype=np.float64), "soft", "soft", CORD)
    assert target.shape == (1, 3, 1, 1)
    assert target.dtype == np.float32
    np.testing.assert_allclose(target.ravel(), [0, 0.3, 1], atol=1e-7)


def test_0_to_255_scaling_is_suspected():
    with pytest.raises(DataError, match=r"values outside \[0, 1\]") as found:
        encode_label(line(0, 128, 255), "soft", "soft", CORD, file="soft.nii.gz")
    assert "0 to 255" in str(found.value)
    assert "this looks like 0–255 scaling" in str(found.value)
    with pytest.raises(DataError, match=r"values outside \[0, 1\]") as found:
        encode_label(line(-0.5, 1, dtype=np.float32), "soft", "soft", CORD)
    assert "255" not in str(found.value)


def test_another_number_of_soft_structures_is_refused():
    with pytest.raises(DataError, match="another number of structures"):
        encode_label(np.zeros((3, 2, 2, 2)), "soft", "soft", BRAIN)


def test_hard_labels_become_channels_and_soft_ones_the_largest():
    target, _ = encode_label(line(0, 2, 41), "hard", "soft", BRAIN)
    assert target.dtype == np.float32
    assert target[:, :, 0, 0].tolist() == [[0, 1, 0], [0, 0, 1]]
    soft = np.array([[0.5, 0.51, 0.1, 0.4], [0.0, 0.0, 0.2, 0.4]]).reshape(2, 4, 1, 1)
    hard, _ = encode_label(soft, "soft", "hard", BRAIN)
    # .5 is a tie with background, .51 is not; .7 background; .4 and .4 against .2: the first structure.
    assert hard.ravel().tolist() == [0, 1, 0, 1]


def test_a_sparse_label_must_say_where_it_is_annotated():
    with pytest.raises(DataError, match="does not say where it is annotated") as found:
        encode_label(line(0, 1), "sparse", "hard", CORD)
    assert "validity:<name>" in str(found.value)
    _, validity = encode_label(line(0, 2, 255), "sparse", "hard", BRAIN)
    assert validity.ravel().tolist() == [1, 1, 0]
