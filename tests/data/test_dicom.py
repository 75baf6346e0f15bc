"""DICOM series: place, slope and intercept against the standard's own formula and against dcm2niix; bad series.

The files are written byte by byte here (DICOM PS3.5, explicit VR little endian), so that reader and writer share
no code.
"""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad.testing import check_dataset
from mriad_data import dicom_series
from mriad_data.dicom import Dicom
from mriad_data.dicom_series import SeriesSource

if TYPE_CHECKING:
    from pathlib import Path

UID = "1.2.826.0.1.3680043.2.1125."
LONG = {"OB", "OW", "SQ", "UN"}


def element(group: int, number: int, kind: str, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        value = struct.pack("<H", value)
    if isinstance(value, str):
        value = value.encode()
    if len(value) % 2:
        value += b"\0" if kind in ("UI", "OB") else b" "
    head = struct.pack("<HH", group, number) + kind.encode()
    size = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return head + size + value


def floats(values) -> str:
    """Decimal strings have at most 16 characters."""
    return "\\".join(f"{v:.9f}"[:16] for v in np.ravel(values))


def write_slice(path: Path, pixels: np.ndarray, position, row, column, spacing, number, **more) -> None:
    """`pixels`: (rows, columns) int16. `spacing`: between rows, between columns, in mm."""
    image = f"{UID}9.{more.get('series', 1)}.{number}"
    meta = (
        element(2, 1, "OB", b"\0\1")
        + element(2, 2, "UI", "1.2.840.10008.5.1.4.1.1.4")
        + element(2, 3, "UI", image)
        + element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
        + element(2, 0x12, "UI", f"{UID}1")
    )
    body = (
        element(8, 8, "CS", "ORIGINAL\\PRIMARY\\M\\ND")
        + element(8, 0x16, "UI", "1.2.840.10008.5.1.4.1.1.4")
        + element(8, 0x18, "UI", image)
        + element(8, 0x20, "DA", "20200101")
        + element(8, 0x30, "TM", "120000")
        + element(8, 0x60, "CS", "MR")
        + element(8, 0x70, "LO", "SIEMENS")
        + element(8, 0x103E, "LO", more.get("description", "t2_tse_sag"))
        + element(0x10, 0x10, "PN", "Doe^Jane")
        + element(0x10, 0x20, "LO", "patient-4711")
        + element(0x18, 0x50, "DS", floats([more.get("thickness", 2)]))
        + element(0x20, 0xD, "UI", f"{UID}8")
        + element(0x20, 0xE, "UI", f"{UID}7.{more.get('series', 1)}")
        + element(0x20, 0x11, "IS", str(more.get("series", 1)))
        + element(0x20, 0x13, "IS", str(number))
        + (element(0x20, 0x32, "DS", floats(position)) if position is not None else b"")
        + element(0x20, 0x37, "DS", floats([row, column]))
        + element(0x20, 0x52, "UI", f"{UID}6")
        + element(0x28, 2, "US", 1)
        + element(0x28, 4, "CS", "MONOCHROME2")
        + (element(0x28, 8, "IS", str(more["frames"])) if "frames" in more else b"")
        + element(0x28, 0x10, "US", pixels.shape[0])
        + element(0x28, 0x11, "US", pixels.shape[1])
        + element(0x28, 0x30, "DS", floats(spacing))
        + element(0x28, 0x100, "US", 16)
        + element(0x28, 0x101, "US", 16)
        + element(0x28, 0x102, "US", 15)
        + element(0x28, 0x103, "US", 1)
        + (element(0x28, 0x1052, "DS", floats([more["intercept"]])) if "intercept" in more else b"")
        + (element(0x28, 0x1053, "DS", floats([more["slope"]])) if "slope" in more else b"")
        + element(0x7FE0, 0x10, "OW", pixels.astype("<i2").tobytes() * more.get("frames", 1))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body)


def frame(angles) -> np.ndarray:
    """Orthonormal columns: along a row, down a column, normal; by Euler angles in degrees."""
    a, b, c = np.radians(angles)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def write_series(
    folder: Path, stored: np.ndarray, angles=(0, 0, 0), spacing=(1, 1, 2), origin=(0, 0, 0), **more
) -> np.ndarray:
    """Write (columns, rows, slices) int16, the slices in a mixed order; return the affine to LPS mm."""
    axes = frame(angles)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = origin
    scales = more.pop("scales", [{}] * stored.shape[2])
    for n, k in enumerate(np.random.default_rng(0).permutation(stored.shape[2])):
        position = affine[:3] @ [0, 0, k, 1]
        write_slice(
            folder / f"IM{n:04d}.dcm",
            stored[:, :, k].T,
            position,
            axes[:, 0],
            axes[:, 1],
            (spacing[1], spacing[0]),
            n + 1,
            thickness=spacing[2],
            **more,
            **scales[k],
        )
    return affine


def ramp(shape=(6, 5, 4), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-200, 3000, shape).astype(np.int16)


def one(root: Path):
    (case,) = Dicom(root=root).build()
    return case.channels["image"].read()


TO_RAS = np.diag([-1, -1, 1, 1])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
    voxel=st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 3)),
)
def test_a_marked_voxel_keeps_its_world_position(tmp_path, angles, spacing, origin, voxel):
    shutil.rmtree(tmp_path / "d", ignore_errors=True)
    stored = np.zeros((6, 5, 4), np.int16)
    stored[voxel] = 1000
    lps = write_series(tmp_path / "d" / "p1" / "t2", stored, angles, spacing, origin)
    volume = one(tmp_path / "d")
    assert volume.data.shape == (6, 5, 4)
    found = np.argwhere(volume.data == 1000)
    assert len(found) == 1
    expected = (TO_RAS @ lps @ [*voxel, 1])[:3]  # PS3.3 C.7.6.2.1.1, then the first two axes change sign
    np.testing.assert_allclose(volume.grid.world(found[0]), expected, atol=1e-3)


