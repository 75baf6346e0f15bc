"""Networks compiled for training: the same weights under the same names, called the same way."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import torch

from mriad.errors import ExperimentError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn


def compiled(network: nn.Module, dimensions: int) -> nn.Module:
    """Compile a network in place, and lay its weights out with the channels last.

    Compilation happens in the first call and again for each new shape of input. Names and values of tensors stay, so
    checkpoints are those of the plain network; a deep copy of the network is a plain one.

    Args:
        network: of any device.
        dimensions: 2 or 3.

    Raises:
        ExperimentError: there is no C++ compiler.
    """
    wanted = os.environ.get("CXX") or (
        "clang++" if sys.platform == "darwin" else "g++"
    )  # as torch chooses it
    if shutil.which(wanted) is None:
        raise ExperimentError(
            "compiling a network needs a C++ compiler",
            where={"looked for": wanted},
            remedy="install g++, name another in the environment variable CXX, or set budget.compile: false",
        )
    layout = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    network.to(memory_format=layout)
    network.compile(dynamic=False)  # patches have one size; code for any size is slower
    return network


def as_written() -> AbstractContextManager[Any]:
    """Inside, compiled networks run as they are written: validation has other shapes, and too few to compile for.

    Nothing changes where nothing is compiled.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was ever compiled: spare the import, which takes seconds
        return contextlib.nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
