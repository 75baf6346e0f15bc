"""`mriad evaluate`: score a folder of predictions against references."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from mriad.cli.next_step import next_step
from mriad.cli.progress import progress
from mriad.errors import DataError, StorageError
from mriad.evaluation import BothEmpty, EmptyPolicy, OneEmpty, summarise, write_table
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.inference.stored import versions_in_use
from mriad.interfaces import Dataset
from mriad.launch.files import atomic_write_json, read_json, runs_root
from mriad.person_rows import with_needed
from mriad.vocabulary import Case
from rich import box
from rich.console import Console
from rich.table import Table

from mriad_eval.maps import label_set_of, parse_labels
from mriad_eval.metric_names import metric_named
from mriad_eval.pairing import files_by_case, require_same_cases, with_ids
from mriad_eval.scoring import Pair, Scorer, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.evaluation import Row, Summary
    from mriad.vocabulary import CaseIndex

TABLE = "cases.csv"
RECORD = "run.json"
DEFAULT_METRICS = "dice,assd,rve"


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predictions (NIfTI), or one file.")],
    references: Annotated[
        Path | None, typer.Argument(help="Folder of references, paired by file name, or one file.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table of cases with labels (data.manifest), instead of a folder.")
    ] = None,
    reference: Annotated[str, typer.Option(help="Name of the reference; with a manifest, its label.")] = "",
    metrics: Annotated[
        str, typer.Option(help="Names of metrics, comma-separated; hd95:form=pooled sets a field.")
    ] = DEFAULT_METRICS,
    labels: Annotated[str, typer.Option(help="Structures and their values, such as cord=1,csf=2.")] = "",
    pattern: Annotated[str, typer.Option(help="Which predictions, such as '*_dseg.nii.gz'.")] = "*",
    reference_pattern: Annotated[str, typer.Option(help="Which references.")] = "*",
    count_missing: Annotated[
        bool, typer.Option("--count-missing", help="A case without prediction counts as a miss.")
    ] = False,
    skip_extra: Annotated[
        bool, typer.Option("--skip-extra", help="Leave out predictions without reference.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the scans, for the pictures; with a manifest, its own.")
    ] = None,
    qc_cases: Annotated[
        int, typer.Option(help="Cases with pictures on the quality-control page; 0: no page.", min=0)
    ] = 200,
    resample: Annotated[
        bool, typer.Option("--resample", help="Put predictions on other grids onto the reference's grid.")
    ] = False,
    at: Annotated[str, typer.Option(help="Vertebral levels for morphometry, such as C2,C3.")] = "",
    empty: Annotated[
        str, typer.Option(help="Where prediction or reference is empty: exclude, worst or error.")
    ] = "exclude",
    both_empty: Annotated[str, typer.Option(help="Where both are: exclude or best.")] = "exclude",
    workers: Annotated[int, typer.Option(help="Processes; 0: this one.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for cases.csv, run.json and the page qc/.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Runs folder; default ./mriad-runs.")] = None,
) -> None:
    """Score predictions against references: cases.csv, run.json, a table and a page to look through the cases.

    Example: mriad evaluate predictions labels --labels cord=1 --metrics dice,assd
    """
    chosen = tuple(with_needed([metric_named(name.strip()) for name in metrics.split(",")]))
    found = files_by_case(predictions, pattern, "predictions")
    if references is not None and manifest is None:
        files = files_by_case(references, reference_pattern, "references")
        if predictions.is_file() and references.is_file():
            found = {next(iter(files)): (predictions,)}  # one against one, whatever their names
        label_set = parse_labels(labels) if labels else label_set_of(files.values())
        cases = {name: Case(name, person_of(name), {}, contrast=contrast_of(name)) for name in files}
        label = reference or "reference"
    elif manifest is not None and references is None:
        index = Dataset.resolve({"type": "data.manifest", "path": str(manifest)}).build()
        files = {}
        label_set = parse_labels(labels) if labels else index.label_set
        label = _label_of(index, reference)
        cases = {case.id: case for case in index if label in case.labels}
    else:
        raise DataError(
            "give references either as a folder or as a manifest",
            remedy="mriad evaluate PREDICTIONS REFERENCES, or mriad evaluate PREDICTIONS --manifest FILE",
        )
    found = with_ids(found, cases)
    from mriad_eval.qc.evaluation_page import scans_of, write_evaluation_page

    scans = scans_of(images, cases) if qc_cases else {}
    require_same_cases(found, cases, missing_counts=count_missing, skip_extra=skip_extra)
    pairs = [Pair(case, found.get(name, ()), files.get(name, ()), label) for name, case in cases.items()]
    levels = tuple(level.strip() for level in at.split(",") if level.strip())
    scorer = Scorer(label_set, chosen, levels, empty_policy(empty, both_empty), resample)
    record = record_of(pairs, scorer)
    folder = out or runs_root(runs).path / "evaluations" / f"{predictions.stem}-{record['fingerprint'][:12]}"
    _require_free(folder, record["fingerprint"])
    with progress(len(pairs), "score") as shown:
        rows = score(pairs, scorer, workers, lambda done, _: shown.update(done))
    summaries = summarise(rows)
    console = Console()
    write_table(folder / TABLE, rows)
    atomic_write_json(folder / RECORD, {**record, "summary": [_plain(asdict(s)) for s in summaries]})
    console.print(table_of(summaries, rows))
    console.print(f"written: {folder / TABLE}", highlight=False, soft_wrap=True)
    if qc_cases:
        index = write_evaluation_page(folder, pairs, rows, label_set, scans, qc_cases, workers, record)
        console.print(f"look at: {index}", highlight=False, soft_wrap=True)
    _look_at_worst(console, pairs, rows)


def empty_policy(one: str, both: str) -> EmptyPolicy:
    """Return the policy of two words.

    Raises:
        DataError: one of them is none.
    """
    for name, word, allowed in (("--empty", one, OneEmpty), ("--both-empty", both, BothEmpty)):
        if word not in get_args(allowed):
            raise DataError(
                f"{name} cannot be '{word}'", remedy=f"choose one of {', '.join(get_args(allowed))}"
            )
    return EmptyPolicy(cast("OneEmpty", one), cast("BothEmpty", both))


def person_of(case: str) -> str:
    """Return the person in a BIDS-like case name (`sub-1_ses-2_T1w` → `sub-1`), else the case itself."""
    first = case.split("_", 1)[0]
    return first if first.startswith("sub-") else case


def contrast_of(case: str) -> str:
    """Return the suffix of a BIDS-like case name (`sub-1_ses-2_T1w` → `T1w`), else nothing."""
    last = case.rsplit("_", 1)[-1]
    return last if case.startswith("sub-") and "_" in case and "-" not in last else ""


def _label_of(index: CaseIndex, wanted: str) -> str:
    names = list(dict.fromkeys(name for case in index for name in case.labels))
    if wanted in names or (len(names) == 1 and not wanted):
        return wanted or names[0]
    raise DataError(
        f"no case of the manifest has the label '{wanted}'"
        if wanted
        else "the manifest does not say which label to measure against",
        where={"labels": ", ".join(names) or "none"},
        remedy=f"choose with --reference {names[0]}" if names else "add a column label:NAME",
    )


def record_of(pairs: Sequence[Pair], scorer: Scorer) -> dict[str, Any]:
    """Return what `run.json` says about where the numbers come from."""
    config = {
        "metrics": [metric.model_dump(mode="json") for metric in scorer.metrics],
        "structures": {s.name: s.value for s in scorer.label_set.structures},
        "reference": pairs[0].label,
        "at": list(scorer.at_levels),
        "empty": asdict(scorer.empty),
        "resample": scorer.resample,
    }
    inputs = [
        (pair.case.id, _hashes(pair.prediction), _hashes(pair.reference) or _source_of(pair))
        for pair in pairs
    ]
    # The same bytes in another folder are the same evaluation.
    bytes_of = [
        [case, sorted(prediction.values()), sorted(reference.values())]
        for case, prediction, reference in inputs
    ]
    return {
        "format": 1,
        "kind": "evaluate",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint({"config": config, "inputs": bytes_of}),
        "config": config,
        "versions": versions_in_use(),
        "inputs": [
            {"case": case, "prediction": prediction, "reference": reference}
            for case, prediction, reference in inputs
        ],
    }


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    return {str(path): file_sha256(path) for path in paths}


def _source_of(pair: Pair) -> dict[str, str]:
    source = pair.case.labels[pair.label].source
    return {source.location: source.fingerprint}


def _require_free(folder: Path, digest: str) -> None:
    """The same evaluation may be written again; another one is never replaced."""
    if not (folder / TABLE).exists():
        return
    if (read_json(folder / RECORD) or {}).get("fingerprint") != digest:
        raise StorageError(
            "the folder holds another evaluation, and nothing is overwritten",
            where={"folder": folder},
            remedy="choose another --out",
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not defined is null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def table_of(summaries: Sequence[Summary], rows: Sequence[Row]) -> Table:
    """Return the table that is printed; every number in it is one of `summarise`."""
    cases, persons = len({row.case for row in rows if row.case}), len({row.person for row in rows})
    title = f"{cases} case{'s' if cases != 1 else ''} of {persons} person{'s' if persons != 1 else ''}"
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.caption = "with worst: failures at their worst value; for signed errors, the mean size"
    table.add_column("metric", no_wrap=True)
    table.add_column("structure", overflow="fold")
    for name in ("mean ± SD", "n", "misses", "false pos.", "with worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        unit = "" if s.unit == "1" else f" ({s.unit})"
        value = s.text().split(" (", 1)[0]
        counts = (f"{s.n}/{s.total}", str(s.misses), str(s.false_positives))
        worst = "–" if math.isnan(s.with_worst) else f"{s.with_worst:.3f}"
        table.add_row(f"{s.metric}{unit}", s.structure, value, *counts, worst)
    return table


def _look_at_worst(console: Console, pairs: Sequence[Pair], rows: Sequence[Row]) -> None:
    """Name the case to look at first, and the line that shows it."""
    judging = [row for row in rows if row.case and row.direction != "none"]
    first = judging[0].metric if judging else ""
    scored = [row for row in judging if row.metric == first and not math.isnan(row.counted)]
    if not scored:
        next_step("mriad evaluate --help", "nothing was there to score: check --labels")
        return
    sign = 1 if scored[0].direction == "higher" else -1
    worst = min(scored, key=lambda row: sign * row.counted)
    pair = next(pair for pair in pairs if pair.case.id == worst.case)
    value = "no value" if math.isnan(worst.value) else f"{worst.value:.3f}"
    note = f" ({worst.note})" if worst.note else ""
    console.print(f"worst: {worst.case}: {worst.metric} of {worst.structure} {value}{note}", highlight=False)
    scans = [source.location for source in pair.case.channels.values()][:1]
    files = [*scans, *(pair.reference or _source_of(pair)), *pair.prediction]
    next_step(f"fsleyes {' '.join(map(str, files))}", "look at the worst case")
