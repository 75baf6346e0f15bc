"""What the measuring of area can be told; light, so that configs may import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Values = Literal["soft", "binary"]


@dataclass(frozen=True)
class TubeSettings:
    """How a tubular structure is measured.

    values: "soft", uncut values; "binary", 1 where > .5 (a tie is background). smoothing_mm: ℓ of the centre line.
    drop_ends: so many slices at either end of the structure are not used, since they are cut through by its end
    (partial volume): neither for the centre line nor for averages. reach_mm: values of a slice count up to so far
    from its largest region, so that a faint background does not grow with the field of view.
    """

    values: Values = "soft"
    smoothing_mm: float = 5.0
    drop_ends: int = 1
    reach_mm: float = 10.0


@dataclass(frozen=True)
class CsaSettings:
    """How area is averaged over levels: see `TubeSettings`; there is no mean from fewer than `min_slices`."""

    values: Values = "soft"
    min_slices: int = 2
    drop_ends: int = 1
    smoothing_mm: float = 5.0
    reach_mm: float = 10.0

    @property
    def tube(self) -> TubeSettings:
        """The part about slices."""
        return TubeSettings(self.values, self.smoothing_mm, self.drop_ends, self.reach_mm)
