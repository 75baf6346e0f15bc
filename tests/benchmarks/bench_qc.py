"""How fast the quality-control page is written and looked through: 200 cases, headless Chromium, software WebGL.

    python tests/benchmarks/bench_qc.py [--cases 200] [--shape 160,160,60] [--switches 60]

Prints seconds a case to write, seconds until the page can be used, milliseconds from key press to the next picture
(mosaic, and 3D viewer with and without its 3D pane) with the processor time behind it, which other work on the
machine does not change, frames that took longer than 50 ms, and the memory. The viewer's WebGL is in software here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mriad.case_table import Row
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_eval.qc import Picture, write_page, write_single, write_zip
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))
from page_browser import Browser, executable

FRAMES = """window.slow = []; window.last = performance.now();
(function tick(now) { const took = now - window.last; if (took > 50) window.slow.push(Math.round(took));
  window.last = now; requestAnimationFrame(tick); })(performance.now())"""


@dataclass(frozen=True)
class Made:
    """A noisy head with a bent tube and a prediction that is a little off; from its number alone."""

    number: int
    shape: tuple[int, int, int]

    @property
    def id(self) -> str:
        return f"case-{self.number:03d}"

    def read(self) -> Picture:
        rng = np.random.default_rng(self.number)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape), indexing="ij")
        noise = ndimage.gaussian_filter(rng.normal(size=self.shape).astype(np.float32), 1)
        scan = 200 * (x**2 + y**2 < 0.9) + 150 * noise
        bend = 0.1 * np.sin(3 * z)
        tube = ((x - bend) ** 2 + y**2 < 0.012).astype(np.float32)
        off = rng.normal(0, 0.02)
        soft = np.clip(1.5 - ((x - bend - off) ** 2 + y**2) / 0.014, 0, 1).astype(np.float32)
        grid = Grid.of(self.shape, np.diag([1.0, 1.0, 2.0, 1.0]))
        return Picture.of(Volume(scan.astype(np.float32), grid), (tube[None], grid), (soft[None], grid))


def memory(browser: Browser) -> str:
    """Memory after a collection."""
    browser.call("HeapProfiler.collectGarbage")
    heap = browser.do("performance.memory.usedJSHeapSize") / 2**20
    return f"{heap:.0f} MiB of JavaScript, {browser.memory() / 2**20:.0f} MiB in all processes"


def turn(browser: Browser, count: int, ready: str) -> list[float]:
    """Milliseconds from a key press to what `ready` says of the case."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        browser.press("n")
        browser.do(ready)
        took.append(1000 * (time.perf_counter() - start))
    return took


def say(name: str, took: list[float]) -> None:
    took = sorted(took)
    last = took[min(int(len(took) * 0.95), len(took) - 1)]
    print(f"{name}: median {statistics.median(took):.0f} ms, 95 % below {last:.0f} ms (n {len(took)})")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--shape", default="160,160,60")
    parser.add_argument("--switches", type=int, default=60)
    asked = parser.parse_args()
    a, b, c = (int(n) for n in asked.shape.split(","))
    if executable() is None:
        raise SystemExit("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [Made(i, (a, b, c)) for i in range(asked.cases)]
        rows = [Row(m.id, m.id, "T2w", "", "cord", "dice", m.number / 1000, "1", "higher", 0.0) for m in made]
        start = time.process_time()
        for one in made[:5]:
            one.read()
        making = (time.process_time() - start) / 5
        start = time.process_time()
        page = write_page(folder / "qc", made, rows, limit=asked.cases)
        writing = (time.process_time() - start) / asked.cases - making
        size = sum(f.stat().st_size for f in page.folder.rglob("*") if f.is_file()) / 2**20
        print(f"{asked.cases} cases of {a}×{b}×{c}: {writing:.2f} CPU s a case to write, {size:.0f} MiB")
        for name, write in (("qc.html", write_single), ("qc.zip", write_zip)):
            start = time.perf_counter()
            path = write(folder / name, page)
            print(f"{name}: {path.stat().st_size / 2**20:.1f} MiB, {time.perf_counter() - start:.1f} s")
        look(folder, page.index.as_uri(), asked.switches)


def look(folder: Path, address: str, switches: int) -> None:
    with Browser(folder / "browser") as browser:
        start = time.perf_counter()
        browser.open(address)
        print(f"page ready after {time.perf_counter() - start:.2f} s, {memory(browser)}")
        browser.press("n")
        browser.do(FRAMES)
        shown = "document.querySelector('#mosaic').decode()"
        used = browser.cpu()
        say("next mosaic", turn(browser, switches, shown))
        print(f"  {1000 * (browser.cpu() - used) / switches:.0f} ms of processor time each")
        say("next mosaic and a verdict", [t for _ in range(switches // 2) for t in judged(browser, shown)])
        print(f"  frames over 50 ms: {browser.do('window.slow')}; {memory(browser)}")
        start = time.perf_counter()
        browser.press("v")
        browser.wait("document.body.dataset.drawn")
        print(f"first 3D view: {time.perf_counter() - start:.2f} s")
        for pane in ("with", "without"):
            if pane == "without":
                browser.do("document.querySelector('#render').click()")
            took, used = [], browser.cpu()
            for _ in range(switches // 2):
                before = browser.do("document.body.dataset.drawn")
                start = time.perf_counter()
                browser.press("n")
                drawn = f"document.body.dataset.drawn !== {before!r}"
                browser.wait(drawn)
                took.append(1000 * (time.perf_counter() - start))
            say(f"next volume, {pane} the 3D pane", took)
            print(f"  {1000 * (browser.cpu() - used) / len(took):.0f} ms of processor time each")
            print(f"  {memory(browser)}")
        assert not browser.complaints, browser.complaints
        assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)
        print(f"{len(browser.requests)} requests, all of them on this machine")


def judged(browser: Browser, shown: str) -> list[float]:
    browser.press("y")
    return turn(browser, 1, shown)


if __name__ == "__main__":
    main()