def test_slope_and_intercept_are_those_of_each_slice(tmp_path):
    stored = ramp()
    scales = [{"slope": 0.25 + 0.5 * k, "intercept": -3.5 * k} for k in range(4)]
    scales[0] = {"slope": 1.0, "intercept": 0.0}  # whole numbers first: must not fix the type of the others
    write_series(tmp_path / "p1" / "t2", stored, scales=scales)
    expected = np.stack([stored[..., k] * s["slope"] + s["intercept"] for k, s in enumerate(scales)], axis=2)
    volume = one(tmp_path)
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.data, expected, rtol=1e-6)


def test_dcm2niix_says_the_same(tmp_path):
    """Place and values against an independent program, where it is installed (or named by DCM2NIIX)."""
    program = os.environ.get("DCM2NIIX") or shutil.which("dcm2niix")
    if not program:
        pytest.skip("dcm2niix is not installed")
    for n, angles in enumerate([(0, 0, 0), (90, 0, 0), (12, -75, 30), (170, 20, -100)]):
        place = tmp_path / f"case{n}" / "p1" / "t2"
        stored = ramp(seed=n)
        scales = [{"slope": 2.5, "intercept": -7.25}] * 4
        write_series(place, stored, angles, (0.7, 1.1, 3.0), (-20, 30, 5), scales=scales)
        out = tmp_path / f"out{n}"
        out.mkdir()
        command = [program, "-z", "n", "-f", "image", "-o", str(out), str(place)]
        subprocess.run(command, check=True, capture_output=True)
        theirs = nib.load(out / "image.nii")
        ours = one(tmp_path / f"case{n}")
        data = theirs.get_fdata()
        voxels = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), -1).reshape(-1, 3)
        world = voxels @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
        mine = ours.grid.voxels(world)
        np.testing.assert_allclose(mine, np.rint(mine), atol=1e-3)
        i, j, k = np.rint(mine).astype(int).T
        np.testing.assert_allclose(ours.data[i, j, k], data.reshape(-1), rtol=1e-5)


