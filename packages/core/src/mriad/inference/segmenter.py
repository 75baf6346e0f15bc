"""A prepared sample → probabilities: networks, flips, window, head, native grid. Training validates with it too."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from mriad.errors import DataError, ExperimentError, ShapeError
from mriad.inference.engine import takes_domain
from mriad.inference.native import to_native
from mriad.inference.prediction import PredictionStream
from mriad.inference.slab import Slab, collect, slabs_of_array
from mriad.inference.window import blend, window_shape
from mriad.sides import mirror_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mriad.experiment.model import PredictSection
    from mriad.geometry import Grid
    from mriad.inference.prediction import OnWindow
    from mriad.interfaces import Model, Postprocessor
    from mriad.vocabulary import LabelSet, Link, Sample, Task

_ACROSS = {"axial": "SI", "coronal": "AP", "sagittal": "LR"}
_SLICES_AT_ONCE = 16  # slices that a 2D network gets as one batch


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Networks and how they are asked.

    Where several forward passes are made (networks × combinations of flips), their *probabilities* are averaged, a
    window at a time, under a softmax or sigmoid link, and their outputs under a raw link. Windows are blended in
    the same space. The head gets the raw outputs that mean these averages (their logarithm, their logit), once the
    volume is stitched. So flips change nothing for a symmetric network, and a network twice is the network.
    A flip that turns left into right exchanges the outputs of structures that are each other's mirror image by name
    ("left thalamus", "right thalamus"): see `mriad.sides`.

    Args:
        networks: equal tasks; put into evaluation mode while they are asked, and back.
        task: channels, link, label sets.
        predict: head, window, overlap, flips, low cut, postprocessing.
        divisor: what the network's input sizes must be multiples of.
        device: where networks and windows live; the networks must be there.

    Raises:
        ExperimentError: the head reads outputs differently than the task says, a 2D network lacks slices, or (when
            predicting) a left–right flip meets a structure without a partner on the other side.
    """

    networks: Sequence[nn.Module]
    task: Task
    predict: PredictSection
    divisor: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.predict.head.link != self.task.link:
            raise ExperimentError(
                "the head does not read outputs as they are meant",
                where={
                    "head": f"{self.predict.head.type_name()}: {self.predict.head.link}",
                    "task": self.task.link,
                },
                remedy="choose a predict.head whose link is the loss's",
            )
        if self.task.dimensions == 2 and not self.task.slices:
            raise ExperimentError(
                "a network of 2 dimensions needs to know which slices it reads",
                remedy="streams: {labelled: {slices: axial}}",
            )

    @property
    def exclusive(self) -> bool:
        """Whether structures exclude each other."""
        return self.task.link == "softmax"

    def stream(
        self,
        sample: Sample,
        native: Grid | None = None,
        on_window: OnWindow | None = None,
        finish: bool = True,
        domain: str = "",
    ) -> PredictionStream:
        """Predict a prepared sample while the slabs are taken.

        Args:
            sample: image (C, X, Y, Z) in task order.
            native: grid of the result; None: the sample's own.
            finish: apply low cut and postprocessing; an ensemble does so once, after its members.
            domain: for domain-specific networks; default: the sample's.

        Raises:
            ShapeError: channels do not fit the task.
            DataError: the networks are domain-specific and the domain is not one of theirs.
        """
        if sample.image.shape[0] != len(self.task.channels):
            raise ShapeError(
                "the image does not have the model's channels",
                where={
                    "case": sample.case,
                    "channels": sample.image.shape[0],
                    "expected": self.task.channels,
                },
            )
        domain = self.domain_of(domain or sample.domain)
        label_set = self.task.label_set(domain)
        grid = native or sample.grid
        facts: dict[str, Sequence[float]] = {}
        working = self.working(sample, domain, on_window, facts)
        slabs = to_native(working, len(label_set), sample.grid, grid)
        if finish:
            slabs = finished(slabs, self.predict.low_cut, self.predict.postprocess, grid, label_set)
        return PredictionStream(slabs, grid, label_set, self.exclusive, facts)

    def working(
        self,
        sample: Sample,
        domain: str,
        on_window: OnWindow | None = None,
        facts: dict[str, Sequence[float]] | None = None,
    ) -> Iterator[Slab]:
        """Probabilities (S, X, Y, Z) of the stitched volume on the sample's grid, in slabs.

        `domain` is what `domain_of` gives.
        A head that is not voxelwise gets the whole stitched volume; only then is all of it held, and what the head
        says of it goes into `facts`.
        """
        outputs = self.task.outputs(domain)
        head = self.predict.head.build(self.task)
        across = self._across(sample.grid)
        raw = self._raw(sample, domain, outputs, across, on_window)
        if self.predict.head.voxelwise:
            for slab in raw:
                yield Slab(slab.axis, slab.start, head(slab.values))
            return
        whole = torch.from_numpy(collect(raw, outputs, sample.grid.shape, in_memory=2**62))
        if facts is not None:
            facts.update(self.predict.head.facts(whole))
        probabilities = head(whole)
        del whole
        yield from slabs_of_array(probabilities.numpy())

    def _raw(
        self, sample: Sample, domain: str, outputs: int, across: int | None, on_window: OnWindow | None
    ) -> Iterator[Slab]:
        """Raw outputs (O, X, Y, Z) that mean the blended, averaged predictions."""
        divisor = [self.divisor] * 3
        overlap = [self.predict.overlap] * 3
        size: list[int | Literal["full"]] = list(self.predict.window)
        if across is not None:
            divisor[across], overlap[across] = 1, 0.0
            if size:
                thick = min(_SLICES_AT_ONCE, sample.grid.shape[across])
                size = [thick if i == across else n for i, n in enumerate(_three(size, across))]
        window = window_shape(sample.grid.shape, size, divisor)
        sides = self._sides(sample.grid, domain, across)
        with _evaluating(self.networks):
            slabs = blend(
                sample.image,
                lambda box: self._forward(box, domain, across, sides),
                outputs,
                window,
                overlap,
                self.device,
                on_window,
            )
            for slab in slabs:
                yield Slab(slab.axis, slab.start, _unlinked(slab.values, self.task.link))

    def _sides(self, grid: Grid, domain: str, across: int | None) -> tuple[int, list[int]] | None:
        """The left–right axis and the outputs in mirrored order, where it is flipped and an order differs."""
        axis = next(i for i, code in enumerate(grid.orientation) if code in "LR")
        if axis == across or "xyz"[axis] not in self.predict.test_time.flips:
            return None
        order = mirror_order(self.task.label_set(domain).names)
        if order == tuple(range(len(order))):
            return None
        first = int(self.task.link == "softmax")  # background has no side
        return axis, [*range(first), *(place + first for place in order)]

    def _forward(
        self, box: Tensor, domain: str, across: int | None, sides: tuple[int, list[int]] | None = None
    ) -> Tensor:
        """(1, C, X, Y, Z) → the average prediction (O, X, Y, Z) in the space of the link."""
        axes = ["xyz".index(name) for name in self.predict.test_time.flips]
        axes = [a for a in dict.fromkeys(axes) if a != across]
        total: Tensor | None = None
        count = 0
        for network in self.networks:
            for size in range(len(axes) + 1):
                for chosen in itertools.combinations(axes, size):
                    dims = [a + 2 for a in chosen]
                    out = self._ask(network, box.flip(dims) if dims else box, domain, across)
                    out = _linked(out, self.task.link)
                    out = out.flip(dims) if dims else out
                    if sides is not None and sides[0] in chosen:
                        out = out[:, sides[1]]
                    total = out if total is None else total + out  # not in place: it may be a network's own
                    count += 1
        assert total is not None
        return (total / count)[0] if count > 1 else total[0]

    def _ask(self, network: nn.Module, box: Tensor, domain: str, across: int | None) -> Tensor:
        """Raw outputs (1, O, X, Y, Z) of one network; slices travel as the batch of a 2D network."""
        if across is not None:
            box = box[0].movedim(across + 1, 0)
        named = {"domain": domain} if domain and takes_domain(network) else {}
        out: Any = network(box, **named)
        out = out[0] if isinstance(out, (list, tuple)) else out
        if across is not None:
            out = out.movedim(0, across + 1)[None]
        return out.float()  # type: ignore[no-any-return]

    def _across(self, grid: Grid) -> int | None:
        """The working axis that slices of a 2D network are stacked along; None for 3D."""
        if self.task.dimensions == 3:
            return None
        return next(i for i, code in enumerate(grid.orientation) if code in _ACROSS[self.task.slices])

    def domain_of(self, domain: str) -> str:
        """What the networks call the domain of a case: "" where they know none.

        Raises:
            DataError: the networks are domain-specific and the domain is not one of theirs.
        """
        known = self.task.domains
        if domain in known or not known:
            return domain if known else ""
        if len(known) == 1 and not domain:
            return known[0]
        if "" in self.task.label_sets and not any(takes_domain(n) for n in self.networks):
            return ""  # domains mattered in training only
        raise DataError(
            "this model needs to know the domain of a case",
            where={"domain": domain or "not given", "expected": "one of " + ", ".join(known)},
            remedy=f"--domain {known[0]}",
        )


