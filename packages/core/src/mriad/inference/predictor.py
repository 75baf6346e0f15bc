"""The default predictor: preprocessing, networks in a sliding window, head, back to the scan's own grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from mriad.errors import DataError, ExperimentError
from mriad.inference.prediction import CasePrediction, OnWindow, PredictionStream
from mriad.inference.segmenter import finished, predict_whole
from mriad.inference.slab import Scratch, Slab, slabs_of_array
from mriad.preparation import prepare_volumes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from mriad.geometry import Grid
    from mriad.inference.engine import Engine
    from mriad.inference.segmenter import Segmenter
    from mriad.interfaces import PreprocessingStep
    from mriad.vocabulary import Volume


__all__ = [
    "EnsemblePredictor",
    "NetworkPredictor",
    "OfNetworks",
    "ordered",
    "predict_whole",
    "require_channels",
]


@runtime_checkable
class OfNetworks(Protocol):
    """A `CasePredictor` that asks networks, so that a domain and an engine can be chosen; a plugin's may be one."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that it asks, as they are called: `mriad.inference.engine.engines_that_ran` reads them."""
        ...

    def for_domain(self, domain: str) -> Self:
        """The same networks for cases of a domain."""
        ...

    def with_engine(self, engine: Engine) -> Self:
        """The same networks run by an engine; from a predictor whose networks torch runs.

        Raises:
            ExperimentError: the engine cannot run the networks on their device.
        """
        ...


class NetworkPredictor:
    """A `CasePredictor` around one or several networks.

    Args:
        segmenter: networks and how they are asked.
        steps: preprocessing, with one entry of fitted `parameters` each.
        domain: of the cases to come; needed by domain-specific networks only.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        steps: Sequence[PreprocessingStep] = (),
        parameters: Sequence[Mapping[str, Any] | None] = (),
        domain: str = "",
    ) -> None:
        self.segmenter = segmenter
        self.steps = tuple(steps)
        self.parameters = tuple(parameters)
        self.domain = domain
        self.channels = segmenter.task.channels
        sets = segmenter.task.label_sets
        # A model with a label set a domain shows the first domain's until `for_domain` says which.
        self.label_set = sets.get(domain) or sets.get("") or next(iter(sets.values()))
        self.exclusive = segmenter.exclusive

    def for_domain(self, domain: str) -> NetworkPredictor:
        """The same networks for cases of a domain."""
        return NetworkPredictor(self.segmenter, self.steps, self.parameters, domain)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that it asks, as they are called."""
        return tuple(self.segmenter.networks)

    def with_engine(self, engine: Engine) -> NetworkPredictor:
        """The same networks run by an engine; see `OfNetworks`."""
        run = [engine.run(network, self.segmenter.device) for network in self.networks]
        segmenter = replace(self.segmenter, networks=run)
        return NetworkPredictor(segmenter, self.steps, self.parameters, self.domain)

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment one case; the result lies on the grid of the model's first channel.

        Raises:
            DataError: a channel is missing, unknown, not 3D, not finite, or on another grid.
        """
        return self.stream(channels).collect()

    def stream(
        self, channels: Mapping[str, Volume], on_window: OnWindow | None = None, finish: bool = True
    ) -> PredictionStream:
        """Prepare the case now; predict it while the slabs are taken. See `Segmenter.stream`."""
        given = ordered(channels, self.channels)
        native = next(iter(given.values())).grid
        sample = prepare_volumes(given, self.steps, self.parameters)
        return self.segmenter.stream(
            replace(sample, domain=self.domain), native, on_window, finish, self.domain
        )


class EnsemblePredictor:
    """A `CasePredictor` that averages its members' probabilities on the native grid, one member after the other.

    Each member does its own preprocessing (its parameters may be those of its fold). Low cut and postprocessing,
    which must be the same in all members, are applied once, to the average.

    Raises:
        ExperimentError: no members, or they differ in channels, structures, link, low cut or postprocessing.
    """

    def __init__(self, members: Sequence[NetworkPredictor]) -> None:
        if not members:
            raise ExperimentError("an ensemble needs at least one member")
        self.members = tuple(members)
        first = self.members[0]
        self.channels, self.label_set, self.exclusive = first.channels, first.label_set, first.exclusive
        for place, member in enumerate(self.members):
            for what in ("channels", "structures", "link", "low_cut", "postprocess"):
                one, other = _trait(first, what), _trait(member, what)
                if one != other:
                    raise ExperimentError(
                        f"the members of an ensemble differ in {what}",
                        where={"member 0": one, f"member {place}": other},
                    )

    def for_domain(self, domain: str) -> EnsemblePredictor:
        """The same members for cases of a domain."""
        return EnsemblePredictor([member.for_domain(domain) for member in self.members])

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that its members ask, as they are called."""
        return tuple(network for member in self.members for network in member.networks)

    def with_engine(self, engine: Engine) -> EnsemblePredictor:
        """The same members with their networks run by an engine; see `OfNetworks`."""
        return EnsemblePredictor([member.with_engine(engine) for member in self.members])

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment one case; see `NetworkPredictor`."""
        return self.stream(channels).collect()

    def stream(self, channels: Mapping[str, Volume], on_window: OnWindow | None = None) -> PredictionStream:
        """Predict with each member when the first slab is taken; the average is held once."""
        native = next(iter(ordered(channels, self.channels).values())).grid
        predict = self.members[0].segmenter.predict
        slabs = finished(
            self._average(channels, native, on_window),
            predict.low_cut,
            predict.postprocess,
            native,
            self.label_set,
        )
        return PredictionStream(slabs, native, self.label_set, self.exclusive)

    def _average(
        self, channels: Mapping[str, Volume], native: Grid, on_window: OnWindow | None
    ) -> Iterator[Slab]:
        total: Scratch | None = None
        for place, member in enumerate(self.members):
            shown = None if on_window is None else _among(on_window, place, len(self.members))
            for slab in member.stream(channels, shown, finish=False).slabs:
                total = total or Scratch(len(self.label_set), native.shape, slab.axis)
                total.add(Slab(slab.axis, slab.start, slab.values / len(self.members)))
        assert total is not None
        yield from slabs_of_array(total.array(), total.axis)


def ordered(channels: Mapping[str, Volume], names: Sequence[str]) -> dict[str, Volume]:
    """The channels in the model's order.

    Raises:
        DataError: one is missing, or one is not the model's.
    """
    require_channels(channels, names)
    return {name: channels[name] for name in names}


def require_channels(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Check the names of channels against the model's.

    Raises:
        DataError: one is missing, or one is not the model's; all are listed.
    """
    missing = [n for n in names if n not in given]
    unknown = [n for n in given if n not in names]
    if missing or unknown:
        raise DataError(
            "the channels given are not the model's",
            where={
                "model's channels": ", ".join(names),
                "given": ", ".join(given) or "none",
                **({"missing": ", ".join(missing)} if missing else {}),
                **({"not the model's": ", ".join(unknown)} if unknown else {}),
            },
            remedy=" ".join(f"--channel {name}=FILE" for name in names),
        )


def _trait(member: NetworkPredictor, what: str) -> Any:
    predict = member.segmenter.predict
    if what == "channels":
        return member.channels
    if what == "structures":
        return [(s.name, s.value) for s in member.label_set.structures]
    if what == "link":
        return member.segmenter.task.link
    return predict.low_cut if what == "low_cut" else [p.model_dump(mode="json") for p in predict.postprocess]


def _among(on_window: OnWindow, place: int, members: int) -> OnWindow:
    """Progress of one member as progress of all, as if each had as many windows."""
    return lambda done, total: on_window(place * total + done, members * total)