def test_pydicom_says_the_same(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    lps = write_series(tmp_path / "p1" / "t2", ramp(), (30, 40, 50), (0.7, 1.1, 3.0), (1, 2, 3), scales=[
        {"slope": 1.5, "intercept": k} for k in range(4)
    ])  # fmt: skip
    ours = one(tmp_path)
    for path in (tmp_path / "p1" / "t2").iterdir():
        theirs = pydicom.dcmread(path)
        values = theirs.pixel_array * float(theirs.RescaleSlope) + float(theirs.RescaleIntercept)
        corner = TO_RAS[:3, :3] @ np.array(theirs.ImagePositionPatient, float)
        i, j, k = np.rint(ours.grid.voxels(corner)).astype(int)
        assert (i, j) == (0, 0)
        np.testing.assert_allclose(ours.data[:, :, k].T, values, rtol=1e-6)
    assert lps.shape == (4, 4)


def test_cases_come_from_folders_and_nothing_from_names_in_headers(tmp_path):
    for person in ("p1", "p2"):
        for n, (session, series) in enumerate([("v1", "t1"), ("v1", "t2"), ("v2", "t1")]):
            write_series(tmp_path / person / session / series, ramp(seed=n), series=n + 1)
    index = Dicom(root=tmp_path).build()
    assert index.column("id")[:3] == ["p1_v1_t1", "p1_v1_t2", "p1_v2_t1"]
    assert index.column("session")[:3] == ["v1", "v1", "v2"]
    assert index.persons == ("p1", "p2")
    assert index[1].contrast == "t2"
    text = repr(list(index))
    assert "Doe" not in text
    assert "4711" not in text
    assert "20200101" not in text
    copy = pickle.loads(pickle.dumps(index))
    assert copy.fingerprint == index.fingerprint
    check_dataset(Dicom(root=tmp_path))


def test_channels_contrasts_and_labels(tmp_path):
    for n, name in enumerate(("t1_mpr", "flair_3d")):
        write_series(tmp_path / "p1" / "all", ramp(seed=n), series=n + 1, description=name)
        for path in (tmp_path / "p1" / "all").glob("IM*.dcm"):
            path.rename(path.with_name(f"{n}-{path.stem}"))  # DICOM files often have no ending
    plain = Dicom(root=tmp_path).build()
    assert plain.column("id") == ["p1_all_series1", "p1_all_series2"]
    by_name = Dicom(
        root=tmp_path,
        names="SeriesDescription",
        channels={"T1w": "t1*", "FLAIR": "*flair*"},
        missing_label="keep",
    ).build()
    assert by_name.column("id") == ["p1"]
    assert list(by_name[0].channels) == ["T1w", "FLAIR"]
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.eye(4)), tmp_path / "p1_T1w.nii.gz")
    dataset = Dicom(
        root=tmp_path,
        names="SeriesDescription",
        contrasts={"T1w": "t1*", "FLAIR": "*flair*", "T2w": "t2*"},
        labels={"hard": "{id}.nii.gz"},
        structures={"lesion": 1},
    )
    with pytest.raises(DataError) as found:
        dataset.build()
    text = str(found.value)
    assert "has 2 faults" in text
    assert "no series for T2w ('t2*'); there are flair_3d, t1_mpr" in text
    assert "p1_FLAIR" in text
    assert "no label 'hard' (p1_FLAIR.nii.gz)" in text
    good = dataset.model_copy(update={"missing_image": "leave_out", "missing_label": "leave_out"}).build()
    assert good.column("id") == ["p1_T1w"]
    assert good[0].labels["hard"].source.location == str(tmp_path / "p1_T1w.nii.gz")
    with pytest.raises(DataError, match="1 fault"):
        Dicom(root=tmp_path, names="SeriesDescription", contrasts={"T1w": "*"}).build()