def predict_whole(
    networks: Sequence[nn.Module],
    sample: Sample,
    predict: PredictSection,
    task: Task,
    device: torch.device | str = "cpu",
    model: Model | None = None,
    native: Grid | None = None,
    on_window: OnWindow | None = None,
) -> NDArray[np.float32]:
    """Predict a prepared sample whole with networks that are in memory: what validation does.

    The same code that a loaded predictor runs; see `Segmenter`.

    Args:
        networks: averaged; given back in the mode (training or evaluation) that they came in.
        sample: prepared.
        predict: window, head, flips, low cut, postprocessing.
        task: of the networks.
        device: where the networks are.
        model: says what input sizes must be multiples of; None: any size will do.
        native: grid of the result; None: the sample's.
        on_window: called with (windows done, windows in all).

    Returns:
        probabilities (S, X, Y, Z) float32.
    """
    divisor = 1 if model is None else model.divisor()
    segmenter = Segmenter(networks, task, predict, divisor, torch.device(device))
    return segmenter.stream(sample, native, on_window).collect().probabilities


def finished(
    slabs: Iterable[Slab],
    low_cut: float,
    postprocess: Sequence[Postprocessor],
    grid: Grid,
    label_set: LabelSet,
) -> Iterator[Slab]:
    """Low cut, then postprocessing, on the native grid. Postprocessors see the whole prediction."""
    cut = (_cut_low(slab, low_cut) for slab in slabs)
    if not postprocess:
        yield from cut
        return
    whole = collect(cut, len(label_set), grid.shape)
    for step in postprocess:
        whole = step.apply(whole, grid, label_set)
        if whole.shape != (len(label_set), *grid.shape):
            raise ShapeError(
                f"postprocessor '{step.type_name()}' changed the shape",
                where={"shape": whole.shape, "expected": (len(label_set), *grid.shape)},
            )
    yield from slabs_of_array(whole)


def _cut_low(slab: Slab, low_cut: float) -> Slab:
    if low_cut <= 0:
        return slab
    return Slab(slab.axis, slab.start, slab.values.masked_fill(slab.values <= low_cut, 0.0))


def _linked(raw: Tensor, link: Link) -> Tensor:
    """Raw outputs → what is averaged."""
    if link == "softmax":
        return raw.softmax(dim=1)
    return raw.sigmoid() if link == "sigmoid" else raw


def _unlinked(mean: Tensor, link: Link) -> Tensor:
    """The raw outputs (O, …) that mean an average; exact to float32 rounding."""
    if link == "softmax":
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log_()
    return mean.logit(eps=2**-24) if link == "sigmoid" else mean


def _three(size: Sequence[int | Literal["full"]], across: int) -> list[int | Literal["full"]]:
    """A window with an entry for the axis across the slices, which a 2D experiment may leave out."""
    return [*size[:across], 1, *size[across:]] if len(size) == 2 else list(size)


@contextlib.contextmanager
def _evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode, and each of their modules back as it was."""
    before = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
