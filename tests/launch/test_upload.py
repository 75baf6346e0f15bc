"""What a job's upload would hold: Ray's own packaging is the judge."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from mriad.launch.upload import LIMIT_BYTES, measure_upload

if TYPE_CHECKING:
    from pathlib import Path

FILES = [
    "study.yaml",
    "base.yaml",
    "data/a.nii.gz",
    "data/keep.csv",
    "deep/er/b.nii.gz",
    "deep/er/notes.txt",
    "deep/mriad-runs/run.json",
    "mriad-runs/runs/x.json",
    ".git/config",
    ".venv/bin/python",
    "deep/__pycache__/x.pyc",
    "logs/1.log",
    "logs/important.log",
    "a b/c.txt",
]
IGNORES = {
    "names and endings": {".rayignore": "mriad-runs/\n*.nii.gz\n# a remark\n\n"},
    "anchored": {".rayignore": "/data\n/mriad-runs/\n"},
    "crossing folders": {".rayignore": "deep/**\n**/1.log\n"},
    "git's own": {".gitignore": "logs/\n", ".rayignore": "data/*.gz\n"},
    "one kept": {".rayignore": "logs/*.log\n!logs/important.log\n"},
    "below": {"deep/.rayignore": "*.txt\n", "deep/er/.gitignore": "/b.nii.gz\n"},
    "classes": {".rayignore": "logs/[0-9].log\n?ase.yaml\na\\ b/\n"},
    "nothing": {},
}


def fill(folder: Path, ignores: dict[str, str]) -> None:
    for number, name in enumerate(FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (number + 1))
    for name, text in ignores.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize("ignores", IGNORES.values(), ids=list(IGNORES))
def test_it_counts_what_ray_would_pack(tmp_path, ignores):
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    work = tmp_path / "work"
    fill(work, ignores)
    create_package(
        str(work),
        tmp_path / "packed.zip",
        include_gitignore=True,
        excludes=get_runtime_env_default_excludes(),
    )
    packed = [entry for entry in zipfile.ZipFile(tmp_path / "packed.zip").infolist() if not entry.is_dir()]
    found = measure_upload(work)
    assert (found.files, found.size) == (len(packed), sum(entry.file_size for entry in packed))


def test_a_small_folder_in_one_line(tmp_path):
    fill(tmp_path, {})
    found = measure_upload(tmp_path)
    assert found.files == len(FILES) - 3
    assert found.line() == f"0.0 MiB in {len(FILES) - 3} files of {tmp_path}"


def test_too_much_names_what_to_leave_out(tmp_path):
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "scan.nii").open("wb") as file:
        file.truncate(LIMIT_BYTES + 2**20)  # a hole: no space is taken
    (tmp_path / "study.yaml").write_text("x")
    said = measure_upload(tmp_path).line()
    assert "Ray takes 100 MiB" in said
    assert f"name in {tmp_path.name}/.rayignore: data/ (101 MiB)" in said
    (tmp_path / ".rayignore").write_text("data/\n")
    assert "Ray takes" not in measure_upload(tmp_path).line()
