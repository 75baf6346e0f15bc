"""The quality-control page as files: what it holds, what it must never hold, and cases that lack something."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zipfile
from importlib import resources
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import typer
from mriad.errors import DataError
from mriad.images import read_volume, write_like
from mriad_eval.evaluate import evaluate
from mriad_eval.qc import open_page, write_page, write_single, write_zip
from mriad_eval.qc.scores import rank
from mriad_eval.qc.volumes import in_script
from qc_cases import EVIL, GRID, ODD, Shown, content, delivered, full, mask, row
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path


def test_the_viewer_is_the_published_one_with_its_notices() -> None:
    assets = resources.files("mriad_eval.qc") / "assets"
    raw = (assets / "niivue.umd.js").read_bytes()
    digest = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
    assert hashlib.sha256(raw).hexdigest() == digest
    notice = (assets / "NIIVUE-NOTICE.txt").read_text("utf-8")
    for said in ("0.69.0", digest, "Copyright (c) 2025, Niivue", "BSD 2-Clause"):
        assert said in notice
    for part in ("fflate", "gl-matrix", "nifti-reader-js", "zarrita", "numcodecs", "uuid", "array-equal"):
        assert part in notice
    assert "structured-clone" in notice


def test_our_scripts_are_short_and_set_text_alone() -> None:
    assets = resources.files("mriad_eval.qc") / "assets"
    for name in ("app.js", "viewer.js", "verdicts.js", "style.css", "index.html.j2"):
        text = (assets / name).read_text("utf-8")
        assert len(text.splitlines()) <= 400, name
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
            assert unsafe not in text, f"{name}: {unsafe}"
        assert not re.search(r"https?://", text), name


# ---- the folder -------------------------------------------------------------------------------------------------


def test_files_and_content(tmp_path: Path) -> None:
    rows = [
        row("a", 0.9),
        row("b", 0.4),
        row("b", np.nan, metric="assd", unit="mm", direction="lower", worst=30.0),
    ]
    page = write_page(tmp_path / "qc", [Shown("a", full()), Shown("b", full())], rows, title="T", note="N")
    found = sorted(str(p.relative_to(page.folder)) for p in page.folder.rglob("*") if p.is_file())
    assert found == [
        "app/NIIVUE-NOTICE.txt",
        "app/app.js",
        "app/niivue.umd.js",
        "app/verdicts.js",
        "app/viewer.js",
        "cases.js",
        "cases/0001.js",
        "cases/0002.js",
        "index.html",
        "mosaics/0001.png",
        "mosaics/0002.png",
    ]
    told = content(page)
    assert (told["title"], told["note"], told["ranked_by"]) == ("T", "N", "dice")
    assert [case["id"] for case in told["cases"]] == ["b", "a"]  # worst first
    assert told["cases"][0]["values"]["cord"] == {"dice": [0.4, "", 0.4], "assd": [None, "", None]}
    assert told["worst"] == [0, 1]
    assert [(s["metric"], s["n"], s["total"], s["misses"]) for s in told["summary"]] == [
        ("dice", 2, 2, 0),
        ("assd", 0, 1, 0),
    ]
    assert told["summary"][0]["mean"] == pytest.approx(0.65)
    assert page.failed == {}
    html = page.index.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    assert policy.startswith("default-src 'none'; script-src file:; img-src file: data: blob:;")
    assert "connect-src 'none'" in policy
    assert "http" not in policy


def test_names_are_data_and_never_code(tmp_path: Path) -> None:
    rows = [row(case, 0.5, person=EVIL, contrast=EVIL, structure=EVIL) for case in ODD]
    page = write_page(tmp_path / "qc", [Shown(case, full()) for case in ODD], rows, title=EVIL, note=EVIL)
    assert sorted(case["id"] for case in content(page)["cases"]) == sorted(ODD)
    single = write_single(tmp_path / "qc.html", page)
    for file in (page.index, page.folder / "cases.js", single):
        text = file.read_text("utf-8")
        assert "alert(1)" in text  # it is there
        assert "<script>alert" not in text  # and is no code
    assert single.read_text("utf-8").count("</script>") == 3  # content, verdicts.js, app.js
    assert not re.search(r"[<>&\u2028]|[^\x00-\x7f]", in_script({"a": EVIL + "\u2028é"}))


# ---- what cases may lack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacks", ["scan", "reference", "prediction"])
def test_a_case_may_lack_anything_but_all(lacks: str, tmp_path: Path) -> None:
    page = write_page(tmp_path / "qc", [Shown("a", full(**{lacks: None}))], [])
    told = delivered(page)
    assert told["bare"] == (lacks == "scan")
    assert "scan" in told["volumes"]  # black where there is none
    assert (lacks in told["volumes"]) == (lacks == "scan")
    assert "difference" in told["volumes"] or lacks != "scan"


def test_empty_maps(tmp_path: Path) -> None:
    page = write_page(
        tmp_path / "qc", [Shown("a", full(reference=(0 * mask(), GRID), prediction=(0 * mask(), GRID)))], []
    )
    told = delivered(page)
    assert set(told["volumes"]) == {"scan"}
    assert "centre" not in told


def test_a_picture_that_cannot_be_drawn_says_why_without_naming_files(tmp_path: Path) -> None:
    shown = [Shown("bad", error="the file is truncated or not a NIfTI image"), Shown("good", full())]
    page = write_page(tmp_path / "qc", shown, [row("bad", 0.1), row("good", 0.9)])
    assert page.failed == {"bad": "the file is truncated or not a NIfTI image"}
    bad, good = content(page)["cases"]
    assert (bad["picture"], bad["problem"]) == (0, page.failed["bad"])
    assert good["picture"] == 2
    assert "secret" not in (page.folder / "cases.js").read_text()


def test_nothing_measured_and_nothing_shown(tmp_path: Path) -> None:
    page = write_page(tmp_path / "qc", [], [])
    assert content(page)["cases"] == []
    only_rows = write_page(tmp_path / "rows", [], [row("a", 0.5)])
    assert [(c["id"], c["picture"]) for c in content(only_rows)["cases"]] == [("a", 0)]


# ---- which cases ------------------------------------------------------------------------------------------------


def test_worst_and_median_come_first() -> None:
    values = [0.9, 0.1, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]
    rows = [row(f"c{v}", v) for v in values] + [row("", 0.0, metric="csa_std", direction="lower")]
    ranking = rank(rows, [r.case for r in rows if r.case])
    assert ranking.worst == ("c0.1", "c0.2", "c0.3")
    assert ranking.median == ("c0.4", "c0.5", "c0.6")
    assert ranking.choose(7) == ("c0.1", "c0.2", "c0.3", "c0.4", "c0.5", "c0.6", "c0.9")
    assert ranking.choose(2) == ("c0.1", "c0.2")
    assert len(ranking.choose(100)) == 9


def test_ranks_count_failures_and_directions() -> None:
    lower = [
        row("near", 1.0, metric="assd", direction="lower", worst=50.0),
        row("missed", np.nan, metric="assd", direction="lower", worst=50.0, note="miss"),
        row("far", 9.0, metric="assd", direction="lower", worst=50.0),
        row("nothing", np.nan, metric="assd", direction="lower", worst=50.0, note="empty"),
    ]
    ranking = rank(lower, ["near", "missed", "far", "nothing"])
    assert ranking.order == ("missed", "far", "near", "nothing")
    assert ranking.ranked == 3
    measured = [row("a", 70.0, metric="area", direction="none", worst=np.nan), row("a", 0.3, part="4")]
    assert rank(measured, ["a"]).metric == ""  # a measurement is neither good nor bad, and a slice is no case


def test_a_large_set_gets_few_pictures_and_is_listed_whole(tmp_path: Path) -> None:
    shown = [Shown(f"c{i}", full()) for i in range(6)]
    page = write_page(tmp_path / "qc", shown, [row(f"c{i}", i / 10) for i in range(6)], limit=3)
    assert [bool(case["picture"]) for case in content(page)["cases"]] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert len(list((page.folder / "mosaics").iterdir())) == 3


# ---- writing again, one file, zip -------------------------------------------------------------------------------


def test_written_again_it_is_the_same_and_keeps_verdicts(tmp_path: Path) -> None:
    rows = [row("a", 0.9)]
    first = write_page(tmp_path / "qc", [Shown("a", full())], rows)
    before = {p.name: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    (first.folder / "qc-verdicts.csv").write_text("case,verdict,comment,time\na,fail,,\n")
    second = write_page(tmp_path / "qc", [Shown("a", full())], rows)
    after = {p.name: p.read_bytes() for p in second.folder.rglob("*") if p.is_file()}
    assert after.pop("qc-verdicts.csv").endswith(b"a,fail,,\n")
    assert after == before
    assert [p.name for p in tmp_path.iterdir()] == ["qc"]  # nothing half-written is left
    assert first.content["identity"] == second.content["identity"]
    other = write_page(tmp_path / "other", [Shown("a", full())], [row("a", 0.8)])
    assert other.content["identity"] != first.content["identity"]


def test_one_file_and_zip(tmp_path: Path) -> None:
    shown = [Shown(f"c{i}", full()) for i in range(4)]
    page = write_page(tmp_path / "qc", shown, [row(f"c{i}", i / 10) for i in range(4)])
    html = write_single(tmp_path / "qc.html", page, cases=2).read_text("utf-8")
    assert html.count("data:image/png;base64,") == 2
    assert "niivue.Niivue" not in html
    assert 'src="' not in html
    packed = write_zip(tmp_path / "qc.zip", page)
    with zipfile.ZipFile(packed) as archive:
        names = {n.removeprefix("qc/") for n in archive.namelist()}
        assert archive.testzip() is None
    assert names == {str(p.relative_to(page.folder)) for p in page.folder.rglob("*") if p.is_file()}
    again = write_zip(tmp_path / "again" / "qc.zip", page)
    assert again.read_bytes() == packed.read_bytes()


def test_other_names_for_a_tracking_store(tmp_path: Path) -> None:
    written = write_page(
        tmp_path / "qc", [Shown("sub-7_T2w", full())], [row("sub-7_T2w", 0.5, person="sub-7")]
    )
    page = open_page(written.folder)
    assert page is not None
    assert page.content == written.content
    public = page.renamed({"sub-7_T2w": "c-1", "sub-7": "p-1"}.get)
    html = write_single(tmp_path / "qc.html", public).read_text("utf-8")
    with zipfile.ZipFile(write_zip(tmp_path / "qc.zip", public)) as archive:
        everything = html.encode() + b"".join(archive.read(n) for n in archive.namelist() if "/app/" not in n)
    assert b"sub-7" not in everything
    assert b"c-1" in everything
    assert open_page(tmp_path / "absent") is None


# ---- mriad evaluate ---------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(evaluate)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_like(tmp_path / f"labels/{name}_seg.nii.gz", mask()[0], GRID, "labels")
        write_like(tmp_path / f"images/{name}_0000.nii.gz", np.random.default_rng(1).random(GRID.shape), GRID)
    write_like(tmp_path / "predictions/one_pred.nii.gz", mask(1)[0], GRID, "labels")
    return tmp_path


def test_evaluate_writes_the_page(folders: Path) -> None:
    said = run("predictions", "labels", "--count-missing", "--images", "images", "--out", "out")
    assert "look at: out/qc/index.html" in said
    page = open_page(folders / "out" / "qc")
    assert page is not None
    assert [(c["id"], bool(c["picture"])) for c in page.content["cases"]] == [("two", True), ("one", True)]
    missing, there = delivered(page, 1), delivered(page, 2)
    assert set(missing["volumes"]) == {"scan", "reference"}
    assert set(there["volumes"]) == {"scan", "reference", "prediction", "difference"}
    assert not there["bare"]
    assert page.content["identity"] == json.loads((folders / "out" / "run.json").read_text())["fingerprint"]
    assert read_volume(folders / "labels" / "one_seg.nii.gz").grid.same(GRID)
    run("predictions", "labels", "--count-missing", "--images", "images", "--out", "out")  # again


def test_evaluate_without_images_or_page(folders: Path) -> None:
    run("predictions", "labels", "--count-missing", "--out", "out")
    page = open_page(folders / "out" / "qc")
    assert page is not None
    assert delivered(page)["bare"]
    said = run("predictions", "labels", "--count-missing", "--qc-cases", 0, "--out", "none")
    assert "look at:" not in said
    assert not (folders / "none" / "qc").exists()
    run("predictions", "labels", "--count-missing", "--qc-cases", 1, "--workers", 1, "--out", "few")
    few = open_page(folders / "few" / "qc")
    assert few is not None
    assert [bool(c["picture"]) for c in few.content["cases"]] == [True, False]


def test_images_of_other_cases_are_refused(folders: Path) -> None:
    write_like(folders / "wrong/three.nii.gz", mask()[0], GRID)
    with pytest.raises(DataError, match=r"(?s)no image is named like a case.*one, two.*three.*--images"):
        run("predictions", "labels", "--count-missing", "--images", "wrong", "--out", "out")


def test_no_header_field_and_no_path_goes_along(tmp_path: Path) -> None:
    for kind, data in {"images": np.random.default_rng(0).random(GRID.shape), "labels": mask()[0]}.items():
        image = nib.Nifti1Image(data.astype(np.float32 if kind == "images" else np.uint8), GRID.matrix)
        image.header["descrip"] = b"SECRET NAME"
        image.header["db_name"] = b"SECRETDB"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"SECRET EXTENSION"))
        (tmp_path / "in" / kind).mkdir(parents=True)
        nib.save(image, tmp_path / "in" / kind / "case-1.nii.gz")
    done = run(
        tmp_path / "in" / "labels",
        tmp_path / "in" / "labels",
        "--images",
        tmp_path / "in" / "images",
        "--out",
        tmp_path / "out",
    )
    assert "look at:" in done
    seen = b""
    for file in (tmp_path / "out" / "qc").rglob("*"):
        if file.is_file() and file.parent.name != "app":
            seen += file.read_bytes()
    for name in ("0001",):
        for entry in json.loads((tmp_path / "out/qc/cases" / f"{name}.js").read_text()[14:-3])[
            "volumes"
        ].values():
            seen += gzip.decompress(base64.b64decode(entry["base64"]))
    assert b"case-1" in seen
    for secret in (b"SECRET", str(tmp_path).encode(), b".nii"):
        assert secret not in seen
