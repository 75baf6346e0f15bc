"""The YAML of decision 0001 is real: every block validates as an experiment and expands into its stage graph."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from mriad.experiment.load import load
from mriad.interfaces import Augmenter, Dataset, Head, Learner, Loss, Metric, Model, Split, Stage
from mriad.registry import copy_of, registry, using
from mriad.stages.fingerprints import DataIdentity, fingerprints
from mriad.stages.graph import expand
from pydantic import Field

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"
FENCE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {
    re.search(r"^name: (\w+)$", text, re.MULTILINE).group(1): text
    for path in sorted(DECISIONS.glob("*.md"))
    for text in FENCE.findall(path.read_text("utf-8"))
}


# Stand-ins for components of plugins that come later; one that is installed is used instead of its stand-in.
class Bids(Dataset):
    type: Literal["data.bids"] = "data.bids"
    root: str
    contrasts: list[str] = Field(default_factory=list)


class Crossmoda(Dataset):
    type: Literal["data.crossmoda"] = "data.crossmoda"
    root: str


class Union(Dataset):
    type: Literal["data.union"] = "data.union"
    of: list[Dataset]


class LeaveOneOut(Split):
    type: Literal["data.leave_one_out"] = "data.leave_one_out"
    within: Literal["", "domain"] = ""


class SoftsegAugment(Augmenter):
    type: Literal["softseg.augment"] = "softseg.augment"


class AdaptiveWing(Loss):
    type: Literal["softseg.adaptive_wing"] = "softseg.adaptive_wing"
    omega: float = 8

    @property
    def link(self) -> Any:
        return "raw"


class NormRelu(Head):
    type: Literal["softseg.norm_relu"] = "softseg.norm_relu"

    @property
    def link(self) -> Any:
        return "raw"

    @property
    def voxelwise(self) -> bool:
        return False


class SoftGroundTruth(Stage):
    type: Literal["softseg.soft_ground_truth"] = "softseg.soft_ground_truth"
    makes: ClassVar[Any] = "dataset"
    reference: str

    def sections(self) -> tuple[str, ...]:
        return ("data.channels",)


class Generate(Augmenter):
    type: Literal["synthseg.generate"] = "synthseg.generate"
    references: ClassVar[tuple[str, ...]] = ("priors",)
    preset: Literal["paper", "code2020", "head"] = "paper"
    structures: list[str] = Field(default_factory=list)
    priors: str = ""

    def channels(self, given: tuple[str, ...]) -> tuple[str, ...]:
        return given or ("image",)


class LogitRegression(Loss):
    type: Literal["synthseg.logit_regression"] = "synthseg.logit_regression"

    @property
    def link(self) -> Any:
        return "softmax"


class FitPriors(Stage):
    type: Literal["synthseg.fit_priors"] = "synthseg.fit_priors"
    makes: ClassVar[Any] = "table"
    cases: str = ""


class MultidomainUnet(Model):
    type: Literal["multidomain.unet"] = "multidomain.unet"
    features: list[int]
    norm: Literal["domain", "shared"] = "domain"


class SupervisedContrast(Loss):
    type: Literal["multidomain.supervised_contrast"] = "multidomain.supervised_contrast"
    temperature: float = 0.1


class Joint(Learner):
    type: Literal["multidomain.joint"] = "multidomain.joint"
    domains: list[str]
    embedding_loss: Loss | None = None
    weight: float = 0.1

    def streams(self) -> tuple[str, ...]:
        return tuple(self.domains)


class SwinUnetr(Model):
    type: Literal["ssl2.swin_unetr"] = "ssl2.swin_unetr"
    feature_size: int
    window: int
    dropout: float = 0


class ProxyTasks(Learner):
    type: Literal["ssl2.proxy"] = "ssl2.proxy"
    yields: ClassVar[Any] = "weights"
    rotation: float = 1
    inpainting: float = 1
    contrast: float = 1

    def streams(self) -> tuple[str, ...]:
        return ("unlabelled",)


class CrossPseudo(Learner):
    type: Literal["ssl2.cross_pseudo"] = "ssl2.cross_pseudo"
    weight: float = 1

    def streams(self) -> tuple[str, ...]:
        return ("labelled", "unlabelled")


class FixMatch(Learner):
    type: Literal["ssl2.fixmatch"] = "ssl2.fixmatch"
    threshold: float = 0.95

    def streams(self) -> tuple[str, ...]:
        return ("labelled", "unlabelled")


class CycleGan(Learner):
    type: Literal["cosmos.target_aware_cyclegan"] = "cosmos.target_aware_cyclegan"
    yields: ClassVar[Any] = "weights"
    segment_fakes_after: int = 5

    def streams(self) -> tuple[str, ...]:
        return ("source", "target")


class Translate(Stage):
    type: Literal["cosmos.translate"] = "cosmos.translate"
    makes: ClassVar[Any] = "dataset"
    accepts: ClassVar[Any] = {"with_": ("weights", "predictor"), "cases": ("dataset",)}
    with_: str = Field(alias="with")
    cases: str


class CsaStd(Metric):
    type: Literal["eval.csa_std"] = "eval.csa_std"


class CsaAbsError(Metric):
    type: Literal["eval.csa_abs_error"] = "eval.csa_abs_error"


STAND_INS = (
    *(Bids, Crossmoda, Union, LeaveOneOut, CsaStd, CsaAbsError),
    *(SoftsegAugment, AdaptiveWing, NormRelu, SoftGroundTruth),
    *(Generate, LogitRegression, FitPriors),
    *(MultidomainUnet, SupervisedContrast, Joint),
    *(SwinUnetr, ProxyTasks, CrossPseudo, FixMatch),
    *(CycleGan, Translate),
)


@pytest.fixture
def graph(tmp_path):
    """Load a block like any experiment file and expand it."""
    everything = copy_of(registry())
    for component in STAND_INS:
        name = component.type_name()
        if everything.find(component.interface, name) is None:
            everything.add(component, name.split(".")[0], "stand-ins of a test")

    def expanded(name):
        path = tmp_path / f"{name}.yaml"
        path.write_text(BLOCKS[name])
        return expand(load(path))

    with using(everything):
        yield expanded


def test_all_five_systems_are_there():
    assert {"soft_all", "synthseg", "multidomain", "ssl2", "cosmos"} <= set(BLOCKS)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_block_is_an_experiment_with_a_graph(graph, name):
    found = graph(name)
    prints = fingerprints(found, lambda experiment: DataIdentity(str(experiment.data.dataset), ("a",)))
    assert len(set(prints.values())) == len(found)


def test_softseg(graph):
    found = graph("soft_all")
    assert list(found.nodes) == ["softgt", "train", "evaluate"]
    assert found["train"].inputs == {"softgt": "softgt"}
    assert found["train"].experiment.evaluate.at.levels == ["C2", "C3"]


def test_synthseg(graph):
    found = graph("synthseg")
    assert found["train"].inputs == {"warm_up": "warm_up"}
    assert found["warm_up"].experiment.budget.steps == 5000
    assert found["train"].experiment.budget.steps == 100000
    rule = graph("synthseg_rule")
    assert rule["train"].inputs == {"priors": "priors"}


def test_multidomain(graph):
    found = graph("multidomain")
    experiment = found["train"].experiment
    assert experiment.learner.streams() == ("ankle", "shoulder")
    assert experiment.data.structures["shoulder"] == ["scapula", "humerus"]


def test_ssl2(graph):
    found = graph("ssl2")
    pretrain, train = found["pretrain"].experiment, found["train"].experiment
    assert pretrain.data.labels.kind == "none"
    assert list(pretrain.streams["unlabelled"].views) == ["one", "two"]
    assert train.data.dataset != pretrain.data.dataset
    assert train.data.channels == pretrain.data.channels == ["T1w", "FLAIR"]
    strong = graph("fixmatch")["train"].experiment.streams["unlabelled"]
    assert [a.type_name() for a in strong.augment] == ["standard.augment"]


def test_cosmos(graph):
    found = graph("cosmos")
    # translate, pseudo_t2; 5 members and an ensemble at first and in each of 3 rounds, with labels; evaluate
    assert len(found) == 2 + 6 + 3 * 7 + 1
    assert found["rounds.1.labels"].inputs == {"teacher": "teacher"}
    assert found["rounds.3.labels"].inputs == {"teacher": "rounds.2.teacher"}
    assert found["evaluate"].inputs == {"teacher": "rounds.3.teacher"}
    assert found["rounds.2.teacher.fold5"].inner == (4, 5)
    assert found["rounds.2.teacher.fold5"].inputs == {"pseudo_t2": "pseudo_t2", "labels": "rounds.2.labels"}
