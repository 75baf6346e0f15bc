"""Sliding window: against MONAI's, against the whole volume, and in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_fakes import predict_section, task_of
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from mriad.errors import ExperimentError, MriadError, NonFiniteError, ShapeError
from mriad.inference import slab as slabs_module
from mriad.inference.slab import collect
from mriad.inference.window import blend, cut, gaussian_weights, starts, window_shape
from torch import nn


def _volume(shape, channels=1, seed=0):
    return np.random.default_rng(seed).standard_normal((channels, *shape)).astype(np.float32)


def _conv(outputs=3, channels=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, outputs, 3, padding=1)
    ).eval()


def _blended(image, network, outputs, window, overlap, **more):
    slabs = blend(image, lambda box: network(box)[0], outputs, window, [overlap] * 3, **more)
    return collect(slabs, outputs, image.shape[1:])


@pytest.mark.parametrize("window", [(8, 8, 8), (5, 12, 7), (16, 1, 3)])
def test_weights_are_monais(window):
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_weights(window), theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "window", "overlap"),
    [
        ((24, 20, 18), (8, 8, 8), 0.5),
        ((17, 23, 9), (8, 6, 9), 0.25),
        ((10, 30, 12), (16, 8, 12), 0.5),  # smaller than the window: padded
        ((31, 13, 14), (8, 20, 20), 0.7),
        ((9, 9, 9), (9, 9, 9), 0.0),
    ],
)
def test_equals_monai_to_1e_5(shape, window, overlap):
    image, network = _volume(shape, 2), _conv(3, 2)
    with torch.no_grad():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None],
            window,
            1,
            network,
            overlap=overlap,
            mode="gaussian",
            sigma_scale=0.125,
        )[0].numpy()
    np.testing.assert_allclose(_blended(image, network, 3, window, overlap), theirs, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    window=st.tuples(*[st.integers(1, 9)] * 3),
    overlap=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_pointwise_network_equals_whole_volume(shape, window, overlap, seed):
    image = _volume(shape, seed=seed)
    found = _blended(image, lambda x: torch.cat([x**2, x.sin()], 1), 2, window, overlap)
    np.testing.assert_allclose(found, np.concatenate([image**2, np.sin(image)]), atol=1e-5, rtol=1e-5)


def test_slabs_come_once_in_order_along_the_longest_part(monkeypatch):
    monkeypatch.setattr(slabs_module, "SLAB_BYTES", 4 * 20 * 6 * 3)
    image = _volume((6, 40, 20))
    found = list(blend(image, lambda b: b[0], 1, (6, 8, 20), [0.5] * 3))
    assert {s.axis for s in found} == {1}
    assert [s.start for s in found] == list(np.cumsum([0, *[s.stop - s.start for s in found]]))[:-1]
    assert found[-1].stop == 40


def test_starts_cover_the_axis():
    assert starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert starts(11, 4, 0.5) == [0, 2, 4, 6, 7]
    assert starts(4, 4, 0.9) == [0]


def test_window_shape_full_divisor_and_faults():
    assert window_shape((60, 190, 300), [64, 192, "full"], [32, 32, 32]) == (64, 192, 320)
    assert window_shape((7, 8, 9), [], [1, 4, 4]) == (7, 8, 12)
    with pytest.raises(ExperimentError, match="one positive size or `full` for each of the 3 axes"):
        window_shape((7, 8, 9), [4, 4], [1, 1, 1])
    with pytest.raises(ExperimentError, match=r"\[0, 4, 4\]"):
        window_shape((7, 8, 9), [0, 4, 4], [1, 1, 1])


def test_cut_pads_with_zero_and_copies():
    image = _volume((4, 4, 4))
    image.flags.writeable = False
    box = cut(image, (-1, 2, 0), (3, 4, 4))
    assert box.shape == (1, 1, 3, 4, 4)
    assert (box[0, 0, 0] == 0).all()
    assert (box[0, 0, :, 2:] == 0).all()
    np.testing.assert_array_equal(box[0, 0, 1:, :2].numpy(), image[0, :2, 2:])
    box.fill_(1)  # a memory map stays as it was


def test_memory_maps_are_read_only_and_fine(tmp_path):
    image = _volume((12, 10, 9))
    np.save(tmp_path / "a.npy", image)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_allclose(_blended(mapped, lambda x: x * 2, 1, (5, 5, 5), 0.5), image * 2, atol=1e-5)


def test_progress_counts_windows():
    seen = []
    _blended(_volume((8, 8, 8)), lambda x: x, 1, (4, 8, 8), 0.5, on_window=lambda d, t: seen.append((d, t)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_wrong_output_shape_is_named():
    with pytest.raises(
        ShapeError, match=r"output does not fit its task(.|\n)*\(2, 4, 4, 4\)(.|\n)*\(3, 4, 4, 4\)"
    ):
        list(blend(_volume((4, 4, 4)), lambda b: torch.cat([b[0]] * 2), 3, (4, 4, 4), [0.5] * 3))


def test_non_finite_output_is_refused():
    with pytest.raises(NonFiniteError, match="not finite"):
        list(blend(_volume((4, 4, 4)), lambda b: b[0] / 0, 1, (4, 4, 4), [0.5] * 3))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_says_sizes_and_remedies(error):
    def forward(box):
        raise error

    with pytest.raises(MriadError, match="memory does not suffice") as caught:
        list(blend(_volume((9, 8, 7)), forward, 5, (4, 4, 4), [0.5] * 3))
    text = str(caught.value)
    assert "9×8×7" in text
    assert "outputs       5" in text
    assert "smaller predict.window" in text


def test_other_runtime_errors_pass():
    def forward(box):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(blend(_volume((4, 4, 4)), forward, 1, (4, 4, 4), [0.5] * 3))


def test_section_defaults_make_a_whole_volume_window():
    assert predict_section().window == []
    assert task_of().outputs() == 1
