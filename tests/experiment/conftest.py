"""A registry with a stand-in for every component that DESIGN.md section 4 names, and the real core stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from mriad import interfaces as i
from mriad.component import Config
from mriad.registry import Registry, using
from mriad.stages.ensemble import Ensemble
from mriad.stages.evaluate import EvaluateStage
from mriad.stages.train import TrainStage
from pydantic import Field, create_model


class RawLoss(i.Loss):
    @property
    def link(self):
        return "raw"


class SoftmaxLoss(i.Loss):
    @property
    def link(self):
        return "softmax"


class WrapLoss(i.Loss):
    loss: i.Loss

    @property
    def link(self):
        return self.loss.link


class RawHead(i.Head):
    @property
    def link(self):
        return "raw"


class SoftmaxHead(i.Head):
    @property
    def link(self):
        return "softmax"


class CycleLearner(i.Learner):
    def streams(self):
        return ("source", "target")


class DatasetStage(i.Stage):
    makes: ClassVar[Any] = "dataset"


def component(base: type, name: str, **fields: Any) -> type:
    """A component class with these fields: (annotation, default)."""
    return create_model(
        name.replace(".", "_"),
        __base__=base,
        __doc__=f"Stand-in for {name}.",
        type=(Literal[name], name),
        **fields,
    )


Crop = create_model("Crop", __base__=Config, size=(list[int], [1]))

COMPONENTS = [
    component(i.Dataset, "data.bids", root=(Path, ...), contrasts=(list[str], [])),
    component(i.Dataset, "data.crossmoda", root=(Path, ...)),
    component(i.Split, "data.file", path=(Path, ...)),
    component(i.Split, "data.k_fold", n=(int, Field(5, ge=2, description="Number of folds."))),
    component(i.Store, "data.store"),
    component(i.PreprocessingStep, "data.orient", axes=(str, ...)),
    component(
        i.PreprocessingStep,
        "data.resample",
        spacing_mm=(list[float], ...),
        image_order=(int, 1),
        label_order=(int, 1),
    ),
    component(i.PreprocessingStep, "data.center_crop", size=(list[int], ...), crop=(Crop, Crop())),
    component(i.Augmenter, "softseg.augment", where_=(Literal["a", "b"], "a")),
    component(i.Model, "standard.plain_unet", features=(list[int], ...), deep_supervision=(bool, False)),
    component(WrapLoss, "standard.deep_supervision", weights=(tuple[float, ...], ())),
    component(
        RawLoss, "softseg.adaptive_wing", omega=(float, Field(8, gt=0, description="Slope; unitless."))
    ),
    component(SoftmaxLoss, "standard.dice_ce", smooth=(float, 1e-5)),
    component(i.Learner, "standard.supervised"),
    component(CycleLearner, "cosmos.target_aware_cyclegan", segment_fakes_after=(int, 0)),
    component(i.Optimiser, "standard.adam", lr=(float, 1e-3)),
    component(i.Schedule, "standard.cosine"),
    component(RawHead, "softseg.norm_relu"),
    component(SoftmaxHead, "standard.softmax"),
    component(i.Postprocessor, "standard.largest_component", structure=(str, ...)),
    *(component(i.Metric, f"eval.{n}") for n in ("dice", "rve", "csa_std", "csa_abs_error", "assd")),
    component(DatasetStage, "softseg.soft_ground_truth", reference=(str, ...)),
    component(
        DatasetStage,
        "cosmos.translate",
        with_=(str, Field(alias="with")),
        cases=(str, ...),
    ),
    component(
        DatasetStage,
        "core.pseudo_label",
        with_=(str, Field(alias="with")),
        cases=(str, ...),
        keep=(dict[str, Any], {}),
    ),
    TrainStage,
    EvaluateStage,
    Ensemble,
]


def fake_registry() -> Registry:
    """The registry of all stand-ins."""
    registry = Registry()
    for found in COMPONENTS:
        registry.add(found, found.type_name().split(".")[0], "fakes")
    return registry


@pytest.fixture
def fakes():
    """Use the stand-ins as what is installed."""
    with using(fake_registry()) as registry:
        yield registry


@pytest.fixture(scope="module")
def fakes_of_module():
    """The stand-ins, for what is made once for a module."""
    return fake_registry()


SOFTSEG = """\
# softseg: soft_all
name: soft_all
data:
  dataset: {type: data.bids, root: /data/spine-generic, contrasts: [T1w, T2w, T2star, MTon, GRE-T1w, DWI]}
  labels: {kind: soft, from: softgt}            # artefact of the stage below
  split: {type: data.file, path: splits_seed15.json}     # or k_fold, leave_one_out, leave_domain_out
  preprocessing:
    - {type: data.orient, axes: RPI}
    - {type: data.resample, spacing_mm: [1, 1, 1], image_order: 2, label_order: 1}
    - {type: data.center_crop, size: [64, 192, 320]}
streams: {labelled: {batch: 2}}
augment: [{type: softseg.augment}]
model: {type: standard.plain_unet, features: [32, 64, 128, 256, 320, 320], deep_supervision: true}
loss: {type: standard.deep_supervision, loss: {type: softseg.adaptive_wing, omega: 8}}
learner: {type: standard.supervised}
optimiser: {type: standard.adam, lr: 1e-3}
schedule: {type: standard.cosine}
budget: {steps: 87000}
predict: {head: {type: softseg.norm_relu}, window: [64, 192, full], low_cut: 0}
evaluate: {metrics: [eval.dice, eval.rve, eval.csa_std, eval.csa_abs_error], at: {levels: [C2, C3]}}
stages:
  softgt: {type: softseg.soft_ground_truth, reference: T2w}
  train: {type: core.train, after: softgt}
"""

COSMOS = """\
# cosmos: the stages tell the method
name: cosmos
data: {dataset: {type: data.crossmoda, root: /data/crossmoda}, domains: {source: ceT1, target: hrT2}}
stages:
  translate: {type: core.train, learner: {type: cosmos.target_aware_cyclegan, segment_fakes_after: 5}, streams: {source: {batch: 1, slices: axial}, target: {batch: 1, slices: axial}}}
  pseudo_t2: {type: cosmos.translate, with: translate, cases: source}                 # a data set
  teacher:   {type: core.train, data: [pseudo_t2], learner: {type: standard.supervised}, members: {folds: 5}}
  rounds:
    repeat: 3 as k
    labels:  {type: core.pseudo_label, with: teacher, cases: target, keep: {all_present: [vs, cochlea]}}
    teacher: {type: core.train, data: [pseudo_t2, labels], from: scratch, members: {folds: 5}}
predict: {with: teacher, test_time: {flips: [x, y, z]}, postprocess: [{type: standard.largest_component, structure: vs}]}
evaluate: {metrics: [eval.dice, eval.assd]}
"""  # noqa: E501  (verbatim from the design)


@pytest.fixture
def softseg(tmp_path, fakes) -> Path:
    """The first YAML of DESIGN.md section 4, as a file."""
    path = tmp_path / "softseg.yaml"
    path.write_text(SOFTSEG)
    return path


@pytest.fixture
def cosmos(tmp_path, fakes) -> Path:
    """The second."""
    path = tmp_path / "cosmos.yaml"
    path.write_text(COSMOS)
    return path
