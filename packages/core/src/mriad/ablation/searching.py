"""Running the searches of an ablation: what is drawn and not tried, and then the winners."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from mriad.ablation.jobs import Ended, search_jobs, tried
from mriad.ablation.suggest import suggest
from mriad.identity import fingerprint
from mriad.launch.files import atomic_write_json, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mriad.ablation.jobs import Job
    from mriad.ablation.plan import Plan
    from mriad.ablation.search import PlannedSearch, Tried
    from mriad.launch.files import RunsRoot

DRAWS, FOUND = "draws.json", "search.json"
"""In the folder of a search: the values by number, which are never drawn anew, and what came of them."""


class Doing(Protocol):
    """Does jobs; see `mriad.ablation.run`."""

    def work(
        self,
        stages: Sequence[Job],
        jobs: Sequence[Job],
        key: str = "",
        higher: bool = True,
        counted_as: str = "ablation",
    ) -> list[Ended]:
        """Return those that failed."""
        ...


def run_searches(
    plan: Plan, root: RunsRoot, doing: Doing, message: Callable[[str], None], lanes: int
) -> tuple[Plan, list[Ended]]:
    """Run what the searches of a plan have not tried; the plan with the winners' values, and what failed.

    A training that fails is left out and tried again by the next start. Where it then is the best, it wins unless a
    trial has been tested with the values that won before: those stay, and `message` says so. A search in which none
    ended well fails, and with it the trials that wait for it.

    Args:
        plan: as `make_plan` gives it.
        root: the runs root.
        doing: does the trainings.
        message: takes a line a search.
        lanes: how many trainings run at a time; only Optuna needs to know, whose next values wait for results.
    """
    found: dict[str, dict[int, Tried]] = {search.id: {} for search in plan.searches}
    drawn: dict[str, dict[int, dict[str, Any]]] = {
        search.id: _draws(search, root) for search in plan.searches
    }
    each = max(1, math.ceil(lanes / max(1, len(plan.searches))))
    counted = 0
    while True:
        wave: list[tuple[PlannedSearch, int, Mapping[str, Any]]] = []
        for search in plan.searches:
            known = drawn[search.id]
            if search.spec.algorithm == "optuna":
                _suggest(search, known, found[search.id], each, root)
            wave += [(search, n, values) for n, values in known.items() if n not in found[search.id]]
        if not wave:
            break
        stages, jobs = search_jobs(wave, root)
        counted += 1
        failed = {
            end.id: end.reason
            for end in doing.work(stages, jobs, counted_as="search" if counted == 1 else f"search-{counted}")
        }
        of = {(job.search.folder, fingerprint(job.search.values)): job for job in jobs if job.search}
        for search, number, values in wave:
            job = of[str(search.folder(root)), fingerprint(values)]
            found[search.id][number] = tried(job, number, root, failed.get(job.id, ""))
    winners: dict[str, Tried] = {}
    lost: list[Ended] = []
    for search in plan.searches:
        all_of_it = [found[search.id][n] for n in sorted(found[search.id])]
        best = search.winner(all_of_it)
        kept = _tested(search, all_of_it, plan, root)
        message(search.told(all_of_it, kept))
        late = best if best and kept and best.values != kept.values else None
        if late is not None and kept is not None:
            message(_came_late(search, late, kept, plan, root))
        best = kept or best
        _write(search, all_of_it, best, late, root)
        if best is not None:
            winners[search.id] = best
    for trial in plan.trials:
        if trial.search is not None and trial.search.id not in winners:
            reasons = [t.reason for t in found[trial.search.id].values() if t.reason]
            name = f"{trial.variant} fold {trial.fold} seed {trial.seed}"
            why = f": {reasons[0]}" if reasons else ""
            lost.append(Ended(trial.id, name, f"its search found nothing{why}"))
    return plan.tuned(winners), lost


def as_far_as_known(plan: Plan, root: RunsRoot) -> tuple[Plan, int]:
    """The plan with the winners of searches that are done, and how many trainings the others still lack."""
    winners, lacking = {}, 0
    for search in plan.searches:
        drawn = _draws(search, root)
        _, jobs = search_jobs([(search, n, values) for n, values in drawn.items()], root)
        found = [tried(job, job.search.number, root) for job in jobs if job.search is not None]
        left = search.spec.trials - len(drawn) + sum(bool(one.reason) for one in found)
        best = _tested(search, found, plan, root) or (None if left else search.winner(found))
        if best is not None:
            winners[search.id] = best
        lacking += left
    return plan.tuned(winners), lacking


def _tested(search: PlannedSearch, found: Sequence[Tried], plan: Plan, root: RunsRoot) -> Tried | None:
    """The training with whose values a trial has finished; None before that.

    From then on another winner would be a choice that knows what the test gave.
    """
    used = [one for one in found if plan.tested_with(search, one.values, root)]
    return search.winner(used) or next(iter(used), None)


def _came_late(search: PlannedSearch, late: Tried, kept: Tried, plan: Plan, root: RunsRoot) -> str:
    """What a person is told where a training that had failed is better than the winner, which stays."""
    names = " ".join(trial.folder.name for trial in plan.tested_with(search, kept.values, root))
    return (
        f"{search.name}: training {late.number} ({late.told}; {search.key} {late.value:.4g}) had failed when the "
        f"winner was chosen, and is better than it: training {kept.number} ({kept.told}; {search.key} "
        f"{kept.value:.4g}). The winner stays, since trials were tested with its values. To take the better ones, "
        f"remove those trials and run the same command again: mriad runs prune {names} --runs {root.path}"
    )


def _draws(search: PlannedSearch, root: RunsRoot) -> dict[int, dict[str, Any]]:
    """Values by number: of a random search all, of Optuna those that were suggested before."""
    if search.spec.algorithm == "random":
        return dict(enumerate(search.draws()))
    known = (read_json(search.folder(root) / DRAWS) or {}).get("values", [])
    return dict(list(enumerate(known))[: search.spec.trials])


def _suggest(
    search: PlannedSearch,
    known: dict[int, dict[str, Any]],
    found: Mapping[int, Tried],
    count: int,
    root: RunsRoot,
) -> None:
    """Add the values of the next `count` trainings, once those before them have ended."""
    if len(found) < len(known):
        return
    begun: list[dict[str, Any]] = []
    for number in range(len(known), min(len(known) + count, search.spec.trials)):
        values = suggest(
            search.spec.space,
            [found[n] for n in sorted(found)],
            begun,
            higher=search.higher,
            seed=search.spec.seed,
            number=number,
        )
        begun.append(values)
        known[number] = values
    if begun:
        place = search.folder(root) / DRAWS
        before = (read_json(place) or {}).get("values", [])  # of more trials, where there were more
        atomic_write_json(place, {"values": [*known.values(), *before[len(known) :]]})


def _write(
    search: PlannedSearch, found: Sequence[Tried], best: Tried | None, late: Tried | None, root: RunsRoot
) -> None:
    atomic_write_json(
        search.folder(root) / FOUND,
        {
            "id": search.id,
            "variant": search.variant,
            "fold": search.fold,
            "seed": search.seed,
            "metric": search.key,
            "space": {key: str(values) for key, values in search.spec.space.items()},
            "winner": None if best is None else best.number,
            "better, but late": None if late is None else late.number,
            "trials": [
                {**vars(t), "values": dict(t.values), "value": None if math.isnan(t.value) else t.value}
                for t in found
            ],
        },
    )
