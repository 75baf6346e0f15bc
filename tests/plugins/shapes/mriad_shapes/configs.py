"""Light configs; torch code is in `learners` and `parts`."""

from __future__ import annotations

import time
from typing import ClassVar, Literal

import numpy as np
from mriad.geometry import Grid
from mriad.identity import fingerprint
from mriad.interfaces import (
    Augmenter,
    Comparison,
    Dataset,
    Head,
    Learner,
    Loss,
    Metric,
    Model,
    Optimiser,
    Split,
)
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from pydantic import Field


class BlobSource:
    """A volume of noise with a bright box; a label has the box alone. Fully determined by its arguments."""

    def __init__(self, number: int, size: int, shift: float, part: str, affine=None) -> None:
        self.number, self.size, self.shift, self.part = number, size, shift, part

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.number, self.size, self.shift, self.part])

    @property
    def location(self) -> str:
        return f"blob {self.number}"

    def read(self) -> Volume:
        rng = np.random.default_rng(self.number)
        start = rng.integers(1, self.size // 2, 3)
        box = np.zeros((self.size,) * 3, np.float32)
        box[tuple(slice(s, s + self.size // 2 - 1) for s in start)] = 1
        grid = Grid.of(box.shape, np.diag([-1.0, -1.0, 1.0, 1.0]))
        if self.part == "label":
            return Volume(box.astype(np.uint8), grid)
        image = box * 2 + rng.normal(0, 0.5, box.shape).astype(np.float32) + self.shift
        return Volume(image.astype(np.float32), grid)


class Blobs(Dataset):
    """`persons` persons in each domain, `size`³ voxels of 1 mm, one structure."""

    generated: ClassVar[bool] = True

    type: Literal["shapes.blobs"] = "shapes.blobs"
    persons: int = 6
    size: int = 8
    domains: list[str] = Field(default_factory=lambda: ["a"])
    unlabelled: int = 0

    def build(self) -> CaseIndex:
        cases = []
        for d, domain in enumerate(self.domains):
            for p in range(self.persons + self.unlabelled):
                number = 1000 * d + p
                label = Label("hard", BlobSource(number, self.size, 0, "label"))
                cases.append(
                    Case(
                        id=f"{domain}{p:02d}",
                        person=f"{domain}{p:02d}",
                        channels={"image": BlobSource(number, self.size, 0.3 * d, "image")},
                        labels={"hard": label} if p < self.persons else {},
                        domain=domain,
                        contrast="T1w",
                    )
                )
        return CaseIndex(cases, LabelSet.of({"box": 1}))


class Thirds(Split):
    """Every third person tests, the next validates, the rest trains."""

    type: Literal["shapes.thirds"] = "shapes.thirds"

    def folds(self) -> int:
        return 3

    def build(self, index, fold, seed):
        sides = ("test", "validation", "train")
        out = {s: [] for s in sides}
        for i, case in enumerate(index):
            out[sides[(i + fold) % 3]].append(case.id)
        return {k: tuple(v) for k, v in out.items()}


class Jitter(Augmenter):
    """Scales, adds dense noise, and flips image and target together."""

    type: Literal["shapes.jitter"] = "shapes.jitter"
    sd: float = 0.1

    def build(self, task):
        from mriad_shapes.parts import jitter

        return lambda batch, draws: jitter(batch, draws, self.sd)


class Pause(Augmenter):
    """Changes nothing and takes its time, so that tests can meet a training half-way on any machine."""

    type: Literal["shapes.pause"] = "shapes.pause"
    seconds: float = 0.03

    def build(self, task):
        def pause(batch, draws):
            time.sleep(self.seconds)
            return batch

        return pause


class TinyNet(Model):
    """Two convolutions; norm "none", "batch", "instance" or "domain"."""

    type: Literal["shapes.tiny_net"] = "shapes.tiny_net"
    width: int = 4
    norm: Literal["none", "batch", "instance", "domain"] = "instance"
    dropout: float = 0.0

    def build(self, task):
        from mriad_shapes.parts import TinyNetwork

        return TinyNetwork(task, self.width, self.norm, self.dropout)


class CrossEntropy(Loss):
    type: Literal["shapes.cross_entropy"] = "shapes.cross_entropy"

    @property
    def link(self):
        return "softmax"

    def build(self, task):
        from mriad_shapes.parts import cross_entropy

        return cross_entropy


class Softmax(Head):
    type: Literal["shapes.softmax"] = "shapes.softmax"

    @property
    def link(self):
        return "softmax"

    def build(self, task):
        return lambda raw: raw.softmax(0)[1:]


class Sgd(Optimiser):
    type: Literal["shapes.adam"] = "shapes.adam"
    lr: float = 1e-2

    def build(self, parameters):
        import torch

        return torch.optim.Adam(parameters, lr=self.lr)


class Overlap(Metric):
    type: Literal["shapes.overlap"] = "shapes.overlap"
    worst = 0.0

    def build(self):
        def overlap(pair):
            p, g = pair.prediction > 0.5, pair.reference > 0.5
            total = p.sum() + g.sum()
            return (float(2 * (p & g).sum() / total) if total else float("nan")), ""

        return overlap


class Supervised(Learner):
    type: Literal["shapes.supervised"] = "shapes.supervised"

    def build(self, setup):
        from mriad_shapes.learners import SupervisedAlgorithm

        return SupervisedAlgorithm(setup)


class Alternating(Learner):
    """A generator with two decoders and a discriminator, each with its own optimiser (COSMOS's shape)."""

    type: Literal["shapes.alternating"] = "shapes.alternating"
    yields: ClassVar = "weights"  # its networks translate and segment at once: no model of an experiment

    def streams(self):
        return ("source", "target")

    def build(self, setup):
        from mriad_shapes.learners import AlternatingAlgorithm

        return AlternatingAlgorithm(setup)


class MeanTeacher(Learner):
    type: Literal["shapes.mean_teacher"] = "shapes.mean_teacher"

    def streams(self):
        return ("labelled", "unlabelled")

    def build(self, setup):
        from mriad_shapes.learners import MeanTeacherAlgorithm

        return MeanTeacherAlgorithm(setup)


class CrossPseudo(Learner):
    type: Literal["shapes.cross_pseudo"] = "shapes.cross_pseudo"

    def streams(self):
        return ("labelled", "unlabelled")

    def build(self, setup):
        from mriad_shapes.learners import CrossPseudoAlgorithm

        return CrossPseudoAlgorithm(setup)


class DomainNorms(Learner):
    """One forward per domain, domain-specific batch norm, a contrastive loss on the embedding."""

    type: Literal["shapes.domain_norms"] = "shapes.domain_norms"
    tau: float = 0.1

    def streams(self):
        return ("a", "b")

    def build(self, setup):
        from mriad_shapes.learners import DomainNormsAlgorithm

        return DomainNormsAlgorithm(setup, self.tau)


class Tally(Comparison):
    """Means of every variant, without statistics: what the tests of the engine read."""

    type: Literal["shapes.tally"] = "shapes.tally"
    primary: str = "overlap"

    def needs(self):
        return (self.primary,)

    def conclude(self, study, folder):
        lines = []
        for variant in study.variants:
            values = [r.value for t in study.finished if t.variant == variant for r in t.rows()]
            lines.append(
                f"{variant}: {np.mean(values):.6f} of {len(values)}" if values else f"{variant}: nothing"
            )
        if study.missing:
            lines.append(f"missing: {', '.join(t.variant for t in study.missing)}")
        (folder / "tally.txt").write_text("\n".join(lines))
        return lines


COMPONENTS = [
    Tally, Blobs, Thirds, Jitter, Pause, TinyNet, CrossEntropy, Softmax, Sgd, Overlap, Supervised, Alternating,
    MeanTeacher, CrossPseudo, DomainNorms,
]  # fmt: skip
