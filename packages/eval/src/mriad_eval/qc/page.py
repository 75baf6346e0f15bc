"""Writes the page: a folder that opens from disk, one file for a tracking store's preview, and a zip.

Everything that is written comes from case ids, table rows and voxels. No path and no header field goes along, and
the page's policy lets no request leave the machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file, storing, temporary_folder
from mriad.errors import MriadError, StorageError
from mriad.identity import fingerprint
from mriad.parallel import map_cases

from mriad_eval.figures.mosaic import AGREE, CONFUSED, PREDICTION, REFERENCE, draw_mosaic
from mriad_eval.qc.scores import rank, table_of
from mriad_eval.qc.volumes import in_script, script_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mriad.evaluation import Row

    from mriad_eval.qc.picture import CasePicture

INDEX, CASES = "index.html", "cases.js"
LIMIT = 200
"""Cases that get pictures unless said otherwise; the table lists all."""
VERDICTS = "qc-verdicts*"
"""Lists that a person saved in the folder are kept when the page is written again."""
_BEGIN = "window.QC_PAGE = "
_SCRIPTS = ("verdicts.js", "viewer.js", "app.js")
_VIEWER = ("niivue.umd.js", "NIIVUE-NOTICE.txt")
_FOLDER_POLICY = "script-src file:; img-src file: data: blob:"
_SINGLE_POLICY = "script-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Page:
    """A written page: its folder, what it shows (plain values), and the cases that could not be drawn."""

    folder: Path
    content: dict[str, Any]
    failed: dict[str, str]

    @property
    def index(self) -> Path:
        """The file to open."""
        return self.folder / INDEX

    def renamed(self, name: Callable[[str], str]) -> Page:
        """The page with other names of cases and persons; pictures and volumes name nobody as they are."""
        cases = [
            {**case, "id": name(case["id"]), "person": name(case["person"])} for case in self.content["cases"]
        ]
        failed = {name(case): why for case, why in self.failed.items()}
        return Page(self.folder, {**self.content, "cases": cases}, failed)


def write_page(
    folder: Path,
    pictures: Sequence[CasePicture],
    rows: Sequence[Row],
    *,
    title: str = "Quality control",
    note: str = "",
    identity: str = "",
    limit: int = LIMIT,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Page:
    """Write the page of an evaluation, whole or not at all; a page that is there is replaced.

    Args:
        folder: holds `index.html` afterwards.
        pictures: the cases that can be shown.
        rows: the tidy table; empty where nothing was measured. Its cases are all listed.
        title: of the page.
        note: one line under it, such as what was measured against what.
        identity: verdicts are kept in the browser under it; the same evaluation has the same one. Default: from
            rows, cases and pictures.
        limit: cases with pictures, worst and median first.
        workers: processes; 0: this one.
        progress: called as `progress(done, total)` after each picture.

    Raises:
        StorageError: the place is full or cannot be written.
        LaunchError: a worker process died.
    """
    ids = [picture.id for picture in pictures]
    ranking = rank(rows, ids)
    chosen = ranking.choose(limit)
    number = {case: place for place, case in enumerate(chosen, 1)}
    by_id = {picture.id: picture for picture in pictures}
    with temporary_folder(folder) as place, storing(folder):
        for name in ("cases", "mosaics", "app"):
            (place / name).mkdir()
        todo = [(number[case], by_id[case]) for case in chosen]
        drawn = list(map_cases(_Draw(place), todo, workers, name=lambda item: item[1].id, progress=progress))
        failed = {case: why for case, why in zip(chosen, drawn, strict=True) if why}
        table = table_of(rows, ranking.order)
        for case in table["cases"]:
            case["picture"] = 0 if case["id"] in failed else number.get(case["id"], 0)
            case["problem"] = failed.get(case["id"], "")
        places = {case["id"]: at for at, case in enumerate(table["cases"])}
        content = {
            "title": title,
            "note": note,
            "identity": identity or fingerprint([title, table["cases"], _pictures(place)]),
            "ranked_by": ranking.metric,
            "worst": [places[case] for case in ranking.worst],
            "median": [places[case] for case in ranking.median],
            "colours": _colours(),
            "viewer": True,
            **table,
        }
        for name in (*_SCRIPTS, *_VIEWER):
            (place / "app" / name).write_bytes(_asset(name))
        (place / CASES).write_bytes(_script(content))
        (place / INDEX).write_text(_html(title, inline=None), encoding="utf-8")
        _put(place, folder)
    return Page(folder, content, failed)


def open_page(folder: Path) -> Page | None:
    """The page that was written to a folder; None where there is none."""
    try:
        text = (folder / CASES).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    content: dict[str, Any] = json.loads(text.removeprefix(_BEGIN).rstrip().removesuffix(";"))
    failed = {case["id"]: case["problem"] for case in content["cases"] if case["problem"]}
    return Page(folder, content, failed)


def write_single(path: Path, page: Page, cases: int = 12) -> Path:
    """Write the page as one HTML file without the 3D viewer, with the pictures of at most `cases` cases.

    For places that show a single file, such as MLflow's artefact view; worst and median cases come first.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    content = {**page.content, "viewer": False, "cases": [dict(case) for case in page.content["cases"]]}
    first = [*content["worst"], *content["median"], *range(len(content["cases"]))]
    with_picture = [at for at in dict.fromkeys(first) if content["cases"][at]["picture"]][:cases]
    for at, case in enumerate(content["cases"]):
        if at in with_picture:
            raw = (page.folder / _mosaic(case["picture"])).read_bytes()
            case["mosaic"] = f"data:image/png;base64,{base64.b64encode(raw).decode('ascii')}"
        else:
            case["picture"] = 0
    with atomic_file(path) as temporary:
        temporary.write_text(_html(content["title"], inline=content), encoding="utf-8")
    return path


