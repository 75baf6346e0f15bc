"""Lists of verdicts: what the page exports is read, faults are named, and a data set leaves out what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.interfaces import Dataset
from mriad_eval.qc import Verdict, failed, read_verdicts

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "case,verdict,comment,time\n"


def csv_of(tmp_path: Path, body: str, head: str = HEAD) -> Path:
    path = tmp_path / "qc-verdicts.csv"
    path.write_text(head + body, encoding="utf-8")
    return path


def test_csv(tmp_path: Path) -> None:
    path = csv_of(
        tmp_path,
        'sub-1,fail,"cut off, at ""C7""",2026-01-02T03:04:05Z\n患者,pass,,2026-01-02T03:05:00Z\nsub-3,,look again,\n',
    )
    found = read_verdicts(path)
    assert found == [
        Verdict("sub-1", "fail", 'cut off, at "C7"', "2026-01-02T03:04:05Z"),
        Verdict("患者", "pass", "", "2026-01-02T03:05:00Z"),
        Verdict("sub-3", "", "look again", ""),
    ]
    assert [verdict.case for verdict in failed(found)] == ["sub-1"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a spreadsheet program saved it
    assert read_verdicts(path) == found


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "qc-verdicts.json"
    rows = [
        {"case": "a", "verdict": "fail", "comment": "x", "time": "t"},
        {"case": "b", "verdict": "", "comment": None},
    ]
    path.write_text(json.dumps({"format": 1, "kind": "qc-verdicts", "verdicts": rows}))
    assert read_verdicts(path) == [Verdict("a", "fail", "x", "t"), Verdict("b", "", "", "")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a,maybe,,\n", r"line 2.*maybe.*pass, fail or nothing"),
        (",fail,,\n", r"line 2.*case\s+\(empty\)"),
        ("a,fail,,\nb,pass,,\na,pass,,\n", r"judged twice.*case\s+a.*line 2 and line 4"),
        ('a,"fail,,\n', "cannot be read"),
    ],
)
def test_faults_name_the_line(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"(?s){said}"):
        read_verdicts(csv_of(tmp_path, body))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)lacks columns.*missing\s+verdict, comment, time"):
        read_verdicts(csv_of(tmp_path, "a\n", head="case\n"))
    with pytest.raises(DataError, match=r"(?s)cannot be read.*absent"):
        read_verdicts(tmp_path / "absent.csv")
    other = tmp_path / "x.json"
    for text in ("[]", '{"verdicts": []}', '{"format": 1, "verdicts": [{"id": 3}]}'):
        other.write_text(text)
        with pytest.raises(DataError, match=r"(?s)no list of verdicts.*qc-verdicts\.json"):
            read_verdicts(other)
    other.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_verdicts(other)


# ---- data.without -----------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, object]:
    grid = Grid.of((4, 4, 4), np.eye(4))
    lines = ["id,person,image:t2"]
    for name in ("a", "b", "c"):
        write_like(tmp_path / f"{name}.nii.gz", np.random.default_rng(0).random(grid.shape), grid)
        lines.append(f"{name},{name},{name}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return {"type": "data.manifest", "path": str(tmp_path)}


def without(manifest: dict[str, object], path: Path, **over: object) -> Dataset:
    return Dataset.resolve({"type": "data.without", "dataset": manifest, "verdicts": str(path), **over})


def test_failed_cases_are_left_out(manifest: dict[str, object], tmp_path: Path) -> None:
    index = without(manifest, csv_of(tmp_path, "b,fail,blurred,\na,pass,,\nc,,hm,\n")).build()
    whole = Dataset.resolve(manifest).build()
    assert index.column("id") == ["a", "c"]
    assert index.label_set == whole.label_set
    assert index.fingerprint != whole.fingerprint  # so that nothing trained on the whole is taken for it
    assert without(manifest, csv_of(tmp_path, "b,pass,,\n")).build().fingerprint == whole.fingerprint


def test_a_list_of_another_data_set_is_refused(manifest: dict[str, object], tmp_path: Path) -> None:
    path = csv_of(tmp_path, "b,fail,,\nz,fail,,\n")
    with pytest.raises(DataError, match=r"(?s)the data set lacks.*cases\s+z.*others: true"):
        without(manifest, path).build()
    assert without(manifest, path, others=True).build().column("id") == ["a", "c"]


def test_nothing_left(manifest: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all have failed"):
        without(manifest, csv_of(tmp_path, "a,fail,,\nb,fail,,\nc,fail,,\n")).build()


def test_reading_verdicts_is_light() -> None:
    code = (
        "import sys, mriad_eval.qc; print([m for m in ('matplotlib', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
