"""The public v2 checkpoint of the spinal cord paper, from a user's file, as a mriad predictor.

Facts about that file: the repository sct-pipeline/contrast-agnostic-softseg-spinalcord, tag v2.0 (`monai/`). It is a
Lightning checkpoint whose `state_dict` holds nnU-Net's plain U-Net under `net.`. Layers appear there under several
names; every copy is compared. The architecture is read from the tensors' shapes, so that later widths fit too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from mriad.errors import CheckpointError
from mriad.launch.checkpoints import load_plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mriad.experiment.model import PredictSection
    from mriad.interfaces import Model, PreprocessingStep
    from mriad.vocabulary import Task
    from torch import Tensor

WRAPPERS = ("net.", "model.", "module.")
"""Prefixes that trainers put before every name."""
_COPIES = (
    (re.compile(r"^decoder\.encoder\."), "encoder."),  # the decoder holds the encoder again
    (re.compile(r"\.conv\.(weight|bias)$"), r".all_modules.0.\1"),  # a layer beside the sequence that runs it
    (re.compile(r"\.norm\.(weight|bias)$"), r".all_modules.1.\1"),
)
CROP = (64, 192)
"""R-L and A-P size of the crop that the paper predicts, in mm; the whole length along the cord."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The network's tensors under the names of `standard.plain_unet`, each once; nothing in the file is run.

    Args:
        path: a torch file that holds tensors by name, or a mapping with such under `state_dict`.

    Raises:
        CheckpointError: missing, damaged, it holds code or no network, or copies of a layer differ.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where={"file": path})
    try:
        raw = load_plain(path)
    except CheckpointError as error:
        if "holds code" not in error.what:
            raise
        raise CheckpointError(
            f"{path.name} holds more than tensors, and mriad does not run what lies in a file",
            where=error.where,
            remedy="where you trust the file and its trainer is installed, keep its tensors alone:\n"
            '    torch.save(torch.load(FILE, weights_only=False)["state_dict"], "weights.pt")',
        ) from error
    inner = raw.get("state_dict", raw)
    given = {k: v for k, v in inner.items() if isinstance(v, torch.Tensor)} if isinstance(inner, dict) else {}
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, tensor in given.items():
        name = key
        for prefix in WRAPPERS:
            name = name.removeprefix(prefix)
        if not name.startswith(("encoder.", "decoder.")):
            continue  # a loss's or a trainer's own
        for pattern, canonical in _COPIES:
            name = pattern.sub(canonical, name)
        if name in found and not torch.equal(found[name], tensor):
            raise CheckpointError(
                "two copies of one layer differ",
                where={"file": path, "first": origin[name], "second": key},
                remedy="the file was changed after training, or is no plain U-Net; ask where it comes from",
            )
        found.setdefault(name, tensor.float())
        origin.setdefault(name, key)
    if not found:
        raise CheckpointError(
            "the file holds no U-Net",
            where={
                "file": path,
                "expected": "tensors named encoder.… and decoder.…, maybe below state_dict and net.",
                "found": ", ".join(list(given)[:3]) or "no tensors",
            },
        )
    return found


def architecture(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The settings of `standard.plain_unet` whose tensors have these shapes.

    Raises:
        CheckpointError: a resolution is missing, or a convolution is none of three dimensions.
    """
    first: list[Tensor] = []
    while (key := f"encoder.stages.{len(first)}.0.convs.0.all_modules.0.weight") in tensors:
        first.append(tensors[key])
    ups: list[Tensor] = []
    while (key := f"decoder.transpconvs.{len(ups)}.weight") in tensors:
        ups.append(tensors[key])
    if len(first) < 2 or len(ups) != len(first) - 1 or any(t.ndim != 5 for t in (*first, *ups)):
        raise CheckpointError(
            "the file's network is no plain 3D U-Net of nnU-Net's kind",
            where={"file": path, "resolutions down": len(first), "up": len(ups)},
        )
    convs = sum(f"encoder.stages.0.0.convs.{n}.all_modules.0.weight" in tensors for n in range(len(tensors)))
    return {
        "features": [int(t.shape[0]) for t in first],
        # A transposed convolution's kernel is the stride that it undoes.
        "strides": [[1, 1, 1], *(list(map(int, t.shape[2:])) for t in reversed(ups))],
        "kernel_sizes": [list(map(int, t.shape[2:])) for t in first],
        "convs_per_stage": convs,
        "deep_supervision": True,
    }


def convert(path: Path, folder: Path, low_cut: float = 0.0) -> Path:
    """Write the predictor of a public checkpoint into a folder.

    The predictor does what the public code does (`monai/run_inference_single_image.py`): RPI, 1 mm, centre crop of
    64 × 192 mm across the cord and the whole length along it, z-score, sliding window, NormReLU over the stitched
    volume. One deviation: padding takes no part in the z-score.

    Args:
        path: the user's file.
        folder: made where it is missing.
        low_cut: soft values at or below it become 0.

    Raises:
        CheckpointError: as `read_tensors` and `architecture`; or names or shapes do not fit: each is named.
    """
    import mriad
    from mriad.experiment.model import PredictSection
    from mriad.inference.load import save_predictor
    from mriad.vocabulary import LabelSet, Task

    tensors = read_tensors(path)
    model: Model = mriad.component("model", "standard.plain_unet", **architecture(tensors, path))
    channels = int(tensors["encoder.stages.0.0.convs.0.all_modules.0.weight"].shape[1])
    if channels != 1:
        raise CheckpointError(
            "the file's network takes several channels; the paper's takes one",
            where={"file": path, "channels": channels},
        )
    task = Task(("image",), {"": LabelSet.of({"cord": 1})}, "raw")
    _check(tensors, model, task, path)
    predict: PredictSection = PredictSection.model_validate(
        {"head": {"type": "softseg.norm_relu"}, "window": [*CROP, "full"], "low_cut": low_cut}
    )
    steps: list[PreprocessingStep] = [
        mriad.component("preprocessing", "data.orient", axes="RPI"),
        mriad.component("preprocessing", "data.resample", spacing_mm=[1, 1, 1], image_order=2),
        mriad.component("preprocessing", "data.center_crop", size=[*CROP, "full"]),
        mriad.component("preprocessing", "data.z_score"),
    ]
    return save_predictor(
        folder,
        task=task,
        predict=predict,
        model=model,
        preprocessing=steps,
        parameters=[None] * len(steps),
        networks={"network": tensors},
    )


def _check(tensors: Mapping[str, Tensor], model: Model, task: Task, path: Path) -> None:
    """Every tensor of the network is there, by name and shape, and nothing else is."""
    with torch.device("meta"):  # shapes alone
        expected = {name: tuple(t.shape) for name, t in model.build(task).state_dict().items()}
    given = {name: tuple(t.shape) for name, t in tensors.items()}
    faults = {
        **{name: f"missing; expected {shape}" for name, shape in expected.items() if name not in given},
        **{
            name: f"{shape}; no layer of the network" for name, shape in given.items() if name not in expected
        },
        **{
            name: f"{given[name]}; expected {shape}"
            for name, shape in expected.items()
            if name in given and given[name] != shape
        },
    }
    if faults:
        raise CheckpointError(
            f"{len(faults)} tensors do not fit the network",
            where={"file": path, **dict(list(faults.items())[:6])},
            remedy="the converter knows the plain U-Net of the public v2 models",
        )
