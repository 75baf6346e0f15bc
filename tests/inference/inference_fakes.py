"""Tiny components of a plugin `fake`: enough to predict with, nothing to train."""

from typing import ClassVar, Literal

import nibabel as nib
import numpy as np
import torch
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.interfaces import Head, Model, Postprocessor, Predictor, PreprocessingStep
from mriad.registry import Registry
from mriad.vocabulary import LabelSet, Sample, Structure, Task, Volume
from pydantic import Field
from torch import nn

CORD = LabelSet((Structure("cord", 1),))
TWO = LabelSet((Structure("cord", 3), Structure("csf", 7)))


class Softmax(Head):
    type: Literal["fake.softmax"] = "fake.softmax"

    @property
    def link(self):
        return "softmax"

    def build(self, task):
        return lambda raw: raw.softmax(dim=0)[1:]


class Sigmoid(Head):
    type: Literal["fake.sigmoid"] = "fake.sigmoid"

    @property
    def link(self):
        return "sigmoid"

    def build(self, task):
        return torch.sigmoid


class Clamp(Head):
    type: Literal["fake.clamp"] = "fake.clamp"

    @property
    def link(self):
        return "raw"

    def build(self, task):
        return lambda raw: raw.clamp(0, 1)


class NormRelu(Head):
    """Not voxelwise: divides by the maximum of the stitched volume."""

    type: Literal["fake.norm_relu"] = "fake.norm_relu"

    @property
    def link(self):
        return "raw"

    @property
    def voxelwise(self):
        return False

    def build(self, task):
        def head(raw):
            positive = raw.relu()
            most = positive.amax()
            return positive / most if most > 0 else positive

        return head


class Copy(nn.Module):
    """Raw output = scale × first channel + bias, for each output: known in closed form."""

    def __init__(self, outputs, scale):
        super().__init__()
        self.scale = nn.Parameter(
            torch.linspace(scale, -scale, outputs) if outputs > 1 else torch.tensor([scale])
        )

    def forward(self, x):
        shape = (1, -1, *[1] * (x.ndim - 2))
        return x[:, :1] * self.scale.view(shape)


class CopyModel(Model):
    type: Literal["fake.copy"] = "fake.copy"
    scale: float = 1.0

    def build(self, task):
        return Copy(task.outputs(), self.scale)


class ConvModel(Model):
    """Two convolutions: looks at neighbours, so that windows matter."""

    type: Literal["fake.conv"] = "fake.conv"
    width: int = 4
    step: int = 1

    def build(self, task):
        conv = nn.Conv3d if task.dimensions == 3 else nn.Conv2d
        return nn.Sequential(
            conv(len(task.channels), self.width, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(0.5),
            conv(self.width, task.outputs(), 3, padding=1),
        )

    def divisor(self):
        return self.step


class DomainNet(nn.Module):
    """Each domain has a bias of its own."""

    def __init__(self, domains):
        super().__init__()
        self.bias = nn.ParameterDict(
            {d: nn.Parameter(torch.tensor(float(i + 1))) for i, d in enumerate(domains)}
        )

    def forward(self, x, domain):
        return x[:, :1] * 0 + self.bias[domain] / 10


class DomainModel(Model):
    type: Literal["fake.domain"] = "fake.domain"

    def build(self, task):
        return DomainNet(task.domains)


class Reorient(PreprocessingStep):
    """Exact change of axes to given codes, then a crop."""

    type: Literal["fake.reorient"] = "fake.reorient"
    version: ClassVar[int] = 1
    axes: str = "RAS"
    start: tuple[int, int, int] = (0, 0, 0)
    size: tuple[int, int, int] | None = None

    def apply(self, sample, parameters):
        ornt = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(sample.grid.matrix), nib.orientations.axcodes2ornt(self.axes)
        )
        image = np.stack([nib.orientations.apply_orientation(c, ornt) for c in sample.image])
        matrix = sample.grid.matrix @ nib.orientations.inv_ornt_aff(ornt, sample.grid.shape)
        grid = Grid.of(image.shape[1:], matrix)
        size = self.size or grid.shape
        box = np.zeros((len(image), *size), np.float32)
        source, target = [], []
        for at, want, have in zip(self.start, size, grid.shape, strict=True):
            low, high = max(0, at), min(have, at + want)
            source.append(slice(low, max(low, high)))
            target.append(slice(low - at, max(low, high) - at))
        box[(slice(None), *target)] = image[(slice(None), *source)]
        return Sample(sample.case, box, grid.crop(self.start, size))


