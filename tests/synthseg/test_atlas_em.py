"""atlas_em on heads that an independent painter made, in two opposite contrasts; the stage; bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
from atlas_phantom import LABELS, VALUES, Head, dice, head_atlas, index_of_heads
from mriad.errors import CheckpointError, DataError
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.inference.load import identity, load_predictor
from mriad.stages.artefact import StageContext
from mriad.testing import check_predictor, check_stage
from mriad.vocabulary import LabelSet, Sample, Volume
from mriad_synthseg.atlas import Atlas, Classes
from mriad_synthseg.atlas_building import Indexed, affine_between, build_atlas, group_affines, shape_of
from mriad_synthseg.atlas_predictor import AtlasPredictor, Fitted
from mriad_synthseg.atlas_stage import AtlasSettings, FitAtlas
from mriad_synthseg.atlas_warp import Axes, Deform, PriorReader, Warp, bspline_table, improved
from mriad_synthseg.mixture import Fit, Mixture
from scipy.interpolate import BSpline

SHARED = {
    "white": ["left cerebral white matter", "right cerebral white matter"],
    "fluid": ["CSF", "left lateral ventricle", "right lateral ventricle"],
}
FAST = AtlasSettings(working_mm=4.0, rounds=2, classes=SHARED)


def scores(found, head):
    """Dice of every structure, and of left and right exchanged."""
    truth = head.labels()[0]
    hard = found.hard()
    return {name: dice(hard == value, truth == value) for name, value in VALUES.items()}


@pytest.mark.parametrize("contrast", ["t1", "inverted"])
def test_a_head_that_the_atlas_never_saw_is_segmented_in_opposite_contrasts(contrast):
    """Noise, bias field, tilt and offset: every structure above 0.9, the largest above 0.95."""
    head = Head(9, contrast)
    found = AtlasPredictor(head_atlas(), FAST, ("image",))({"image": head.read()})
    got = scores(found, head)
    assert min(got.values()) > 0.9, got
    assert min(v for k, v in got.items() if "white" in k or "ventricle" in k) > 0.95, got
    total = found.probabilities.sum(0)
    assert total.max() <= 1 + 1e-5
    assert found.grid.same(head.grid())


def test_every_turn_raises_the_likelihood():
    """Within the fine level: Gaussians, bias and displacement in turns never lose."""
    head = Head(8, "t1")
    volume = head.read()
    predictor = AtlasPredictor(head_atlas(), FAST.model_copy(update={"rounds": 3}), ("image",))
    fitted = predictor.fit(Sample("a", volume.data[None], volume.grid))
    assert len(fitted.history) >= 2
    assert np.diff(fitted.history).min() > -1e-4  # priors are floored anew after each warp


def test_posteriors_of_all_structures_and_background_are_one():
    priors = np.random.default_rng(0).dirichlet(np.ones(13), 50).T.astype(np.float32)
    predictor = AtlasPredictor(head_atlas(), FAST, ("image",))
    likelihood = np.random.default_rng(1).normal(size=(50, len(predictor.classes)))
    got = predictor._posterior(priors, likelihood)
    joint = priors * np.exp(likelihood).T[list(predictor.classes.of)]
    np.testing.assert_allclose(got, (joint / joint.sum(0))[1:], atol=1e-5)


def test_what_counts_as_another_is_added_to_it():
    settings = FAST.model_copy(update={"counts_as": {"CSF": "background", "left putamen": "left thalamus"}})
    predictor = AtlasPredictor(head_atlas(), settings, ("image",))
    assert "CSF" not in predictor.label_set.names
    assert "left putamen" not in predictor.label_set.names
    assert 24 in predictor.label_set.background
    priors = np.random.default_rng(0).dirichlet(np.ones(13), 20).T.astype(np.float32)
    got = predictor._posterior(priors, np.zeros((20, len(predictor.classes))))
    place = {name: i + 1 for i, name in enumerate(LABELS.names)}
    thalamus = predictor.label_set.names.index("left thalamus")
    expected = priors[place["left thalamus"]] + priors[place["left putamen"]]
    np.testing.assert_allclose(got[thalamus], expected, atol=1e-5)
    np.testing.assert_allclose(1 - got.sum(0), priors[0] + priors[place["CSF"]], atol=1e-5)


def test_priors_alone_say_where_a_structure_is_possible():
    """Planes along x: background, then a core of prior 5e-5 that looks like core, then the rim, then the core.

    The rim shares Gaussians with the background, and is segmented all the same.
    """
    labels = LabelSet.of({"rim": 1, "core": 2})
    priors = np.zeros((3, 12, 6, 6), np.float32)
    priors[0, :4] = 1
    priors[0, 4], priors[2, 4] = 1 - 5e-5, 5e-5
    priors[1, 5:8] = 1
    priors[2, 8:] = 1
    grid = Grid.of((12, 6, 6), np.diag([2.0, 2, 2, 1]))
    settings = AtlasSettings(classes={"background": ["rim"]}, background_gaussians=1)
    predictor = AtlasPredictor(Atlas(priors, grid, labels, 1), settings, ("image",))
    bright = np.isin(np.arange(12), [4, 8, 9, 10, 11])
    image = np.broadcast_to(np.where(bright, 100, 0)[:, None, None], grid.shape).astype(np.float32)
    means = np.log(0.03 + np.array([[0.0], [1.0]]))
    gaussians = Mixture(means, np.full((2, 1), 0.1), np.ones(2), np.arange(2))
    axes = Axes.of(grid)
    fitted = Fitted(Warp.start(axes, np.eye(4), 14.0), Fit(gaussians), axes, ())
    sample = Sample("a", image[None], grid)
    found = np.concatenate([s.values.numpy() for s in predictor._posteriors(sample, fitted, None)], axis=1)
    rim, core = found[..., 3, 3]
    np.testing.assert_allclose(rim, np.isin(np.arange(12), [5, 6, 7]), atol=1e-3)
    np.testing.assert_allclose(core, np.arange(12) >= 8, atol=1e-3)
    assert core[4] == 0


class TestAtlas:
    def test_one_map_gives_itself(self):
        """No smoothing, same grid spacing: the prior of each structure is where the map has it."""
        head = Head(3)
        target = np.zeros(head.grid().shape, np.int16)
        for s, structure in enumerate(LABELS.structures):
            target[head.labels()[0] == structure.value] = s + 1
        straight = Grid.of(target.shape, np.diag([4.0, 4, 4, 1]))
        atlas = build_atlas(1, lambda _: Indexed(target, straight), LABELS, 4.0, 0.0, 6.0)
        volume = atlas.priors[1:].sum((1, 2, 3)) * 64
        expected = np.bincount(target.ravel(), minlength=13)[1:] * 64
        np.testing.assert_allclose(volume, expected, rtol=1e-6)
        np.testing.assert_allclose(atlas.priors.sum(0), 1, atol=1e-6)

    def test_an_affine_between_two_maps_is_found(self):
        rng = np.random.default_rng(4)
        source = shape_of(_indexed(Head(1)), len(LABELS))
        truth = np.eye(4)
        truth[:3, :3] += rng.normal(0, 0.05, (3, 3))
        truth[:3, 3] = rng.normal(0, 10, 3)
        target = replace(source, centres=source.centres @ truth[:3, :3].T + truth[:3, 3])
        np.testing.assert_allclose(affine_between(source, target), truth, atol=1e-8)

    def test_the_common_space_is_the_average(self):
        shapes = [shape_of(_indexed(Head(p)), len(LABELS)) for p in range(4)]
        affines = group_affines(shapes)
        np.testing.assert_allclose(np.mean([np.linalg.inv(a) for a in affines], axis=0), np.eye(4), atol=1e-9)
        moved = [s.centres @ a[:3, :3].T + a[:3, 3] for s, a in zip(shapes, affines, strict=True)]
        before = np.std([s.centres for s in shapes], axis=0).mean()
        assert np.std(moved, axis=0).mean() < 0.75 * before

    def test_it_is_kept_and_read(self, tmp_path):
        head_atlas().save(tmp_path)
        again = Atlas.load(tmp_path)
        assert again.label_set == head_atlas().label_set
        assert again.grid == head_atlas().grid
        np.testing.assert_allclose(again.priors, head_atlas().priors, atol=1e-3)
        np.testing.assert_allclose(again.priors.sum(0), 1, atol=1e-6)
        (tmp_path / "atlas.npz").write_bytes(b"no atlas")
        with pytest.raises(CheckpointError, match="cannot be read"):
            Atlas.load(tmp_path)
        (tmp_path / "atlas.npz").unlink()
        with pytest.raises(CheckpointError, match="missing"):
            Atlas.load(tmp_path)

    def test_an_empty_map_is_refused(self):
        empty = Indexed(np.zeros((5, 5, 5), np.int16), Grid.of((5, 5, 5), np.eye(4)))
        with pytest.raises(DataError, match="holds no structure"):
            build_atlas(1, lambda _: empty, LABELS, 2.0, 1.0, 5.0)
        with pytest.raises(DataError, match="at least one label map"):
            build_atlas(0, lambda _: empty, LABELS, 2.0, 1.0, 5.0)


def _indexed(head):
    from mriad.preparation import load_sample

    sample = load_sample(index_of_heads([head.person])[0], (), "hard", "hard", LABELS)
    return Indexed(sample.target[0], sample.grid)


class TestWarp:
    def test_b_splines_are_those_of_scipy(self):
        where = np.linspace(-40, 40, 33)
        table = bspline_table(where, -40.0, 40.0, 16.0)
        np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)
        knots = -40 + 16.0 * np.arange(-3, table.shape[1] + 1)
        theirs = np.stack(
            [BSpline(knots, np.eye(table.shape[1])[k], 3)(where) for k in range(table.shape[1])], 1
        )
        np.testing.assert_allclose(table, theirs, atol=1e-12)

    def test_priors_are_read_where_the_affine_points(self):
        """A shift by whole voxels moves the priors by whole voxels; outside lies background."""
        grid = Grid.of((6, 6, 6), np.diag([2.0, 2, 2, 1]))
        priors = np.random.default_rng(0).dirichlet([1, 1, 1], (6, 6, 6)).transpose(3, 0, 1, 2).astype("f4")
        axes = Axes.of(grid)
        shift = np.eye(4)
        shift[0, 3] = 4.0
        reader = PriorReader(priors, grid, axes)
        positions = axes.positions(grid)
        places = reader.places(Warp.start(axes, shift, 8.0), positions)
        found = reader.read(places.reshape(-1, 3)).reshape(3, 6, 6, 6).numpy()
        np.testing.assert_allclose(found[:, :4], priors[:, 2:], atol=1e-5)
        assert (found[0, 4:] == 1).all()
        assert (found[1:, 4:] == 0).all()

    def test_a_shift_is_found_from_the_likelihood(self):
        """Two classes, a ball that the atlas has 4 mm away: the affine brings it back, the objective rises."""
        grid = Grid.of((24, 24, 24), np.diag([2.0, 2, 2, 1]))
        where = grid.world(np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1))
        ball = (1 / (1 + np.exp(np.linalg.norm(where - 23, axis=-1) - 12))).astype(np.float32)
        there = np.linalg.norm(where - np.array([27.0, 23, 23]), axis=-1) < 12
        axes = Axes.of(grid)
        reader = PriorReader(np.stack([1 - ball, ball]), grid, axes)
        likelihood = np.stack([np.where(there, -4.0, 0.0).ravel(), np.where(there, 0.0, -4.0).ravel()], 1)
        start = Warp.start(axes, np.eye(4), 12.0)
        warp, gain = improved(
            start,
            reader,
            axes.positions(grid),
            np.ones(grid.shape, bool),
            likelihood,
            Deform(True, False, 1.0),
        )
        assert gain > 0
        np.testing.assert_allclose((warp.affine @ [27, 23, 23, 1])[:3], [23, 23, 23], atol=0.3)
        _, more = improved(
            warp,
            reader,
            axes.positions(grid),
            np.ones(grid.shape, bool),
            likelihood,
            Deform(False, True, 1.0),
        )
        assert more >= 0


class TestClasses:
    def test_sides_share_and_groups_join(self):
        classes = Classes.of_structures(LABELS.names, SHARED, {"fluid": 2}, 3)
        by_name = dict(zip(("background", *LABELS.names), classes.of, strict=True))
        assert by_name["left thalamus"] == by_name["right thalamus"] != by_name["left putamen"]
        assert by_name["CSF"] == by_name["right lateral ventricle"]
        assert dict(zip(classes.names, classes.gaussians, strict=True))["fluid"] == 2
        assert classes.gaussians[0] == 3

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"classes": {"a": ["left putamin"]}}, "does not have"),
            ({"classes": {"a": ["CSF"], "b": ["CSF"]}}, "in two classes"),
            ({"gaussians": {"fluids": 2}}, "names no class"),
            ({"counts_as": {"CSF": "fluid"}}, "does not have"),
            ({"counts_as": {"CSF": "brain-stem", "brain-stem": "background"}}, "itself counts as"),
        ],
    )
    def test_names_that_are_not_there_are_refused(self, settings, said):
        with pytest.raises(ValueError, match=said):
            AtlasPredictor(head_atlas(), AtlasSettings(**settings), ("image",))


@pytest.fixture
def experiment(tmp_path):
    """Five label maps to train, of which no image is there; one painted head, inverted, to test."""
    from mriad.images import FileSource, write_like
    from mriad.manifest import write_manifest
    from mriad.vocabulary import Case, CaseIndex, Label

    def kept(head, form):
        path = tmp_path / "data" / f"{head.part}{head.person}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        volume = head.read()
        return FileSource(str(write_like(path, volume.data, volume.grid, form)))

    cases = []
    for person in range(6):
        label = Label("hard", kept(Head(person), "labels"))
        image = {} if person else {"image": kept(Head(person, "inverted"), "float32")}
        cases.append(Case(f"head{person}", f"head{person}", image, {"hard": label}))
    write_manifest(tmp_path / "data", CaseIndex(cases, LABELS))
    split = {"train": [f"head{p}" for p in range(2, 6)], "validation": ["head1"], "test": ["head0"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    return {
        "name": "atlas",
        "data": {
            "dataset": {"type": "data.manifest", "path": str(tmp_path / "data" / "manifest.csv")},
            "channels": ["image"],
            "split": {"type": "data.file", "path": str(tmp_path / "split.json")},
        },
        "stages": {
            "atlas": {
                "type": "synthseg.fit_atlas",
                "spacing_mm": 4.0,
                "smooth_mm": 2.0,
                "settings": {"working_mm": 4.0, "rounds": 1, "classes": SHARED},
            }
        },
        "evaluate": {"metrics": ["eval.dice"]},
    }


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.told = []

    def message(self, text):
        self.told.append(text)


@pytest.mark.slow
def test_an_experiment_fits_an_atlas_and_measures_it(experiment, runs, capsys):
    """`mriad train` and `mriad predict` take it like any other; only training persons are read."""
    from mriad.cli.app import main
    from mriad.evaluation import read_rows
    from mriad.launch.trial import TrialOptions, run_trial

    trial = run_trial(Experiment.model_validate(experiment), TrialOptions(runs=runs, tracking="off"))
    dice_of = {
        row.structure: row.value for row in read_rows(trial.folder / "cases.csv") if row.metric == "dice"
    }
    assert min(dice_of.values()) > 0.7
    assert len(dice_of) == len(VALUES), dice_of
    folder = trial.predictor
    document = json.loads((folder / "predictor.json").read_text())
    assert document["type"] == "synthseg.atlas_em"
    assert document["channels"] == ["image"]
    scan = experiment["data"]["dataset"]["path"].replace("manifest.csv", "inverted0.nii.gz")
    out = runs / "out"
    with pytest.raises(SystemExit) as ended:
        main(["predict", scan, "--model", str(folder), "--out", str(out)])
    assert ended.value.code in (0, None), capsys.readouterr()
    assert (out / "inverted0_dseg.nii.gz").is_file()


def test_the_stage_keeps_its_contract_and_its_predictor_too(experiment, tmp_path):
    made = Experiment.model_validate(experiment)
    folder = tmp_path / "stage"
    folder.mkdir()
    stage = FitAtlas(spacing_mm=4.0, settings=AtlasSettings(working_mm=8.0, coarse_mm=8.0, rounds=0))
    context = StageContext("atlas", folder, made, {}, 0, 0, "f" * 64, Silent(), None)
    check_stage(stage, context)
    assert sum("map" in text for text in context.reporter.told) == 2 * 4  # of two runs, four training maps
    predictor = load_predictor(folder)
    volume = Head(0, "t1", spacing=8.0).read()
    check_predictor(predictor, {"image": volume})
    before = identity(folder)
    atlas = Atlas.load(folder)
    replace(atlas, priors=atlas.priors[[1, 0, *range(2, 13)]]).save(folder)
    with pytest.raises(CheckpointError, match="not the one that the predictor was made with"):
        load_predictor(folder)
    stage.model_copy(update={"smooth_mm": 3.0}).run(context)
    assert identity(folder) != before  # another atlas, another predictor


def test_settings_that_name_nothing_are_refused_before_anything_is_built(experiment, tmp_path):
    made = Experiment.model_validate(experiment)
    context = StageContext("atlas", tmp_path, made, {}, 0, 0, "f" * 64, Silent(), None)
    stage = FitAtlas(settings=AtlasSettings(classes={"white": ["left white"]}))
    with pytest.raises(DataError, match="class 'white' names 'left white'") as caught:
        stage.run(context)
    assert "left cerebral white matter" in str(caught.value)
    assert not context.reporter.told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: np.where(d > d.mean(), np.nan, d), "NaN or infinite"),
        (lambda d: np.full_like(d, 7), "constant"),
        (lambda d: d[:, :, 0], "3D image is meant"),
        (lambda d: np.stack([d, d], -1), "3D image is meant"),
        (lambda d: d[:3], "too thin"),
    ],
)
def test_bad_scans_are_refused(change, said):
    volume = Head(0, "t1", spacing=6.0).read()
    data = change(volume.data)
    grid = Grid.of(data.shape, volume.grid.matrix) if data.ndim == 3 else volume.grid
    predictor = AtlasPredictor(head_atlas(), FAST, ("image",))
    with pytest.raises(DataError, match=said):
        predictor({"image": Volume(data, grid)})


def test_two_channels_are_used_together():
    """T1-like and inverted on one grid; a missing one is named."""
    head = Head(7, "t1", spacing=6.0)
    settings = FAST.model_copy(update={"working_mm": 6.0, "coarse_mm": 8.0, "rounds": 1})
    predictor = AtlasPredictor(head_atlas(), settings, ("T1w", "T2w"))
    with pytest.raises(DataError, match="channels given are not the model's"):
        predictor({"T1w": head.read()})
    found = predictor({"T1w": head.read(), "T2w": Head(7, "inverted", spacing=6.0).read()})
    assert min(scores(found, head).values()) > 0.7


def test_a_scan_far_off_is_found_by_its_centre():
    """A file whose position means nothing: 400 mm away."""
    head = Head(6, "inverted", spacing=6.0)
    volume = head.read()
    matrix = volume.grid.matrix
    matrix[:3, 3] += 400
    moved = Volume(volume.data, Grid.of(volume.grid.shape, matrix))
    settings = FAST.model_copy(update={"working_mm": 6.0, "coarse_mm": 8.0, "rounds": 1})
    found = AtlasPredictor(head_atlas(), settings, ("image",))({"image": moved})
    assert found.grid.same(moved.grid)
    assert min(scores(found, head).values()) > 0.7
