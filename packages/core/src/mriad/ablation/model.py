"""The ablation file as a typed tree. Its field names are the YAML's."""

# ruff: noqa: TC001, TC003 - pydantic reads the annotations when the classes are made

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mriad.ablation.space import Values, combinations
from mriad.component import Config
from mriad.experiment.model import BudgetSection, ResourcesSection, Section
from mriad.interfaces import Comparison, Split

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$"
RESERVED = ("predictions", "same_as")
"""Keys of a variant that are no fields of an experiment."""


_FIXED = frozenset(
    (
        *("name", "description", "seed", "fold", "data", "evaluate", "resources", "privacy", "tuned"),
        *("budget.steps", "budget.epoch", "budget.validate_every", "budget.patience"),
    )
)
"""What a search must leave alone."""


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


class Search(Config):
    """Values looked for by training and validating, before the variant's trials; no test case takes part."""

    variants: list[str] = Field(
        alias="for", min_length=1, description="Variants that are each searched by themselves."
    )
    space: dict[str, Values] = Field(
        min_length=1, description="Field of the experiment → the values to try, as in Ray Tune."
    )
    trials: int = Field(ge=2, description="Trainings of each variant in each fold.")
    scheduler: Literal["none", "asha"] = Field(
        "none",
        description="asha: at 1/9 and 1/3 of the steps only the best third so far goes on; none: all to the end.",
    )
    metric: str = Field(
        "", description='What is looked at, "val/dice": must be what chooses the checkpoint, the default.'
    )
    algorithm: Literal["random", "optuna"] = Field(
        "random", description="optuna: by what was found before (TPE); needs `pip install optuna`."
    )
    seed: int = Field(0, ge=0, description="Of the values that are drawn.")

    @field_validator("variants", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("metric")
    @classmethod
    def _as_logged(cls, value: str) -> str:
        return f"val/{value.removeprefix('val/')}" if value else ""

    @field_validator("space")
    @classmethod
    def _what_may_change(cls, value: dict[str, Values]) -> dict[str, Values]:
        """A search may change how is trained; not on what, for how long, or how that is judged."""
        for key in value:
            parts = key.split(".")
            own = parts[2:] if parts[0] == "stages" else parts
            if not own or own[0] in _FIXED or ".".join(own[:2]) in _FIXED or own == ["budget"]:
                raise ValueError(
                    f"'{key}' cannot be searched: validation would be judged by other cases, labels or steps; "
                    "make it a variant, or a grid"
                )
        return value

    @model_validator(mode="after")
    def _enough(self) -> Self:
        there = combinations(self.space)
        if there is not None and self.trials > there:
            raise ValueError(f"the space has {there} combinations, fewer than {self.trials} trials")
        return self


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
    search: list[Search] = Field(
        default_factory=list,
        description="Searches, each of which gives variants their best values in every fold.",
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

    @field_validator("search", mode="before")
    @classmethod
    def _one_search(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

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

    @model_validator(mode="after")
    def _searched_once(self) -> Self:
        """A search names variants that are trained by their own fields, each once."""
        named: set[str] = set()
        for search in self.search:
            for label in search.variants:
                name = label.split("/")[0]
                if name not in self.variants:
                    raise ValueError(f"the search names '{name}'; variants: {', '.join(self.variants)}")
                variant = self.variants[name]
                if variant.predictions is not None:
                    raise ValueError(f"the search cannot tune '{name}': its predictions were made elsewhere")
                if variant.same_as:
                    raise ValueError(
                        f"the search names the control '{name}'; it is searched as '{variant.same_as}' is, by itself"
                    )
                if {label, name} & named or (label == name and any(n.split("/")[0] == name for n in named)):
                    raise ValueError(f"two searches name '{label}'; write one with both in its `space`")
                named.add(label)
                gridded = {key for grid in self.grid if name in grid.variants for key in grid.values}
                if both := [key for key in search.space if any(_overlap(key, other) for other in gridded)]:
                    raise ValueError(f"'{name}' has {', '.join(both)} both in a grid and in a search")
        return self

    def search_of(self, label: str) -> Search | None:
        """The search of a variant, those that a grid made included; a control has that of what it repeats."""
        name, slash, rest = label.partition("/")
        own = f"{self.variants[name].same_as or name}{slash}{rest}"
        wanted = (own, own.split("/")[0])
        return next((s for s in self.search if any(w in s.variants for w in wanted)), None)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _variant(raw: Any) -> Any:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or set(raw) == {"overrides"}:
        return raw
    kept = {key: raw[key] for key in RESERVED if key in raw}
    overrides = {key: value for key, value in raw.items() if key not in RESERVED}
    return {**kept, **({"overrides": overrides} if overrides else {})}
