"""Files that are broken inside, through every reader: the index is made, and reading names the case and the file."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import tracemalloc
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError
from mriad.preparation import load_sample
from mriad_data.bids import Bids
from mriad_data.collections import CrossModa, Joint, UmclMs
from mriad_data.index import TableIndex
from mriad_data.index_file import IndexFile
from mriad_data.label_maps import LabelMaps
from mriad_data.manifest import Manifest
from mriad_data.nnunet import NnunetRaw

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (4, 5, 6)
AFFINE = np.diag([1, 1, 2, 1])


def save(path: Path, data: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.to_filename(path)


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def label() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, SHAPE).astype(np.uint8)


def bids(root: Path):
    paths = root / "sub-1/anat/sub-1_T1w.nii.gz", root / "derivatives/labels/sub-1/sub-1_T1w_seg.nii.gz"
    return Bids(root=root, labels={"hard": "seg"}, structures={"a": 1}), *paths


def nnunet(root: Path):
    facts = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(facts))
    return NnunetRaw(root=root), root / "imagesTr/c_0000.nii.gz", root / "labelsTr/c.nii.gz"


def manifest(root: Path):
    (root / "manifest.csv").write_text("id,person,image:T1w,label:hard\nc,p,i.nii.gz,l.nii.gz\n")
    return Manifest(path=root, structures={"a": 1}), root / "i.nii.gz", root / "l.nii.gz"


def umcl(root: Path):
    paths = root / "patient01/T1W.nii.gz", root / "patient01/consensus_gt.nii.gz"
    return UmclMs(root=root, channels=["T1w"]), *paths


def crossmoda(root: Path):
    start = root / "source_training" / "crossmoda_1"
    names = [start.with_name(f"{start.name}_{end}.nii.gz") for end in ("ceT1", "Label")]
    return CrossModa(root=root), *names


def joint(root: Path):
    dataset = Joint(root=root, joint="other", structures={"a": 1})
    return dataset, root / "images/a.nii.gz", root / "labels/a.nii.gz"


def written(root: Path):
    dataset, *paths = bids(root)
    save(paths[0], image())
    save(paths[1], label())
    index = dataset.build()
    assert isinstance(index, TableIndex)
    return IndexFile(path=index.write(root / "index.parquet")), *paths


READERS = [bids, nnunet, manifest, umcl, crossmoda, joint, written]


@pytest.fixture(params=READERS, ids=lambda r: r.__name__)
def reader(request, tmp_path):
    """A data set of one good case: the component, its image and its label."""
    dataset, picture, mask = request.param(tmp_path)
    save(picture, image())
    save(mask, label())
    return dataset, picture, mask


def message(dataset) -> str:
    index = dataset.build()
    with pytest.raises(DataError) as found:
        load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
    assert index[0].id in str(found.value)
    return str(found.value)


def test_a_good_case_is_read(reader):
    dataset, picture, _ = reader
    index = dataset.build()
    sample = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
    np.testing.assert_array_equal(sample.image[0], image())
    np.testing.assert_array_equal(sample.target[0], label())
    save(picture, image()[..., None])  # 4D with one time point
    again = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
    np.testing.assert_array_equal(again.image, sample.image)


def test_truncated_and_foreign_files(reader):
    dataset, picture, mask = reader
    good = picture.read_bytes()
    picture.write_bytes(good[: len(good) // 2])
    text = message(dataset)
    assert "truncated" in text
    assert str(picture) in text
    picture.write_bytes(gzip.compress(b"no image"))
    assert "not a NIfTI" in message(dataset)
    picture.write_bytes(good)
    mask.write_bytes(b"")
    assert str(mask) in message(dataset)


def test_several_time_points(reader):
    dataset, picture, _ = reader
    save(picture, np.stack([image(), image()], axis=3))
    text = message(dataset)
    assert "a 3D image is meant, but the file is 4D" in text
    assert "split it into one file a channel or time point" in text


def test_values_that_are_no_numbers_or_all_one(reader):
    dataset, picture, _ = reader
    broken = image()
    broken[1, 2, 3] = np.nan
    save(picture, broken)
    assert "NaN or infinite" in message(dataset)
    save(picture, np.full(SHAPE, 3, np.float32))
    assert "an image is constant" in message(dataset)


def test_another_grid_and_other_values(reader):
    dataset, _, mask = reader
    save(mask, label(), AFFINE + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3.5], [0, 0, 0, 0]]))
    text = message(dataset)
    assert "grid" in text
    assert "3.5" in text
    save(mask, label() * 7)
    text = message(dataset)
    assert "7" in text
    assert str(mask) in text


def test_a_header_of_terabytes_and_a_bomb(reader):
    dataset, _, mask = reader
    good = gzip.decompress(mask.read_bytes())
    huge = bytearray(good)
    struct.pack_into("<3h", huge, 42, 32000, 32000, 32000)
    packed = gzip.compress(good) + gzip.compress(bytes(1 << 24)) * 64  # a GiB of zeros behind the label
    tracemalloc.start()
    try:
        mask.write_bytes(gzip.compress(bytes(huge)))
        text = message(dataset)
        mask.write_bytes(packed)
        index = dataset.build()
        sample = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "32000×32000×32000 voxels" in text
    assert str(mask) in text
    np.testing.assert_array_equal(sample.target[0], label())
    assert peak < 12 << 20


def test_forms_that_disagree_or_say_nothing(reader):
    dataset, picture, mask = reader
    other = AFFINE.astype(float).copy()
    other[0, 3] += 3
    for path, data in ((picture, image()), (mask, label())):
        both = nib.Nifti1Image(data, other)
        both.set_sform(other, code=2)
        both.set_qform(AFFINE, code=1)
        both.to_filename(path)
    index = dataset.build()
    with pytest.warns(RuntimeWarning, match="differ by up to 3 mm; the sform is used"):
        sample = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
    np.testing.assert_allclose(sample.grid.matrix, other)
    for data, pixdim, said in ((image(), (0, 1, 1), "no voxel size"), (image(), None, "affine")):
        plain = nib.Nifti1Image(data, AFFINE)
        plain.set_sform(None, code=0)
        if pixdim is None:
            plain.set_sform(np.diag([1, 0, 1, 1]), code=1)
        raw = bytearray(plain.to_bytes())
        struct.pack_into("<3f", raw, 80, *(pixdim or (1, 1, 1)))
        if pixdim is None:
            struct.pack_into("<4f", raw, 296, 0, 0, 0, 0)  # the second row of the sform
        picture.write_bytes(gzip.compress(bytes(raw)))
        text = message(dataset)
        assert said in text
        assert str(picture) in text


@pytest.mark.parametrize("make", READERS, ids=lambda r: r.__name__)
def test_long_paths_in_any_script(tmp_path, make):
    root = tmp_path / ("x" * 200) / "Größe 名前 #1" / ("é" * 100)
    root.mkdir(parents=True)
    dataset, picture, mask = make(root)
    save(picture, image())
    save(mask, label())
    index = dataset.build()
    sample = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
    np.testing.assert_array_equal(sample.image[0], image())
    assert pickle.loads(pickle.dumps(index)).fingerprint == index.fingerprint


@pytest.mark.parametrize("make", [bids, nnunet, umcl, crossmoda, joint], ids=lambda r: r.__name__)
def test_loops_and_clashes_come_in_one_message(tmp_path, make):
    dataset, picture, mask = make(tmp_path)
    save(picture, image())
    save(mask, label())
    (picture.parent / "back").symlink_to(tmp_path)
    picture.with_name(picture.name.upper()).touch()
    with pytest.raises(DataError) as found:
        dataset.build()
    text = str(found.value)
    assert "a link that leads back into itself: remove it" in text
    assert "where case is not told apart" in text
    assert picture.name.upper() in text


def test_label_maps_that_are_broken(tmp_path):
    path = tmp_path / "sub-1_dseg.nii.gz"
    dataset = LabelMaps(root=tmp_path, structures={"a": 1})
    save(path, label())
    index = dataset.build()
    assert load_sample(index[0], [], "hard", "hard", index.label_set).target.max() == 1
    save(path, label() * 7)
    with pytest.raises(DataError) as found:
        load_sample(index[0], [], "hard", "hard", index.label_set)
    assert "7" in str(found.value)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="truncated"):
        load_sample(index[0], [], "hard", "hard", index.label_set)
