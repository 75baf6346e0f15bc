"""The quality-control page as a person meets it: in a browser, from disk, by keys."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_eval.qc import Picture, Verdict, read_verdicts, write_page, write_single
from mriad_eval.qc.volumes import in_script
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from page_browser import Browser, executable
from qc_cases import EVIL, ODD, Shown, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mriad_eval.qc import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no Chromium on this machine"),
]
GRID = Grid.of((40, 48, 30), [[1, 0, 0.1, -20], [0, 1, 0, -24], [-0.1, 0, 1.2, -15], [0, 0, 0, 1]])
DRAWN = "document.body.dataset.drawn"
NAME = "document.querySelector('#case-name').textContent"
AT = "document.querySelector('#place').textContent"
# What the canvas holds: share of coloured pixels and standard deviation, read right after drawing.
CANVAS = """(() => {
  const nv = QC.viewer(); nv.drawScene();
  const copy = document.createElement("canvas"); copy.width = nv.canvas.width; copy.height = nv.canvas.height;
  const c = copy.getContext("2d"); c.drawImage(nv.canvas, 0, 0);
  const d = c.getImageData(0, 0, copy.width, copy.height).data;
  let coloured = 0, sum = 0, squares = 0; const n = d.length / 4; const kinds = {blue: 0, orange: 0, green: 0};
  for (let i = 0; i < d.length; i += 4) {
    const [r, g, b] = [d[i], d[i + 1], d[i + 2]];
    sum += g; squares += g * g;
    if (Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured++;
    if (b > 150 && b > r + 80) kinds.blue++;
    if (r > 150 && r > b + 100) kinds.orange++;
    if (g > 90 && g > r + 60 && g > b) kinds.green++;
  }
  return {coloured: coloured / n, std: Math.sqrt(squares / n - (sum / n) ** 2), ...kinds};
})()"""


def picture(seed: int) -> Picture:
    """A noisy head-like ball with a structure in it, and a shifted prediction."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID.shape), indexing="ij")
    head = ((x**2 + y**2 + z**2) < 0.9).astype(np.float32)
    scan = (head * 200 + 60 * head * (x > 0) + rng.normal(0, 15, GRID.shape)).astype(np.float32)
    reference = (((x / 0.3) ** 2 + (y / 0.4) ** 2 + (z / 0.5) ** 2) < 1).astype(np.float32)
    soft = np.clip(1.2 - (((x - 0.1) / 0.35) ** 2 + (y / 0.4) ** 2 + (z / 0.5) ** 2), 0, 1).astype(np.float32)
    return Picture.of(Volume(scan, GRID), (reference[None], GRID), (soft[None], GRID))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    names = ["plain", *ODD]
    rows = [row(name, 0.1 * i, contrast="T2w") for i, name in enumerate(names)]
    rows += [row(names[0], np.nan, metric="assd", direction="lower", worst=9.0, unit="mm", note="miss")]
    folder = tmp_path_factory.mktemp("pages with a space") / "qc"
    return write_page(folder, [Shown(n, picture(i)) for i, n in enumerate(names)], rows, title=f"Test {EVIL}")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as found:
        yield found


def opened(browser: Browser, page: Page) -> None:
    browser.open(page.index.as_uri())


def test_keys_verdicts_reload_and_export(browser: Browser, page: Page, tmp_path: Path) -> None:
    opened(browser, page)
    assert browser.do("document.querySelectorAll('#cases tbody tr').length") == 6
    browser.press("n")  # the first key goes to the first case: the worst
    assert (browser.do(NAME), browser.do(AT)) == ("plain", "1 of 6")
    browser.press("p")  # there is none before it
    assert browser.do(AT) == "1 of 6"
    browser.press("f", "n", "ArrowRight", "ArrowLeft")
    assert (browser.do(NAME), browser.do(AT)) == (EVIL, "2 of 6")
    browser.press("y", "c", *'f, "n" and y', "Enter")  # letters in a comment are no keys
    assert browser.do(AT) == "2 of 6"
    browser.press("n", "f", "u", "n", "n", "n", "f")
    opened(browser, page)  # a reload keeps the verdicts
    assert browser.do("document.querySelector('#progress').textContent") == "3 of 6 judged✓ 1✕ 2"
    rows = browser.do("[...document.querySelectorAll('#cases tbody tr')].map(r => r.cells[3].textContent)")
    assert rows == ["✕ fail", "✓ pass", "", "", "", "✕ fail"]
    browser.click("#export")
    for kind in ("csv", "json"):
        browser.click(f"#save-{kind}")
        file = tmp_path / f"qc-verdicts.{kind}"
        deadline = 200
        while not file.is_file() and deadline:
            browser.do("new Promise(done => setTimeout(done, 50))")
            deadline -= 1
        found = read_verdicts(file)
        assert [(v.case, v.verdict, v.comment) for v in found] == [
            ("plain", "fail", ""),
            (EVIL, "pass", 'f, "n" and y'),
            (ODD[-1], "fail", ""),
        ]
        assert all(len(v.time) == 20 and v.time.endswith("Z") for v in found)
    assert browser.complaints == []
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}


