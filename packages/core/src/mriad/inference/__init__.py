"""Prediction: sliding window, head, back to the native grid; predictors, how they are kept, and files.

Names are imported when they are used, since most of them need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CasePrediction": "prediction",
    "EnsemblePredictor": "predictor",
    "NetworkPredictor": "predictor",
    "PredictionStream": "prediction",
    "Segmenter": "segmenter",
    "load_predictor": "load",
    "predict": "api",
    "predict_whole": "predictor",
    "save_predictor": "load",
    "start_weights": "load",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
