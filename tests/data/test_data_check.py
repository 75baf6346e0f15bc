"""`mriad data check`: each fault of a data set is found, told with its place and remedy, and counted."""

from __future__ import annotations

import gzip
import io
import json
import locale
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_data.checking.files import distance_mm
from mriad_data.checking.findings import CHECKS
from mriad_data.checking.run import check_data
from mriad_data.checking.show import show

sys.path.insert(0, str(Path(__file__).parent))
from check_folder import SHAPE, folder, found, moved, run
from oblique_grids import grids

__all__ = ["folder"]


class TestCleanData:
    def test_nothing_is_found_and_the_next_command_is_named(self, folder, capsys):
        for i in range(6):
            folder.pair(f"sub-{i:02}_T2w")
        assert run(folder.path) == 0
        text = capsys.readouterr()
        assert "6 cases of 6 persons, 12 files" in text.out
        assert "nothing to fix" in text.out
        assert f"next: mriad init {folder.path}" in text.err
        for check in CHECKS:
            assert check in text.out

    def test_plain_text_has_no_colour_and_no_trailing_space(self, folder, capsys):
        folder.pair("a")
        run(folder.path)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert all(line == line.rstrip() for line in out.splitlines())

    def test_each_file_is_read_once(self, folder, monkeypatch):
        for i in range(3):
            folder.pair(f"sub-{i}_T2w")
        read = Counter()
        import mriad.images as images

        whole = images._voxels
        monkeypatch.setattr(
            images, "_voxels", lambda path, image: read.update([path.name]) or whole(path, image)
        )
        check_data(str(folder.path))
        assert len(read) == 6
        assert set(read.values()) == {1}

    def test_4d_files_are_read_once_for_all_channels(self, folder, monkeypatch):
        (folder.path / "imagesTr").mkdir()
        (folder.path / "labelsTr").mkdir()
        nib.Nifti1Image(folder.draw.normal(size=(*SHAPE, 2)).astype(np.float32), moved()).to_filename(
            folder.path / "imagesTr" / "a.nii.gz"
        )
        shutil.move(folder.label("a"), folder.path / "labelsTr" / "a.nii.gz")
        (folder.path / "dataset.json").write_text(
            json.dumps(
                {
                    "modality": {"0": "T1", "1": "T2"},
                    "labels": {"0": "background", "1": "cord"},
                    "numTraining": 1,
                    "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
                }
            )
        )
        read = Counter()
        import mriad.images as images

        whole = images._voxels
        monkeypatch.setattr(images, "_voxels", lambda path, image: read.update([path]) or whole(path, image))
        checked = check_data(str(folder.path))
        assert [v.name for v in checked.seen[0].volumes] == ["T1", "T2", "hard"]
        assert set(read.values()) == {1}
        assert not checked.report.must_be_fixed

    def test_workers_find_the_same(self, folder):
        for i in range(3):
            folder.pair(f"sub-{i}_T2w", affine=moved(0.5 * i))
        one = check_data(str(folder.path), workers=0).report
        two = check_data(str(folder.path), workers=2).report
        assert one.findings == two.findings


