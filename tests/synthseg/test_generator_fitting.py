"""Intensity priors and background clusters: what is fitted, on whom, and how the generator draws from it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_inputs import SIDED, a_batch, a_map, a_task, made, still
from mriad.errors import DataError, ExperimentError
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.images import FileSource, read_volume, write_like
from mriad.launch.inline import InlineLauncher
from mriad.stages.artefact import Artefact, StageContext
from mriad.stages.dataset import open_dataset, write_dataset
from mriad.stages.train import index_of
from mriad.testing import check_stage
from mriad.vocabulary import Label
from mriad_synthseg.commands import app
from mriad_synthseg.fitting import borders
from mriad_synthseg.generate import Generate
from mriad_synthseg.priors import class_spread, read_priors
from mriad_synthseg.stages import FitPriors, SplitBackground
from scipy import stats
from typer.testing import CliRunner

INDEX = a_map()[0].numpy()
VALUES = np.array([0, *(s.value for s in SIDED.structures)])
MEANS = {"T1w": [20, 60, 60, 110, 80, 80, 200], "T2w": [15, 150, 150, 90, 120, 120, 40]}
ROLES = Generate().roles(SIDED)


class Quiet:
    def message(self, text):
        pass


@pytest.fixture
def folder(tmp_path):
    """Four persons in two contrasts, painted class by class with a mean that differs between persons."""
    rng = np.random.default_rng(0)
    grid = Grid.of(INDEX.shape, np.diag([1, 1, 2, 1]))
    rows = []
    for person in range(4):
        index = np.roll(INDEX, person, 2)  # equal label maps would be one person's
        write_like(tmp_path / f"p{person}_seg.nii.gz", VALUES[index].astype(np.int16), grid, "labels")
        for contrast, means in MEANS.items():
            clean = np.array(means, float)[index] + 3 * person
            image = np.clip(clean + rng.normal(0, 6, INDEX.shape), 1, None)
            image[0, 0, 0], image[-1, -1, -1] = 0, 255
            write_like(tmp_path / f"p{person}_{contrast}.nii.gz", image * 4, grid, "float32")
            rows.append(
                [
                    f"p{person}-{contrast}",
                    f"p{person}",
                    contrast,
                    "scans",
                    f"p{person}_{contrast}.nii.gz",
                    f"p{person}_seg.nii.gz",
                ]
            )
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "person", "contrast", "domain", "image:image", "label:hard"], *rows]
        )
    names = "".join(f"  {s.name}: {s.value}\n" for s in SIDED.structures)
    (tmp_path / "labels.yaml").write_text(f"structures:\n{names}")
    (tmp_path / "split.json").write_text('{"train": ["p0", "p1"], "validation": ["p2"], "test": ["p3"]}')
    return tmp_path


def with_column(folder, column: str, cell) -> None:
    """Add a column to the manifest; `cell` gives a row's file from its id."""
    path = folder / "manifest.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, column], *([*row, cell(row[0])] for row in rows)])


def half_annotated(folder) -> np.ndarray:
    """Every label becomes skull in one half that the new validity mask leaves out; return the mask."""
    valid = np.zeros(INDEX.shape, np.uint8)
    valid[:, :, : INDEX.shape[2] // 2] = 1
    for person in range(4):
        path = folder / f"p{person}_seg.nii.gz"
        volume = read_volume(path)
        drawn = np.where(valid, volume.data, 502)
        write_like(path, drawn, volume.grid, "labels", overwrite=True)
        write_like(folder / f"p{person}_valid.nii.gz", valid, volume.grid, "labels")
    with_column(folder, "validity:hard", lambda case: f"{case[:2]}_valid.nii.gz")
    return valid > 0


def experiment(folder, **generator) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "rule",
            "data": {
                "dataset": {"type": "data.manifest", "path": str(folder / "manifest.csv")},
                "split": {"type": "data.file", "path": str(folder / "split.json")},
                "channels": ["image"],
            },
            "streams": {"labelled": {"batch": 1}},
            "augment": [{"type": "synthseg.generate", **generator}],
            "model": {"type": "synthseg.unet", "levels": 2, "features": 2},
            "loss": {"type": "synthseg.dice"},
            "stages": {},
        }
    )