def test_folders_without_series(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        Dicom(root=tmp_path / "none").build()
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no DICOM series") as found:
        Dicom(root=tmp_path).build()
    assert "PERSON/SERIES" in str(found.value)
    write_series(tmp_path, ramp())
    with pytest.raises(DataError, match="lie in the root itself"):
        Dicom(root=tmp_path).build()


def spoil(folder: Path, name: str) -> None:
    files = sorted(folder.iterdir())
    axes = np.eye(3)
    if name == "missing":
        # The order of writing is mixed; the slice at position 2 of 0..3 is removed.
        order = np.random.default_rng(0).permutation(4)
        files[int(np.argwhere(order == 2)[0, 0])].unlink()
    if name == "twice":
        write_slice(folder / "again", np.zeros((5, 6), np.int16), (0, 0, 2), axes[0], axes[1], (1, 1), 9)
    if name == "turned":
        write_slice(folder / "turned", np.zeros((5, 6), np.int16), (0, 0, 8), axes[1], axes[2], (1, 1), 9)
    if name == "larger":
        write_slice(folder / "larger", np.zeros((7, 6), np.int16), (0, 0, 8), axes[0], axes[1], (1, 1), 9)
    if name == "finer":
        write_slice(folder / "finer", np.zeros((5, 6), np.int16), (0, 0, 8), axes[0], axes[1], (1, 0.5), 9)
    if name == "frames":
        for path in files:
            path.unlink()
        write_slice(folder / "all", ramp()[..., 0].T, (0, 0, 0), axes[0], axes[1], (1, 1), 1, frames=3)
    if name == "nowhere":
        write_slice(folder / "nowhere", np.zeros((5, 6), np.int16), None, axes[0], axes[1], (1, 1), 9)
    if name == "sheared":
        for path in files:
            path.unlink()
        for k in range(4):
            write_slice(folder / f"s{k}", ramp()[..., k].T, (0, 0.5 * k, 2 * k), axes[0], axes[1], (1, 1), k)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", "not evenly spaced"),
        ("twice", "several images at one place"),
        ("turned", "differ in orientation"),
        ("larger", "differ in size"),
        ("finer", "differ in pixel spacing"),
        ("nowhere", "has no ImagePositionPatient"),
        ("sheared", "are sheared"),
        ("frames", "several frames"),
    ],
)
def test_series_that_are_no_lattice_are_refused(tmp_path, name, text):
    write_series(tmp_path / "p1" / "t2", ramp())
    spoil(tmp_path / "p1" / "t2", name)
    (case,) = Dicom(root=tmp_path).build()
    with pytest.raises(DataError, match=text) as found:
        case.channels["image"].read()
    assert str(tmp_path / "p1" / "t2") in str(found.value)
    if name == "frames":
        assert "convert it to NIfTI with dcm2niix" in str(found.value)


def test_headers_that_claim_gigabytes_more_than_the_files_hold_are_refused(tmp_path):
    write_series(tmp_path / "p1" / "t2", ramp())
    rows = element(0x28, 0x10, "US", 5) + element(0x28, 0x11, "US", 6)
    for path in (tmp_path / "p1" / "t2").iterdir():
        content = path.read_bytes()
        assert rows in content
        huge = element(0x28, 0x10, "US", 65535) + element(0x28, 0x11, "US", 65535)
        path.write_bytes(content.replace(rows, huge))
    (case,) = Dicom(root=tmp_path).build()
    with pytest.raises(DataError, match="claims more than the file holds") as found:
        case.channels["image"].read()
    assert "65535×65535 voxels, 8589672450 bytes" in str(found.value)
    assert str(tmp_path / "p1" / "t2") in str(found.value)


def test_a_series_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    write_series(tmp_path / "p1" / "t2", ramp())
    monkeypatch.setattr(dicom_series, "memory_bytes", lambda: 400.0)
    (case,) = Dicom(root=tmp_path).build()
    with pytest.raises(DataError, match="larger than the memory of this machine") as found:
        case.channels["image"].read()
    assert "480 bytes" in str(found.value)


def test_damaged_slices_are_named_and_not_passed_over(tmp_path):
    write_series(tmp_path / "p1" / "t2", ramp())
    files = sorted((tmp_path / "p1" / "t2").iterdir())
    for path in files[:2]:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="has 2 faults") as found:
        Dicom(root=tmp_path).build()
    for path in files[:2]:
        assert f"p1/t2/{path.name}" in str(found.value)
    assert "damaged DICOM file" in str(found.value)


def test_a_series_that_is_gone(tmp_path):
    write_series(tmp_path / "p1" / "t2", ramp())
    with pytest.raises(DataError, match="does not hold the DICOM series"):
        SeriesSource(str(tmp_path / "p1" / "t2"), "1.2.3").read()


def test_long_paths_in_any_script(tmp_path):
    root = tmp_path / ("x" * 200) / "Größe 名前 #1"
    stored = ramp()
    write_series(root / "sub-é" / "t2 tse", stored)
    index = Dicom(root=root).build()
    assert index.column("id") == ["sub-é_t2 tse"]
    np.testing.assert_array_equal(index[0].channels["image"].read().data, stored)


def test_symlink_loops_and_links_to_nothing(tmp_path):
    write_series(tmp_path / "p1" / "t2", ramp())
    (tmp_path / "p1" / "back").symlink_to(tmp_path)
    (tmp_path / "p1" / "t2" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "P1").mkdir()
    with pytest.raises(DataError) as found:
        Dicom(root=tmp_path).build()
    assert "leads back into itself" in str(found.value)
    assert "a link to nothing" in str(found.value)
    assert "where case is not told apart" in str(found.value)
