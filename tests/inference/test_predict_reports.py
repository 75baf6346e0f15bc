"""`mriad predict --measure --qc`: reports are found by name, before anything is predicted."""

from typing import Literal

import numpy as np
import pytest
from inference_fakes import CopyModel, fake_registry, save_fake
from mriad.cli.predict import predict as predict_command
from mriad.errors import ExperimentError, PluginError
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.interfaces import Report
from mriad.registry import using
from typer import Typer
from typer.testing import CliRunner

app = Typer()
app.command()(predict_command)


class Measure(Report):
    type: Literal["fake.measure"] = "fake.measure"
    discs: str | None = None

    def write(self, predictions, label_set, folder):
        folder.mkdir(exist_ok=True)
        lines = [f"{p.case} {sorted(p.scan)} {[o.name for o in p.outputs]}" for p in predictions]
        (folder / "told.txt").write_text("\n".join([str(self.discs), ",".join(label_set.names), *lines]))
        return [folder / "told.txt"]


class Page(Measure):
    type: Literal["fake.qc"] = "fake.qc"


@pytest.fixture
def run(tmp_path):
    registry = fake_registry()
    registry.add(Measure, "fake", "mriad-fake")
    registry.add(Page, "fake", "mriad-fake")
    image = np.zeros((9, 8, 7), dtype=np.int16)
    image[2:5, 2:5] = 1
    for name in ("sub-2_T2w", "sub-1_T2w"):
        write_like(tmp_path / "in" / f"{name}.nii.gz", image, Grid.of(image.shape, np.eye(4)), "labels")
    save_fake(tmp_path / "model", model=CopyModel())

    def run(*arguments, scan="in"):
        scans = (tmp_path / scan, "--model", tmp_path / "model", "--out", tmp_path / "out")
        with using(registry):
            result = CliRunner().invoke(app, [str(a) for a in (*scans, *arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_both_reports_of_all_predictions(run, tmp_path):
    result = run("--measure", "--qc", "--discs", tmp_path / "in")
    told = (tmp_path / "out" / "measurements" / "told.txt").read_text().splitlines()
    assert told == [
        str(tmp_path / "in"),
        "cord",
        "sub-1_T2w ['T2w'] ['sub-1_T2w_label-cord_seg.nii.gz']",
        "sub-2_T2w ['T2w'] ['sub-2_T2w_label-cord_seg.nii.gz']",
    ]
    assert (tmp_path / "out" / "qc" / "told.txt").read_text().startswith("None\ncord\nsub-1_T2w")
    assert f"qc: {tmp_path / 'out' / 'qc' / 'told.txt'}" in result.output


def test_what_was_predicted_before_is_reported_too(run, tmp_path):
    run("--measure", scan="in/sub-1_T2w.nii.gz")
    run("--measure")
    told = (tmp_path / "out" / "measurements" / "told.txt").read_text()
    assert "sub-1_T2w" in told
    assert "sub-2_T2w" in told


def test_nothing_is_made_unless_asked(run, tmp_path):
    run()
    assert not (tmp_path / "out" / "measurements").exists()
    assert not (tmp_path / "out" / "qc").exists()


def test_a_missing_report_is_told_before_anything_is_predicted(run, tmp_path):
    with (
        using(fake_registry()),
        pytest.raises(PluginError, match=r"(?s)no plugin offers the report 'qc'.*pip"),
    ):
        CliRunner().invoke(app, [str(tmp_path / "in"), "--model", "m", "--qc"], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_discs_without_measuring(run):
    with pytest.raises(ExperimentError, match="--discs says where"):
        run("--discs", "x")