class TestReadable:
    def test_damaged_files_are_errors_with_their_reason(self, folder):
        folder.pair("a")
        path = folder.image("b")
        path.write_bytes(path.read_bytes()[:900])
        (folder.path / "c.nii.gz").write_bytes(b"no gzip")
        rows = found(folder.path, "readable")
        assert [(r[0], r[2]) for r in rows] == [("error", "b"), ("error", "c")]
        assert "ends early" in rows[0][3]

    def test_a_header_that_claims_terabytes_is_a_finding(self, folder):
        folder.pair("a")
        header = nib.Nifti1Header()
        header.set_data_shape((30000, 30000, 30000))
        header["magic"], header["vox_offset"] = b"n+1", 352
        with gzip.open(folder.path / "huge.nii.gz", "wb") as file:
            file.write(header.binaryblock + bytes(2000))
        (row,) = found(folder.path, "readable")
        assert row[:3] == ("error", "the file is truncated, or its header is damaged", "huge")

    def test_one_time_point_is_3d_and_several_are_told_with_a_remedy(self, folder):
        folder.pair("a")
        for name, n in (("one", 1), ("five", 5)):
            nib.Nifti1Image(folder.draw.normal(size=(*SHAPE, n)), moved()).to_filename(
                folder.path / f"{name}.nii"
            )
        (row,) = found(folder.path, "readable")
        assert row[:3] == (
            "warning",
            "a 3D image is meant, but the file is 4D",
            "five",
        )  # only its name says image
        table = folder.table("id,person,image:T1w", "a,a,five.nii")
        finding = next(f for f in check_data(str(table)).report.findings if f.check == "readable")
        assert finding.level == "error"
        assert "split it into one file a channel" in finding.remedy

    def test_one_name_compressed_and_not(self, folder):
        data = folder.draw.normal(size=SHAPE)
        folder.image("a", data)
        write_like(folder.path / "a.nii", data, Grid.of(SHAPE, moved()))
        checked = check_data(str(folder.path))
        assert [one.case.id for one in checked.seen] == ["a", "a_2"]
        assert [f.what for f in checked.report.findings if f.check == "duplicates"] == [
            "one image under two names of a person"
        ]

    def test_a_link_to_nothing_and_names_that_clash_are_layout_errors(self, folder):
        folder.pair("a")
        (folder.path / "lost.nii.gz").symlink_to(folder.path / "nowhere")
        folder.image("A")
        rows = found(folder.path, "layout")
        assert {r[0] for r in rows} == {"error"}
        assert any("a link to nothing" in r[1] for r in rows)
        assert any("is one file with" in r[1] for r in rows)

    def test_a_manifest_with_faults_is_told_line_by_line(self, folder, capsys):
        folder.table("id,person,image:T1w", "a,p,gone.nii.gz", "b,p,also.nii.gz")
        assert run(folder.path) == 1
        out = capsys.readouterr().out
        assert "gone.nii.gz" in out
        assert "also.nii.gz" in out

    def test_a_bids_sidecar_without_its_image(self, folder):
        (folder.path / "sub-01" / "anat").mkdir(parents=True)
        folder.image("sub-01/anat/sub-01_T1w")
        (folder.path / "sub-01" / "anat" / "sub-01_T2w.json").write_text("{}")
        rows = found(folder.path, "layout", "error")
        assert [r[3] for r in rows] == ["a sidecar without its image"]

    def test_a_gzip_bomb_is_read_as_far_as_its_header_claims(self, folder):
        path = folder.image("bömb ü")
        raw = gzip.decompress(path.read_bytes())
        with gzip.open(path, "wb") as file:
            file.write(raw + bytes(50_000_000))
        rows = found(folder.path)
        assert [r for r in rows if r[0] == "error"] == []

    def test_links_in_a_circle_and_very_long_names(self, folder):
        folder.pair("n" * 200)
        (folder.path / "round").symlink_to(folder.path)
        rows = found(folder.path, level="error")
        assert [r[1] for r in rows] == ["a link that leads back into itself: remove it"]

    def test_a_folder_of_dicom_series(self, folder):
        series = folder.path / "p1" / "t2"
        series.mkdir(parents=True)
        before = locale.setlocale(locale.LC_ALL)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        for z in range(5):
            plane = SimpleITK.GetImageFromArray(folder.draw.integers(0, 500, (1, 9, 8)).astype(np.int16))
            facts = {
                "0008|0060": "MR",
                "0020|000e": "1.2.3.4",
                "0020|000d": "1.2.3",
                "0008|0018": f"1.2.3.4.{z}",
            }
            facts |= {"0020|0032": f"0\\0\\{3 * z}", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(z)}
            facts |= {"0018|0050": "3", "0028|0030": "1\\1", "0008|0016": "1.2.840.10008.5.1.4.1.1.4"}
            for tag, value in facts.items():
                plane.SetMetaData(tag, value)
            writer.SetFileName(str(series / f"{z}.dcm"))
            writer.Execute(plane)
        locale.setlocale(
            locale.LC_ALL, before
        )  # SimpleITK's DICOM writer sets C, and Python then reads ASCII
        report = check_data(str(folder.path)).report
        assert (report.layout, report.cases) == ("DICOM series", 1)
        assert not report.must_be_fixed, report.findings

    def test_what_is_no_data_set_is_refused(self, tmp_path, capsys):
        assert run(tmp_path / "nowhere") == 1
        assert "there is no such folder or file" in capsys.readouterr().err
        assert run(tmp_path) == 1
        assert "a folder holds no image" in capsys.readouterr().err


