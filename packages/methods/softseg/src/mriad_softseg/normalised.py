"""Raw outputs brought to [0, 1] by a scale that follows from the volume.

Shape letters: B samples, S structures, D one to three spatial axes.
"""

from __future__ import annotations

import torch


def norm_relu(raw: torch.Tensor, over: tuple[int, ...] | None = None) -> torch.Tensor:
    """max(x, 0) / max, for (B, S, *D); all zeros where nothing is positive. float64 stays, the rest is float32.

    Args:
        raw: outputs.
        over: axes that share one maximum; None: the spatial ones, so that samples and structures are apart.
    """
    x = raw if raw.dtype == torch.float64 else raw.float()
    x = x.relu()
    top = x.amax(tuple(range(2, x.ndim)) if over is None else over, keepdim=True)
    return x / torch.where(top > 0, top, 1)


def robust_maximum(raw: torch.Tensor, quantile: float, inside: float) -> torch.Tensor:
    """Divide each of (S, *D) by a quantile of its values above `inside`, then clamp to [0, 1]; float32."""
    x = raw.float()
    rows = []
    for channel in x:
        body = channel[channel > inside].double().sort().values
        divisor: torch.Tensor | float = 1.0
        if len(body):
            # Between the two order statistics next to it, as NumPy does; torch.quantile refuses large volumes.
            place = quantile * (len(body) - 1)
            low, high = body[int(place)], body[min(int(place) + 1, len(body) - 1)]
            divisor = (low + (high - low) * (place - int(place))).float()
        rows.append((channel / divisor).clamp(0, 1))
    return torch.stack(rows)