def context(folder, tmp_path_factory, chosen=None, **inputs) -> StageContext:
    return StageContext(
        name="fit",
        folder=tmp_path_factory.mktemp("stage"),
        experiment=chosen or experiment(folder),
        inputs=inputs,
        fold=0,
        seed=0,
        fingerprint="f",
        reporter=Quiet(),
        launcher=InlineLauncher(),
    )


def test_median_and_spread_are_scipys():
    rng = np.random.default_rng(0)
    image = rng.gamma(2, 30, INDEX.shape)
    image[rng.uniform(size=INDEX.shape) < 0.1] = 0
    found = class_spread(image, INDEX, ROLES.classes, 1.4826)
    scaled = image / image.max() * 255
    for k in range(5):
        voxels = scaled[(np.array(ROLES.classes)[INDEX] == k) & (scaled > 0)]
        assert found[k][0] == pytest.approx(np.median(voxels))
        assert found[k][1] == pytest.approx(stats.median_abs_deviation(voxels, scale=1 / 1.4826), rel=1e-6)
    literal = class_spread(image, INDEX, ROLES.classes, 1)
    assert literal[1][1] == pytest.approx(found[1][1] / 1.4826)
    with pytest.raises(DataError, match="constant"):
        class_spread(np.ones(INDEX.shape), INDEX, ROLES.classes, 1)


def test_the_factor_makes_it_a_standard_deviation():
    image = np.random.default_rng(0).normal(100, 10, (40, 40, 40))
    image[0, 0, 0], image[0, 0, 1] = 0, 255
    ((_, spread),) = class_spread(image, np.zeros(image.shape, int), [0], 1.4826).values()
    assert spread == pytest.approx(10, rel=0.03)


def test_the_stage_learns_from_training_persons(folder, tmp_path_factory):
    where = context(folder, tmp_path_factory)
    check_stage(FitPriors(), where)
    priors = read_priors(where.folder / "priors.tsv", ROLES, "error")
    assert priors.contrasts == ("T1w", "T2w")
    # Persons 0 and 1: means of m and m + 3, so m + 1.5 ± 3/√2; the noise has σ 6.
    for t, contrast in enumerate(priors.contrasts):
        expected = np.array([MEANS[contrast][i] for i in (0, 1, 3, 4, 6)]) + 1.5
        assert np.allclose(priors.table[t, :, 0], expected, atol=1)
        # The median of a hundred voxels is off by .7, so is this difference of two.
        assert np.allclose(priors.table[t, :, 1], 3 / 2**0.5, atol=1.6)
        assert np.allclose(priors.table[t, :, 2], 6, atol=1)


def test_the_generator_draws_one_contrast_a_sample(folder, tmp_path_factory):
    where = context(folder, tmp_path_factory)
    FitPriors().run(where)
    path = where.folder / "priors.tsv"
    config = Generate(**{**still(), "std": (5, 25)}, priors_file=path)
    priors = read_priors(path, ROLES, "error")
    shape = (400, 1, 5)
    mean, std = priors.applied(
        torch.full(shape, -1.0), torch.full(shape, -1.0), torch.randn(400, 2, 1, 5), torch.rand(400)
    )
    is_t1 = mean[:, 0, 2] < mean[:, 0, 4]
    assert 140 < int(is_t1.sum()) < 260
    for chosen, contrast in ((is_t1, "T1w"), (~is_t1, "T2w")):
        expected = torch.tensor([MEANS[contrast][i] for i in (0, 1, 3, 4, 6)]) + 1.5
        assert torch.allclose(mean[chosen, 0].mean(0), expected, atol=1)
        assert torch.allclose(mean[chosen, 0].std(0), torch.tensor(2.1), atol=1.6)
    assert (std >= 0).all()
    batch = made(config, a_batch(*[a_map()] * 3))
    assert torch.isfinite(batch.image).all()


def test_priors_that_do_not_fit(folder, tmp_path_factory, tmp_path):
    where = context(folder, tmp_path_factory)
    FitPriors(cases="T1w").run(where)
    path = where.folder / "priors.tsv"
    fewer = "".join(line for line in path.read_text().splitlines(True) if "\tskull\t" not in line)
    path.write_text(fewer)
    with pytest.raises(ExperimentError, match="lack classes") as found:
        Generate(priors_file=path).build(a_task())
    assert "skull (T1w)" in str(found.value)
    made(Generate(priors_file=path, priors_absent="uniform"), a_batch(a_map()))
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match="cannot be read"):
        Generate(priors_file=path).build(a_task())
    with pytest.raises(ExperimentError, match="stage 'priors' are not there"):
        Generate(priors="priors").build(a_task())
    with pytest.raises(DataError, match="is meant by `cases: FLAIR`") as found:
        FitPriors(cases="FLAIR").run(where)
    assert "T1w" in str(found.value)


