"""Files that lie, end early, expand without end or carry two affines; with and without the fast gzip."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib

import nibabel as nib
import numpy as np
import pytest
from isal import isal_zlib
from mriad import images
from mriad.errors import DataError
from mriad.images import read_grid, read_volume, write_like
from mriad.inflate import codec, inflate

CODECS = pytest.mark.parametrize("using", [zlib, isal_zlib], ids=["zlib", "isal"])
RAMP = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


@pytest.fixture(params=["isal", "zlib"])
def engine(request, monkeypatch):
    """Both decompressors, one after the other."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    assert codec() is (zlib if request.param == "zlib" else isal_zlib)
    return request.param


def raw_nifti(tmp_path, write, data=RAMP, **fields) -> bytes:
    return write(tmp_path / "plain.nii", data, **fields).read_bytes()


# inflate


@CODECS
@pytest.mark.parametrize("count", [0, 1, 2999, 3000])
def test_as_many_bytes_come_as_were_asked_for(tmp_path, using, count):
    data = os.urandom(1500) * 2
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    assert inflate(tmp_path / "a.gz", count, using).tobytes() == data[:count]


@CODECS
def test_members_in_a_row_count_as_one_file(tmp_path, using):
    data = os.urandom(400_000)
    parts = [gzip.compress(data[i : i + 30_000]) for i in range(0, len(data), 30_000)]
    for between in (b"", b"\0" * 700):
        (tmp_path / "a.gz").write_bytes(between.join(parts))
        assert inflate(tmp_path / "a.gz", len(data), using).tobytes() == data


@CODECS
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 1000])
def test_an_early_end_is_told_even_in_the_trailer(tmp_path, using, cut):
    data = os.urandom(3000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(data)[:-cut])
    with pytest.raises(EOFError, match=r"ends early, after \d+ of 3000 bytes"):
        inflate(tmp_path / "a.gz", 3000, using)


@CODECS
@pytest.mark.parametrize("place", [-8, -1, 1500])
def test_a_flipped_bit_is_found(tmp_path, using, place):
    packed = bytearray(gzip.compress(os.urandom(3000)))
    packed[place] ^= 16
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(zlib.error):
        inflate(tmp_path / "a.gz", 3000, using)


# images


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.uint16, np.float32, ">f4", np.float64])
@pytest.mark.parametrize("slope", [None, (1 / 255, 0), (2.5, -3)])
def test_gzip_gives_what_nibabel_reads(tmp_path, write, engine, dtype, slope):
    image = nib.Nifti1Image(RAMP.astype(dtype), np.eye(4))
    if slope:
        image.header.set_slope_inter(*slope)
    image.to_filename(tmp_path / "x.nii.gz")
    stored = nib.load(tmp_path / "x.nii.gz")
    found = read_volume(tmp_path / "x.nii.gz").data
    expected = stored.get_fdata(dtype=np.float32) if slope else np.asarray(stored.dataobj)
    assert found.dtype.isnative
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


def test_a_gzip_file_that_ends_early_says_how_far_it_came(tmp_path, write, engine):
    data = np.random.default_rng(0).normal(size=(30, 30, 30))
    path = write(tmp_path / "x.nii.gz", data)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError) as found:
        read_volume(path)
    text = str(found.value)
    assert "the file is truncated" in text
    assert str(path) in text
    assert "the compressed data ends early, after 216352 of 216352 bytes" in text
    assert "copy or export the file again" in text


