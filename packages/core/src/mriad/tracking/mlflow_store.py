"""An MLflow store. The only module that imports mlflow; every call may fail, and fails with TrackingError."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.atomic import storing
from mriad.environment import quiet
from mriad.errors import TrackingError
from mriad.tracking.address import ARTIFACTS, public, sqlite_path
from mriad.tracking.provenance import plugin_versions
from mriad.tracking.served_model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mriad.tracking.record import MetricRow

ID = "mriad.id"
"""Tag that finds a run again: the run's fingerprint."""
_MOST_KEY, _MOST_PARAM, _MOST_TAG = 250, 6000, 5000  # characters that every store of MLflow 3 takes
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # entries of one batch
_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def load_mlflow() -> Any:
    """Import mlflow with telemetry off, short waits and no chatter, and return it."""
    quiet()
    # The sender has its own patience; MLflow's default waits for minutes on a server that is not there.
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):
        os.environ.setdefault(name, value)
    import mlflow

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return mlflow


_FINDING = threading.Lock()
"""A child's sender makes the parent's run if it comes first; both threads asking at once made it twice."""


class MlflowStore:
    """A store by URI. Made at once; `open` is the first call that may wait.

    Args:
        uri: see `address.tracking_uri`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client: Any = None
        self._experiments: dict[str, str] = {}

    def load(self) -> None:
        """Import what `open` needs, without waiting for anything."""
        load_mlflow()
        if sqlite_path(self.uri) is not None:
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - else imported at the first call

    def open(self) -> None:
        """Connect; create an SQLite file and its tables where there is none.

        One process does this before others use the store: MLflow's own set-up of a fresh file is not safe for
        several at once.

        Raises:
            TrackingError: it cannot be reached, or is no MLflow store.
            StorageError: the place of an SQLite file cannot be written.
        """
        if self._client is not None:
            return
        mlflow = load_mlflow()
        database = sqlite_path(self.uri)
        if database is not None:
            with storing(database):
                database.parent.mkdir(parents=True, exist_ok=True)
        with self._failing("be opened"):
            client = mlflow.MlflowClient(tracking_uri=self.uri)
            client.search_experiments(max_results=1)
            self._client = client

    def run_for(self, record: Mapping[str, Any]) -> str:
        """Return the MLflow run of a record's `run.json`, looked up by its tag, else created."""
        self.open()
        parent = record.get("parent")
        with self._failing("keep a run"):
            experiment = self._experiment(record["study"])
            above = self._find_or_create(experiment, parent["id"], parent["name"], {}) if parent else ""
            tags = {"mlflow.parentRunId": above} if above else {}
            started = int(float(record["started"]) * 1000)
            return self._find_or_create(experiment, record["id"], record["name"], tags, started)

    def is_run_of(self, run_id: str, id: str) -> bool:
        """Whether `run_id` is there, not deleted, and the run of the record `id`."""
        self.open()
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as err:
            if err.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise self._failed("find a run", err) from err
        except Exception as err:
            raise self._failed("find a run", err) from err
        return bool(run.info.lifecycle_stage == "active" and run.data.tags.get(ID) == id)

    def send_facts(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Send parameters, tags and the data's fingerprint. What is there already stays as it is."""
        from mlflow.entities import Param, RunTag

        tags = [RunTag(_key(key), str(value)[:_MOST_TAG]) for key, value in tags_of(record).items()]
        params = [
            Param(key, value) for key, value in flatten(record["experiment"]).items()
        ]  # a parameter cannot be changed in MLflow; the same id has the same experiment
        with self._failing("take parameters"):
            for start in range(0, len(params), _MOST_PARAMS):
                self._client.log_batch(run_id, params=params[start : start + _MOST_PARAMS])
            for start in range(0, len(tags), _MOST_PARAMS):
                self._client.log_batch(run_id, tags=tags[start : start + _MOST_PARAMS])
            self._send_data(run_id, record)

    def send_metrics(self, run_id: str, rows: Sequence[MetricRow]) -> None:
        """Send metrics. The time and step are the record's, so that sending twice stores once."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_key(key), value, int(row.time * 1000), row.step)
            for row in rows
            for key, value in row.values.items()
        ]
        with self._failing("take metrics"):
            for start in range(0, len(metrics), _MOST_METRICS):
                self._client.log_batch(run_id, metrics=metrics[start : start + _MOST_METRICS])

    def send_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Send one file as an artifact."""
        with self._failing("take a file"):
            self._client.log_artifact(run_id, str(path), folder or None)

    def send_model(self, run_id: str, path: Path) -> str:
        """Log a model file as a models-from-code model of the run: the file as it is, nothing pickled.

        Returns:
            its URI, for `mlflow.pyfunc.load_model` and the registry.
        """
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema

        from mriad.model_file import read_card

        card = read_card(path)
        text = DataType.string
        signature = ModelSignature(
            inputs=Schema([ColSpec(text, name) for name in card.channels]),
            outputs=Schema([ColSpec(text, "labels")]),
            params=ParamSchema([ParamSpec("out", text, "predictions"), ParamSpec("device", text, "cpu")]),
        )
        needs = sorted({"mriad", *(name.split()[0] for name in plugin_versions().values())})
        with self._failing("take a model"):
            mlflow.set_tracking_uri(self.uri)
            with mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name=re.sub(r"[^\w-]", "_", card.name),
                    python_model=str(Path(__file__).with_name("model_code.py")),
                    artifacts={"model": str(path)},
                    signature=signature,
                    pip_requirements=needs,  # stated: guessing would load the model in another process
                    metadata={"digest": card.digest, "licence": card.licence},
                )
        return str(info.model_uri)

    def end(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Send how the run ended."""
        ended = record.get("ended")
        with self._failing("end a run"):
            self._client.set_terminated(
                run_id, _STATUS[record["status"]], int(float(ended) * 1000) if ended else None
            )

    def resume(self, run_id: str) -> None:
        """Mark a run that had ended as running again."""
        with self._failing("resume a run"):
            self._client.update_run(run_id, status="RUNNING")

    def _experiment(self, name: str) -> str:
        known = self._experiments.get(name)
        if known is not None:
            return known
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = sqlite_path(self.uri)
            place = (database.parent / ARTIFACTS).as_uri() if database is not None else None
            try:
                kind = {
                    "mlflow.experimentKind": "custom_model_development"
                }  # the UI begins with training runs
                self._client.create_experiment(name, artifact_location=place, tags=kind)
            except MlflowException as err:
                if err.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                    raise
            found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]

    def _find_or_create(
        self, experiment: str, id: str, name: str, tags: Mapping[str, str], started: int | None = None
    ) -> str:
        with _FINDING:
            found = self._client.search_runs([experiment], f"tags.`{ID}` = '{id}'", max_results=1)
            if found:
                return str(found[0].info.run_id)
            all_tags = {ID: id, "mlflow.source.name": "mriad", "mlflow.source.type": "LOCAL", **tags}
            made = self._client.create_run(experiment, start_time=started, tags=all_tags, run_name=name)
            return str(made.info.run_id)

    def _send_data(self, run_id: str, record: Mapping[str, Any]) -> None:
        """The data's fingerprint as MLflow's data set of the run."""
        digest = str(record["data"].get("fingerprint", ""))
        if not digest:
            return
        from mlflow.entities import Dataset, DatasetInput

        name = str(record["data"].get("name", "data"))
        source = json.dumps(record["data"])[:_MOST_PARAM]
        data = Dataset(name=name, digest=digest[:36], source_type="mriad", source=source)
        self._client.log_inputs(run_id, [DatasetInput(data)])

    @contextlib.contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as err:  # MLflow, requests and SQLAlchemy each have their own
            raise self._failed(doing, err) from err

    def _failed(self, doing: str, err: Exception) -> TrackingError:
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        return TrackingError(
            f"the tracking store cannot {doing}",
            where={"store": public(self.uri), "reason": public(reason)[:300]},
            remedy="correct the address (--tracking) or start the server, then `mriad sync`: nothing is lost",
        )


def declare_model() -> None:
    """Give MLflow the model that `model_code.py` stands for."""
    mlflow = load_mlflow()

    warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.pyfunc")
    base: Any = mlflow.pyfunc.PythonModel

    class Model(base):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            self.served = ServedModel(Path(context.artifacts["model"]))

        # MLflow would take type hints for a signature, and asks for them where there are none: ours is stated.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return self.served.predict(model_input, params)

    mlflow.models.set_model(Model())


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Return a resolved experiment as parameters: `data.dataset.type`, `augment.0.type`, within MLflow's limits.

    A list of plain values stays one parameter, as JSON. A longer value ends in `…`; `experiment.yaml` has
    all.
    """
    if isinstance(value, dict) and value:
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        pairs = enumerate(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= _MOST_PARAM else text[: _MOST_PARAM - 1] + "…"
        return {_key(prefix): cut} if prefix else {}
    found: dict[str, str] = {}
    for name, item in pairs:
        found |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
    return found


def tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run can be filtered by: its own tags, commits, versions, threads, data."""
    tags = {
        "study": record["study"],
        "mriad.kind": record["kind"],
        **{key: str(value) for key, value in record["tags"].items()},
    }
    for name, state in record["git"].items():
        tags[f"git.{name}"] = state["commit"] + ("+changes" if state["changed"] else "")
    commit = record["git"].get("experiment") or record["git"].get("mriad")
    if commit:
        tags["mlflow.source.git.commit"] = commit["commit"]
    tags |= {f"version.{name}": version for name, version in record["versions"].items()}
    tags |= {f"plugin.{name}": version for name, version in record["plugins"].items()}
    tags |= {f"launch.{name}": str(value) for name, value in record["launch"].items()}
    if record["data"].get("fingerprint"):
        tags["data.fingerprint"] = str(record["data"]["fingerprint"])
    if record.get("error"):
        tags["error"] = str(record["error"]["message"]) or str(record["error"]["type"])
    return tags


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits, `_ - . : /` and spaces, no empty parts of a path."""
    clean = re.sub(r"/+", "/", re.sub(r"[^/\w.\- :]", "_", name)).strip("/")
    return clean[:_MOST_KEY] or "_"
