"""A small learner for each hard shape of the five systems."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from mriad.training.algorithm import Algorithm, seeded
from torch import nn

from mriad_shapes.parts import contrastive


class SupervisedAlgorithm(Algorithm):
    def __init__(self, setup):
        self.network = setup.network("network")
        self.optimised = setup.optimised(self.network.parameters())
        self.loss = setup.loss.build(setup.task)

    def step(self, batches, run):
        batch = batches["labelled"]
        with run.autocast():
            loss = self.loss(self.network(batch.image), batch.target, batch.validity)
        run.update(self.optimised, loss)
        return {"loss": loss.detach()}

    def predicts(self):
        return self.network


class Translator(nn.Module):
    """Encoder with a translation and a segmentation decoder."""

    def __init__(self, width=4):
        super().__init__()
        self.encoder = nn.Conv3d(1, width, 3, padding=1)
        self.translate = nn.Conv3d(width, 1, 3, padding=1)
        self.segment = nn.Conv3d(width, 2, 3, padding=1)

    def forward(self, x):
        h = F.leaky_relu(self.encoder(x))
        return self.translate(h), self.segment(h)


class AlternatingAlgorithm(Algorithm):
    """G_ST translates source to target; G_TS segments fake targets and real sources; D judges targets."""

    def __init__(self, setup):
        with seeded(setup.seed, "translators"):
            self.source_to_target, self.target_to_source = Translator(), Translator()
            self.discriminator = nn.Conv3d(1, 1, 4, stride=2, padding=1)
        for network in self.networks().values():
            network.to(setup.device)
        both = [*self.source_to_target.parameters(), *self.target_to_source.parameters()]
        self.generators = setup.optimised(both)
        self.judge = setup.optimised(self.discriminator.parameters())
        self.pool = torch.zeros(0)

    def losses(self, batches):
        """Adversarial and segmentation loss of the generators (specs of COSMOS, section 2)."""
        source = batches["source"]
        fake, seg_source = self.source_to_target(source.image)
        _, seg_fake = self.target_to_source(fake)
        target = source.target[:, 0]
        segmentation = F.cross_entropy(seg_source, target) + F.cross_entropy(seg_fake, target)
        score = self.discriminator(fake)
        adversarial = F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
        return adversarial, segmentation, fake

    def step(self, batches, run):
        adversarial, segmentation, fake = self.losses(batches)
        run.update(self.generators, 0.1 * adversarial + segmentation)
        self.pool = fake.detach()[:1].clone()
        real, made = self.discriminator(batches["target"].image), self.discriminator(fake.detach())
        judged = F.binary_cross_entropy_with_logits(
            real, torch.ones_like(real)
        ) + F.binary_cross_entropy_with_logits(made, torch.zeros_like(made))
        run.update(self.judge, judged)
        return {"segmentation": segmentation.detach(), "judge": judged.detach()}

    def predicts(self):
        return self.target_to_source

    def extra_state(self):
        return {"pool": self.pool}

    def load_extra_state(self, state):
        self.pool = state["pool"]


class MeanTeacherAlgorithm(Algorithm):
    def __init__(self, setup):
        self.student = setup.network("student")
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.optimised = setup.optimised(self.student.parameters())
        self.optimised.track(self.teacher, self.student, lambda done: min(1 - 1 / done, 0.99))
        self.loss = setup.loss.build(setup.task)

    def step(self, batches, run):
        labelled = batches["labelled"]
        weak, strong = batches["unlabelled.weak"], batches["unlabelled.strong"]
        with torch.no_grad():
            guess = self.teacher(weak.image).softmax(1)
        ramp = 0.1 * torch.exp(torch.tensor(-5.0 * (1 - run.step / run.steps) ** 2)).item()
        supervised = self.loss(self.student(labelled.image), labelled.target)
        consistency = (self.student(strong.image).softmax(1) - guess).square().mean()
        run.update(self.optimised, supervised + ramp * consistency)
        return {"loss": supervised.detach(), "consistency": consistency.detach()}

    def predicts(self):
        return self.teacher


def cross_pseudo_losses(one, two):
    """Each network learns from the other's hard guess, which carries no gradient."""
    return F.cross_entropy(one, two.detach().argmax(1)), F.cross_entropy(two, one.detach().argmax(1))


class CrossPseudoAlgorithm(Algorithm):
    def __init__(self, setup):
        self.one, self.two = setup.network("one"), setup.network("two")
        self.optimised_one = setup.optimised(self.one.parameters())
        self.optimised_two = setup.optimised(self.two.parameters())
        self.loss = setup.loss.build(setup.task)

    def step(self, batches, run):
        labelled, unlabelled = batches["labelled"], batches["unlabelled"]
        first, second = cross_pseudo_losses(self.one(unlabelled.image), self.two(unlabelled.image))
        supervised = [self.loss(n(labelled.image), labelled.target) for n in (self.one, self.two)]
        run.update(self.optimised_one, supervised[0] + 0.1 * first)
        run.update(self.optimised_two, supervised[1] + 0.1 * second)
        return {"loss": supervised[0].detach(), "pseudo": first.detach()}

    def predicts(self):
        return self.one


class DomainNormsAlgorithm(Algorithm):
    def __init__(self, setup, tau):
        self.network = setup.network("network")
        self.optimised = setup.optimised(self.network.parameters())
        self.loss = setup.loss.build(setup.task)
        self.tau = tau

    def step(self, batches, run):
        entropy, embeddings, groups = [], [], []
        for domain, name in enumerate(("a", "b")):
            batch = batches[name]
            h = self.network.encode(batch.image, domain)
            entropy.append(self.loss(self.network.heads[domain](h), batch.target))
            z = run.gather(h.flatten(2).amax(2))
            embeddings.append(z)
            groups.append(torch.full((len(z),), domain, device=z.device))
        contrast = contrastive(torch.cat(embeddings), torch.cat(groups), self.tau)
        loss = torch.stack(entropy).mean()
        run.update(self.optimised, loss + 0.1 * contrast)
        return {"loss": loss.detach(), "contrast": contrast.detach()}

    def predicts(self):
        return self.network