def test_a_damaged_gzip_file_is_refused(tmp_path, write, engine):
    path = write(tmp_path / "x.nii.gz", np.random.default_rng(0).normal(size=(30, 30, 30)))
    packed = bytearray(path.read_bytes())
    packed[100_000] ^= 8
    path.write_bytes(packed)
    with pytest.raises(DataError, match="truncated or not a NIfTI image") as found:
        read_volume(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize("members", [True, False])
def test_a_bomb_expands_no_further_than_its_header_claims(tmp_path, write, engine, members):
    raw = raw_nifti(tmp_path, write)
    if members:  # 4 GiB of zeros behind the image
        packed = gzip.compress(raw) + gzip.compress(bytes(1 << 24)) * 256
    else:
        packed = gzip.compress(raw + bytes(1 << 28), 1)
    (tmp_path / "bomb.nii.gz").write_bytes(packed)
    del packed
    tracemalloc.start()
    try:
        data = read_volume(tmp_path / "bomb.nii.gz").data
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(data, RAMP)
    assert peak < 4 << 20


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_of_terabytes_is_refused_in_no_time_and_memory(tmp_path, write, name):
    raw = bytearray(raw_nifti(tmp_path, write))
    struct.pack_into("<3h", raw, 42, 32000, 32000, 32000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(raw)) if name.endswith(".gz") else bytes(raw))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as found:
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "header claims  32000×32000×32000 voxels, 65536000000352 bytes" in str(found.value)
    assert peak < 4 << 20


def test_an_image_larger_than_the_memory_is_refused_though_its_file_is_small(tmp_path, write, monkeypatch):
    path = write(tmp_path / "zeros.nii.gz", np.zeros((200, 200, 100), np.int16))
    assert path.stat().st_size < 40_000
    monkeypatch.setattr(images, "memory_bytes", lambda: 2.0**20)
    with pytest.raises(DataError) as found:
        read_volume(path)
    text = str(found.value)
    assert "the image is larger than the memory of this machine" in text
    assert "200×200×100 voxels, 7.629 MiB" in text
    assert "1 MiB" in text
    assert "the header is damaged" in text
    assert read_grid(path).shape == (200, 200, 100)


def test_several_time_points_are_refused_with_what_to_do(tmp_path, write):
    path = write(tmp_path / "bold.nii.gz", np.zeros((3, 4, 5, 6), np.int16))
    with pytest.raises(DataError) as found:
        read_volume(path)
    assert "a 3D image is meant, but the file is 4D" in str(found.value)
    assert "split it into one file a channel or time point" in str(found.value)
    one = write(tmp_path / "one.nii.gz", RAMP[..., None, None])
    np.testing.assert_array_equal(read_volume(one).data, RAMP)


def two_forms(path, shift):
    affine = np.diag([-1.0, 1, 2, 1])
    other = affine.copy()
    other[0, 3] += shift
    image = nib.Nifti1Image(RAMP, affine)
    image.set_sform(other, code=2)
    image.set_qform(affine, code=1)
    image.to_filename(path)
    return path, other


