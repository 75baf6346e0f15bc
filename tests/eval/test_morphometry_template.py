"""Discs from a template: phantoms whose discs are known, and what is refused."""

import json

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.interfaces import Dataset
from mriad.vocabulary import Volume
from mriad_eval.measure import measure
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.levels import disc_heights
from mriad_eval.morphometry.template import Template, information, match_discs
from typer import Typer
from typer.testing import CliRunner

app = Typer()
app.command()(measure)


@pytest.fixture(scope="module")
def cases():
    phantom = {"type": "data.phantom_spine", "persons": 3, "seed": 5, "contrasts": ["T2w", "T1w"]}
    phantom |= {"size_mm": [40, 80, 140], "spacing_mm": 1.0}
    out = {}
    for case in Dataset.resolve(phantom).build():
        truth = case.labels["truth"].source.read()
        numbers = sorted({int(k.split("/")[1]) for k in case.numbers if k.startswith("disc_mm/")})
        discs = {n: np.array([[case.numbers[f"disc_mm/{n}/{a}"] for a in "xyz"]]) for n in numbers}
        image = case.channels["image"].read()
        out[case.id] = image, truth, measure_tube(truth.data, truth.grid).line, discs
    return out


def template(cases, stretch=1.0):
    """Person 1; `stretch` makes it longer."""
    image, truth, _, discs = cases["sub-001_T2w"]
    scale = np.diag([1, 1, stretch, 1])
    grid = Grid.of(image.grid.shape, scale @ image.grid.matrix)
    line = measure_tube(truth.data, grid).line
    return Template(Volume(image.data, grid), line, {n: p * [1, 1, stretch] for n, p in discs.items()})


@pytest.mark.parametrize("case", ["sub-002_T2w", "sub-002_T1w", "sub-003_T2w", "sub-003_T1w"])
@pytest.mark.parametrize("anchor", [3, 5])
def test_one_label_finds_the_others(cases, case, anchor):
    image, _, line, discs = cases[case]
    found = match_discs(image, line, {anchor: discs[anchor]}, template(cases))
    truth = disc_heights(discs, line)
    assert found.taken == (anchor,)
    assert found.heights[anchor] == truth[anchor]
    near = [n for n in truth if abs(n - anchor) <= 2 and n >= 2]
    assert len(near) >= 4
    # Levels of two persons differ in height by a millimetre or so each; that is what is left.
    assert max(abs(found.heights[n] - truth[n]) for n in near) < 2.5


@pytest.mark.parametrize("stretch", [0.875, 1.125])
def test_the_stretch_is_found_in_the_images(cases, stretch):
    image, _, line, discs = cases["sub-002_T2w"]
    found = match_discs(image, line, {4: discs[4]}, template(cases, stretch))
    assert found.stretch == pytest.approx(stretch, abs=0.051)
    truth = disc_heights(discs, line)
    assert abs(found.heights[6] - truth[6]) < 2.5


def test_between_labels_nothing_is_searched(cases):
    image, _, line, discs = cases["sub-002_T2w"]
    found = match_discs(image, line, {n: discs[n] for n in (2, 5)}, template(cases))
    truth = disc_heights(discs, line)
    assert np.isnan(found.information)
    assert [found.heights[n] for n in (2, 5)] == [truth[n] for n in (2, 5)]
    assert max(abs(found.heights[n] - truth[n]) for n in (3, 4)) < 1.5


def test_without_a_common_label_it_is_refused(cases):
    image, _, line, discs = cases["sub-002_T2w"]
    with pytest.raises(DataError, match=r"(?s)which vertebra is which.*labelled\s+none.*--discs"):
        match_discs(image, line, {}, template(cases))
    with pytest.raises(DataError, match=r"(?s)which vertebra is which.*labelled\s+20"):
        match_discs(image, line, {20: discs[3]}, template(cases))


def test_information_of_a_relation_and_of_none():
    draw = np.random.default_rng(0)
    a = draw.normal(size=20000)
    assert abs(information(a, draw.normal(size=20000))) < 0.01  # the bias of counting is taken off
    assert information(a, -3 * a) > 1.5
    assert information(a, np.full(20000, np.nan)) == -1


def test_the_command(cases, tmp_path):
    image, truth, _, discs = cases["sub-002_T2w"]
    first, mask, _, labels = cases["sub-001_T2w"]

    def points(grid, places):
        out = np.zeros(grid.shape, dtype=np.uint8)
        for n, place in places.items():
            out[tuple(np.round(grid.voxels(place[0])).astype(int))] = n
        return out

    for name, data, grid, form in (
        ("scan", image.data, image.grid, "float32"),
        ("seg", truth.data, truth.grid, "float32"),
        ("one", points(image.grid, {3: discs[3]}), image.grid, "labels"),
        ("t2", first.data, first.grid, "float32"),
        ("cord", mask.data, mask.grid, "float32"),
        ("discs", points(first.grid, labels), first.grid, "labels"),
    ):
        write_like(tmp_path / f"{name}.nii.gz", data, grid, form)
    given = [
        tmp_path / "seg.nii.gz",
        "--discs",
        tmp_path / "one.nii.gz",
        "--at",
        "C3",
        "--out",
        tmp_path / "out",
    ]
    files = ["--template", tmp_path / "t2.nii.gz", "--template-cord", tmp_path / "cord.nii.gz"]
    files += ["--template-discs", tmp_path / "discs.nii.gz", "--scan", tmp_path / "scan.nii.gz"]
    result = CliRunner().invoke(app, [str(a) for a in (*given, *files)], catch_exceptions=False)
    assert "discs 1:2;4:" in result.output
    assert "look at the levels before you use them" in result.output
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(record["inputs"][0]["template"]) == 3
    row = (tmp_path / "out" / "csa.csv").read_text().splitlines()[1].split(",")
    assert row[4] == "3"
    for left_out, message in ((files[:-2], "needs its image"), (files, "one disc must be labelled")):
        given = [tmp_path / "seg.nii.gz", "--out", tmp_path / "other", *left_out]
        with pytest.raises(DataError, match=message):
            CliRunner().invoke(app, [str(a) for a in given], catch_exceptions=False)
