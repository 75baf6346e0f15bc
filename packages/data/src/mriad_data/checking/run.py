"""All checks of a data set in one go: each file is read once, several cases at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mriad.parallel import map_cases

from mriad_data.checking.duplicates import check_duplicates
from mriad_data.checking.files import check_geometry, check_readable
from mriad_data.checking.findings import LEVELS, Report
from mriad_data.checking.gathering import gather
from mriad_data.checking.images import check_intensities
from mriad_data.checking.labels import check_empty, check_target, check_values
from mriad_data.checking.outliers import check_contrasts, check_size, check_spacing
from mriad_data.checking.reading import Seen, file_bytes, read_case, sources_of
from mriad_data.checking.resources import check_resources, estimate
from mriad_data.checking.splits import check_split, check_split_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.vocabulary import Case

    from mriad_data.checking.findings import Finding
    from mriad_data.checking.gathering import Gathered

SMALL_BYTES = 256 << 20
"""Files that are less than this together are read in this process (some 10 s): starting others takes seconds too."""


@dataclass(frozen=True)
class Checked:
    """A report with what it came from, so that faults can be put right."""

    report: Report
    gathered: Gathered
    seen: tuple[Seen, ...]


def check_data(
    target: str,
    overrides: Sequence[str] = (),
    split: Path | None = None,
    workers: int | None = None,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Look at a data set, and say what is wrong with it.

    Args:
        target: a folder, a manifest, an experiment's file or name.
        overrides: `a.b=value` for an experiment.
        split: a split file to check the persons against, in place of the experiment's split.
        workers: processes that read; default: as many as CPUs where the files are large enough.
        store: where prepared cases would be kept; default: here.
        progress: called as `progress(done, total)` after each case.

    Raises:
        DataError: there is no such place, or no image in it.
        ExperimentError: the experiment is not valid.
        LaunchError: a worker died.
    """
    begin = time.monotonic()
    gathered = gather(target, overrides)
    seen = read_all(gathered.cases, workers, progress)
    experiment = gathered.experiment
    findings: list[Finding] = [
        *gathered.findings,
        *check_readable(seen, gathered.declared),
        *check_geometry(seen),
        *check_values(seen, gathered.label_set),
        *(check_target(seen, experiment) if experiment and seen else ()),
        *check_empty(seen),
        *check_duplicates(seen),
        *check_contrasts(seen, experiment.data.channels if experiment else ()),
        *check_intensities(seen),
        *check_spacing(seen),
        *check_size(seen),
    ]
    skipped = {}
    needs: dict[str, float] = {}
    if split is not None:
        findings += check_split_file(seen, split, gathered.same_person)
    elif experiment is not None and seen:
        findings += check_split(seen, experiment)
    else:
        skipped["splits"] = "name an experiment, or --split FILE"
    if seen:
        structures = len(gathered.label_set) if gathered.label_set is not None else 1
        needs = estimate(seen, experiment, structures)
        findings += check_resources(needs, store or Path.cwd())
    else:
        skipped |= dict.fromkeys(
            (
                "readable",
                "geometry",
                "values",
                "empty",
                "duplicates",
                "contrasts",
                "intensities",
                "spacing",
                "size",
            ),
            "no case could be made",
        )
        skipped["resources"] = skipped["readable"]
    sizes = {path: size for one in seen for path, size in file_bytes(one.case).items()}
    report = Report(
        target,
        gathered.layout,
        len(seen),
        len({one.case.person for one in seen}),
        len(sizes),
        sum(sizes.values()),
        time.monotonic() - begin,
        tuple(sorted(findings, key=lambda f: LEVELS.index(f.level))),
        skipped,
        needs,
    )
    return Checked(report, gathered, seen)


def read_all(
    cases: Sequence[Case], workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Seen, ...]:
    """Read every file of the cases once.

    Raises:
        LaunchError: a worker died.
    """
    if workers is None:
        workers = _workers(cases)
    facts = map_cases(read_case, cases, workers, progress=progress)
    return tuple(Seen(case, volumes) for case, volumes in zip(cases, facts, strict=True))


def _workers(cases: Sequence[Case]) -> int:
    from mriad.launch.protocol import visible_cpus

    total = 0
    for case in cases:
        if any(not hasattr(source, "path") for _, _, _, source in sources_of(case)):
            break  # made, not read: takes time whatever its size
        total += sum(file_bytes(case).values())
        if total > SMALL_BYTES:
            break
    else:
        return 0
    cpus = visible_cpus()
    return min(cpus, 8) if cpus > 1 else 0
