"""What the adapters of other libraries share: construction, seeding, samples in and out of a batch."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mriad.errors import DataError, ExperimentError, MriadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor

PARTS = ("image", "target", "validity", "field")
"""The tensors of a batch that a transform may move, by attribute name."""


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of torch, NumPy and `random` in a block; restore them after it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would also reseed CUDA's generators, which the fork leaves out.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def find(library: str, available: Mapping[str, type], name: str) -> type:
    """The class of that name.

    Raises:
        ExperimentError: there is none; the nearest name is given.
    """
    if name in available:
        return available[name]
    close = difflib.get_close_matches(name, available, n=1, cutoff=0.5)
    raise ExperimentError(
        f"{library} has no transform '{name}'",
        remedy=f"did you mean '{close[0]}'?"
        if close
        else f"see the list of transforms in {library}'s reference",
    )


def construct(library: str, kind: type, arguments: Mapping[str, Any], reserved: Mapping[str, Any]) -> Any:
    """`kind(**arguments, **reserved)` with errors for the person who wrote the arguments.

    Args:
        library: its name, for messages.
        kind: the class.
        arguments: what the experiment gives.
        reserved: what the adapter gives.

    Raises:
        ExperimentError: an unknown or reserved argument, a missing one, or one that the class refuses.
    """
    known = _parameters(kind)
    where: dict[str, object] = {"transform": f"{library} {kind.__name__}"}
    for name in arguments:
        if name in reserved:
            raise ExperimentError(
                f"argument '{name}' is set by the adapter", where=where, remedy=f"leave out '{name}'"
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ExperimentError(
                f"{kind.__name__} has no argument '{name}'",
                where={**where, "arguments": ", ".join(known)},
                remedy=f"did you mean '{close[0]}'?" if close else "use one of these arguments",
            )
    try:
        return kind(**arguments, **reserved)
    except Exception as error:  # libraries refuse values by many types of exception, assertions included
        raise ExperimentError(
            f"{library} refuses the arguments of {kind.__name__}",
            where={
                **where,
                "arguments": ", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "none",
                "reason": f"{type(error).__name__}: {error}",
            },
            remedy=f"see the reference of {kind.__name__}",
        ) from error


def _parameters(kind: type) -> list[str]:
    """Names of keyword arguments of a class; where it takes **kwargs, those of its bases too."""
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names.update(
            dict.fromkeys(
                p.name
                for p in parameters
                if p.name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            )
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def by_sample(
    batch: Batch,
    draws: Draws,
    name: str,
    apply: Callable[[dict[str, Tensor], Sequence[float], int], dict[str, Tensor]],
) -> Batch:
    """Call `apply(parts, spacing, seed)` on each sample and stack what it returns.

    `parts` holds copies of what the batch has of `PARTS`, without the batch axis; a part may be left out of
    the result, which keeps it. A soft target is clamped to [0, 1]; every part gets its data type back.

    Raises:
        DataError: `apply` fails, gives values that are not finite, or sizes that differ between samples.
    """
    seeds = draws.integers(0, 2**31 - 1).tolist()
    space = batch.image.ndim - 2
    tensors = {part: getattr(batch, part) for part in PARTS if getattr(batch, part) is not None}
    results: dict[str, list[Tensor]] = {part: [] for part in tensors}
    for i, seed in enumerate(seeds):
        where = {"transform": name, "case": batch.cases[i]}
        spacing = batch.spacing[i] if batch.spacing else (1.0,) * space
        parts = {part: tensor[i].cpu().clone() for part, tensor in tensors.items()}
        before = {part: tensor.dtype for part, tensor in parts.items()}
        try:
            with global_seed(seed):
                changed = {**parts, **apply(dict(parts), spacing, seed)}
        except MriadError:
            raise
        except Exception as error:
            raise DataError(
                f"{name} failed on a sample",
                where={**where, "reason": f"{type(error).__name__}: {error}"},
                remedy="check the transform's arguments against the size and values of the sample",
            ) from error
        if not bool(torch.isfinite(changed["image"]).all()):
            raise DataError(
                f"{name} made values that are not finite", where=where, remedy="narrow its arguments"
            )
        for part, dtype in before.items():
            value = changed[part]
            if part == "target" and dtype.is_floating_point:
                value = value.clamp(0, 1)
            results[part].append(value.to(dtype))
    stacked: dict[str, Tensor] = {}
    for part, rows in results.items():
        sizes = {tuple(row.shape) for row in rows}
        if len(sizes) > 1:
            raise DataError(
                f"{name} gives samples of one batch different sizes",
                where={"part": part, "sizes": sorted(sizes)},
                remedy="give the transform a fixed output size",
            )
        stacked[part] = torch.stack(rows).to(tensors[part].device)
    return replace(
        batch,
        image=stacked["image"],
        target=stacked.get("target"),
        validity=stacked.get("validity"),
        field=stacked.get("field"),
    )
