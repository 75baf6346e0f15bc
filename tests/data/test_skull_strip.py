"""data.skull_strip: an external program's mask, a clear message without one, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mriad.errors import DataError, LabelGeometryError
from mriad_data import skull_strip
from mriad_data.skull_strip import SkullStrip

MASK = """
import nibabel as nib, numpy as np, sys
words = sys.argv
image = nib.load(words[words.index("-i") + 1])
mask = np.zeros(image.shape, np.uint8)
mask[2:6, 3:8, 2:5] = {value}
affine = image.affine.copy()
affine[0, 3] += {shift}
{name}
nib.save(nib.Nifti1Image(mask, affine), target)
"""
SYNTHSTRIP = "target = words[words.index('-m') + 1]"
HD_BET = """
assert {"--save_bet_mask", "--no_bet_image", "--disable_tta"} < set(words), words
assert words[words.index("-device") + 1] == "cpu"
target = words[words.index("-o") + 1].replace(".nii.gz", "_bet.nii.gz")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(name, body) puts a Python program on PATH; PATH holds nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name: str, body: str) -> None:
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{body}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.fixture
def sample(grid, make_sample):
    sample = make_sample(grid)
    return replace(sample, image=sample.image + 10, validity=np.ones((1, *grid.shape), np.uint8))


@pytest.mark.parametrize(
    ("kind", "command", "name"),
    [("synthstrip", "mri_synthstrip", SYNTHSTRIP), ("hd_bet", "hd-bet", HD_BET)],
)
def test_outside_the_mask_is_0_in_all_channels(sample, program, kind, command, name):
    program(command, MASK.format(value=1, shift=0, name=name))
    step = SkullStrip(program=kind)
    after = pickle.loads(pickle.dumps(step)).apply(sample, None)
    inside = np.zeros(sample.grid.shape, bool)
    inside[2:6, 3:8, 2:5] = True
    np.testing.assert_array_equal(after.image[:, inside], sample.image[:, inside])
    assert (after.image[:, ~inside] == 0).all()
    assert after.image.dtype == np.float32
    assert after.target is sample.target
    assert after.validity is sample.validity


@pytest.mark.parametrize("kind", ["synthstrip", "hd_bet"])
def test_a_missing_program_is_named_with_the_way_out(sample, program, kind):
    with pytest.raises(
        DataError, match=f"the program {skull_strip.COMMANDS[kind]} is not installed"
    ) as found:
        SkullStrip(program=kind).apply(sample, None)
    assert "PATH" in str(found.value)
    assert "try" in str(found.value)


def test_a_failing_program_shows_its_last_words(sample, program):
    program("hd-bet", "import sys; print('weights are missing'); sys.exit(3)")
    with pytest.raises(DataError, match="failed: exit code 3") as found:
        SkullStrip(program="hd_bet").apply(sample, None)
    assert "weights are missing" in str(found.value)
    assert "hd-bet -i image.nii.gz" in str(found.value)


def test_a_killed_program_names_the_signal(sample, program):
    program("hd-bet", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DataError, match="killed by SIGKILL"):
        SkullStrip(program="hd_bet").apply(sample, None)


def test_a_hanging_program_is_ended_with_its_children(sample, program, tmp_path):
    note = tmp_path / "child"
    body = f"""
import subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(note)!r}).write_text(str(child.pid))
print("loading", flush=True)
time.sleep(600)
"""
    program("mri_synthstrip", body)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"did not end within 1\.5 s, so it was stopped") as found:
        SkullStrip(program="synthstrip", timeout_s=1.5).apply(sample, None)
    assert time.monotonic() - started < 8
    assert "loading" in str(found.value)
    assert "timeout_s" in str(found.value)
    child = int(note.read_text())
    until = time.monotonic() + 3
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def test_an_empty_mask_no_mask_and_a_mask_elsewhere_are_errors(sample, program):
    step = SkullStrip(program="synthstrip")
    program("mri_synthstrip", MASK.format(value=0, shift=0, name=SYNTHSTRIP))
    with pytest.raises(DataError, match="found no brain"):
        step.apply(sample, None)
    program("mri_synthstrip", "print('nothing to do')")
    with pytest.raises(DataError, match="left no mask") as found:
        step.apply(sample, None)
    assert "nothing to do" in str(found.value)
    program("mri_synthstrip", MASK.format(value=1, shift=5, name=SYNTHSTRIP))
    with pytest.raises(LabelGeometryError, match="mask and image do not share a voxel grid"):
        step.apply(sample, None)


def test_wrong_channels_and_nan_are_named_before_the_program_runs(sample, program):
    with pytest.raises(DataError, match="a channel that an image does not have") as found:
        SkullStrip(program="synthstrip", channel=2).apply(sample, None)
    assert "channels  2" in str(found.value)
    image = sample.image.copy()
    image[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        SkullStrip(program="synthstrip").apply(replace(sample, image=image), None)


def test_nothing_is_left_in_the_temporary_folder(sample, program, tmp_path, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    program("hd-bet", "import sys; sys.exit(1)")
    with pytest.raises(DataError):
        SkullStrip(program="hd_bet").apply(sample, None)
    assert list(place.iterdir()) == []


def test_edition_is_part_of_the_identity():
    assert SkullStrip(program="hd_bet").fingerprint != SkullStrip(program="hd_bet", edition=2).fingerprint
