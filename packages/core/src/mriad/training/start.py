"""Starting networks from weights made elsewhere: by name, with a written map, never silently empty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mriad.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def load_start(networks: Mapping[str, nn.Module], place: str, key_map: Mapping[str, str]) -> str:
    """Load the weights of a predictor folder or model file into every network of a learner; return what matched.

    Args:
        networks: of the learner; all of them start from the same weights where names match.
        place: folder or file.
        key_map: prefix there → prefix here; empty: equal names. A tensor that no prefix covers is left out.

    Raises:
        CheckpointError: nothing matched in a network, or a matched tensor has another shape.
    """
    from mriad.inference.load import start_weights

    found = start_weights(Path(place))
    tensors = {name: tensor for network in found.values() for name, tensor in network.items()}
    said = []
    for name, network in networks.items():
        matched = match(network, tensors, key_map, name, place)
        network.load_state_dict(matched, strict=False)
        said.append(f"{name}: {len(matched)} of {len(network.state_dict())} tensors")
    return f"started from {place} ({', '.join(said)})"


def match(
    network: nn.Module, tensors: Mapping[str, Tensor], key_map: Mapping[str, str], name: str, place: str
) -> dict[str, Tensor]:
    """The tensors that a network takes over, under its own names.

    Raises:
        CheckpointError: none, or one of another shape.
    """
    here = network.state_dict()
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if not key_map:
            renamed[key] = tensor
        for there, mine in key_map.items():
            if key.startswith(there):
                renamed[mine + key.removeprefix(there)] = tensor
    matched = {key: tensor for key, tensor in renamed.items() if key in here}
    wrong = [
        f"{k} {tuple(t.shape)} ≠ {tuple(here[k].shape)}"
        for k, t in matched.items()
        if t.shape != here[k].shape
    ]
    if not matched or wrong:
        raise CheckpointError(
            f"network '{name}' cannot start from these weights",
            where={
                "weights": place,
                "matched": len(matched),
                "other shape": ", ".join(wrong[:4]) or "none",
                "names there": ", ".join(list(tensors)[:3]),
                "names here": ", ".join(list(here)[:3]),
            },
            remedy="map the names with `key_map: {prefix there: prefix here}`, or use `from: scratch`",
        )
    return matched
