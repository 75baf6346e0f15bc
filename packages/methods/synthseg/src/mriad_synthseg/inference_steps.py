"""What is done to a scan before SynthSeg's network sees it, as settings of preprocessing steps."""

from __future__ import annotations

from typing import Any

STEPS: list[dict[str, Any]] = [
    {"type": "data.orient", "axes": "RAS"},
    {"type": "data.resample", "spacing_mm": [1, 1, 1], "image_order": 1},
    {"type": "data.percentile", "lower": 0.5, "upper": 99.5},
]
"""Axes, 1 mm, robust rescaling to [0, 1]. The original leaves spacings within .05 mm of 1 as they are; here any
spacing but 1 mm is resampled, which costs a little blur and keeps structures at their size."""
