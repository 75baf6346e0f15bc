"""`extends:`, `--set`, variables, paths, named experiments, origins."""

from __future__ import annotations

from pathlib import Path

import pytest
from mriad.errors import ExperimentError
from mriad.experiment import Experiment
from mriad.experiment.load import find, load, load_located
from mriad.experiment.merge import merge_plain
from mriad.stages.graph import expand

BASE = """\
name: base
data:
  dataset: {type: data.bids, root: cases}
  split: {type: data.k_fold, n: 3}
  preprocessing: [{type: data.orient, axes: RPI}]
loss: {type: standard.dice_ce, smooth: 1e-3}
model: {type: standard.plain_unet, features: [8, 16]}
budget: {steps: 100}
evaluate: {metrics: [eval.dice]}
"""


@pytest.fixture
def base(tmp_path, fakes) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_softseg_of_the_design(softseg):
    experiment = load(softseg)
    assert experiment.loss.loss.omega == 8
    assert experiment.optimiser.lr == 1e-3
    assert experiment.predict.window == [64, 192, "full"]
    assert experiment.evaluate.at.levels == ["C2", "C3"]
    assert [m.key() for m in experiment.evaluate.metrics] == ["dice", "rve", "csa_std", "csa_abs_error"]
    assert experiment.data.labels.from_ == "softgt"
    assert list(experiment.stages) == ["softgt", "train"]


def test_cosmos_of_the_design(cosmos):
    experiment = load(cosmos)
    assert experiment.stages["rounds"]["repeat"] == "3 as k"
    assert experiment.stages["teacher"]["data"] == ["pseudo_t2"]
    graph = expand(experiment)
    translate = graph["translate"].experiment
    assert translate.learner.segment_fakes_after == 5
    assert translate.streams["source"].slices == "axial"


def test_dump_and_validate_give_the_same_experiment(softseg, cosmos):
    for path in (softseg, cosmos):
        experiment = load(path)
        assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_experiment_load_is_the_same(softseg):
    assert Experiment.load(softseg, ["budget.steps=3"]) == load(str(softseg), ["budget.steps=3"])


def test_extends_merges_a_chain(base, tmp_path):
    write(tmp_path, "sub/middle.yaml", "extends: ../base.yaml\nname: middle\nbudget: {epoch: 5}\n")
    top = write(tmp_path, "top.yaml", "extends: sub/middle.yaml\nloss: {smooth: 0.5}\n")
    loaded = load_located(top)
    experiment = loaded.experiment
    assert (experiment.name, experiment.budget.steps, experiment.budget.epoch) == ("middle", 100, 5)
    assert experiment.loss.smooth == 0.5
    assert str(loaded.origin(("loss", "smooth"))) == f"{top}:2"
    assert str(loaded.origin(("budget", "steps"))).endswith("base.yaml:8")
    assert str(loaded.origin(("budget", "epoch"))).endswith("middle.yaml:3")
    assert loaded.origin(("budget", "patience")) is None
    assert loaded.tree["loss"] == {"type": "standard.dice_ce", "smooth": 0.5}


def test_another_type_replaces_and_lists_replace(base, tmp_path):
    top = write(
        tmp_path,
        "top.yaml",
        "extends: base.yaml\nloss: {type: softseg.adaptive_wing}\npredict: {head: softseg.norm_relu}\n"
        "evaluate: {metrics: [eval.assd]}\n",
    )
    experiment = load(top)
    assert experiment.loss.model_dump() == {"type": "softseg.adaptive_wing", "omega": 8}
    assert [m.key() for m in experiment.evaluate.metrics] == ["assd"]


@pytest.mark.parametrize(
    ("under", "over", "result"),
    [
        ({"type": "a.b", "x": 1}, {"x": 2}, {"type": "a.b", "x": 2}),
        ({"type": "a.b", "x": 1}, {"type": "a.b", "y": 2}, {"type": "a.b", "x": 1, "y": 2}),
        ({"type": "a.b", "x": 1}, {"type": "a.c"}, {"type": "a.c"}),
        ({"type": "a.b", "x": 1}, "a.c", "a.c"),
        ({"type": "a.b", "x": 1}, "a.b", {"type": "a.b", "x": 1}),
        ("a.b", {"x": 1}, {"type": "a.b", "x": 1}),
        ("a.b", {"type": "a.c"}, {"type": "a.c"}),
        ("soft", {"from": "s"}, {"from": "s"}),
        ({"n": {"type": "a.b", "x": 1}}, {"n": {"x": 3}}, {"n": {"type": "a.b", "x": 3}}),
        ([1, 2], [3], [3]),
        ({"x": 1}, None, None),
        (None, {"x": 1}, {"x": 1}),
    ],
)
def test_merge_rules(under, over, result):
    before = repr(under)
    assert merge_plain(under, over) == result
    assert repr(under) == before


