"""NIfTI in and out; independent reader and writer: nibabel and SimpleITK themselves."""

from __future__ import annotations

import gzip
import pickle
import resource
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own habit)
from mriad.errors import DataError, ShapeError, StorageError
from mriad.geometry import Grid
from mriad.images import FileSource, read_grid, read_volume, write_like

AFFINE = np.array([[-0.8, 0.1, 0, 5], [0.1, 1.1, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])


def ramp(shape=(5, 6, 7), dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float32, np.float64])
def test_voxels_and_place_are_read(tmp_path, write, name, dtype):
    path = write(tmp_path / name, ramp(dtype=dtype), AFFINE)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, ramp(dtype=dtype))
    assert volume.data.dtype.isnative
    np.testing.assert_allclose(volume.grid.matrix, AFFINE, atol=1e-5)
    assert read_grid(path) == volume.grid


def test_scaled_integers_are_read_as_their_values(tmp_path, write):
    image = nib.Nifti1Image(np.array([0, 51, 255], np.uint8).reshape(3, 1, 1), np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    image.to_filename(tmp_path / "soft.nii.gz")
    data = read_volume(tmp_path / "soft.nii.gz").data
    assert data.dtype == np.float32
    np.testing.assert_allclose(data.ravel(), [0, 0.2, 1], atol=1e-6)


def test_one_time_point_counts_as_3d_and_more_do_not(tmp_path, write):
    write(tmp_path / "one.nii", ramp((3, 4, 5, 1)))
    assert read_volume(tmp_path / "one.nii").data.shape == (3, 4, 5)
    two = write(tmp_path / "two.nii", ramp((3, 4, 5, 2)))
    with pytest.raises(DataError) as found:
        read_volume(two)
    assert "a 3D image is meant, but the file is 4D" in str(found.value)
    assert "3×4×5×2" in str(found.value)
    assert str(two) in str(found.value)


def test_a_stacked_label_has_its_structures_first(tmp_path, write):
    data = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    path = write(tmp_path / "soft.nii.gz", data)
    np.testing.assert_array_equal(FileSource(str(path), stacked=True).read().data, np.moveaxis(data, 3, 0))


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_truncated_file_is_named(tmp_path, write, name):
    path = write(tmp_path / name, np.random.default_rng(0).normal(size=(30, 30, 30)))
    path.write_bytes(path.read_bytes()[:40000])
    with pytest.raises(DataError) as found:
        read_volume(path)
    assert "the file is truncated" in str(found.value)
    assert str(path) in str(found.value)
    assert "copy or export the file again" in str(found.value)


def test_a_file_that_is_no_nifti_is_named(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(b"this is a text, not an image" * 50))
    (tmp_path / "y.nii").write_text("text" * 500)
    (tmp_path / "z.nii.gz").write_bytes(b"not gzip")
    for name in ("x.nii.gz", "y.nii", "z.nii.gz"):
        with pytest.raises(DataError, match="truncated or not a NIfTI image") as found:
            read_volume(tmp_path / name)
        assert name in str(found.value)


def test_other_endings_folders_and_missing_files_are_refused(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match="not a NIfTI file by its name") as found:
        read_volume(tmp_path / "scan.dcm")
    assert "dcm2niix" in str(found.value)
    with pytest.raises(DataError, match="there is no such file"):
        read_volume(tmp_path / "none.nii.gz")
    with pytest.raises(DataError, match="a file is meant, not a folder"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_an_absurd_header_is_refused_before_anything_is_allocated(tmp_path, write, name):
    path = write(tmp_path / "x.nii", ramp())
    raw = bytearray(path.read_bytes())
    struct.pack_into(
        "<3h", raw, 42, 32000, 32000, 32000
    )  # dim[1..3] of the NIfTI-1 header: 131 TB as float32
    target = tmp_path / name
    target.write_bytes(gzip.compress(bytes(raw)) if name.endswith(".gz") else bytes(raw))
    for read in (read_grid, read_volume):
        with pytest.raises(DataError, match="the file is truncated, or its header is damaged") as found:
            read(target)
        assert "32000×32000×32000 voxels" in str(found.value)


def test_values_that_are_not_finite_are_counted(tmp_path, write):
    data = ramp()
    data[0, 0, :2] = np.nan, np.inf
    path = write(tmp_path / "x.nii", data)
    with pytest.raises(DataError, match="values that are NaN or infinite") as found:
        read_volume(path)
    assert "2 of 210" in str(found.value)


def test_a_singular_affine_is_refused(tmp_path, write):
    path = write(tmp_path / "x.nii", ramp())
    raw = bytearray(path.read_bytes())
    struct.pack_into("<12f", raw, 280, *[0.0] * 12)  # srow_x, srow_y, srow_z
    path.write_bytes(raw)
    with pytest.raises(DataError, match="no usable affine"):
        read_volume(path)


def test_output_lies_in_the_grid_of_its_input(tmp_path, write):
    source = write(tmp_path / "in.nii.gz", ramp(dtype=np.int16), AFFINE, descrip=b"Jane Doe", cal_max=9)
    header = nib.load(source).header
    header.set_xyzt_units("mm", "sec")
    data = np.random.default_rng(1).random((5, 6, 7)).astype(np.float32)
    path = write_like(tmp_path / "sub" / "out.nii.gz", data, source)
    out = nib.load(path)
    np.testing.assert_array_equal(out.affine, nib.load(source).affine)
    assert (out.header["qform_code"], out.header["sform_code"]) == (1, 2)
    np.testing.assert_array_equal(out.get_qform(), nib.load(source).get_qform())
    assert out.get_data_dtype() == np.float32
    assert out.header["descrip"] == b""
    np.testing.assert_array_equal(out.get_fdata(dtype=np.float32), data)
    # ITK reads geometry with code of its own (LPS): origins agree up to that flip.
    ours, theirs = sitk.ReadImage(str(path)), sitk.ReadImage(str(source))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin())
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection())


