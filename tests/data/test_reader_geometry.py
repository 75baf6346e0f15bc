"""A marked voxel keeps its world position through BIDS, nnU-Net and manifest; test_dicom.py has the fourth reader."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mriad.preparation import load_sample
from mriad_data.bids import Bids
from mriad_data.manifest import Manifest
from mriad_data.nnunet import NnunetRaw


def affines():
    """Oblique, flipped, permuted, anisotropic."""
    angle = st.floats(-90, 90)

    def make(parts):
        angles, order, flips, spacing, origin = parts
        a, b, c = np.radians(angles)
        x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = (z @ y @ x)[:, order] * np.array(flips) * np.array(spacing)
        matrix[:3, 3] = origin
        return matrix

    return st.tuples(
        st.tuples(angle, angle, angle),
        st.permutations([0, 1, 2]),
        st.tuples(*[st.sampled_from([-1, 1])] * 3),
        st.tuples(*[st.floats(0.3, 6)] * 3),
        st.tuples(*[st.floats(-200, 200)] * 3),
    ).map(make)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affine=affines(), voxel=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)))
def test_a_marked_voxel_keeps_its_world_position(tmp_path, affine, voxel):
    """BIDS, nnU-Net and manifest: the image's and the label's voxel lie where the affine that was written says."""
    data = np.zeros((4, 5, 6), np.uint8)
    data[voxel] = 1
    expected = (affine @ [*voxel, 1])[:3]
    files = {
        tmp_path / "bids/sub-1/anat/sub-1_T1w.nii.gz": np.float32,
        tmp_path / "bids/derivatives/labels/sub-1/sub-1_T1w_seg.nii.gz": np.uint8,
        tmp_path / "nnunet/imagesTr/a_0000.nii.gz": np.float32,
        tmp_path / "nnunet/labelsTr/a.nii.gz": np.uint8,
    }
    for path, dtype in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(data.astype(dtype), affine).to_filename(path)
    facts = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "dot": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "nnunet" / "dataset.json").write_text(json.dumps(facts))
    rows = "id,person,image:T1w,label:hard\na,a,nnunet/imagesTr/a_0000.nii.gz,nnunet/labelsTr/a.nii.gz\n"
    (tmp_path / "manifest.csv").write_text(rows)
    readers = [
        Bids(root=tmp_path / "bids", labels={"hard": "seg"}, structures={"dot": 1}),
        NnunetRaw(root=tmp_path / "nnunet"),
        Manifest(path=tmp_path, structures={"dot": 1}),
    ]
    for reader in readers:
        index = reader.build()
        sample = load_sample(index[0], list(index[0].channels), "hard", "hard", index.label_set)
        for array in (sample.image, sample.target):
            (found,) = np.argwhere(array[0] > 0)
            np.testing.assert_allclose(sample.grid.world(found), expected, atol=2e-3)