def test_extends_in_a_circle(base, tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    write(tmp_path, "b.yaml", "extends: a.yaml\n")
    with pytest.raises(ExperimentError, match=r"in a circle[\s\S]*a\.yaml → .*b\.yaml → .*a\.yaml"):
        load(tmp_path / "a.yaml")


def test_extends_what_is_not_there(base, tmp_path):
    top = write(tmp_path, "top.yaml", "extends: bse.yaml\n")
    with pytest.raises(
        ExperimentError, match=r"no such experiment file[\s\S]*top\.yaml:1[\s\S]*'base\.yaml'"
    ):
        load(top)


def test_named_experiments(base, fakes, tmp_path):
    fakes.experiments["softseg:base"] = (base, "mriad-softseg")
    assert load("softseg:base").name == "base"
    top = write(tmp_path, "top.yaml", "extends: softseg:base\nname: mine\n")
    assert load(top).name == "mine"
    with pytest.raises(ExperimentError, match=r"no plugin offers[\s\S]*did you mean 'softseg:base'"):
        find("softseg:bse")
    with pytest.raises(ExperimentError, match=r"pip install mriad-other"):
        find("other:thing")


def test_overrides(base):
    sets = [
        "budget.steps=1e1",
        "data.split.n=4",
        "data.preprocessing.0.axes=LPS",
        "evaluate.metrics=[eval.assd, {type: eval.rve}]",
        "schedule=standard.cosine",
        "description=no",
    ]
    loaded = load_located(base, sets)
    experiment = loaded.experiment
    assert (experiment.budget.steps, experiment.data.split.n, experiment.description) == (10, 4, "no")
    assert experiment.data.preprocessing[0].axes == "LPS"
    assert [m.key() for m in experiment.evaluate.metrics] == ["assd", "rve"]
    assert str(loaded.origin(("data", "split", "n"))) == "--set data.split.n=4"
    assert str(loaded.origin(("schedule", "type"))) == "--set schedule=standard.cosine"


def test_the_order_of_overrides_does_not_lose_any(base):
    sets = ["loss.omega=3", "loss.type=softseg.adaptive_wing", "predict.head=softseg.norm_relu"]
    assert load(base, sets).loss.omega == 3
    assert load(base, sets[::-1]).loss.omega == 3


def test_an_override_of_a_bare_component(base):
    assert load(base, ["optimiser=standard.adam", "optimiser.lr=0.5"]).optimiser.lr == 0.5


def test_a_default_component_may_be_changed(base, tmp_path):
    assert load(base, ["optimiser.lr=0.5"]).optimiser.model_dump() == {"type": "standard.adam", "lr": 0.5}
    top = write(tmp_path, "top.yaml", "extends: base.yaml\noptimiser: {lrr: 0.5}\n")
    with pytest.raises(ExperimentError, match=r"top.yaml:2  optimiser.lrr: unknown key; did you mean 'lr'\?"):
        load(top)
    stages = "stages: {train: {type: core.train, optimiser: {lr: 0.5}}}"
    node = expand(load(write(tmp_path, "stage.yaml", f"extends: base.yaml\n{stages}\n")))["train"]
    assert node.experiment.optimiser.lr == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget.steps", "takes KEY=VALUE"),
        ("=3", "takes KEY=VALUE"),
        ("budget..steps=3", "takes KEY=VALUE"),
        ("budget.stepz=3", "budget.stepz: unknown key; did you mean 'steps'?"),
        ("budgt.steps=3", "budgt: unknown key; did you mean 'budget'?"),
        ("data.preprocessing.4.axes=RAS", "data.preprocessing.4: is not an item of the list, which has 1"),
        ("data.preprocessing.x=RAS", "data.preprocessing.x: is not an item"),
        ("name.x=3", "name: is the value 'base', not a mapping"),
        ("budget.steps=ten", "budget.steps: should be a valid integer"),
        ("budget.steps={a: 1, a: 2}", "this key is there twice"),
    ],
)
def test_faults_of_overrides_name_them(base, text, message):
    with pytest.raises(ExperimentError) as caught:
        load(base, [text])
    assert message in str(caught.value)
    assert f"--set {text}" in str(caught.value)


def test_an_override_that_is_no_yaml(base):
    with pytest.raises(ExperimentError, match=r"not valid YAML[\s\S]*--set budget=\{steps"):
        load(base, ["budget={steps"])


def test_paths_are_relative_to_their_file(base, tmp_path, monkeypatch):
    top = write(
        tmp_path,
        "elsewhere/top.yaml",
        "extends: ../base.yaml\ndata: {split: {type: data.file, path: s.json}}\n",
    )
    data = load(top).data
    assert data.split.path == tmp_path / "elsewhere" / "s.json"
    assert data.dataset.root.resolve() == tmp_path / "cases"
    assert data.dataset.root.is_absolute()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load("top.yaml").data.split.path == tmp_path / "elsewhere" / "s.json"
    assert load("top.yaml", ["data.dataset.root=x"]).data.dataset.root == tmp_path / "elsewhere" / "x"
    monkeypatch.setenv("HOME", "/home/someone")
    assert load("top.yaml", ["data.dataset.root=~/x"]).data.dataset.root == Path("/home/someone/x")


def test_variables(base, monkeypatch):
    monkeypatch.setenv("ROOT_OF_DATA", "/somewhere")
    monkeypatch.delenv("NOT_SET", raising=False)

    def root(text: str) -> str:
        return str(load(base, [f"data.dataset.root='{text}'"]).data.dataset.root)

    assert root("${ROOT_OF_DATA}/bids") == "/somewhere/bids"
    assert root("${NOT_SET:-/else}/bids") == "/else/bids"
    assert root("/a/$${ROOT_OF_DATA}") == "/a/${ROOT_OF_DATA}"
    assert root("/a/$ROOT_OF_DATA") == "/a/$ROOT_OF_DATA"


def test_a_variable_that_is_not_set(base, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    base.write_text(BASE.replace("root: cases", "root: '${NOT_SET}/cases'"))
    with pytest.raises(
        ExperimentError, match=r"a fault[\s\S]*base.yaml:3  data.dataset.root: .*NOT_SET is not set"
    ):
        load(base)
    with pytest.raises(ExperimentError, match=r"begins no variable"):
        load(base, ["data.dataset.root='${1}'"])


def test_a_file_that_is_not_there(base, tmp_path):
    with pytest.raises(ExperimentError, match=r"no such experiment file[\s\S]*did you mean 'base.yaml'"):
        load(tmp_path / "bsae.yaml")
    with pytest.raises(ExperimentError, match="this is a folder"):
        load(tmp_path)