def test_the_command_writes_the_same_table(folder, tmp_path_factory, tmp_path):
    where = context(folder, tmp_path_factory)
    FitPriors().run(where)
    file = tmp_path / "x.yaml"
    file.write_text(
        json.dumps(experiment(folder).model_dump(mode="json", exclude_unset=True) | {"name": "rule"})
    )
    done = CliRunner().invoke(app, ["priors", str(file), "--out", str(tmp_path / "made")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "made" / "priors.tsv").read_text() == (where.folder / "priors.tsv").read_text()
    assert "4 images, contrasts T1w, T2w" in done.output


def test_priors_count_annotated_voxels_alone(folder, tmp_path_factory):
    """Half of each map is nonsense that the mask leaves out: the medians are those of the other half."""
    valid = half_annotated(folder)
    where = context(folder, tmp_path_factory)
    FitPriors(cases="T1w").run(where)
    priors = read_priors(where.folder / "priors.tsv", ROLES, "error")
    medians = []
    for person in range(2):
        image = read_volume(folder / f"p{person}_T1w.nii.gz").data.astype(float)
        scaled = (image - image.min()) * 255 / (image.max() - image.min())
        of_class = np.array(ROLES.classes)[np.roll(INDEX, person, 2)]
        medians.append([np.median(scaled[valid & (of_class == k) & (scaled > 0)]) for k in range(5)])
    assert np.allclose(priors.table[0, :, 0], np.mean(medians, 0), atol=1e-3)


def test_priors_read_the_channels_of_the_experiment(folder, tmp_path_factory):
    with_column(folder, "image:other", lambda case: f"{case[:2]}_T2w.nii.gz")
    plain = context(folder, tmp_path_factory)
    assert FitPriors(cases="T1w").run(plain).summary["images"] == 2
    every = experiment(folder)
    every = every.model_copy(update={"data": every.data.model_copy(update={"channels": []})})
    assert FitPriors(cases="T1w").run(context(folder, tmp_path_factory, every)).summary["images"] == 4
    absent = every.model_copy(update={"data": every.data.model_copy(update={"channels": ["FLAIR"]})})
    with pytest.raises(DataError, match="no channel 'FLAIR'"):
        FitPriors(cases="T1w").run(context(folder, tmp_path_factory, absent))


def relabelled(folder, made) -> tuple[Experiment, Artefact]:
    """An experiment whose labels a stage `redraw` made: all that is a structure is skull there."""
    cases = experiment(folder).data.dataset.build()
    drawn = []
    for case in cases:
        volume = case.labels["hard"].source.read()
        path = made / f"{case.id}.nii.gz"
        write_like(path, np.where(volume.data > 0, 502, 0), volume.grid, "labels")
        drawn.append(replace(case, labels={"redrawn": Label("hard", FileSource(str(path)))}))
    write_dataset(made, drawn, cases.label_set)
    chosen = experiment(folder)
    labels = chosen.data.labels.model_copy(update={"name": "redrawn", "from_": "redraw"})
    chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"labels": labels})})
    return chosen, Artefact("dataset", made, "f")


def test_labels_may_come_from_an_earlier_stage(folder, tmp_path_factory):
    chosen, made = relabelled(folder, tmp_path_factory.mktemp("redraw"))
    summary = FitPriors(cases="T1w").run(context(folder, tmp_path_factory, chosen, redraw=made)).summary
    assert summary["classes_never_seen"] == [n for n in ROLES.class_names if n not in ("background", "skull")]
    where = context(folder, tmp_path_factory, chosen, redraw=made)
    SplitBackground(cases="T1w", clusters=2).run(where)
    found = open_dataset(where.folder)[0].labels["redrawn"].source
    assert ((found.read().data == 502) == (INDEX > 0)).all()
    # Who trains on the parts trains on them, not on the labels that they were made of.
    trained = index_of(chosen, (str(where.folder),), str(made.folder))
    assert trained[0].labels["redrawn"].source.location == found.location
    assert index_of(chosen, labels=str(made.folder))[0].labels["redrawn"].source.location != found.location


