"""`mriad data check`: labels, duplicates, images, and what is unlike the others."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_data.checking.outliers import LEAST_SPREAD, robust_z

sys.path.insert(0, str(Path(__file__).parent))
from check_folder import SHAPE, folder, found, moved

__all__ = ["folder"]


class TestLabels:
    def test_values_outside_the_label_set(self, folder):
        folder.pair("a"), folder.pair("b", value=7), folder.pair("c", value=2)
        rows = ["id,person,image:T1w,label:hard"] + [f"{n},{n},{n}.nii.gz,{n}_seg.nii.gz" for n in "abc"]
        (row,) = found(folder.table(*rows), "values")
        assert row == (
            "error",
            "a label holds values outside the label set",
            "b",
            "7; declared: cord = 1, csf = 2",
        )
        with_ignore = folder.table(*rows, labels="structures: {cord: 1, csf: 2}\nignore: [7]\n")
        assert not found(with_ignore, "values")

    def test_a_structure_that_is_never_drawn(self, folder):
        folder.pair("a")
        table = folder.table("id,person,image:T1w,label:hard", "a,p,a.nii.gz,a_seg.nii.gz")
        assert found(table, "values") == [
            ("warning", "a declared structure occurs in no label", "", "csf = 2")
        ]

    def test_fractions_negative_values_and_soft_values_above_one(self, folder):
        grid = Grid.of(SHAPE, moved())
        soft = np.zeros(SHAPE)
        soft[2:4, 2:4] = 0.4
        for name, data in (("half", soft), ("minus", -np.rint(soft + 0.2)), ("large", soft * 500)):
            folder.image(name)
            ending = "softseg" if name == "large" else "seg"
            write_like(folder.path / f"{name}_{ending}.nii.gz", data, grid)
        rows = found(folder.path, "values", "error")
        assert rows == [
            ("error", "a label map holds values that are not whole numbers", "half", "seg: 0.4"),
            ("error", "a soft label holds values outside [0, 1]", "large", "0 to 200"),
            ("error", "a label map holds negative values", "minus", "-1"),
        ]

    def test_undeclared_values_are_listed_and_rare_ones_stand_out(self, folder):
        for i in range(20):
            folder.pair(f"sub-{i:02}_T2w", value=9 if i == 4 else 1)
        rows = found(folder.path, "values")
        assert rows[0] == (
            "warning",
            "a label holds values that hardly any other holds",
            "sub-04_T2w",
            "seg: 9",
        )
        assert rows[1][3] == "seg 1, 9"

    def test_empty_labels(self, folder):
        folder.pair("a"), folder.pair("b", empty=True)
        assert found(folder.path, "empty") == [("warning", "a label is empty", "b", "seg")]


class TestDuplicates:
    def test_the_same_voxels_in_another_type_and_compression(self, folder):
        data = folder.draw.integers(0, 200, SHAPE).astype(np.int16)
        nib.Nifti1Image(data, moved()).to_filename(folder.path / "sub-01_T2w.nii.gz")
        nib.Nifti1Image(data.astype(np.float64), moved(3)).to_filename(folder.path / "sub-02_T2w.nii")
        (row,) = found(folder.path, "duplicates")
        assert row == (
            "warning",
            "one image under the names of 2 persons",
            "sub-01_T2w",
            "same voxels: sub-02_T2w",
        )

    def test_labels_of_one_person_and_of_two(self, folder):
        for name in ("sub-1_T1w", "sub-1_T2w", "sub-2_T1w"):
            folder.image(name)
        first = folder.label("sub-1_T1w")
        shutil.copy(first, folder.path / "sub-1_T2w_seg.nii.gz")
        (row,) = found(folder.path, "duplicates")
        assert row[:2] == ("note", "one label map under several names of a person")
        shutil.copy(first, folder.path / "sub-2_T1w_seg.nii.gz")
        (row,) = found(folder.path, "duplicates")
        assert row[:2] == ("warning", "one label map under the names of 2 persons")

    def test_empty_and_tiny_labels_are_alike_by_chance(self, folder):
        for name in ("a", "b"):
            folder.image(name)
            point = np.zeros(SHAPE, np.uint8)
            point[3, 3, 3] = 1
            write_like(folder.path / f"{name}_seg.nii.gz", point, Grid.of(SHAPE, moved()), "labels")
        assert not found(folder.path, "duplicates")

    def test_a_label_in_place_of_an_image(self, folder):
        folder.image("a")
        shutil.copy(folder.label("a"), folder.path / "b.nii.gz")
        assert found(folder.path, "duplicates")[0][1] == "an image is a label map"


class TestImages:
    def test_nan_constant_and_clipped(self, folder):
        grid = Grid.of(SHAPE, moved())
        folder.pair("fine")
        nan = folder.draw.normal(size=SHAPE)
        nan[1, 2, 3] = np.nan
        write_like(folder.path / "nan.nii.gz", nan, grid)
        write_like(folder.path / "flat.nii.gz", np.full(SHAPE, 7.0), grid)
        write_like(folder.path / "clipped.nii.gz", np.minimum(folder.draw.normal(100, 20, SHAPE), 120), grid)
        rows = sorted(found(folder.path, "intensities"))
        assert [r[:3] for r in rows] == [
            ("error", "NaN or infinite values", "nan"),
            ("error", "an image is constant", "flat"),
            ("warning", "an image is clipped at its highest value", "clipped"),
        ]
        assert rows[0][3] == "voxels 1 of 720"
        assert rows[2][3].endswith("% at 120")


class TestOutliers:
    def test_spacing_and_size_per_contrast(self, folder):
        for i in range(7):
            folder.image(f"sub-{i}_T2w", affine=moved(spacing=2 if i == 3 else 1))
            folder.image(
                f"sub-{i}_T1w", folder.draw.normal(size=(8, 9, 40 if i == 5 else 10)), moved(spacing=3)
            )
        assert [r[2] for r in found(folder.path, "spacing")] == ["sub-3_T2w"]
        assert {r[2] for r in found(folder.path, "size")} == {"sub-3_T2w", "sub-5_T1w"}

    def test_axes_in_another_order_are_no_outliers(self, folder):
        for i in range(7):
            data, affine = folder.draw.normal(size=(8, 9, 20)), np.diag([1.0, 2, 3, 1])
            if i == 2:
                data, affine = data.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]
            folder.image(f"sub-{i}_T2w", data, affine)
        assert not found(folder.path, "spacing")
        assert not found(folder.path, "size")

    def test_the_score_by_hand(self):
        values = np.exp(np.array([[0.0], [0.1], [-0.1], [0.2], [1.0]]))
        scores, median = robust_z(values)  # logarithms: median 0.1, distances 0.1, 0, 0.2, 0.1, 0.9; MAD 0.1
        assert median == pytest.approx(np.exp(0.1))
        assert scores[:, 0] == pytest.approx([-0.6745, 0, -1.349, 0.6745, 0.6745 * 9])
        assert robust_z(np.ones((5, 1)) * 2)[0] == pytest.approx(0)
        one_off = np.array([[1.0]] * 9 + [[1.05]])
        assert robust_z(one_off)[0][-1, 0] == pytest.approx(0.6745 * np.log(1.05) / LEAST_SPREAD)

    def test_missing_contrasts_and_channels(self, folder):
        for person in ("1", "2", "3"):
            for contrast in ("T1w", "T2w"):
                if (person, contrast) != ("2", "T2w"):
                    folder.image(f"sub-{person}_{contrast}")
        folder.image("sub-1_FLAIR")
        rows = found(folder.path, "contrasts")
        assert rows[0] == ("warning", "a person lacks a contrast that most have", "sub-2", "T2w (has T1w)")
        assert rows[1][3] == "FLAIR (1 of 3 persons)"
        table = folder.table(
            "id,person,image:T1w,image:T2w", "a,a,sub-1_T1w.nii.gz,sub-1_T2w.nii.gz", "b,b,sub-2_T1w.nii.gz,"
        )
        assert found(table, "contrasts") == [("warning", "a case lacks a channel", "b", "T2w")]
