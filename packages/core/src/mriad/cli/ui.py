"""`mriad ui`: the MLflow UI on the tracking store, on this machine's loopback address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import IO, TYPE_CHECKING, Annotated

import typer

from mriad.environment import quiet
from mriad.errors import LaunchError, TrackingError
from mriad.launch.files import runs_root
from mriad.tracking.address import ARTIFACTS, public, sqlite_path, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
PORT = 5000
START_S = 120.0
"""A cold start takes 12 to 25 s on two cores."""


def ui(
    runs: Annotated[
        Path | None, typer.Option("--runs", help="The runs root. [default: ./mriad-runs]")
    ] = None,
    tracking: Annotated[
        str, typer.Option("--tracking", help="URI of the store. [default: MLFLOW_TRACKING_URI, else SQLite]")
    ] = "",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="[default: 5000, else a free one]")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Serve the MLflow UI until Ctrl-C; a store that is a server already is only opened.

    Example: mriad ui --port 5000
    """
    uri = tracking_uri(runs_root(runs), tracking)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"the store is a server: {public(uri)}")
        if browser:
            webbrowser.open(uri)
        return
    with contextlib.suppress(KeyboardInterrupt), serving(uri, port) as server:
        typer.echo(f"MLflow UI on {public(uri)}\n  {server.url}\nCtrl-C ends it")
        sys.stdout.flush()
        if browser:
            webbrowser.open(server.url)
        server.process.wait()
        raise TrackingError("the MLflow server has ended by itself", remedy="mriad ui")
    typer.echo("ended")


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serving(uri: str, port: int = 0) -> Iterator[Server]:
    """Serve a store on loopback inside the block, which begins when the server answers.

    Args:
        uri: SQLite or another database.
        port: 0: 5000, or a free one where that is taken.

    Raises:
        TrackingError: there is no such database yet, or the server does not come up.
        LaunchError: the port is taken.
    """
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise TrackingError(
            "nothing has been tracked here yet",
            where={"store": database},
            remedy="`mriad train x.yaml` first, `mriad sync`, or --runs DIR / --tracking URI for another store",
        )
    chosen = port or _free_port()
    if port and not _is_free(port):
        raise LaunchError(f"port {port} is taken", remedy="another --port, or none for a free one")
    url = f"http://{HOST}:{chosen}"
    with _until_interrupted(), tempfile.TemporaryFile() as said:
        process = _start(uri, chosen, database, said)
        try:
            _wait(process, url, said)
            yield Server(url, process)
        finally:
            _end(process)


def _start(uri: str, port: int, database: Path | None, said: IO[bytes]) -> subprocess.Popen[bytes]:
    quiet()
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # eight processes of no use to us
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", uri]
    if database is not None:
        command += ["--artifacts-destination", str(database.parent / ARTIFACTS)]
    # A session of its own: Ctrl-C comes to us alone, and we end its whole process group.
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], url: str, said: IO[bytes]) -> None:
    """Return when the server answers."""
    until = time.monotonic() + START_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > until:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            raise TrackingError(
                "the MLflow server did not come up",
                where={"address": url, "it said": lines[-1] if lines else "nothing"},
                remedy="try another --port; `mriad doctor` checks the installation",
            )
        time.sleep(0.25)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its worker."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whoever is left of the group
    process.wait()


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    try:
        with direct.open(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # URLError is one
        return False


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """SIGTERM ends us like Ctrl-C, so that the server is not left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    if _is_free(PORT):
        return PORT
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