class Coarser(PreprocessingStep):
    """Every second voxel, so that the way back interpolates."""

    type: Literal["fake.coarser"] = "fake.coarser"

    def apply(self, sample, parameters):
        image = np.ascontiguousarray(sample.image[:, ::2, ::2, ::2])
        matrix = sample.grid.matrix
        matrix[:3, :3] *= 2
        return Sample(sample.case, image, Grid.of(image.shape[1:], matrix))


class Scale(PreprocessingStep):
    """A fitted step: divides by what it learnt."""

    type: Literal["fake.scale"] = "fake.scale"
    fitted: ClassVar[bool] = True

    def apply(self, sample, parameters):
        return Sample(sample.case, sample.image / np.float32(parameters["by"]), sample.grid)


class KeepAbove(Postprocessor):
    type: Literal["fake.keep_above"] = "fake.keep_above"
    level: float = Field(0.5)

    def apply(self, probabilities, grid, label_set):
        return np.where(probabilities > self.level, probabilities, np.float32(0))


class Constant(Predictor):
    """A predictor that is no network."""

    type: Literal["fake.constant"] = "fake.constant"
    value: float = 0.25

    def build(self, folder, device="cpu"):
        return _Constant(self.value)


class _Constant:
    label_set = CORD
    channels = ("T2w",)

    def __init__(self, value):
        self.value = value

    def __call__(self, channels):
        from mriad.inference.prediction import CasePrediction

        grid = channels["T2w"].grid
        return CasePrediction(np.full((1, *grid.shape), self.value, np.float32), grid, CORD)


COMPONENTS = (Softmax, Sigmoid, Clamp, NormRelu, CopyModel, ConvModel, DomainModel, Reorient, Coarser, Scale)
COMPONENTS = (*COMPONENTS, KeepAbove, Constant)


def fake_registry():
    registry = Registry()
    for component in COMPONENTS:
        registry.add(component, "fake", "mriad-fake")
    return registry


def task_of(link="raw", labels=CORD, channels=("T2w",), **more):
    return Task(channels, {"": labels}, link, **more)


def predict_section(head="fake.clamp", **more):
    return PredictSection.model_validate({"head": {"type": head}, **more})


def volume_of(data, affine=None):
    data = np.asarray(data, np.float32)
    return Volume(data, Grid.of(data.shape, np.eye(4) if affine is None else affine))


def oblique(seed=0, spacing=(0.8, 1.1, 2.5), degrees=20.0):
    """A random rotation by up to `degrees` about each axis, anisotropic, off the origin."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    affine = np.eye(4)
    affine[:3, :3] = matrix * np.array(spacing)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return affine


def save_fake(
    folder,
    *,
    model=None,
    head="fake.clamp",
    labels=CORD,
    channels=("T2w",),
    seed=0,
    networks=("network",),
    **more,
):
    """A predictor folder with random weights; `more` may hold preprocessing, parameters, predict, task fields."""
    from mriad.inference.load import save_predictor

    section = predict_section(head, **more.pop("predict", {}))
    steps = more.pop("preprocessing", [])
    parameters = more.pop("parameters", [None] * len(steps))
    task = task_of(section.head.link, labels, channels, **more)
    model = model or ConvModel()
    torch.manual_seed(seed)
    states = {name: model.build(task).state_dict() for name in networks}
    return save_predictor(
        folder,
        task=task,
        predict=section,
        model=model,
        preprocessing=steps,
        parameters=parameters,
        networks=states,
    )