def test_names_are_shown_and_run_nothing(browser: Browser, page: Page) -> None:
    opened(browser, page)
    names = browser.do("[...document.querySelectorAll('#cases tbody tr')].map(r => r.cells[0].textContent)")
    assert names == ["plain", *ODD]
    assert browser.do("document.title") == f"Test {EVIL}"
    browser.press("n", "n", "n", "n", "n", "y")  # "__proto__" is a case like any other
    assert browser.do(NAME) == "__proto__"
    assert (
        browser.do("document.querySelector('#export').click(), document.querySelector('#export-text').value")
        .split("\n")[1]
        .startswith("__proto__,pass,,")
    )
    assert browser.complaints == []


def test_the_viewer_draws_what_it_says(browser: Browser, page: Page, tmp_path: Path) -> None:
    opened(browser, page)
    browser.press("n", "v")
    browser.wait(f"{DRAWN} === '1 contours'")
    seen = {"contours": browser.do(CANVAS)}
    for mode in ("fill", "difference", "soft"):
        browser.press("d")
        browser.wait(f"{DRAWN} === '1 {mode}'")
        seen[mode] = browser.do(CANVAS)
    for mode, found in seen.items():
        assert found["std"] > 20, mode
        assert found["coloured"] > 0.005, mode
    assert seen["contours"]["blue"] > 300
    assert seen["contours"]["orange"] > 300
    assert seen["difference"]["green"] > 1000
    assert seen["difference"]["orange"] > 300
    assert seen["contours"]["green"] < 100
    browser.press("d", "r", "s")  # contours without either: the scan alone
    browser.wait(f"{DRAWN} === '1 contours'")
    bare = browser.do(CANVAS)
    assert bare["std"] > 20
    assert bare["blue"] + bare["green"] < 50
    picture = np.asarray(Image.open(browser.picture(tmp_path / "seen.png")).convert("RGB")).astype(float)
    assert picture[120:, :1000].std() > 20
    assert browser.complaints == []
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}


def test_only_the_last_of_many_fast_presses_is_drawn(browser: Browser, page: Page) -> None:
    opened(browser, page)
    browser.press("n", "v")
    browser.wait(f"{DRAWN} === '1 contours'")
    browser.press("n", "n", "n", "n", "n")
    assert browser.do(NAME) == ODD[-1]  # the name moves at once
    browser.wait(f"{DRAWN} === '6 contours'")
    assert browser.do("QC.shown()") == 6
    assert browser.do("document.querySelector('#state').textContent") == ""
    # Keys reach us, not the viewer, also when its canvas has the focus.
    browser.click("#gl")
    browser.press("p", "f", "h", "v")
    assert browser.do(AT) == "5 of 6"
    assert browser.do("document.querySelector('#mosaic').hidden") is False


def test_sorting_and_finding(browser: Browser, page: Page) -> None:
    opened(browser, page)
    first = "document.querySelector('#cases tbody tr').cells[0].textContent"
    click = "[...document.querySelectorAll('#cases th button')].find(b => b.textContent === '{}').click()"
    browser.do(click.format("dice"))
    assert browser.do(first) == "plain"  # worst first
    browser.do(click.format("dice"))
    assert browser.do(first) == ODD[-1]
    browser.do(click.format("assd (mm)"))
    assert browser.do(first) == "plain"  # a miss is the worst, what has no value comes last
    browser.do(
        "(() => { const f = document.querySelector('#find'); f.value = '患';"
        " f.dispatchEvent(new Event('input')); })()"
    )
    assert browser.do("document.querySelector('#count').textContent") == "1 of 6"
    browser.press("n")
    assert (browser.do(NAME), browser.do(AT)) == (ODD[1], "1 of 1")
    browser.press("o")
    browser.click(".card")  # a picture opens its case, whatever the table is narrowed to
    assert browser.do(NAME) == "plain"


def test_without_webgl_the_mosaics_still_work(page: Page, tmp_path: Path) -> None:
    with Browser(tmp_path, "--disable-webgl", "--disable-webgl2", "--disable-3d-apis") as browser:
        opened(browser, page)
        browser.press("n", "v")
        said = "document.querySelector('#state').textContent"
        browser.wait(f"{said}.includes('needs WebGL2')")
        browser.press("v", "n")
        browser.wait("document.querySelector('#mosaic').naturalWidth > 1000")