class TestGeometry:
    @pytest.mark.parametrize(("shift", "passes"), [(0.0009, True), (0.0011, False), (0.4, False)])
    def test_a_thousandth_of_a_millimetre_passes(self, folder, shift, passes):
        folder.pair("a", affine=moved(shift))
        rows = found(folder.path, "geometry")
        assert (not rows) == passes
        if rows:
            assert rows[0][:3] == ("error", "a label does not share the grid of its image", "a")

    def test_the_size_is_told_in_mm(self, folder):
        folder.pair("a", affine=moved(0.4))
        (finding,) = [f for f in check_data(str(folder.path)).report.findings if f.check == "geometry"]
        assert finding.detail == "0.4 mm: seg's position differs by +0.4 mm along world x"
        assert finding.numbers["distance_mm"] == pytest.approx(0.4)

    def test_channels_must_share_a_grid(self, folder):
        folder.image("t1"), folder.image("t2", affine=moved(2))
        table = folder.table("id,person,image:T1w,image:T2w", "a,p,t1.nii.gz,t2.nii.gz")
        (row,) = found(table, "geometry")
        assert row[:3] == ("error", "a channel does not share the grid of its image", "a")
        assert row[3].startswith("2 mm: T2w")

    def test_grids_of_other_shapes_are_as_far_apart_as_their_corners(self):
        fine = Grid.of(
            (20, 20, 20), moved(-0.25, 0.5) + np.array([[0] * 4, [0, 0, 0, -0.25], [0, 0, 0, -0.25], [0] * 4])
        )
        coarse = Grid.of((10, 10, 10), moved())
        assert distance_mm(fine, coarse) == pytest.approx(0, abs=1e-9)
        longer = Grid.of((10, 10, 13), moved())
        assert distance_mm(longer, coarse) == pytest.approx(3)
        assert distance_mm(coarse, longer) == pytest.approx(3)

    @given(
        grid=grids(),
        shift=st.tuples(*[st.floats(-50, 50)] * 3),
        split=st.integers(2, 4),
        axis=st.integers(0, 2),
    )
    def test_distances_of_oblique_grids(self, grid, shift, split, axis):
        matrix = grid.matrix
        matrix[:3, 3] += shift
        other = Grid.of(grid.shape, matrix)
        assert distance_mm(other, grid) == pytest.approx(np.linalg.norm(shift), abs=1e-6)
        # The same field of view in thinner voxels: no distance; and moved: that of the move.
        thin, shape = other.matrix, list(grid.shape)
        thin[:3, 3] -= thin[:3, axis] * (0.5 - 0.5 / split)
        thin[:3, axis] /= split
        shape[axis] *= split
        assert distance_mm(Grid.of(shape, thin), other) == pytest.approx(0, abs=1e-6)
        assert distance_mm(Grid.of(shape, thin), grid) <= np.linalg.norm(shift) + 1e-6

    def test_forms_of_the_header_that_disagree_are_a_warning(self, folder):
        image = nib.Nifti1Image(folder.draw.normal(size=SHAPE).astype(np.float32), moved())
        image.set_qform(moved(30), 1), image.set_sform(moved(), 1)
        image.to_filename(folder.path / "a.nii.gz")
        (row,) = found(folder.path, "geometry")
        assert row[:2] == ("warning", "sform and qform disagree; the sform is used")
        assert "30 mm" in row[3]


class TestReports:
    def test_the_json_has_every_finding_and_the_table_three_of_a_kind(self, folder, capsys, tmp_path):
        for i in range(6):
            folder.pair(f"sub-{i}_T2w", affine=moved(0.1 * (i + 1)))
        assert run(folder.path, "--json", tmp_path / "r.json") == 1
        text = capsys.readouterr()
        assert "and 3 more" in text.out
        assert "6 errors: errors must be fixed before training" in text.out
        assert f"--fix geometry --out {folder.path.name}-fixed" in text.err
        made = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
        assert made["counts"]["error"] == 6
        assert made["must_be_fixed"]
        assert made["checks"]["geometry"] == {"level": "error"}
        assert made["checks"]["splits"]["level"] == "skipped"
        assert len([f for f in made["findings"] if f["check"] == "geometry"]) == 6
        assert {"check", "level", "what", "case", "file", "detail", "remedy", "numbers"} == set(
            made["findings"][0]
        )
        assert run(folder.path, "--all") == 1
        assert "sub-5_T2w" in capsys.readouterr().out
        assert run(folder.path, "--json", "-") == 1
        assert json.loads(capsys.readouterr().out)["cases"] == 6

    def test_a_terminal_sees_colours(self, folder):
        folder.pair("a", affine=moved(1))

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        shown = Terminal()
        show(check_data(str(folder.path)).report, stream=shown)
        assert "\x1b[1;31merror" in shown.getvalue()

    def test_warnings_alone_exit_with_0(self, folder, capsys):
        folder.pair("a"), folder.pair("b", empty=True)
        assert run(folder.path) == 0
        assert "1 warning: nothing must be fixed" in capsys.readouterr().out


def test_a_folder_without_images_is_told_in_one_message_and_nothing_else(tmp_path):
    """GDCM writes its own warnings to the process's error stream, past Python."""
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("no image")
    command = [sys.executable, "-m", "mriad", "data", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["error:", "folder", "looked", "try"]
