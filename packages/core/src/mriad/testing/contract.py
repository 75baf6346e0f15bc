"""What every check shares: its error, configs that survive JSON, inputs that stay as they were, random state."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mriad.component import Component


class ContractError(AssertionError):
    """A component breaks its interface's contract."""


def require(condition: bool, message: str) -> None:
    """Raise ContractError with `message` unless `condition`."""
    if not condition:
        raise ContractError(message)


def check_config(component: Component) -> None:
    """A component is a config: it round-trips through JSON data and names its type.

    Raises:
        ContractError: it does not.
    """
    name = component.type_name()
    require(bool(name) and "." in name, f"{type(component).__name__} has no `type` of the form plugin.name")
    dumped = component.model_dump(mode="json")
    require(
        type(component).model_validate(dumped) == component, f"{name} changes when dumped and validated again"
    )


@contextmanager
def untouched(what: str, arrays: Mapping[str, Any]) -> Iterator[None]:
    """Hold that arrays and tensors are not written to within the block.

    Raises:
        ContractError: one was.
    """
    before = {n: (x.clone() if isinstance(x, torch.Tensor) else np.array(x)) for n, x in arrays.items()}
    yield
    for name, old in before.items():
        new = arrays[name]
        same = torch.equal(old, new) if isinstance(old, torch.Tensor) else np.array_equal(old, new)
        require(bool(same), f"{what} writes into its input '{name}'; return new arrays instead")


@contextmanager
def own_randomness(what: str) -> Iterator[None]:
    """Hold that Python's, NumPy's and torch's global random states are as before.

    Raises:
        ContractError: one was used.
    """

    def state() -> tuple[Any, Any, Any]:
        numpy: Any = np.random.get_state()
        return random.getstate(), [*numpy[1], numpy[2]], torch.get_rng_state()

    before = state()
    yield
    after = state()
    for library, same in (
        ("Python's random", before[0] == after[0]),
        ("NumPy's", before[1] == after[1]),
        ("torch's", torch.equal(before[2], after[2])),
    ):
        require(same, f"{what} uses {library} global random state; draw from what it is given")


def finite(what: str, value: Any) -> None:
    """Raise ContractError where an array or tensor holds NaN or infinity."""
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    require(bool(np.isfinite(array).all()), f"{what} holds NaN or infinity")


def check_target(what: str, before: Any, after: Any) -> None:
    """A target is still one: integers keep their values, soft ones stay in [0, 1].

    Raises:
        ContractError: a label was treated like an image.
    """
    before, after = (x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x for x in (before, after))
    require(after is not None, f"{what} drops the target")
    hard = np.issubdtype(before.dtype, np.integer)
    require(
        hard == np.issubdtype(after.dtype, np.integer),
        f"{what} turns a {before.dtype} target into {after.dtype}; hard targets stay integers, soft ones floats",
    )
    if hard:
        new = set(np.unique(after)) - set(np.unique(before)) - {0}
        require(not new, f"{what} makes label values {sorted(new)}: is the label resampled like an image?")
        return
    finite(f"the soft target after {what}", after)
    low, high = float(after.min()), float(after.max())
    require(
        low >= -1e-6 and high <= 1 + 1e-6, f"{what} takes a soft target out of [0, 1]: {low:g} to {high:g}"
    )
