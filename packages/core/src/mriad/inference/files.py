"""Scans in, segmentation files out: resumed, with provenance, and a broken scan does not end the rest."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file
from mriad.errors import DataError, MriadError, StorageError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.images import read_volume, write_like
from mriad.inference.engine import engine_version, engines_that_ran
from mriad.inference.prediction import stream_of
from mriad.inference.predictor import OfNetworks
from mriad.inference.scans import OutputForm, Scan, output_names, sidecar
from mriad.inference.stored import versions_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mriad.inference.prediction import PredictionStream
    from mriad.interfaces import CasePredictor
    from mriad.vocabulary import LabelSet


@dataclass(frozen=True)
class Job:
    """What is the same for all scans of one call.

    `model`: name or path as given; `identity`: fingerprint of documents and weights; `settings`: what else belongs
    into `run.json` (device, threads, domain, the engine that was asked for, precision). The engine that ran is added.
    """

    model: str
    identity: str
    form: OutputForm
    out: Path
    overwrite: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of each scan."""

    done: list[tuple[Scan, list[Path]]] = field(default_factory=list)
    skipped: list[tuple[Scan, list[Path]]] = field(default_factory=list)
    failed: list[tuple[str, MriadError]] = field(default_factory=list)


def predict_files(
    predictor: CasePredictor,
    scans: Sequence[Scan],
    job: Job,
    *,
    failed: Sequence[tuple[str, MriadError]] = (),
    on_scan: Callable[[int, int, Scan], None] | None = None,
    on_window: Callable[[int, int], None] | None = None,
    is_whole: Callable[[Scan], bool] | None = None,
) -> Outcome:
    """Predict scans one after the other into `job.out`; a scan that was done before is skipped.

    A scan is done when its outputs and sidecars are there and say the same model, form and input bytes. A scan
    that cannot be read or predicted is noted and the next one taken. `run.json` is written after each scan; its
    `config.engine` says what ran, over all scans that were predicted and, beside each, for that one.

    Args:
        predictor: loaded.
        scans: what to predict.
        job: model, form, place.
        failed: cases that were found faulty before; they enter the report.
        on_scan: called with (place from 0, count, scan) before each scan that is predicted.
        on_window: called with (windows done, windows in all) of the current scan.
        is_whole: called with a scan whose outputs are there; false where something is missing that the predictor
            itself writes beside them: the scan is predicted again.

    Raises:
        StorageError: the output folder is full or cannot be written; nothing further would succeed.
    """
    outcome = Outcome(failed=list(failed))
    record = _record(job)
    record["inputs"] += [{"case": case, "status": "failed", "error": str(e)} for case, e in failed]
    taken: set[Path] = set()
    ran: set[str] = set()
    for place, scan in enumerate(scans):
        row: dict[str, Any] = {"case": str(scan.folder / scan.name), "files": {}}
        begun = time.perf_counter()
        try:
            hashes = {name: file_sha256(path) for name, path in scan.files.items()}
            row["files"] = {
                name: {"file": str(scan.files[name]), "sha256": digest} for name, digest in hashes.items()
            }
            outputs = _outputs(scan, predictor.label_set, job)
            if taken & set(outputs):
                raise DataError(
                    "two scans would be written to one file", where={"file": str(next(iter(outputs)))}
                )
            taken |= set(outputs)
            request = fingerprint({"model": job.identity, "form": job.form, "files": hashes, **_named(job)})
            done = not job.overwrite and _is_done(outputs, request)
            if done and (is_whole is None or is_whole(scan)):
                outcome.skipped.append((scan, list(outputs)))
                row["status"] = "skipped"
            else:
                if on_scan is not None:
                    on_scan(place, len(scans), scan)
                _require_free(outputs, request, job)
                if isinstance(predictor, OfNetworks):
                    engines_that_ran(predictor.networks)  # forget those of a scan that failed
                _predict_one(predictor, scan, outputs, job, request, hashes, on_window)
                outcome.done.append((scan, list(outputs)))
                row |= {"status": "done", "seconds": round(time.perf_counter() - begun, 2)}
                if isinstance(predictor, OfNetworks):
                    engines = engines_that_ran(predictor.networks)
                    ran |= set(engines)
                    row["engine"] = _engines(engines)
                    record["config"]["engine"] = _engines(ran)
            row["outputs"] = [str(path.relative_to(job.out)) for path in outputs]
        except StorageError as error:
            if not _is_conflict(error):
                raise
            outcome.failed.append((str(scan.folder / scan.name), error))
            row |= {"status": "failed", "error": str(error)}
        except MriadError as error:
            outcome.failed.append((str(scan.folder / scan.name), error))
            row |= {"status": "failed", "error": str(error)}
        except Exception as error:  # a guest's component may raise anything; the other scans are still wanted
            wrapped = DataError(
                "a scan could not be predicted",
                where={"scan": str(scan.folder / scan.name), "error": f"{type(error).__name__}: {error}"},
            )
            wrapped.__cause__ = error
            outcome.failed.append((str(scan.folder / scan.name), wrapped))
            row |= {"status": "failed", "error": str(wrapped)}
        record["inputs"].append(row)
        _write_json(job.out / "run.json", record)
    return outcome


