"""What `vessels` offers. Nothing here imports torch: that waits in `torch_code` until something is built."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from mriad.geometry import Grid
from mriad.hookspecs import hookimpl
from mriad.identity import fingerprint
from mriad.interfaces import Augmenter, Dataset, Learner, Loss, Model
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from pydantic import Field

MRIAD_API = 1


@dataclass(frozen=True)
class Drawn:
    """One volume of one person, drawn when it is read: the same arguments always give the same voxels."""

    person: int
    size: int
    part: str
    location = "a drawn vessel"

    @property
    def fingerprint(self):
        return fingerprint([self.person, self.size, self.part])

    def read(self):
        rng = np.random.default_rng(self.person)
        x, y, z = np.meshgrid(*[np.arange(self.size)] * 3, indexing="ij")
        middle, bend = self.size / 2 + rng.uniform(-1, 1, 2), rng.uniform(-0.2, 0.2, 2)
        vessel = np.hypot(x - middle[0] - bend[0] * z, y - middle[1] - bend[1] * z) < self.size / 5
        grid = Grid.of(vessel.shape, np.diag([-1.0, -1.0, 1.0, 1.0]))
        if self.part == "label":
            return Volume(vessel.astype(np.uint8), grid)
        return Volume((2 * vessel + rng.normal(0, 0.3, vessel.shape)).astype(np.float32), grid)


class Phantom(Dataset):
    """A bright, bent vessel in noise for each person; voxels of 1 mm, one structure."""

    type: Literal["vessels.phantom"] = "vessels.phantom"
    persons: int = Field(6, ge=1, description="Number of persons.")
    size: int = Field(16, ge=8, description="Voxels along each axis.")

    def build(self):
        cases = []
        for n in range(self.persons):
            image, label = Drawn(n, self.size, "image"), Drawn(n, self.size, "label")
            cases.append(Case(f"p{n:02d}", f"p{n:02d}", {"tof": image}, {"hard": Label("hard", label)}))
        return CaseIndex(cases, LabelSet.of({"vessel": 1}))


class Bias(Augmenter):
    """Multiplies each image by exp(a · position), position from -1 to 1 along the last axis."""

    type: Literal["vessels.bias"] = "vessels.bias"
    strength: float = Field(0.3, ge=0, description="Standard deviation of a.")

    def build(self, task):
        from mriad_vessels.torch_code import add_bias

        return lambda batch, draws: add_bias(batch, draws, self.strength)


class Net(Model):
    """Two convolutions with an instance norm between them."""

    type: Literal["vessels.net"] = "vessels.net"
    width: int = Field(4, ge=1, description="Feature maps.")

    def build(self, task):
        from mriad_vessels.torch_code import make_net

        return make_net(task, self.width)


class Tversky(Loss):
    """1 - Tversky index (Salehi et al., MLMI 2017), mean over structures and samples."""

    type: Literal["vessels.tversky"] = "vessels.tversky"
    misses: float = Field(0.7, gt=0, lt=1, description="Weight of misses; false alarms have 1 - this.")

    @property
    def link(self):
        return "softmax"

    def build(self, task):
        from mriad_vessels.torch_code import tversky

        return lambda prediction, target, weight=None: tversky(prediction, target, weight, self.misses)


class Consistent(Learner):
    """The loss, and agreement of the predictions of an image and of its mirror image."""

    type: Literal["vessels.consistent"] = "vessels.consistent"
    factor: float = Field(0.1, ge=0, description="Weight of the agreement.")

    def build(self, setup):
        from mriad_vessels.torch_code import ConsistentAlgorithm

        return ConsistentAlgorithm(setup, self.factor)


@hookimpl
def mriad_register_components(register):
    for component in (Phantom, Bias, Net, Tversky, Consistent):
        register(component)
