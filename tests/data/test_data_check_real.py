"""`mriad data check` on real MRI: it finds what the folder's README tells, and nothing that must be fixed."""

from __future__ import annotations

import pytest
from mriad_data.checking.run import check_data


def findings(report, check):
    return {(f.level, f.what, f.case): f for f in report.findings if f.check == check}


@pytest.fixture(scope="module")
def spine(real_data):
    return check_data(str(real_data / "spine")).report


def test_hippocampus_is_clean(real_data):
    report = check_data(str(real_data / "hippocampus")).report
    assert (report.cases, report.persons, report.files) == (80, 80, 160)
    assert report.counts["error"] == 0
    assert report.seconds < 30
    for check in ("readable", "geometry", "empty", "duplicates", "intensities", "spacing"):
        assert report.worst(check) is None, check
    (values,) = findings(report, "values").values()
    assert values.detail == "hard 1, 2"  # anterior and posterior


def test_the_cord_mask_that_both_contrasts_of_unf01_share(spine):
    (found,) = findings(spine, "duplicates").values()
    assert found.what == "one label map under several names of a person"
    assert found.level == "note"
    assert {found.case, found.detail.removeprefix("same voxels: ").split()[0]} == {
        "sub-unf01_T1w",
        "sub-unf01_T2w",
    }


def test_scans_that_saturate_at_4095(spine):
    clipped = {
        f.case: f.numbers for f in spine.findings if f.what == "an image is clipped at its highest value"
    }
    for case in ("sub-sct019_MToff", "sub-sct019_MTon", "sub-tut01_MToff", "sub-tut03_MTon"):
        assert clipped[case]["value"] == 4095
    assert clipped["sub-sct019_MToff"]["share"] == pytest.approx(
        82816 / 794_109, rel=1e-3
    )  # counted with nibabel
    assert "sub-unf01_T2w" not in clipped
    assert "sub-fakelesion_T2w" not in clipped  # one voxel of 4095


def test_displacement_fields_are_told_apart_from_images(spine):
    found = findings(spine, "readable")
    assert {case for _, _, case in found} == {
        "sub-errsm30_T2w_warp-from-PAM50small",
        "sub-errsm30_MTon_warp-from-PAM50small",
    }
    assert {level for level, _, _ in found} == {"warning"}
    assert not spine.must_be_fixed


def test_ms_lesions(real_data):
    report = check_data(str(real_data / "ms-lesions")).report
    assert not report.must_be_fixed
    lacking = {
        f.case: f.detail for f in report.findings if f.what == "a person lacks a contrast that most have"
    }
    assert lacking == {"sub-L09": "T1w, T2w (has FLAIR)", "sub-L20": "T2w (has FLAIR, T1w)"}
    (library,) = findings(report, "readable").values()
    assert library.detail == "shape 136×170×129×23"
    assert report.worst("empty") is None
    assert report.worst("geometry") is None
    assert report.worst("intensities") is None
    values = {f.detail for f in report.findings if f.check == "values"}
    assert "label-tissuelesion_dseg 1–4" in values