def test_the_command_refuses_labels_that_a_stage_makes(folder, tmp_path, tmp_path_factory):
    chosen, _ = relabelled(folder, tmp_path_factory.mktemp("redraw"))
    raw = chosen.model_dump(mode="json", exclude_unset=True, by_alias=True)
    raw["stages"] = {"redraw": {"type": "synthseg.split_background"}}
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(raw))
    with pytest.raises(ExperimentError, match="made by one of its stages") as found:
        CliRunner().invoke(
            app, ["priors", str(file), "--out", str(tmp_path / "made")], catch_exceptions=False
        )
    assert "--set data.labels=hard" in str(found.value)


def test_the_borders_part_the_intensities():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [6000, 1000, 500])
    values = rng.normal(np.array([10, 60, 200])[truth], 4)
    assert (np.searchsorted(borders(values, 3), values) == truth).mean() > 0.999
    for few in (np.ones(10), np.ones(0)):
        with pytest.raises(DataError, match="fewer intensities"):
            borders(few, 3)


def test_the_background_becomes_structures(folder, tmp_path_factory):
    """With the skull unlabelled, its voxels are found again as a part of the background."""
    for person in range(4):
        path = folder / f"p{person}_seg.nii.gz"
        volume = read_volume(path)
        write_like(path, np.where(volume.data == 502, 0, volume.data), volume.grid, "labels", overwrite=True)
    where = context(folder, tmp_path_factory)
    stage = SplitBackground(cases="T1w", clusters=2, smooth_mm=0.5)
    check_stage(stage, where)
    index = open_dataset(where.folder)
    assert index.persons == ("p0", "p1", "p2")  # who tests stays out
    assert index.label_set.names == (*SIDED.names, "background_part_1")
    found = index[0].labels["hard"].source.read().data
    skull = INDEX == 6
    assert (found[skull] == 503).mean() > 0.8
    assert (found[INDEX == 0] == 0).mean() > 0.8
    inside = (INDEX != 6) & (INDEX != 0)
    assert np.array_equal(found[inside], VALUES[INDEX][inside])
    wanted = Generate(structures=["left_thalamus", "right_thalamus"]).label_set(index.label_set)
    assert wanted.names == ("left_thalamus", "right_thalamus")
    assert 503 in wanted.background


def test_what_nobody_annotated_shapes_no_part(folder, tmp_path_factory):
    """Bright unannotated background would take the second cluster from the skull; its mask travels along."""
    for person in range(4):
        path = folder / f"p{person}_seg.nii.gz"
        volume = read_volume(path)
        write_like(path, np.where(volume.data == 502, 0, volume.data), volume.grid, "labels", overwrite=True)
        image = read_volume(folder / f"p{person}_T1w.nii.gz")
        bright = np.array(image.data)
        bright[:, :, -4:] = 20_000
        write_like(folder / f"p{person}_T1w.nii.gz", bright, image.grid, "float32", overwrite=True)
        valid = np.ones(INDEX.shape, np.uint8)
        valid[:, :, -6:] = 0
        write_like(folder / f"p{person}_valid.nii.gz", valid, volume.grid, "labels")
    with_column(folder, "validity:hard", lambda case: f"{case[:2]}_valid.nii.gz")
    with_column(folder, "image:other", lambda case: f"{case[:2]}_T2w.nii.gz")
    where = context(folder, tmp_path_factory)
    SplitBackground(cases="T1w", clusters=2, smooth_mm=0.5).run(where)
    case = open_dataset(where.folder)[0]
    assert set(case.channels) == {"image"}
    label = case.labels["hard"]
    assert np.array_equal(label.validity.read().data > 0, valid > 0)
    found, known = label.source.read().data, np.arange(INDEX.shape[2]) < INDEX.shape[2] - 6
    assert (found[(INDEX == 6) & known] == 503).mean() > 0.8
    assert (found[(INDEX == 0) & known] == 0).mean() > 0.8
    assert (
        found[:, :, -4:][INDEX[:, :, -4:] == 0] == 503
    ).all()  # it looks like the bright part, and is painted so
    again = SplitBackground(cases="T1w", clusters=2, smooth_mm=0.5).run(where)  # from what is there
    assert again.summary == {"cases": 3, "clusters": 2}
    assert open_dataset(where.folder)[0].labels["hard"].validity.location == label.validity.location
