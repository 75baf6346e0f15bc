"""Where a tracking store ends: N trials at once report to MLflow on SQLite and on PostgreSQL.

    python tests/benchmarks/bench_tracking.py [--stores sqlite postgresql] [--at-once 1 4 16 48] [--seconds 20]

Each trial is a run's record in a folder of its own, with a report of `--keys` metrics every `--every` seconds, and
mriad's own sender, as in a trial: a thread that looks at the record every two seconds and sends what is new. The
senders of all trials share a few processes, since a machine of this size holds no hundred of them; each has its own
connections. Measured: how long one look takes that has something to send, what part of the metrics is there when
the last report has been written, how long after it all is there, and whether anything is lost.

PostgreSQL is Debian's package `postgresql`; a server is made in a temporary folder, listens on loopback, and is ended
by its process number. It needs `psycopg2` in the environment (not a dependency of mriad).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
PROCESSES = 4
PATIENCE_S = 60.0


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """A fresh file."""
    yield f"sqlite:///{folder}/mlflow.db"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A fresh server on loopback, gone afterwards with all that it wrote."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    data = folder / "postgresql"
    data.mkdir()
    who = {}
    if os.getuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(data, user.pw_uid, user.pw_gid)
        folder.chmod(0o755)
    made = [programs / "initdb", "-D", data, "-U", "mriad", "-A", "trust", "--no-sync"]
    subprocess.run(list(map(str, made)), check=True, capture_output=True, cwd="/", **who)  # type: ignore[call-overload]
    command = [
        programs / "postgres",
        "-D",
        data,
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-k",
        "",
        "-c",
        "max_connections=300",
    ]
    server = subprocess.Popen(list(map(str, command)), cwd="/", stderr=subprocess.DEVNULL, **who)  # type: ignore[call-overload]
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        until = time.monotonic() + 30
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > until or server.poll() is not None:
                raise SystemExit("PostgreSQL did not start")
            time.sleep(0.2)
        yield f"postgresql+psycopg2://mriad@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(30)


STORES = {"sqlite": sqlite, "postgresql": postgresql}


def report(place: str, first: int, count: int, uri: str, seconds: float, every: float, keys: int) -> None:
    """One process: `count` trials that report, and their senders; what was measured into `place`."""
    from mriad.tracking import sender
    from mriad.tracking.record import RunRecord

    looks: list[float] = []
    complaints: list[str] = []
    honest = sender.send

    def timed(record: Any, store: Any) -> bool:
        start = time.perf_counter()
        sent = honest(record, store)
        if sent:
            looks.append(time.perf_counter() - start)
        return sent

    sender.send = timed
    folder = Path(place)
    with contextlib.ExitStack() as stack:
        records = []
        for number in range(first, first + count):
            record = RunRecord.start(
                folder / f"trial-{number}",
                id=f"{number:064d}",
                name=f"trial {number}",
                kind="trial",
                study="load",
                experiment={"optimiser": {"lr": 1e-3}, "budget": {"steps": 1000}},
                tags={"variant": f"v{number % 3}", "fold": str(number % 5), "seed": "0"},
            )
            stack.enter_context(sender.Sender(record, uri, complaints.append))
            records.append(record)
        (folder / f"ready-{first}").touch()
        while not (folder / "go").exists():
            time.sleep(0.05)
        step, start = 0, time.monotonic()
        while (step + 1) * every <= seconds:
            step += 1
            for record in records:
                record.append(step, {f"val/metric_{key}": step + key / 100 for key in range(keys)})
            time.sleep(max(0.0, start + step * every - time.monotonic()))
        for record in records:
            record.finish()
        ended = time.monotonic()
        (folder / f"over-{first}").touch()
        # As a run's end: each sender has half a minute for what is left.
    late = time.monotonic() - ended
    (folder / f"said-{first}.json").write_text(
        json.dumps({"looks": looks, "late": late, "complaints": complaints, "steps": step})
    )


def load(store: str, trials: int, seconds: float, every: float, keys: int) -> dict[str, Any]:
    """One sitting; figures over all trials."""
    from mriad.tracking.mlflow_store import MlflowStore

    folder = Path(tempfile.mkdtemp(prefix="mriad-tracking-"))
    try:
        with STORES[store](folder) as uri:
            first = MlflowStore(uri)
            first.open()  # one process makes the tables
            client = first._client
            share = [trials // PROCESSES + (n < trials % PROCESSES) for n in range(PROCESSES)]
            at, workers = 0, []
            for count in share:
                if count:
                    given = json.dumps([str(folder), at, count, uri, seconds, every, keys])
                    workers.append(subprocess.Popen([sys.executable, __file__, "--worker", given]))
                at += count
            until = time.monotonic() + 180
            while len(list(folder.glob("ready-*"))) < len(workers) and time.monotonic() < until:
                time.sleep(0.1)
            (folder / "go").touch()
            while len(list(folder.glob("over-*"))) < len(workers) and time.monotonic() < until + seconds + 60:
                time.sleep(0.1)
            there_at_end = stored(client)
            for worker in workers:
                worker.wait(180)
            there = stored(client)
            said = [json.loads(path.read_text()) for path in folder.glob("said-*.json")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    looks = sorted(look for one in said for look in one["looks"])
    asked = trials * keys * max(one["steps"] for one in said)
    return {
        "store": store,
        "trials": trials,
        "metrics a second": round(trials * keys / every, 1),
        "look, median (s)": round(statistics.median(looks), 3),
        "look, 95 % (s)": round(looks[int(0.95 * (len(looks) - 1))], 3),
        "there at the end": f"{there_at_end / asked:.0%}",
        "all there after (s)": round(max(one["late"] for one in said), 1),
        "there at last": f"{there / asked:.0%}",
        "complaints": sum(len(one["complaints"]) for one in said),
    }


def stored(client: Any) -> int:
    """How many metric values of the reports the store has."""
    (experiment,) = [e for e in client.search_experiments() if e.name == "load"] or [None]
    if experiment is None:
        return 0
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return sum(
        round(value - int(key.rsplit("_", 1)[1]) / 100)
        for run in found
        for key, value in run.data.metrics.items()
    )


def main() -> None:
    """Print one row a store and number of trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", nargs="+", choices=list(STORES), default=list(STORES))
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 4, 16, 48])
    parser.add_argument("--seconds", type=float, default=20.0, help="How long trials report.")
    parser.add_argument("--every", type=float, default=1.0, help="Seconds between reports of a trial.")
    parser.add_argument("--keys", type=int, default=10, help="Metrics of a report.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        report(*json.loads(given.worker))
        return
    said = f"{given.keys} metrics every {given.every:g} s for {given.seconds:g} s"
    print(f"load {os.getloadavg()[0]:.1f}; each trial reports {said}")
    heads = False
    for trials in given.at_once:
        for store in given.stores:
            row = load(store, trials, given.seconds, given.every, given.keys)
            if not heads:
                print(" | ".join(row))
                heads = True
            print(" | ".join(map(str, row.values())), flush=True)


if __name__ == "__main__":
    main()