def _predict_one(
    predictor: CasePredictor,
    scan: Scan,
    outputs: dict[Path, tuple[str, ...]],
    job: Job,
    request: str,
    hashes: dict[str, str],
    on_window: Callable[[int, int], None] | None,
) -> None:
    # Volumes are not named here: a stream lets go of them as soon as they are prepared.
    stream = stream_of(predictor, {n: read_volume(p) for n, p in scan.files.items()}, on_window)
    label_set = stream.label_set
    reference = next(iter(scan.files.values()))
    for path, structures, data in _arrays(stream, outputs, job.form):
        # The sidecar first: an image without one is never ours, so nothing of ours is taken for a stranger's.
        _write_json(sidecar(path), _sidecar(scan, structures, label_set, job, request, hashes))
        form = {"hard": "labels", "soft": "float32", "soft-uint8": "uint8_scaled"}[job.form]
        write_like(path, data, reference, form, overwrite=True)  # type: ignore[arg-type]


def _arrays(
    stream: PredictionStream, outputs: dict[Path, tuple[str, ...]], form: OutputForm
) -> list[tuple[Path, tuple[str, ...], NDArray[Any]]]:
    """What each output holds. Hard values are made while slabs pass; soft ones may lie in a temporary file."""
    if form == "hard":
        (path, structures), *_ = outputs.items()
        return [(path, structures, stream.hard())]
    whole = stream.collect().probabilities
    return [(path, names, whole[place]) for place, (path, names) in enumerate(outputs.items())]


def _outputs(scan: Scan, label_set: LabelSet, job: Job) -> dict[Path, tuple[str, ...]]:
    names = output_names(scan.name, label_set, job.form)
    return {job.out / scan.folder / name: structures for name, structures in names.items()}


def _is_done(outputs: dict[Path, tuple[str, ...]], request: str) -> bool:
    return all(path.exists() and _request(path) == request for path in outputs)


def _require_free(outputs: dict[Path, tuple[str, ...]], request: str, job: Job) -> None:
    """Overwrite nothing that this very call did not leave behind unfinished."""
    for path in outputs:
        if path.exists() and not job.overwrite and _request(path) != request:
            raise StorageError(
                "the output is there already, and is not of this model, form and input",
                where={"file": str(path)},
                remedy="--out OTHER_FOLDER, or --overwrite",
            )


def _is_conflict(error: StorageError) -> bool:
    return "--overwrite" in error.remedy


def _request(path: Path) -> str | None:
    try:
        found = json.loads(sidecar(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("Request") if isinstance(found, dict) else None


def _sidecar(
    scan: Scan,
    structures: tuple[str, ...],
    label_set: LabelSet,
    job: Job,
    request: str,
    hashes: dict[str, str],
) -> dict[str, Any]:
    values = {s.name: s.value for s in label_set.structures if s.name in structures}
    soft = "probability in [0, 1]" + (", stored as 0..255 / 255" if job.form == "soft-uint8" else "")
    return {
        "Description": "segmentation in the grid of the first source",
        "GeneratedBy": [{"Name": "mriad", "Version": versions_in_use().get("mriad", "")}],
        "Model": {"Name": job.model, "Fingerprint": job.identity},
        "Sources": [
            {"Channel": name, "File": path.name, "SHA256": hashes[name]} for name, path in scan.files.items()
        ],
        "Structures": values,
        "Values": "label values, 0 background" if job.form == "hard" else soft,
        "Versions": versions_in_use(),
        "Settings": _named(job),
        "Request": request,
    }


def _named(job: Job) -> dict[str, Any]:
    """Settings that change the result by more than rounding; the engine stands in `run.json`."""
    given = {key: job.settings.get(key) for key in ("domain", "precision")}
    return {key: value for key, value in given.items() if value and value != "fp32"}


def _engines(names: Iterable[str]) -> str:
    return ", ".join(engine_version(name) for name in sorted(names))


def _record(job: Job) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "predict",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {
            "model": job.model,
            "fingerprint": job.identity,
            "form": job.form,
            **job.settings,
            "engine": None,
        },
        "versions": versions_in_use(),
        "inputs": [],
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
