"""The supervised baseline's augmentation, and the experiments of both baselines."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.batch import Batch, Draws
from mriad.errors import ShapeError
from mriad.experiment.model import Experiment
from mriad.stages.graph import expand
from mriad.testing import a_task, check_augmenter
from mriad_synthseg.supervised import SupervisedAugment
from mriad_synthseg.supervised_augmentation import affine_matrices, displacement, identity
from scipy import ndimage
from scipy.spatial.transform import Rotation

STILL = {
    "rotation_deg": 0,
    "scaling": 0,
    "shear": 0,
    "translation_voxels": 0,
    "velocity_std": 0,
    "log_gamma": 0,
}


def batch(shape=(20, 18, 16), seed=0):
    image = torch.from_numpy(np.random.default_rng(seed).gamma(2, 50, (1, 1, *shape)).astype(np.float32))
    target = (image > 100).to(torch.int16)
    return Batch(image=image, keys=(seed,), cases=("a",), target=target)


def apply(config, given_):
    return config.build(a_task())(given_, Draws(given_.keys, "t"))


def test_contract():
    check_augmenter(SupervisedAugment())
    check_augmenter(SupervisedAugment(translation_voxels=2))


def test_nothing_drawn_is_min_max_alone():
    before = batch()
    after = apply(SupervisedAugment(**STILL), before)
    low, high = before.image.min(), before.image.max()
    np.testing.assert_allclose(after.image, (before.image - low) / (high - low), atol=1e-5)
    assert torch.equal(after.target, before.target)
    assert (after.validity == 1).all()


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_images_stay_in_0_to_1_and_labels_are_labels(seed):
    after = apply(SupervisedAugment(translation_voxels=4), batch(seed=seed))
    assert after.image.min() == 0
    assert after.image.max() == 1
    assert set(after.target.unique().tolist()) <= {0, 1}
    assert torch.isfinite(after.image).all()


def test_gamma_is_an_exponent_between_0_74_and_1_35():
    found = []
    for seed in range(40):
        before = batch((8, 8, 8), seed)
        after = apply(SupervisedAugment(**{**STILL, "log_gamma": 0.3}), before)
        x = (before.image - before.image.min()) / (before.image.max() - before.image.min())
        inside = (x > 0.2) & (x < 0.8)
        powers = (after.image[inside].log() / x[inside].log()).numpy()
        assert np.ptp(powers) < 1e-3
        found.append(powers.mean())
    assert np.exp(-0.3) <= min(found) < 0.8
    assert 1.25 < max(found) <= np.exp(0.3)


def test_image_and_label_move_together():
    """A piecewise constant image and its label: after any deformation they agree but at borders."""
    where = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1)
    ball = np.linalg.norm(where - 11.5, axis=-1) < 7
    given_ = Batch(
        image=torch.from_numpy(ball.astype(np.float32))[None, None],
        keys=(3,),
        cases=("a",),
        target=torch.from_numpy(ball.astype(np.int16))[None, None],
    )
    after = apply(SupervisedAugment(translation_voxels=2), given_)
    image, label = after.image[0, 0].numpy(), after.target[0, 0].numpy() > 0
    # Both look up the same places: linear above 0.5 and nearest differ by half a voxel at most.
    assert not (ndimage.binary_erosion(label, iterations=1) & (image < 0.2)).any()
    assert not (~ndimage.binary_dilation(label, iterations=1) & (image > 0.8)).any()
    assert abs(label.sum() / ball.sum() - 1) < 0.5


def test_affines_are_scale_shear_rotation():
    angles, scale = torch.tensor([[10.0, -7, 4]]), torch.tensor([[0.9, 1.1, 1.05]])
    shear, shift = torch.tensor([[0.01, -0.01, 0.005, 0, 0.01, -0.002]]), torch.tensor([[3.0, -2, 1]])
    found = affine_matrices(angles, scale, shear, shift)[0].numpy()
    turn = Rotation.from_euler("xyz", angles[0].numpy(), degrees=True).as_matrix()
    slant = np.array([[1, 0.01, -0.01], [0.005, 1, 0], [0.01, -0.002, 1]])
    np.testing.assert_allclose(found[:, :3], np.diag(scale[0]) @ slant @ turn, atol=1e-6)
    np.testing.assert_allclose(found[:, 3], shift[0])


def test_a_constant_velocity_is_a_shift_of_that_length():
    nodes = torch.zeros(1, 3, 5, 5, 5)
    nodes[:, 0] = 2.5
    moved = displacement(nodes, (20, 22, 24))
    np.testing.assert_allclose(moved[0, 0], 2.5, atol=1e-4)
    np.testing.assert_allclose(moved[0, 1:], 0, atol=1e-6)


@pytest.mark.parametrize("std", [3.0, 4.0])
def test_the_deformation_never_folds(std):
    """Jacobian determinant above 0, with nodes as far apart as 10 of them over 160 voxels; the plain field folds.

    A cube of 72 voxels with 5 nodes an axis has that distance, 17.7 voxels, at a tenth of the cost.
    """
    generator = torch.Generator().manual_seed(int(std))
    lowest, plain_lowest = [], []
    for _ in range(4):
        nodes = std * torch.randn(1, 3, 5, 5, 5, generator=generator)
        moved = displacement(nodes, (72, 72, 72))[0].double()
        lowest.append(float(_jacobian(moved).min()))
        plain = torch.nn.functional.interpolate(nodes, (72, 72, 72), mode="trilinear", align_corners=True)
        plain_lowest.append(float(_jacobian(plain[0].double()).min()))
    assert min(lowest) > 0
    assert min(plain_lowest) < 0  # the control: it folds


def _jacobian(moved):
    """Determinants of forward differences of x + u(x)."""
    places = identity(moved.shape[1:], moved.device)[0].double() + moved
    corner = places[:, :-1, :-1, :-1]
    along = (places[:, 1:, :-1, :-1], places[:, :-1, 1:, :-1], places[:, :-1, :-1, 1:])
    x, y, z = (step - corner for step in along)
    return (x * torch.linalg.cross(y, z, dim=0)).sum(0)


def test_slices_are_refused():
    flat = Batch(image=torch.zeros(1, 1, 8, 8), keys=(0,), cases=("a",))
    with pytest.raises(ShapeError, match="deforms volumes"):
        apply(SupervisedAugment(), flat)


@pytest.mark.parametrize("name", ["supervised_t1", "atlas_em"])
def test_experiments_are_valid(name):
    experiment = Experiment.load(f"synthseg:{name}")
    stages = [node.stage.type_name() for node in expand(experiment)]
    assert stages[-1] == "core.evaluate"
    assert stages[0] in ("core.train", "synthseg.fit_atlas")