def test_no_request_can_leave(browser: Browser, page: Page) -> None:
    """The policy refuses what a changed script would try."""
    opened(browser, page)
    tried = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert browser.do(tried) == "refused"
    image = (
        "new Promise(d => { const i = new Image(); i.onload = () => d('sent'); i.onerror = () => d('refused');"
        " i.src = 'https://example.org/x.png'; })"
    )
    assert browser.do(image) == "refused"
    assert any("Content Security Policy" in text for text in browser.complaints)


def test_one_file_in_the_frame_of_a_tracking_store(browser: Browser, page: Page, tmp_path: Path) -> None:
    """MLflow shows an artefact in a sandboxed frame: no storage, no neighbours, no downloads."""
    single = write_single(tmp_path / "qc.html", page, cases=3)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<body data-ready='yes'><script>const text = {in_script(single.read_text('utf-8'))};"
        "const f = document.createElement('iframe'); f.setAttribute('sandbox', 'allow-scripts');"
        "f.style = 'width:1200px;height:800px'; f.src = URL.createObjectURL(new Blob([text], {type: 'text/html'}));"
        "f.onload = () => document.body.dataset.loaded = 'yes'; document.body.append(f);</script>"
    )
    browser.open(frame.as_uri())
    browser.wait("document.body.dataset.loaded === 'yes'")
    picture = np.asarray(Image.open(browser.picture(tmp_path / "seen.png")).convert("RGB")).astype(float)
    assert picture[:800, :1200].std() > 20
    assert not [text for text in browser.complaints if "Uncaught" in text or "Error" in text]
    browser.open(single.as_uri())  # and by itself, with keys
    browser.press("n", "f")
    assert browser.do("document.querySelector('#progress').textContent").startswith("1 of 6 judged")
    browser.wait("document.querySelector('#mosaic').naturalWidth > 1000")
    assert browser.do("document.querySelectorAll('#looks button').length") == 1  # no viewer
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}


def test_json_of_another_browser_is_taken_over(browser: Browser, page: Page, tmp_path: Path) -> None:
    told = {
        "format": 1,
        "kind": "qc-verdicts",
        "verdicts": [vars(Verdict("plain", "pass", "seen")), vars(Verdict("zz", "fail"))],
    }
    text = json.dumps(told)
    opened(browser, page)
    browser.do(
        "(() => { const t = new DataTransfer(); t.items.add(new File(["
        + json.dumps(text)
        + "], 'qc-verdicts.json'));"
        "const i = document.querySelector('#load'); i.files = t.files; i.dispatchEvent(new Event('change')); })()"
    )
    browser.wait(
        "document.querySelector('#load-state').textContent === '1 loaded, 1 of other cases left out'"
    )
    assert "plain,pass,seen," in browser.do("document.querySelector('#export-text').value")


def test_200_cases_stay_smooth(browser: Browser, page: Page, tmp_path: Path) -> None:
    """A table of 200 cases, 199 turns of the mosaic and 12 of the viewer; memory stays, every case is met."""
    shutil.copytree(page.folder, tmp_path / "many")
    six = page.content["cases"]
    cases = [{**six[i % 6], "id": f"case-{i:03d}"} for i in range(200)]
    many = {**page.content, "cases": cases, "identity": "many"}
    (tmp_path / "many" / "cases.js").write_text(f"window.QC_PAGE = {in_script(many)};")
    browser.open((tmp_path / "many" / "index.html").as_uri())
    browser.press("n")
    heap = "performance.memory.usedJSHeapSize / 2 ** 20"
    took = []
    for i in range(199):
        start = time.perf_counter()
        browser.press("y", "n")
        seen = browser.do(f"document.querySelector('#mosaic').decode().then(() => {NAME})")
        took.append(time.perf_counter() - start)
        assert seen == f"case-{i + 1:03d}"
    assert statistics.median(took) < 0.5, took
    assert browser.do("document.querySelector('#progress').textContent").startswith("199 of 200 judged")
    browser.press("v")
    browser.wait(DRAWN)
    sizes = []
    for _ in range(12):
        before = browser.do(DRAWN)
        browser.press("p")
        browser.wait(f"{DRAWN} !== {before!r}")
        browser.call("HeapProfiler.collectGarbage")
        sizes.append(browser.do(heap))
    assert max(sizes[6:]) < max(sizes[:6]) + 5, sizes
    assert max(sizes) < 100, sizes
    assert browser.complaints == []
