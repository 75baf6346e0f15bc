"""What the network gets: robust rescaling, any orientation and resolution, and scans that are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError, MriadError
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.inference.predictor import NetworkPredictor
from mriad.inference.segmenter import Segmenter
from mriad.interfaces import PreprocessingStep
from mriad.preparation import prepare_volumes
from mriad.vocabulary import LabelSet, Task, Volume
from mriad_synthseg.inference_steps import STEPS
from torch import nn

STEPS_BUILT = [PreprocessingStep.resolve(step) for step in STEPS]
NONE = [None] * len(STEPS_BUILT)
LABELS = LabelSet.of({"left a": 1, "right a": 2})


def scan(shape=(20, 22, 18), spacing=(1.0, 1.0, 1.0), seed=0):
    rng = np.random.default_rng(seed)
    data = rng.gamma(2, 100, shape).astype(np.float32)
    return Volume(data, Grid.of(shape, np.diag([*spacing, 1.0])))


def network_input(volume):
    return prepare_volumes({"image": volume}, STEPS_BUILT, NONE).image


@given(a=st.floats(1e-3, 1e4), b=st.floats(-1e4, 1e4), spacing=st.sampled_from([1.0, 0.7, 1.6]))
@settings(max_examples=25, deadline=None)
def test_a_linear_map_of_the_scan_changes_nothing(a, b, spacing):
    """a·I + b with a > 0 gives the same network input, to the rounding of float32 in a·I + b."""
    volume = scan(spacing=(spacing, 1.0, 1.2))
    mapped = (a * volume.data.astype(np.float64) + b).astype(np.float32)
    spread = a * np.ptp(volume.data)
    rounding = 4e-7 * (abs(b) + spread) / spread
    found = network_input(Volume(mapped, volume.grid))
    np.testing.assert_allclose(found, network_input(volume), atol=8 * rounding + 1e-5)


def test_the_input_is_in_0_to_1_and_spikes_do_not_matter():
    volume = scan()
    plain = network_input(volume)
    assert (plain.min(), plain.max()) == (0, 1)
    spiked = volume.data.copy()
    spiked[3, 3, 3] = 1e7
    other = network_input(Volume(spiked, volume.grid))
    assert np.abs(np.delete(other - plain, 0)).mean() < 0.01


@pytest.mark.parametrize("axes", ["LPS", "ASR", "IRP"])
def test_orientation_does_not_matter(axes):
    """The same scan stored along other axes gives the same input on the same grid."""
    import nibabel as nib

    volume = scan()
    image = nib.Nifti1Image(volume.data, volume.grid.matrix)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    turned = image.as_reoriented(turn)
    other = Volume(np.asarray(turned.dataobj), Grid.of(turned.shape, turned.affine))
    sample = prepare_volumes({"image": other}, STEPS_BUILT, NONE)
    straight = prepare_volumes({"image": volume}, STEPS_BUILT, NONE)
    np.testing.assert_allclose(sample.image, straight.image, atol=1e-6)
    assert sample.grid.same(straight.grid)


class Sides(nn.Module):
    """Left where x is below the middle, right above, wherever it is bright."""

    def forward(self, x):
        half = x.shape[2] // 2
        out = torch.full((1, 3, *x.shape[2:]), -4.0)
        out[:, 0] = 0
        out[:, 1, :half] = 8 * x[0, 0, :half] - 4
        out[:, 2, half:] = 8 * x[0, 0, half:] - 4
        return out


def predictor(flips=("x",)):
    section = PredictSection.model_validate(
        {"head": {"type": "synthseg.posteriors"}, "test_time": {"flips": list(flips)}}
    )
    segmenter = Segmenter([Sides()], Task(("image",), {"": LABELS}, "softmax"), section)
    return NetworkPredictor(segmenter, STEPS_BUILT, NONE)


def blob(shape=(30, 32, 28), spacing=(1.0, 1.0, 1.0)):
    grid = Grid.of(shape, np.diag([*spacing, 1.0]))
    centre = (np.array(shape) - 1) / 2
    where = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    far = np.linalg.norm((where - centre) * spacing, axis=-1)
    data = np.random.default_rng(0).normal(100, 5, shape) + 900 * (far < 9)
    return Volume(data.astype(np.float32), grid)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.0), (2.0, 1.5, 1.0)])
def test_the_result_lies_on_the_scans_own_grid(spacing):
    shape = tuple(round(30 / s) for s in spacing)
    volume = blob(shape, spacing)
    found = predictor()({"image": volume})
    assert found.grid.same(volume.grid)
    assert found.probabilities.shape == (2, *shape)
    soft = found.probabilities.sum((1, 2, 3)) * volume.grid.voxel_volume
    ball = 4 / 3 * np.pi * 9**3 / 2
    np.testing.assert_allclose(soft, [ball, ball], rtol=0.15)


def test_flips_average_with_sides_exchanged():
    np.testing.assert_allclose(
        predictor()({"image": blob()}).probabilities,
        predictor(())({"image": blob()}).probabilities,
        atol=2e-3,
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.full((8, 8, 8), np.nan), "NaN or infinite"),
        (np.where(np.arange(512).reshape(8, 8, 8) == 5, np.inf, 1.0), "NaN or infinite"),
        (np.full((8, 8, 8), 3.0), "constant: every voxel is 3"),
        (np.ones((8, 8)), "3D image is meant"),
        (np.random.default_rng(0).random((8, 8, 8, 2)), "3D image is meant"),
        (np.eye(8)[:, :, None] * np.zeros(8) + (np.arange(512).reshape(8, 8, 8) == 9), "constant"),
    ],
)
def test_bad_voxels_are_refused_with_the_reason(data, said):
    """NaN, infinite, constant, 2D, 4D, and one where the percentiles coincide."""
    volume = Volume(data.astype(np.float32), Grid.of((8, 8, 8), np.eye(4)))
    with pytest.raises(DataError, match=said):
        predictor()({"image": volume})


def test_huge_voxels_are_refused_before_memory_is_taken():
    """A file in µm that says mm: 1 m voxels."""
    volume = scan((40, 40, 40), spacing=(5000.0, 5000.0, 5000.0))
    with pytest.raises(MriadError, match="more memory than this machine has") as caught:
        predictor()({"image": volume})
    assert "voxel size" in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 3, 3), (2, 40, 40)])
def test_tiny_scans_are_segmented(shape):
    """A network that pads sees them; the result has their shape."""
    volume = scan(shape)
    found = predictor()({"image": volume})
    assert found.probabilities.shape == (2, *shape)
    assert np.isfinite(found.probabilities).all()
