"""What a checkpoint holds, and loading networks with an error that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mriad.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

FORMAT = 1


def _some(names: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def load_networks(
    networks: Mapping[str, nn.Module], states: Mapping[str, Mapping[str, Tensor]], where: str = ""
) -> None:
    """Load weights by network name, strictly.

    Raises:
        CheckpointError: networks or tensors are missing, unexpected or of another shape; up to four are named.
    """
    place: dict[str, object] = {"checkpoint": where} if where else {}
    if set(networks) != set(states):
        raise CheckpointError(
            "the checkpoint belongs to another learner",
            where={**place, "networks here": _some(sorted(networks)), "in it": _some(sorted(states))},
        )
    for name, network in networks.items():
        here, there = network.state_dict(), states[name]
        faults: dict[str, object] = {}
        missing = [k for k in here if k not in there]
        unexpected = [k for k in there if k not in here]
        shapes = [
            f"{k} {tuple(there[k].shape)} ≠ {tuple(here[k].shape)}"
            for k in here
            if k in there and there[k].shape != here[k].shape
        ]
        if missing:
            faults["missing"] = _some(missing)
        if unexpected:
            faults["unexpected"] = _some(unexpected)
        if shapes:
            faults["other shape"] = _some(shapes)
        if faults:
            raise CheckpointError(
                f"the checkpoint is of another architecture than network '{name}'",
                where={**place, **faults},
                remedy="use the experiment that it was trained with, or start without it",
            )
        network.load_state_dict(dict(there))


def check_format(state: Mapping[str, Any], where: str = "") -> None:
    """Refuse a checkpoint of another format version.

    Raises:
        CheckpointError: the version is not the one that this mriad writes.
    """
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {state.get('format')!r}; this mriad reads {FORMAT}",
            where={"checkpoint": where} if where else None,
        )
