"""How an ablation is concluded: an interface, since core may not import statistics or figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.component import Component

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad.ablation.study import Study


class Comparison(Component):
    """Turns the tables of an ablation's trials into tests, tables, figures and a verdict."""

    interface = "comparison"

    def needs(self) -> tuple[str, ...]:
        """Keys of the metrics that it reads; the trials must measure them. Empty: whatever was measured."""
        raise NotImplementedError

    def check(self, variants: Sequence[str]) -> None:
        """Refuse what cannot fit the variants, before anything starts.

        Raises:
            ExperimentError: such as a reference that is no variant.
        """

    def conclude(self, study: Study, folder: Path) -> list[str]:
        """Write tables and figures into `folder`, and return the verdict as lines for a person.

        Raises:
            DataError: the tables cannot be compared; what is missing is named.
        """
        raise NotImplementedError
