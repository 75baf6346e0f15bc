"""`mriad measure` and `mriad predict --measure`: tables, pairing, the record, and every refusal."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from analytic_tubes import cylinder, direction, grid_of, sampled
from mriad.errors import DataError, PluginError, StorageError
from mriad.images import write_like
from mriad.registry import Registry, using
from mriad.report import Predicted, report_named
from mriad.vocabulary import LabelSet
from mriad_eval.measure import measure
from mriad_eval.morphometry.table import COLUMNS, ranges
from typer import Typer
from typer.testing import CliRunner

app = Typer()
app.command()(measure)
GRID = grid_of((0.5, 0.5, 2), (30, 30, 60))
DISCS = {2: 27.0, 3: 13.0, 4: -3.0, 5: -21.0}  # centres of slices
DISC = np.pi * 25


def run(*arguments):
    """The command in this process; errors for people come out as exceptions."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tube():
    return sampled(cylinder(5, direction(0, 10)), GRID, soft=True, times=(4, 4, 4))


@pytest.fixture
def folder(tmp_path, tube):
    """Two persons' soft masks, disc labels of both, a map of levels of one."""
    for person in ("sub-1", "sub-2"):
        write_like(tmp_path / "seg" / f"{person}_T2w_label-cord_probseg.nii.gz", tube, GRID)
        discs = np.zeros(GRID.shape, dtype=np.uint8)
        for number, height in DISCS.items():
            discs[tuple(np.round(GRID.voxels([0, 9, height])).astype(int))] = number
        write_like(tmp_path / "labels" / f"{person}_T2w_label-discs_dlabel.nii.gz", discs, GRID, "labels")
    levels = np.zeros(GRID.shape, dtype=np.uint8)
    levels[:, :, 15:] = 2
    levels[:, :, 8:15] = 3
    write_like(tmp_path / "levels.nii.gz", levels, GRID, "labels")
    return tmp_path


