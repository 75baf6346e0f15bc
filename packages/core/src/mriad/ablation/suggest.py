"""Values by what was found before: Optuna's tree-structured Parzen estimator, an optional dependency.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

from mriad.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.ablation.search import Tried
    from mriad.ablation.space import Values


def require_optuna() -> None:
    """Raise ExperimentError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ExperimentError(
            "search.algorithm is optuna, which is not installed",
            remedy="pip install 'optuna>=4', or algorithm: random",
        )


def suggest(
    space: Mapping[str, Values],
    known: Sequence[Tried],
    running: Sequence[Mapping[str, Any]],
    *,
    higher: bool,
    seed: int,
    number: int,
) -> dict[str, Any]:
    """Suggest the values of training `number`.

    A function of its arguments alone: the study is made anew from what is known each time.

    Args:
        space: field → values.
        known: trainings that have ended. One that was stopped early counts with the best value that it had; one
            that diverged or failed has none.
        running: values of trainings that were begun with this one and have no value yet.
        higher: whether more is better.
        seed: the search's.
        number: of this training.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(values) for key, values in space.items()}
    sampler = optuna.samplers.TPESampler(seed=seed * 1_000_003 + number, constant_liar=True)
    study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
    for one in known:
        plain = math.isnan(one.value)
        study.add_trial(
            optuna.trial.create_trial(
                params=_params(space, one.values),
                distributions=distributions,
                value=None if plain else one.value,
                state=optuna.trial.TrialState.FAIL if plain else optuna.trial.TrialState.COMPLETE,
            )
        )
    for values in running:
        study.enqueue_trial(_params(space, values))
        study.ask(distributions)
    params = study.ask(distributions).params
    return {key: _value(space[key], params[key]) for key in space}


def _distribution(values: Values) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choice is not None:
        return CategoricalDistribution(list(range(len(values.choice))))  # a choice may be a list or a mapping
    if values.randint is not None:
        return IntDistribution(values.randint[0], values.randint[1] - 1)
    low, high = values.bounds
    return FloatDistribution(low, high, log=values.loguniform is not None)


def _params(space: Mapping[str, Values], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: values[key] if own.choice is None else own.choice.index(values[key])
        for key, own in space.items()
    }


def _value(own: Values, param: Any) -> Any:
    if own.choice is not None:
        return own.choice[int(param)]
    return int(param) if own.randint is not None else own.rounded(float(param))
