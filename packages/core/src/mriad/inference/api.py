"""Prediction from Python in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.images import read_volume
from mriad.inference.engine import Engine, EngineName, Precision
from mriad.inference.load import load_predictor
from mriad.inference.prediction import stream_of
from mriad.inference.predictor import OfNetworks
from mriad.model_file import find_model
from mriad.vocabulary import Volume

if TYPE_CHECKING:
    from mriad.inference.prediction import CasePrediction, OnWindow
    from mriad.interfaces import CasePredictor

    Image = Path | str | Volume
    Model = Path | str | CasePredictor


def predict(
    model: Model,
    image: Image | Mapping[str, Image],
    *,
    device: str = "cpu",
    engine: EngineName = "auto",
    precision: Precision = "fp32",
    domain: str = "",
    runs: Path | str | None = None,
    on_window: OnWindow | None = None,
) -> CasePrediction:
    """Segment one case.

    Args:
        model: name of an imported model; a model file; the folder of a predictor, stage or run; or a predictor
            that was loaded before (`mriad.inference.load_predictor`), for many cases.
        image: a NIfTI file or a `Volume` for a model of one channel; channel name → image for several.
        device: "cpu", "cuda", …; not used with a loaded predictor.
        engine: what runs the networks: "torch"; "openvino", on the CPU, an extra; "auto": OpenVINO on the CPU where
            it is installed and takes the networks, else torch. Not used with a loaded predictor.
        precision: "fp32", or "bf16" for convolutions in bfloat16; not used with a loaded predictor.
        domain: for domain-specific models.
        runs: the runs root, where imported models are; default as everywhere.
        on_window: called with (windows done, windows in all).

    Returns:
        probabilities (S, X, Y, Z) on the grid of the (first) image; `.hard()` gives label values.

    Raises:
        CheckpointError: the model is not there or cannot be read.
        DataError: an image cannot be read, or the channels are not the model's.
        ExperimentError: the engine cannot run the networks on this device.
    """
    if isinstance(model, (str, Path)):
        predictor = load_predictor(find_model(model, runs), device, engine=Engine(engine, precision))
    else:
        predictor = model
    if domain and isinstance(predictor, OfNetworks):
        predictor = predictor.for_domain(domain)
    return stream_of(predictor, read_channels(predictor, image), on_window).collect()


def read_channels(predictor: CasePredictor, image: Image | Mapping[str, Image]) -> dict[str, Volume]:
    """Read what is given as files; one image without a name is the first channel."""
    given = image if isinstance(image, Mapping) else {predictor.channels[0]: image}
    return {n: v if isinstance(v, Volume) else read_volume(v) for n, v in given.items()}
