"""Headless Chromium for tests of the quality-control page: DevTools protocol over a pipe, standard library alone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--remote-debugging-pipe",
    "--enable-precise-memory-info",
)


def executable() -> str | None:
    """The browser on this machine, or None; MRIAD_CHROMIUM names another."""
    return os.environ.get("MRIAD_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One window; remembers every request and every complaint of the console. Use as a context manager."""

    def __init__(self, folder: Path, *flags: str, size: tuple[int, int] = (1400, 900)) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._flags = (*flags, f"--window-size={size[0]},{size[1]}")
        self._size = size
        self._number = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()
        keep = [os.dup(read_theirs), os.dup(write_theirs)]
        wanted = {"user-data-dir": self.folder / "profile"}
        options = [f"--{name}={value}" for name, value in wanted.items()]
        browser = executable()
        assert browser, "the test should have been skipped"

        def wire() -> None:
            os.dup2(keep[0], 3)
            os.dup2(keep[1], 4)

        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [browser, *FLAGS, *self._flags, *options, "about:blank"],
            preexec_fn=wire,
            close_fds=False,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        for end in (read_theirs, write_theirs, *keep):
            os.close(end)
        deadline = time.monotonic() + 60
        self._session = ""
        while not self._session:
            pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
            if pages:
                found = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
                self._session = found["sessionId"]
            assert time.monotonic() < deadline, "the browser opened no page"
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        width, height = self._size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.folder), session=False
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.call("Browser.close", session=False)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._log.close()

    def memory(self) -> int:
        """Bytes that the browser's processes hold in RAM for themselves (proportional set size; Linux)."""
        total = 0
        for folder in self._processes():
            with contextlib.suppress(OSError):
                rollup = (folder / "smaps_rollup").read_text()
                total += 1024 * int(rollup.split("\nPss:")[1].split()[0])
        return total

    def cpu(self) -> float:
        """Seconds of processor time that the browser's processes have used (Linux)."""
        ticks = 0
        for folder in self._processes():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _processes(self) -> Iterator[Path]:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3]) == self._process.pid:
                    yield folder

    # ---- the protocol -----------------------------------------------------------------------------------------

    def call(self, method: str, *, session: bool = True, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        mine = self._number
        message: dict[str, Any] = {"id": mine, "method": method, "params": parameters}
        if session and getattr(self, "_session", ""):
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        for told in self._messages(120):
            if told.get("id") == mine:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
        raise AssertionError(f"{method} was not answered")

    def _messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            while b"\0" in self._rest:
                line, self._rest = self._rest.split(b"\0", 1)
                told = json.loads(line)
                self._note(told)
                yield told
            if select.select([self._read], [], [], 0.2)[0]:
                data = os.read(self._read, 1 << 20)
                assert data, "the browser has ended"
                self._rest += data

    def _note(self, told: dict[str, Any]) -> None:
        method, p = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(p["exceptionDetails"].get("exception", p)))
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning"):
            self.complaints.append(str([a.get("value", a.get("description")) for a in p["args"]]))
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.complaints.append(p["entry"]["text"])

    # ---- what a person does -----------------------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Go to an address and wait until the page says that it is ready."""
        self.call("Page.navigate", url=address)
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def do(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> float:
        """Wait until an expression is true; return the seconds that it took."""
        start = time.monotonic()
        while not self.do(expression):
            assert time.monotonic() - start < seconds, f"never true: {expression}; {self.complaints}"
            time.sleep(0.02)
        return time.monotonic() - start

    def press(self, *keys: str) -> None:
        """Press keys one after the other: letters, or names such as "Enter"."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        place = self.do(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def theme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path) -> Path:
        """Save what is seen as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
        return path