def test_a_mask_with_discs(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    discs = folder / "labels" / "sub-1_T2w_label-discs_dlabel.nii.gz"
    result = run(scan, "--discs", discs, "--out", folder / "out")
    assert result.exit_code == 0
    rows = table(folder / "out" / "csa.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["VertLevel"] for row in rows] == ["2", "3", "4", "2:3"]
    assert [row["Slices"] for row in rows] == ["7", "8", "8", "15"]
    for row in rows:
        assert float(row["MEAN(area)"]) == pytest.approx(DISC, rel=2e-3)
        assert float(row["MEAN(raw_area)"]) == pytest.approx(DISC / np.cos(np.radians(10)), rel=2e-3)
        assert float(row["MEAN(angle_RL)"]) == pytest.approx(10, abs=0.1)
        assert float(row["SUM(length)"]) == pytest.approx(
            2 * int(row["Slices"]) / np.cos(np.radians(10)), rel=1e-3
        )
        assert row["Timestamp"] == row["DistancePMJ"] == row["Note"] == ""
        assert row["SCT Version"].startswith("mriad ")
        assert row["Filename"] == scan.name
    assert "C2-C3" in result.output
    assert (
        f"volume (mm³) · sub-1_T2w · structure: {float(np.sum(nib.load(scan).dataobj)) * 0.5:.1f}"
        in result.output
    )
    slices = table(folder / "out" / "csa_slices.csv")
    assert len(slices) == 30
    assert slices[0]["Note"] == slices[-1]["Note"] == "end of the structure, not averaged"
    assert [row["Slice (I->S)"] for row in slices] == [str(n) for n in range(30)]


def test_the_columns_that_sct_writes_come_first_and_in_its_order():
    assert COLUMNS[:10] == (
        "Timestamp",
        "SCT Version",
        "Filename",
        "Slice (I->S)",
        "VertLevel",
        "DistancePMJ",
        "MEAN(area)",
        "STD(area)",
        "MEAN(angle_AP)",
        "STD(angle_AP)",
    )
    assert COLUMNS[10:23] == (
        *("MEAN(angle_RL)", "STD(angle_RL)", "MEAN(diameter_AP)", "STD(diameter_AP)"),
        *("MEAN(diameter_RL)", "STD(diameter_RL)", "MEAN(eccentricity)", "STD(eccentricity)"),
        *("MEAN(orientation)", "STD(orientation)", "MEAN(solidity)", "STD(solidity)", "SUM(length)"),
    )
    assert [ranges(n) for n in ([], [3], [1, 2, 3, 5], [7, 2, 3])] == ["", "3", "1:3;5", "2:3;7"]


def test_without_labels_the_area_is_per_slice_and_it_says_how_to_get_levels(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    result = run(scan, "--out", folder / "out")
    assert result.exit_code == 0
    assert not (folder / "out" / "csa.csv").exists()
    assert len(table(folder / "out" / "csa_slices.csv")) == 30
    assert "no vertebral levels: area is given per slice, not per level (--discs FILE" in result.output
    assert "all slices" in result.output
    note = json.loads((folder / "out" / "run.json").read_text())["notes"]["sub-1_T2w"]
    assert note[0].startswith("no vertebral levels")


def test_a_folder_is_paired_by_name(folder):
    (folder / "labels" / "sub-2_T2w_label-discs_dlabel.nii.gz").unlink()
    result = run(folder / "seg", "--discs", folder / "labels", "--at", "C3", "--out", folder / "out")
    rows = table(folder / "out" / "csa.csv")
    assert [(row["Filename"][:5], row["VertLevel"]) for row in rows] == [("sub-1", "3")]
    assert "sub-2_T2w: no vertebral levels" in result.output
    assert len(table(folder / "out" / "csa_slices.csv")) == 60


def test_a_map_of_levels_and_levels_that_are_not_there(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    out = folder / "out"
    result = run(scan, "--levels", folder / "levels.nii.gz", "--at", "C2-C3", "--at", "C4", "--out", out)
    rows = table(out / "csa.csv")
    assert [(row["VertLevel"], row["Slices"], row["Note"]) for row in rows] == [
        ("2:3", "21", ""),
        ("4", "0", "no slices of C4"),
    ]
    assert rows[1]["MEAN(area)"] == rows[1]["SUM(length)"] == "nan"
    assert "no slices of C4" in result.output
    (out / "csa.csv").unlink()
    run(scan, "--levels", folder / "levels.nii.gz", "--min-slices", "30", "--out", folder / "strict")
    assert {row["Note"] for row in table(folder / "strict" / "csa.csv")} == {
        "14 slices, 30 needed",
        "7 slices, 30 needed",
        "21 slices, 30 needed",
    }


def test_levels_on_another_grid_are_refused(folder):
    levels = np.zeros((10, 10, 10), dtype=np.uint8)
    write_like(folder / "other.nii.gz", levels, grid_of((3, 3, 6), (30, 30, 60)), "labels")
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    with pytest.raises(DataError, match=r"(?s)different grids.*10×10×10"):
        run(scan, "--levels", folder / "other.nii.gz", "--out", folder / "out")


def test_binary_and_literal(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    levels = folder / "levels.nii.gz"
    run(scan, "--levels", levels, "--binary", "--literal-sct", "--out", folder / "out")
    assert {row["Values"] for row in table(folder / "out" / "csa.csv")} == {"binary"}
    literal = table(folder / "out" / "csa_sct6_literal.csv")
    assert [row["VertLevel"] for row in literal[-3:]] == ["2", "3", "2:3"]
    assert literal[-1]["Slices"] == "22"  # the end is not dropped
    assert float(literal[-1]["MEAN(area)"]) == pytest.approx(DISC, rel=0.01)
    assert {row["Note"] for row in literal} == {"as SCT 6.0, for reproduction only"}


def test_structures_by_name_and_which_are_tubes(folder, tube):
    both = np.where(tube > 0.5, 1, 0).astype(np.uint8)
    both[:6, :6, 4:9] = 2
    write_like(folder / "both.nii.gz", both, GRID, "labels")
    run(folder / "both.nii.gz", "--labels", "cord=1,lesion=2", "--out", folder / "a")
    assert {row["Structure"] for row in table(folder / "a" / "csa_slices.csv")} == {"cord"}
    volumes = {row["Structure"]: float(row["binary_mm3"]) for row in table(folder / "a" / "volumes.csv")}
    assert volumes["lesion"] == pytest.approx(6 * 6 * 5 * 0.5)
    run(folder / "both.nii.gz", "--labels", "a=1,b=2", "--tube", "b", "--out", folder / "b")
    assert {row["Structure"] for row in table(folder / "b" / "csa_slices.csv")} == {"b"}
    run(folder / "both.nii.gz", "--labels", "a=1,b=2", "--out", folder / "c")
    assert not (folder / "c" / "csa_slices.csv").exists()
    with pytest.raises(DataError, match=r"(?s)no structure 'cord'.*a, b.*--labels"):
        run(folder / "both.nii.gz", "--labels", "a=1,b=2", "--tube", "cord", "--out", folder / "d")


def test_the_structures_that_predict_noted(folder, tube):
    path = write_like(folder / "p.nii.gz", np.where(tube > 0.5, 7, 0), GRID, "labels")
    path.with_name("p.json").write_text(json.dumps({"Structures": {"cord": 7}}))
    run(path, "--out", folder / "out")
    assert {row["Structure"] for row in table(folder / "out" / "csa_slices.csv")} == {"cord"}


def test_the_record_names_inputs_and_versions(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    out = folder / "out"
    run(scan, "--levels", folder / "levels.nii.gz", "--out", out)
    record = json.loads((out / "run.json").read_text())
    assert (record["kind"], record["config"]["csa"]["drop_ends"]) == ("measure", 1)
    assert set(record["inputs"][0]) == {"case", "segmentation", "levels"}
    assert all(len(digest) == 64 for digest in record["inputs"][0]["segmentation"].values())
    assert "mriad" in record["versions"]
    first = (out / "csa.csv").read_bytes()
    run(scan, "--levels", folder / "levels.nii.gz", "--out", out)  # the same again
    assert (out / "csa.csv").read_bytes() == first
    with pytest.raises(StorageError, match=r"(?s)other measurements.*choose another --out"):
        run(scan, "--out", out)


def test_one_bad_file_of_several_is_told_at_the_end(folder):
    (folder / "seg" / "sub-0_T2w_seg.nii.gz").write_bytes(b"no image")
    result = run(folder / "seg", "--labels", "cord=1", "--discs", folder / "labels", "--out", folder / "out")
    assert result.exit_code == 1
    assert "failed: the file is truncated" in result.output
    assert len({row["Filename"] for row in table(folder / "out" / "csa.csv")}) == 2
    assert list(json.loads((folder / "out" / "run.json").read_text())["failed"]) == ["sub-0_T2w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--convention", "spine"], r"no convention 'spine'"),
        (["--discs", "x", "--levels", "y"], r"either discs or levels"),
        (["--at", "C9"], r"no vertebral level"),
        (["--discs", "absent"], r"there are no disc labels here"),
    ],
)
def test_wrong_options(folder, arguments, message):
    with pytest.raises(DataError, match=message):
        run(folder / "seg", *arguments, "--out", folder / "out")


def test_an_empty_mask_is_measured_as_nothing(folder):
    write_like(folder / "none.nii.gz", np.zeros(GRID.shape, np.float32), GRID)
    discs = folder / "labels" / "sub-1_T2w_label-discs_dlabel.nii.gz"
    result = run(folder / "none.nii.gz", "--labels", "cord=1", "--discs", discs, "--out", folder / "out")
    assert "cord: the structure is in no slice" in result.output
    assert table(folder / "out" / "volumes.csv")[0]["soft_mm3"] == "0"


def test_the_report_of_predictions(folder):
    scan = folder / "sub-1_T2w.nii.gz"
    write_like(scan, np.zeros(GRID.shape, np.float32), GRID)
    seg = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    report = report_named("measure", discs=str(folder / "labels"), levels=None)
    made = [Predicted("sub-1_T2w", {"T2w": scan}, (seg,))]
    (first,) = report.write(made, LabelSet.of({"cord": 1}), folder / "measurements")
    assert first == folder / "measurements" / "csa.csv"
    assert {row["Structure"] for row in table(first)} == {"cord"}
    # Again, with fewer labels: nothing of the first is left.
    (first,) = report_named("measure").write(made, LabelSet.of({"cord": 1}), folder / "measurements")
    assert first.name == "csa_slices.csv"
    assert not (folder / "measurements" / "csa.csv").exists()
    (page,) = report_named("qc").write(made, LabelSet.of({"cord": 1}), folder / "qc")
    assert page.read_text().startswith("<!")
    assert (folder / "qc" / "mosaics" / "0001.png").is_file()


def test_reports_that_are_not_there_or_cannot_be_made():
    with pytest.raises(DataError, match=r"(?s)'eval.measure' cannot be made so.*colour"):
        report_named("measure", colour="red")
    with using(Registry()), pytest.raises(PluginError, match=r"(?s)no plugin offers.*pip install mriad-eval"):
        report_named("measure")


def test_the_labels_of_another_person_are_refused(folder):
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    discs = folder / "labels" / "sub-2_T2w_label-discs_dlabel.nii.gz"
    with pytest.raises(DataError, match=r"(?s)disc labels are another person's.*sub-1_.*sub-2_.*rename"):
        run(scan, "--discs", discs, "--out", folder / "out")
    write_like(folder / "sub-2_levels.nii.gz", np.ones(GRID.shape, np.uint8), GRID, "labels")
    with pytest.raises(DataError, match="level labels are another person's"):
        run(scan, "--levels", folder / "sub-2_levels.nii.gz", "--out", folder / "out")
    made = [Predicted("sub-1_T2w", {"T2w": scan}, (scan,))]
    with pytest.raises(DataError, match="disc labels are another person's"):
        report_named("measure", discs=str(discs)).write(made, LabelSet.of({"cord": 1}), folder / "measured")


def test_discs_that_lie_far_from_the_cord_are_pointed_out(folder):
    """Names that tell no person: the place may still show that the labels are of another space."""
    scan = folder / "seg" / "sub-1_T2w_label-cord_probseg.nii.gz"
    near = folder / "labels" / "sub-1_T2w_label-discs_dlabel.nii.gz"
    assert "are the labels of this person" not in run(scan, "--discs", near, "--out", folder / "near").output
    moved = np.array(GRID.matrix)
    moved[1, 3] += 25
    far = folder / "discs.nii.gz"
    write_like(far, np.asarray(nib.load(near).dataobj), GRID.of(GRID.shape, moved), "labels")
    result = run(scan, "--discs", far, "--out", folder / "far")
    assert "a disc label lies 3" in " ".join(result.output.split())
    assert "are the labels of this person and session?" in " ".join(result.output.split())
