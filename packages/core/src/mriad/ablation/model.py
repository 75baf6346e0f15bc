"""The ablation file as a typed tree. Its field names are the YAML's."""

# ruff: noqa: TC001, TC003 - pydantic reads the annotations when the classes are made

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mriad.component import Config
from mriad.experiment.model import BudgetSection, ResourcesSection, Section
from mriad.interfaces import Comparison, Split

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$"
RESERVED = ("predictions", "same_as")
"""Keys of a variant that are no fields of an experiment."""


class Variant(Config):
    """One variant: what it changes in the base experiment, or where its finished predictions are."""

    overrides: dict[str, Any] = Field(
        default_factory=dict, description="Field of the experiment (`loss`, `predict.head`) → value."
    )
    predictions: Path | None = Field(
        None, description="Folder of predictions made elsewhere: scored like the rest, never trained."
    )
    same_as: str = Field(
        "", description="An A/A control: the variant that this one repeats, with other seeds."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        """A variant overrides, imports or repeats."""
        if sum((bool(self.overrides), self.predictions is not None, bool(self.same_as))) > 1:
            raise ValueError("has either fields of the experiment, or `predictions`, or `same_as`")
        return self


class Grid(Config):
    """Values to combine: every variant named in `for` becomes one variant a combination."""

    variants: list[str] = Field(alias="for", min_length=1, description="Variants that the grid multiplies.")
    values: dict[str, list[Any]] = Field(
        min_length=1, description="Field of the experiment → the values to try."
    )

    @field_validator("values")
    @classmethod
    def _some(cls, values: dict[str, list[Any]]) -> dict[str, list[Any]]:
        empty = [key for key, options in values.items() if not options]
        if empty:
            raise ValueError(f"no values for {', '.join(empty)}")
        return values


class Ablation(Section):
    """Variants × folds × seeds of a base experiment, and how to compare them."""

    name: str = Field(pattern=NAME, description="Letters, digits, . _ : -; default: the file's name.")
    description: str = Field("", description="For people; changes no result.")
    base: str = Field(description="Experiment file (relative to this one), or `plugin:name`.")
    variants: dict[Annotated[str, Field(pattern=NAME)], Variant] = Field(
        min_length=1, description="Name → what it changes in the base; {} is the base itself."
    )
    grid: list[Grid] = Field(default_factory=list, description="Combinations of values for some variants.")
    folds: Split | None = Field(
        None, description="Split by person, the same for all variants; default: the base's."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="Of initial weights and draws; the same for all variants."
    )
    budget: dict[str, Any] = Field(
        default_factory=dict, description="Over the base's `budget`, the same for all variants."
    )
    resources: dict[str, Any] = Field(
        default_factory=dict, description="Over the base's `resources`, for each trial."
    )
    compare: Comparison = Field(default="eval.comparison", validate_default=True)

    @field_validator("variants", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        """`{loss.omega: 8}` as `{overrides: {loss.omega: 8}}`."""
        if not isinstance(value, dict):
            return value
        return {name: _variant(raw) for name, raw in value.items()}

    @field_validator("grid", mode="before")
    @classmethod
    def _split_grid(cls, value: Any) -> Any:
        """`{for: [a], x: [1, 2]}` as `{for: [a], values: {x: [1, 2]}}`."""
        if not isinstance(value, list):
            return value
        return [
            {"for": item.get("for", []), "values": {k: v for k, v in item.items() if k != "for"}}
            if isinstance(item, dict) and "values" not in item
            else item
            for item in value
        ]

    @field_validator("folds", mode="before")
    @classmethod
    def _short_folds(cls, value: Any) -> Any:
        """`5`, `leave_one_out`, `{leave_domain_out: contrast}` and a file as the splits that they mean."""
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return {"type": "data.k_fold", "k": value}
        if value == "leave_one_out":
            return {"type": "data.leave_one_out"}
        if isinstance(value, dict) and set(value) == {"leave_domain_out"}:
            return {"type": "data.leave_domain_out", "by": value["leave_domain_out"]}
        if isinstance(value, str) and value.endswith(".json"):
            return {"type": "data.file", "path": value}
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is listed twice; a seed more needs another number")
        return value

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: dict[str, Any]) -> dict[str, Any]:
        BudgetSection.model_validate(value)
        return value

    @field_validator("resources")
    @classmethod
    def _resources(cls, value: dict[str, Any]) -> dict[str, Any]:
        ResourcesSection.model_validate(value)
        return value

    @model_validator(mode="after")
    def _names(self) -> Self:
        """Grids and controls name variants that are there."""
        for name, variant in self.variants.items():
            if variant.same_as and (
                variant.same_as not in self.variants or self.variants[variant.same_as].same_as
            ):
                raise ValueError(
                    f"variant '{name}' repeats '{variant.same_as}', which is no variant of its own"
                )
        for grid in self.grid:
            for name in grid.variants:
                if name not in self.variants:
                    raise ValueError(f"the grid names '{name}'; variants: {', '.join(self.variants)}")
                if self.variants[name].predictions is not None or self.variants[name].same_as:
                    raise ValueError(
                        f"the grid cannot change '{name}', which is not trained by its own fields"
                    )
        return self


Kind = Literal["train", "imported"]


def _variant(raw: Any) -> Any:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or set(raw) == {"overrides"}:
        return raw
    kept = {key: raw[key] for key in RESERVED if key in raw}
    overrides = {key: value for key, value in raw.items() if key not in RESERVED}
    return {**kept, **({"overrides": overrides} if overrides else {})}
