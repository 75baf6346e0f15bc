"""Everything that is wrong with a data set, collected and reported in one message."""

from __future__ import annotations

from mriad.errors import DataError

_SHOWN = 20  # places in one report


class Faults:
    """Faults by the place where they were found, in the order in which they were found."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def add(self, where: str, what: str) -> None:
        """Note a fault; `where` is a file, a case or a column."""
        self.lines.setdefault(where, []).append(what)

    def raise_any(self, what: str, remedy: str = "") -> None:
        """Raise one error that lists all faults, if there are any.

        Raises:
            DataError: begins with `what` and the number of faults; the first 20 places are listed.
        """
        if not self.lines:
            return
        shown: dict[str, object] = {
            where: "; ".join(texts) for where, texts in list(self.lines.items())[:_SHOWN]
        }
        if len(self.lines) > _SHOWN:
            shown["…"] = f"and {len(self.lines) - _SHOWN} more"
        count = len(self)
        raise DataError(f"{what} has {count} fault{'s' if count > 1 else ''}", where=shown, remedy=remedy)
