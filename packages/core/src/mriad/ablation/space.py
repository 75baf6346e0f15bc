"""What a search may try for a field of an experiment: ranges and lists, in the words and meanings of Ray Tune."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from mriad.component import Config
from mriad.identity import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DIGITS = 6
"""Significant digits of a drawn number: a person copies it, and it means the same everywhere."""
_REDRAWS = 10_000


class Values(Config):
    """The values of one field; exactly one of the four is given."""

    uniform: tuple[float, float] | None = Field(None, description="[low, high], every value as likely.")
    loguniform: tuple[float, float] | None = Field(
        None, description="[low, high] above 0, every order of magnitude as likely."
    )
    randint: tuple[int, int] | None = Field(None, description="Whole numbers from low to high − 1.")
    choice: list[Any] | None = Field(None, description="One of these, each as likely.")

    @model_validator(mode="after")
    def _one_that_is_not_empty(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "takes one of uniform, loguniform, randint and choice, such as {loguniform: [1e-4, 1e-2]}"
            )
        if self.choice is not None:
            marks = [fingerprint(value) for value in self.choice]
            if len(set(marks)) < 2 or len(set(marks)) < len(marks):
                raise ValueError("choice needs two values or more, all different")
            return self
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{given[0]} needs two numbers, the lower first, not [{low:g}, {high:g}]")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform needs bounds above 0, not [{low:g}, {high:g}]")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high as written; of a range."""
        found = self.uniform or self.loguniform or self.randint
        assert found is not None
        return found

    @property
    def count(self) -> int | None:
        """How many values there are; None: more than anybody could try."""
        if self.choice is not None:
            return len(self.choice)
        return self.randint[1] - self.randint[0] if self.randint is not None else None

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.choice is not None:
            return self.choice[int(rng.integers(len(self.choice)))]
        if self.randint is not None:
            return int(rng.integers(*self.randint))
        low, high = self.bounds
        if self.loguniform is not None:
            drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            drawn = rng.uniform(low, high)
        return self.rounded(drawn)

    def rounded(self, number: float) -> float:
        """A number of a range with few digits, within the range."""
        low, high = self.bounds
        return min(max(float(f"{number:.{_DIGITS}g}"), low), high)

    def ends(self) -> list[Any]:
        """What is checked before anything starts: every choice, or both ends of a range."""
        if self.choice is not None:
            return list(self.choice)
        if self.randint is not None:
            return sorted({self.randint[0], self.randint[1] - 1})
        return list(self.bounds)

    def __str__(self) -> str:
        """`loguniform [0.0001, 0.01]`."""
        name = next(name for name in type(self).model_fields if getattr(self, name) is not None)
        return f"{name} {list(getattr(self, name))}"


def draws(space: Mapping[str, Values], trials: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw `trials` different combinations of values.

    The n-th is a function of space, seed and n, so that more trials go on where fewer ended, on every machine and
    with every launcher.
    """
    seen: set[str] = set()
    for number in range(trials):
        for attempt in range(_REDRAWS):
            values = {key: space[key].draw(_rng(seed, number, attempt, key)) for key in space}
            if (mark := fingerprint(values)) not in seen:
                break
        seen.add(mark)
        yield values


def combinations(space: Mapping[str, Values]) -> int | None:
    """How many combinations a space has; None where a range is continuous."""
    counts = [values.count for values in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def to_check(space: Mapping[str, Values]) -> Iterator[dict[str, Any]]:
    """Combinations that hold each end and each choice at least once, the others at their first."""
    ends = {key: values.ends() for key, values in space.items()}
    for round_ in range(max(map(len, ends.values()))):
        yield {key: found[min(round_, len(found) - 1)] for key, found in ends.items()}


def _rng(seed: int, number: int, attempt: int, key: str) -> np.random.Generator:
    return np.random.default_rng(int(fingerprint([seed, number, attempt, key])[:16], 16))