def test_scaled_soft_output_is_within_half_a_step(tmp_path, grid):
    data = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    path = write_like(tmp_path / "soft.nii.gz", data, grid, "uint8_scaled")
    assert nib.load(path).get_data_dtype() == np.uint8
    np.testing.assert_allclose(nib.load(path).get_fdata(), data, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, data, atol=0.5 / 255 + 1e-6
    )
    np.testing.assert_allclose(read_volume(path).data, data, atol=0.5 / 255 + 1e-6)


def test_labels_take_the_smallest_type_that_holds_them(tmp_path, grid):
    labels = np.zeros(grid.shape, np.int64)
    labels[0, 0, 0] = 255
    small = nib.load(write_like(tmp_path / "a.nii.gz", labels, grid, "labels"))
    assert small.get_data_dtype() == np.uint8
    assert small.header["intent_code"] == 1002
    labels[0, 0, 0] = 256
    assert nib.load(write_like(tmp_path / "b.nii.gz", labels, grid, "labels")).get_data_dtype() == np.uint16
    with pytest.raises(DataError, match="whole numbers"):
        write_like(tmp_path / "c.nii.gz", labels + 0.5, grid, "labels")
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        write_like(tmp_path / "d.nii.gz", labels, grid, "uint8_scaled")
    with pytest.raises(ShapeError, match="do not fit the grid"):
        write_like(tmp_path / "e.nii.gz", labels[1:], grid, "labels")


def test_several_structures_become_a_fourth_axis(tmp_path, grid):
    data = np.random.default_rng(1).random((2, *grid.shape)).astype(np.float32)
    path = write_like(tmp_path / "soft.nii.gz", data, grid)
    assert nib.load(path).shape == (*grid.shape, 2)
    np.testing.assert_array_equal(FileSource(str(path), stacked=True).read().data, data)


def test_equal_voxels_give_equal_bytes(tmp_path, grid):
    data = np.ones(grid.shape, np.float32)
    a, b = (write_like(tmp_path / f"{n}.nii.gz", data, grid) for n in "ab")
    assert a.read_bytes() == b.read_bytes()
    assert FileSource(str(a)).fingerprint == FileSource(str(b)).fingerprint


def test_nothing_is_overwritten_unless_asked(tmp_path, grid):
    data = np.ones(grid.shape, np.float32)
    path = write_like(tmp_path / "a.nii.gz", data, grid)
    with pytest.raises(StorageError, match="nothing is overwritten unless asked"):
        write_like(path, data * 2, grid)
    assert read_volume(path).data.max() == 1
    write_like(path, data * 2, grid, overwrite=True)
    assert read_volume(path).data.max() == 2


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, grid):
    big = Grid.of((40, 40, 40), np.eye(4))
    path = write_like(tmp_path / "a.nii", np.ones(grid.shape, np.float32), grid)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError) as found:
            write_like(path, np.random.default_rng(0).normal(size=big.shape), big, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write: the file would pass the size limit" in str(found.value)
    assert str(path) in str(found.value)
    assert "free space" in str(found.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_a_place_below_a_file_is_refused(tmp_path, grid):
    (tmp_path / "file").write_text("x")
    target = tmp_path / "file" / "sub" / "a.nii.gz"
    with pytest.raises(StorageError) as found:
        write_like(target, np.ones(grid.shape, np.float32), grid)
    assert "the place is not below a folder" in str(found.value)
    assert f"{tmp_path / 'file'} is a file" in str(found.value)


def test_a_source_pickles_and_knows_its_place(tmp_path, write):
    source = FileSource(str(write(tmp_path / "x.nii", ramp())))
    assert pickle.loads(pickle.dumps(source)) == source
    assert source.location == str(tmp_path / "x.nii")