def write_zip(path: Path, page: Page) -> Path:
    """Write the folder as a zip whose files lie in a folder of the zip's name.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in sorted(p for p in page.folder.rglob("*") if p.is_file()):
            name = f"{path.stem}/{file.relative_to(page.folder).as_posix()}"
            # A fixed time, so that equal pages give equal bytes; pictures and base64 of gzip hardly shrink.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_STORED if file.suffix == ".png" else zipfile.ZIP_DEFLATED
            archive.writestr(
                entry,
                compresslevel=1,
                data=_script(page.content) if file.name == CASES else file.read_bytes(),
            )
    return path


@dataclass(frozen=True)
class _Draw:
    """Writes mosaic and volumes of one numbered case; returns why it could not, without naming files."""

    folder: Path

    def __call__(self, item: tuple[int, CasePicture]) -> str:
        number, shown = item
        try:
            picture = shown.read()
            draw_mosaic(
                self.folder / _mosaic(number),
                picture.scan_on_grid(),
                picture.grid,
                reference=picture.reference,
                prediction=picture.prediction,
            )
            script = self.folder / "cases" / f"{number:04d}.js"
            script.write_text(script_of(number, picture), encoding="ascii")
        except StorageError:
            raise
        except MriadError as error:
            return error.what  # one line without the facts, which name files
        return ""


def _pictures(folder: Path) -> list[str]:
    """What the mosaics show: two predictions of the same cases are two pages."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((folder / "mosaics").iterdir())]


def _mosaic(number: int) -> str:
    return f"mosaics/{number:04d}.png"


def _put(made: Path, folder: Path) -> None:
    """Give the new folder its name; lists of verdicts in an old one move over."""
    if folder.exists():
        for kept in folder.glob(VERDICTS):
            shutil.copy2(kept, made / kept.name)
        old = made.with_name(f"{made.name}.old")
        folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old)
    else:
        made.rename(folder)


def _script(content: dict[str, Any]) -> bytes:
    return f"{_BEGIN}{in_script(content)};\n".encode("ascii")


def _colours() -> dict[str, str]:
    return {"reference": REFERENCE, "prediction": PREDICTION, "both": AGREE, "other": CONFUSED}


def _asset(name: str) -> bytes:
    return resources.files("mriad_eval.qc").joinpath("assets", name).read_bytes()


def _html(title: str, inline: dict[str, Any] | None) -> str:
    """The page itself; `inline` holds the content of a single file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(_asset("index.html.j2").decode("utf-8"))
    return template.render(
        title=title,
        policy=_FOLDER_POLICY if inline is None else _SINGLE_POLICY,
        style=_asset("style.css").decode("utf-8"),
        content=None if inline is None else in_script(inline),
        scripts=[_asset(name).decode("utf-8") for name in _SCRIPTS if name != "viewer.js"],
    )
