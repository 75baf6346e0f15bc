"""What computes a network's outputs at inference, and how precisely. A setting of a prediction, never of a model."""

from __future__ import annotations

import inspect
import sys
import warnings
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from mriad.errors import ExperimentError, MriadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

EngineName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16"]
INSTALL = "pip install 'mriad[openvino]'"
_KEPT_SHAPES = 4  # compiled networks that are held: one a shape, each with its own copy of the weights


@dataclass(frozen=True)
class Engine:
    """How networks are run.

    Args:
        name: `torch`; `openvino`, on the CPU only; `auto`: OpenVINO on the CPU where it is installed and takes the
            network, else torch.
        precision: `fp32`, or `bf16` for convolutions in bfloat16 (8 bits of mantissa) with float32 outputs.

    Raises:
        ExperimentError: not one of these names.
    """

    name: EngineName = "torch"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for field, value, known in (
            ("engine", self.name, get_args(EngineName)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise ExperimentError(
                    f"there is no {field} of this name",
                    where={field: value, "expected": "one of " + ", ".join(known)},
                )

    def used(self, device: torch.device | str) -> tuple[str, str]:
        """The engine that a device gets, and why it is not OpenVINO: "" where it is, or was not asked for."""
        if self.name == "torch":
            return "torch", ""
        reason = _obstacle(torch.device(device), self.precision)
        return ("torch", reason) if reason else ("openvino", "")

    def run(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return a module that is called as the network is and computes its outputs by this engine.

        Args:
            network: in evaluation mode, on `device`, with its final weights: OpenVINO keeps a copy of them.
            device: where windows live.

        Raises:
            ExperimentError: OpenVINO is demanded and is not installed, or cannot run there or so. The returned
                module raises it on its first call where the network cannot be converted.
        """
        chosen, reason = self.used(device)
        if chosen == "openvino" and takes_domain(network):
            chosen, reason = "torch", "the network is called with a domain"
        if self.name == "openvino" and reason:
            raise _refused(reason)
        if chosen == "openvino":
            return Converted(network, self.precision, required=self.name == "openvino")
        return network if self.precision == "fp32" else Autocast(network, device.type)


class Autocast(nn.Module):
    """A network under bfloat16 autocast."""

    def __init__(self, network: nn.Module, device_type: str) -> None:
        super().__init__()
        self.wrapped = network
        self._device_type = device_type

    def forward(self, image: Tensor, **named: str) -> Any:
        """Return the network's outputs."""
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            return self.wrapped(image, **named)


class Converted(nn.Module):
    """A network that OpenVINO runs on the CPU, with as many threads as torch has when a shape is first met.

    Its float32 rounds more than torch's: docs/how-to/faster.md has figures.

    Args:
        network: in evaluation mode; converted anew for each shape of input. The last few shapes are kept.
        precision: of the convolutions. Asked for explicitly: by default OpenVINO takes bf16 wherever there is one.
        required: raise where the network cannot be converted; else warn once and run it by torch.
    """

    def __init__(self, network: nn.Module, precision: Precision, required: bool) -> None:
        super().__init__()
        self.wrapped = network
        self._precision = precision
        self._required = required
        self.ran: set[str] = set()
        """Names of the engines that have computed outputs since this was last cleared."""
        self._instead: nn.Module | None = None
        self._requests: dict[tuple[int, ...], Any] = {}

    def forward(self, image: Tensor) -> Any:
        """Return the network's (first) output, float32.

        Raises:
            ExperimentError: OpenVINO is required and does not take the network.
        """
        shape = tuple(image.shape)
        if self._instead is None and shape not in self._requests:
            self._convert(image, shape)
        self.ran.add("openvino" if self._instead is None else "torch")
        if self._instead is not None:
            return self._instead(image)
        found = self._requests[shape].infer({0: image.numpy()}, share_inputs=True, share_outputs=False)
        return torch.from_numpy(found[0])

    def _convert(self, image: Tensor, shape: tuple[int, ...]) -> None:
        try:
            request = _compiled(self.wrapped, image, self._precision)
        except MriadError:  # the network refuses the input; so it would under torch
            raise
        except Exception as error:  # two foreign compilers raise what they like
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            if self._required:
                raise _refused(reason) from error
            warnings.warn(
                f"OpenVINO does not take this network; torch runs it ({reason})",
                RuntimeWarning,
                stacklevel=2,
            )
            self._instead = self.wrapped if self._precision == "fp32" else Autocast(self.wrapped, "cpu")
            return
        while len(self._requests) >= _KEPT_SHAPES:
            self._requests.pop(next(iter(self._requests)))
        self._requests[shape] = request


def engines_that_ran(networks: Sequence[nn.Module]) -> tuple[str, ...]:
    """Names of the engines that computed outputs since the last call, sorted: of a prediction that has ended.

    Not what was chosen: a network that OpenVINO cannot convert is run by torch, perhaps from its second shape on.
    """
    found: set[str] = set()
    for network in networks:
        if isinstance(network, Converted):
            found |= network.ran
            network.ran.clear()
        else:
            found.add("torch")
    return tuple(sorted(found))


def takes_domain(network: nn.Module) -> bool:
    """Whether a network is called with `domain=`."""
    asked = network.wrapped if isinstance(network, Autocast) else network
    return "domain" in inspect.signature(asked.forward).parameters


def _compiled(network: nn.Module, image: Tensor, precision: Precision) -> Any:
    """An inference request for inputs of the image's shape.

    Exported rather than traced: a trace keeps silently which way the network's own `if`s went for the example.
    """
    openvino = _openvino()
    with torch.no_grad(), torch.inference_mode(False):
        example = torch.zeros(image.shape)  # an inference tensor cannot be exported
        exported = torch.export.export(network, (example,))
    model = openvino.convert_model(exported)
    model.reshape(list(image.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # several predictions on one machine would be pinned to the same cores
    }
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()


def _openvino() -> Any:
    """The library, silent: by itself it reports each import and conversion to its makers over the network."""
    # Its own modules then take the stub that they hold for machines without the reporting package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _obstacle(device: torch.device, precision: Precision) -> str:
    """Why OpenVINO cannot run here; "" if it can."""
    if device.type != "cpu":
        return f"it runs on the CPU, and the device is {device}"
    if find_spec("openvino") is None:
        return f"it is not installed: {INSTALL}"
    if precision == "bf16":
        able = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            return f"this CPU does not compute in bf16, only in {', '.join(able)}"
    return ""


def _refused(reason: str) -> ExperimentError:
    return ExperimentError(
        "OpenVINO cannot run this network", where={"reason": reason}, remedy="--engine auto or --engine torch"
    )


def engine_version(name: str) -> str:
    """The name with its version, for records."""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name
