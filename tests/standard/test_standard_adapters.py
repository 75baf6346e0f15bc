"""Any MONAI or TorchIO transform as an augmenter; one module, since MONAI takes seconds to import."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from mriad.batch import Batch, Draws, sample_key
from mriad.errors import DataError, ExperimentError
from mriad_standard import Monai, TorchIO

SPATIAL = [
    Monai(
        transform="RandAffined",
        arguments={"prob": 1, "rotate_range": [0.3, 0.3, 0.3], "padding_mode": "zeros"},
    ),
    Monai(transform="RandFlip", arguments={"prob": 1, "spatial_axis": 0}),
    Monai(transform="RandZoomd", arguments={"prob": 1, "min_zoom": 1.3, "max_zoom": 1.5}),
    Monai(
        transform="Rand3DElasticd", arguments={"prob": 1, "sigma_range": [3, 4], "magnitude_range": [60, 90]}
    ),
    TorchIO(transform="RandomAffine", arguments={"degrees": 20, "translation": 3}),
    TorchIO(transform="RandomFlip", arguments={"axes": [0, 1], "flip_probability": 1}),
    TorchIO(transform="RandomElasticDeformation", arguments={"max_displacement": 1.5}),
    TorchIO(
        transform="RandomAffineElasticDeformation", arguments={"elastic_kwargs": {"max_displacement": 1.5}}
    ),
]
INTENSITY = [
    Monai(transform="RandGaussianNoised", arguments={"prob": 1, "std": 0.5}),
    Monai(transform="RandBiasField", arguments={"prob": 1}),
    Monai(transform="RandSimulateLowResolutiond", arguments={"prob": 1}),
    Monai(transform="ScaleIntensity", arguments={"minv": 0, "maxv": 7}),
    TorchIO(transform="RandomNoise", arguments={"std": 0.5}),
    TorchIO(transform="RandomGamma", arguments={"log_gamma": [0.2, 0.4]}),
    TorchIO(transform="RandomBlur", arguments={"std": [1, 2]}),
]
ids = [f"{a.type.split('.')[1]}-{a.transform}" for a in SPATIAL + INTENSITY]
every_spatial = pytest.mark.parametrize("config", SPATIAL, ids=ids[: len(SPATIAL)])
every_intensity = pytest.mark.parametrize("config", INTENSITY, ids=ids[len(SPATIAL) :])
every = pytest.mark.parametrize("config", SPATIAL + INTENSITY, ids=ids)


def batch_of(kind="hard", size=(16, 16, 16), samples=2, spacing=None):
    """Smooth images of a ball; it is label 3 of the hard target where the image exceeds one half.

    A value above 1 shows up what mixes labels: a mean of 0 and 3 would be 1 or 2.
    """
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in size], indexing="ij")
    centre = [0.4 * n for n in size]
    distance = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)).sqrt()
    ball = torch.sigmoid(0.28 * min(size) - distance)[None, None].repeat(samples, 1, *[1] * len(size))
    target = ball if kind == "soft" else 3 * (ball > 0.5).to(torch.int16)
    validity = torch.ones_like(ball)
    validity[:, :, :3] = 0
    return Batch(
        image=ball.clone(),
        keys=tuple(sample_key(0, "labelled", 0, str(i)) for i in range(samples)),
        cases=tuple(f"case{i}" for i in range(samples)),
        target=target,
        validity=validity,
        field=torch.ones_like(ball),
        spacing=spacing or ((1.0,) * len(size),) * samples,
    )


def apply(config, batch, task, tag="augment"):
    return config.build(task)(batch, Draws(batch.keys, tag))


def equal(a, b):
    parts = ((getattr(a, p), getattr(b, p)) for p in ("image", "target", "validity", "field"))
    return all(torch.equal(x, y) for x, y in parts)


@every
def test_same_key_same_result_and_no_batch_mates(config, make_task):
    task, batch = make_task(structures=1), batch_of()
    first = apply(config, batch, task)
    assert equal(first, apply(config, batch, task))
    alone = Batch(
        **{
            **{p: getattr(batch, p)[1:] for p in ("image", "target", "validity", "field")},
            "keys": batch.keys[1:], "cases": batch.cases[1:], "spacing": batch.spacing[1:],
        }
    )  # fmt: skip
    single = apply(config, alone, task)
    assert torch.equal(single.image[0], first.image[1])
    assert torch.equal(single.target[0], first.target[1])
    if config.transform.startswith(("RandA", "RandG", "RandomA", "RandomN", "RandomE")):
        assert not torch.equal(first.image[0], first.image[1])  # each sample draws for itself
        assert not torch.equal(apply(config, batch, task, "other").image, first.image)


@every
def test_global_generators_and_inputs_are_left_alone(config, make_task):
    batch = batch_of("soft")
    before = [getattr(batch, p).clone() for p in ("image", "target", "validity", "field")]
    build = config.build(make_task(structures=1))
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    build(batch, Draws(batch.keys, "a"))
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    for name, old in zip(("image", "target", "validity", "field"), before, strict=True):
        assert torch.equal(getattr(batch, name), old)


@every
def test_goes_to_a_loader_process(config, make_task):
    batch, built = batch_of(), config.build(make_task(structures=1))
    twin = pickle.loads(pickle.dumps(built))
    assert equal(built(batch, Draws(batch.keys, "a")), twin(batch, Draws(batch.keys, "a")))


@every
def test_global_generators_do_not_matter(config, make_task):
    batch, build = batch_of(), config.build(make_task(structures=1))
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        results.append(build(batch, Draws(batch.keys, "a")))
    assert equal(*results)


@every_spatial
def test_soft_target_moves_with_the_image(config, make_task):
    batch = batch_of("soft")
    out = apply(config, batch, make_task(structures=1))
    assert not torch.equal(out.image, batch.image)
    # Image and target are the same numbers, so linear resampling keeps them so (zoom defaults to area).
    inside = out.field > 0
    tolerance = 0.15 if config.transform == "RandZoomd" else 1e-4
    assert (out.image - out.target)[inside].abs().max() < tolerance
    assert 0 <= out.target.min() <= out.target.max() <= 1


@every_spatial
def test_hard_target_and_validity_move_with_the_image(config, make_task):
    batch = batch_of("hard")
    out = apply(config, batch, make_task(structures=1))
    assert out.target.dtype == torch.int16
    assert set(out.target.unique().tolist()) == {0, 3}
    assert set(out.validity.unique().tolist()) <= {0.0, 1.0}
    # Nearest and linear differ at the boundary only.
    decided = (out.image - 0.5).abs() > 0.25
    agreement = ((out.image > 0.5) == (out.target == 3))[decided & (out.field > 0)].float().mean()
    assert agreement > 0.995
    assert not torch.equal(out.validity, batch.validity)


@every_intensity
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_intensity_changes_the_image_only(config, kind, make_task):
    batch = batch_of(kind)
    out = apply(config, batch, make_task(structures=1))
    assert not torch.equal(out.image, batch.image)
    for part in ("target", "validity", "field"):
        assert torch.equal(getattr(out, part), getattr(batch, part))


@pytest.mark.parametrize(
    "config",
    [
        Monai(transform="RandFlipd", arguments={"prob": 1, "spatial_axis": 1}),
        TorchIO(transform="RandomFlip", arguments={"axes": 1, "flip_probability": 1}),
    ],
    ids=["monai", "torchio"],
)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_marked_voxel_moves_with_its_label(config, kind, make_task):
    image = torch.zeros(1, 1, 6, 7, 8)
    image[0, 0, 1, 2, 3] = 1
    batch = Batch(image, (1,), ("a",), image.clone() if kind == "soft" else image.long(), 1 - image)
    out = apply(config, batch, make_task(structures=1))
    assert out.image.nonzero().tolist() == [[0, 0, 1, 4, 3]]
    assert out.target.nonzero().tolist() == [[0, 0, 1, 4, 3]]
    assert (out.validity == 0).nonzero().tolist() == [[0, 0, 1, 4, 3]]


def test_torchio_lengths_are_millimetres(make_task):
    # A fixed shift of 6 mm is 3 voxels of 2 mm along x and 1 of 6 mm along y.
    image = torch.zeros(1, 1, 12, 8, 8)
    image[0, 0, 4, 4, 4] = 1
    shift = {"scales": [1, 1], "degrees": [0, 0], "translation": [6, 6, 6, 6, 0, 0]}
    batch = Batch(image, (1,), ("a",), image.long(), spacing=((2.0, 6.0, 1.0),))
    out = apply(TorchIO(transform="RandomAffine", arguments=shift), batch, make_task(structures=1))
    assert out.target.nonzero().tolist() == out.image.round().nonzero().tolist()
    moved = out.target.nonzero()[0] - torch.tensor([0, 0, 4, 4, 4])
    assert moved.abs().tolist() == [0, 0, 3, 1, 0]


@pytest.mark.parametrize(
    "config",
    [
        Monai(transform="RandAffined", arguments={"prob": 1, "rotate_range": 0.5}),
        Monai(transform="RandZoomd", arguments={"prob": 1, "min_zoom": 1.3, "max_zoom": 1.5}),
        TorchIO(transform="RandomAffine", arguments={"degrees": [0, 0, 0, 0, -20, 20]}),
        TorchIO(transform="RandomNoise"),
    ],
    ids=["monai-affine", "monai-zoom", "torchio-affine", "torchio-noise"],
)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_slices(config, kind, make_task):
    batch = batch_of(kind, size=(16, 16))
    out = apply(config, batch, make_task(structures=1, dimensions=2))
    assert out.image.shape == out.target.shape == (2, 1, 16, 16)
    assert not torch.equal(out.image, batch.image)


def test_several_structures_and_channels_and_no_target(make_task):
    config = TorchIO(transform="RandomAffine", arguments={"degrees": 20})
    soft = batch_of("soft")
    batch = Batch(
        soft.image.repeat(1, 3, 1, 1, 1), soft.keys, soft.cases, soft.target.repeat(1, 2, 1, 1, 1) / 2
    )
    out = apply(config, batch, make_task(channels=3))
    assert (out.image.shape[1], out.target.shape[1]) == (3, 2)
    assert out.validity is None
    assert out.target.sum(1).max() <= 1 + 1e-5
    bare = Batch(soft.image, soft.keys, soft.cases)
    assert apply(config, bare, make_task()).target is None


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [(Monai, "RandGaussianNose", "RandGaussianNoise"), (TorchIO, "RandomAfine", "RandomAffine")],
)
def test_unknown_transform(kind, name, hint, make_task):
    with pytest.raises(ExperimentError, match=rf"(?s)has no transform '{name}'.*did you mean '{hint}"):
        kind(transform=name).build(make_task())


@pytest.mark.parametrize(
    ("kind", "transform", "arguments", "message"),
    [
        (Monai, "RandGaussianNoised", {"sdt": 1}, r"RandGaussianNoised has no argument 'sdt'.*'std'"),
        (Monai, "RandFlipd", {"keys": "image"}, r"'keys' is set by the adapter"),
        (Monai, "RandZoomd", {"min_zoom": [1, 2], "max_zoom": [1]}, r"MONAI refuses.*min_zoom=\[1, 2\]"),
        (Monai, "AffineGrid", {}, r"AffineGrid has no dictionary form"),
        (TorchIO, "RandomAffine", {"degree": 3}, r"RandomAffine has no argument 'degree'.*'degrees'"),
        (TorchIO, "RandomAffine", {"degrees": -3}, r"TorchIO refuses.*degrees=-3.*ValueError"),
        (TorchIO, "RandomNoise", {"p": 2}, r"TorchIO refuses.*RandomNoise.*p=2"),
    ],
)
def test_wrong_argument(kind, transform, arguments, message, make_task):
    with pytest.raises(ExperimentError, match=f"(?s){message}"):
        kind(transform=transform, arguments=arguments).build(make_task())


def test_failure_names_transform_and_case(make_task):
    config = Monai(transform="RandFlipd", arguments={"prob": 1, "spatial_axis": 5})
    with pytest.raises(DataError, match=r"(?s)MONAI RandFlipd failed on a sample.*case0"):
        apply(config, batch_of(), make_task())
    config = Monai(transform="RandSpatialCropSamplesd", arguments={"roi_size": 4, "num_samples": 2})
    with pytest.raises(DataError, match="gives 2 samples for one"):
        apply(config, batch_of(), make_task())


def test_config_is_light_and_runs_in_workers():
    code = (
        "import sys; from mriad_standard import Monai, TorchIO; "
        "assert Monai(transform='Anything').where == TorchIO(transform='x').where == 'worker'; "
        "print([m for m in ('torch', 'monai', 'torchio', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