def test_sform_and_qform_that_disagree_are_told_and_the_sform_is_used(tmp_path):
    path, sform = two_forms(tmp_path / "x.nii.gz", 3)
    with pytest.warns(
        RuntimeWarning, match=r"x\.nii\.gz: sform and qform differ by up to 3 mm; the sform is used"
    ):
        grid = read_volume(path).grid
    np.testing.assert_allclose(grid.matrix, sform)
    with pytest.warns(RuntimeWarning, match=r"codes: sform 2, qform 1"):
        read_grid(path)
    close, _ = two_forms(tmp_path / "close.nii.gz", 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_volume(close)


def with_pixdim(tmp_path, write, pixdim, sform: bool):
    raw = bytearray(raw_nifti(tmp_path, write))
    struct.pack_into("<3f", raw, 80, *pixdim)
    if not sform:
        struct.pack_into("<h", raw, 254, 0)
    path = tmp_path / "x.nii"
    path.write_bytes(raw)
    return path


def test_a_spacing_of_zero_is_refused_or_comes_from_the_sform(tmp_path, write):
    path = with_pixdim(tmp_path, write, (0, 1, 1), sform=False)
    for read in (read_grid, read_volume):
        with pytest.raises(DataError) as found:
            read(path)
        assert "the header has no voxel size" in str(found.value)
        assert "0 × 1 × 1 mm" in str(found.value)
        assert "export the file again" in str(found.value)
    path = with_pixdim(tmp_path, write, (0, 1, 1), sform=True)
    assert read_volume(path).grid.spacing == (1, 1, 1)


def test_a_negative_spacing_counts_as_its_size(tmp_path, write):
    path = with_pixdim(tmp_path, write, (-2, 1, 1), sform=False)
    grid = read_volume(path).grid
    assert grid.spacing == (2, 1, 1)
    np.testing.assert_allclose(grid.matrix, nib.load(path).affine)


@pytest.mark.parametrize(
    "name", ["Größe 脑 ñ.nii.gz", "  spaces  .nii.gz", "quote'\"$x.nii", "\udcff\udcfe.nii.gz"]
)
def test_any_name_that_the_system_allows_is_read_and_written(tmp_path, grid, name):
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    path = write_like(tmp_path / "Jürgen" / name, data, grid)
    np.testing.assert_array_equal(read_volume(path).data, data)


def test_long_paths_are_read_and_too_long_names_are_told(tmp_path, grid):
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    folder = tmp_path.joinpath(*["f" * 200] * 10)
    path = write_like(folder / f"{'n' * 200}.nii.gz", data, grid)
    assert len(str(path)) > 2200
    np.testing.assert_array_equal(read_volume(path).data, data)
    with pytest.raises(DataError) as found:
        read_volume(tmp_path / f"{'n' * 300}.nii.gz")
    assert "a file cannot be opened" in str(found.value)
    assert "too long" in str(found.value)


GUARDED = """
import sys
refused = {"isal", "numba", "SimpleITK", "pandas", "pyarrow", "matplotlib", "monai", "torchio", "ray", "mlflow"}
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Guard())
import numpy as np
from mriad.images import FileSource
from mriad.preparation import apply_steps, load_sample
from mriad.vocabulary import Case, LabelSet
from mriad_data.cropping import CenterCrop, Crop
from mriad_data.foreground import CropToForeground
from mriad_data.orientation import Orient
from mriad_data.padding import Pad
from mriad_data.resampling import Resample
steps = [Orient(axes="RAS"), Resample(spacing_mm=[1, 1, 1]), Crop(low=[0, 0, 0], high=["edge"] * 3)]
steps += [CropToForeground(), Pad(margin=[1, 1, 1]), CenterCrop(size=[8, 8, 8])]
case = Case("c", "p", {"image": FileSource(sys.argv[1])})
sample = apply_steps(load_sample(case, ["image"], None, "none", LabelSet.of({"a": 1})), steps, [None] * 6)
assert not refused & set(name.partition(".")[0] for name in sys.modules)
np.save(sys.argv[2], sample.image)
"""


def test_reading_and_steps_need_neither_isal_nor_numba_and_give_the_same(tmp_path, write):
    from mriad.preparation import apply_steps
    from mriad.vocabulary import Sample
    from mriad_data.orientation import Orient
    from mriad_data.resampling import Resample

    data = np.random.default_rng(0).integers(1, 900, size=(14, 15, 9)).astype(np.int16)
    path = write(tmp_path / "x.nii.gz", data, np.diag([-0.8, -0.9, 1.7, 1]))
    command = [sys.executable, "-c", GUARDED, str(path), str(tmp_path / "out.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    volume = read_volume(path)
    steps = [Orient(axes="RAS"), Resample(spacing_mm=[1, 1, 1])]
    here = apply_steps(Sample("c", volume.data.astype(np.float32)[None], volume.grid), steps, [None, None])
    found = np.load(tmp_path / "out.npy")
    middle = tuple(slice((n - 8) // 2, (n - 8) // 2 + 8) for n in here.grid.shape)
    np.testing.assert_array_equal(found[0], here.image[0][middle])
