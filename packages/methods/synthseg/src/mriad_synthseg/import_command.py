"""`mriad synthseg import`: the public weights from a user's .h5 file, as a model that `mriad predict` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from mriad.errors import DataError

if TYPE_CHECKING:
    from mriad.vocabulary import LabelSet

NETWORK = "synthseg.unet"
# Structures that are one piece each: topology classes of the published model.
_PIECES = ([2, 3, 4, 5], [7, 8], [41, 42, 43, 44], [46, 47])


def import_weights(
    file: Annotated[Path, typer.Argument(help="The .h5 file, downloaded from SynthSeg's own place.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File NAME.mriad.safetensors, or a folder.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table or folder of arrays with the labels. [default: the 32 structures of SynthSeg]"
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the weights, by SPDX name.")
    ] = "LicenseRef-of-the-source-file",
    flips: Annotated[
        bool, typer.Option(help="Average with the left–right mirror image, as the original; twice the time.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Convert the Keras weights of SynthSeg's U-Net; needs h5py.

    Example: mriad synthseg import synthseg_1.0.h5 --out synthseg --licence Apache-2.0

    Layers are matched by name and shape; anything missing or left over is an error.
    """
    import tempfile

    from mriad.cli.next_step import next_step
    from mriad.model_file import export_model, read_card

    with tempfile.TemporaryDirectory(prefix="mriad-synthseg-") as folder:
        save_converted(file, Path(folder), labels, flips)
        path = export_model(folder, out, licence=licence, name="", training={}, overwrite=overwrite)
    card = read_card(path)
    typer.echo(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB, {len(card.structures)} structures)")
    next_step(f"mriad model import {path}", "predict with it by name")


def save_converted(file: Path, folder: Path, labels: Path | None = None, flips: bool = True) -> Path:
    """Write a predictor folder with the weights of a Keras file.

    Raises:
        PluginError: h5py, or the plugin's network, is not installed.
        CheckpointError: the file is not that of SynthSeg's U-Net, or the network has other tensors.
        DataError: the labels are not as many as the network's outputs.
    """
    from mriad.experiment.model import PredictSection
    from mriad.inference.load import save_predictor
    from mriad.interfaces import Model, PreprocessingStep
    from mriad.training.checkpoint import load_networks
    from mriad.vocabulary import Task

    from mriad_synthseg.inference_steps import STEPS
    from mriad_synthseg.keras_file import architecture_of, converted, read_arrays

    arrays = read_arrays(file)
    net = architecture_of(arrays, file)
    tensors = converted(arrays, net, file)
    label_set = _label_set(labels, net.labels)
    channels = ("image",) if net.channels == 1 else tuple(f"image{c + 1}" for c in range(net.channels))
    task = Task(channels, {"": label_set}, "softmax")
    model = Model.resolve({"type": NETWORK, **_sizes(net)})
    network = model.build(task)
    # Counters of batches are the only tensors that Keras does not keep; they change no prediction.
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    state = {**tensors, **counters}
    load_networks({"network": network}, {"network": state}, str(file))
    predict: dict[str, Any] = {
        "head": {"type": "synthseg.posteriors", "groups": _groups(label_set)},
        "test_time": {"flips": ["x"] if flips else []},
        "window": [192, 192, 192],
        "overlap": 0.25,
    }
    return save_predictor(
        folder,
        task=task,
        predict=PredictSection.model_validate(predict),
        model=model,
        preprocessing=[PreprocessingStep.resolve(step) for step in STEPS],
        parameters=[None] * len(STEPS),
        networks={"network": state},
    )


def _sizes(net: Any) -> dict[str, Any]:
    """Settings of `synthseg.unet` for an architecture."""
    return {
        "features": net.features,
        "levels": net.levels,
        "convs_per_level": net.convolutions,
        "norm": "batch" if net.norm else "none",
    }


def _label_set(labels: Path | None, outputs: int) -> LabelSet:
    """Structures in the order of the outputs, which is that of their values.

    Raises:
        DataError: another number than outputs after background.
    """
    from mriad.vocabulary import LabelSet
    from mriad_data.freesurfer import NAMES
    from mriad_data.label_table import read_label_table

    from mriad_synthseg.keras_layers import SEGMENTED

    if labels is None:
        values = {NAMES[v]: v for v in SEGMENTED}
    else:
        table = read_label_table(labels).segmented
        values = {s.name: s.value for s in sorted(table.structures, key=lambda s: s.value)}
    if len(values) != outputs - 1:
        raise DataError(
            "the labels are not as many as the network's outputs",
            where={"labels": len(values), "outputs after background": outputs - 1},
            remedy="--labels TABLE of the model that you have",
        )
    return LabelSet.of(values)


def _groups(label_set: LabelSet) -> list[list[str]]:
    """The published topology classes, where the label set has FreeSurfer's values; single structures count too."""
    from mriad_synthseg.keras_layers import SEGMENTED

    names = {s.value: s.name for s in label_set.structures}
    if not set(names) <= set(SEGMENTED):
        return []
    pieces = [[names[v] for v in piece if v in names] for piece in _PIECES]
    inside = {v for piece in _PIECES for v in piece}
    # 24, the fluid outside the brain, is spread over many pieces.
    single = [[name] for value, name in names.items() if value not in inside and value != 24]
    return [piece for piece in pieces if piece] + single
