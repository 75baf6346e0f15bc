"""`program: sct` with a stand-in for SCT's program that writes ITK's kind of field, checked by SimpleITK."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
import SimpleITK
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad_softseg.average import build, carry_back
from mriad_softseg.soft_ground_truth import SoftGroundTruth

HOW = SoftGroundTruth(trim_mm=0, gaps="zero", program="sct")
STAND_IN = """
import sys
import numpy as np, SimpleITK
from scipy import ndimage
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert words["-param"] == "step=1,type=seg,algo=centermass", words
fixed, moving = (SimpleITK.ReadImage(words[k], SimpleITK.sitkFloat64) for k in ("-dseg", "-iseg"))
moved = SimpleITK.Resample(moving, fixed)
a, b = (np.rint(SimpleITK.GetArrayFromImage(i)) for i in (fixed, moved))
field = np.zeros((*a.shape, 3))
axes = np.array(fixed.GetDirection()).reshape(3, 3) * fixed.GetSpacing()
for z in range(len(a)):
    if a[z].any() and b[z].any():
        y, x = np.subtract(ndimage.center_of_mass(b[z]), ndimage.center_of_mass(a[z]))
        field[z] = axes @ [x, y, 0]
image = SimpleITK.GetImageFromArray(field, isVector=True)
image.CopyInformation(fixed)
SimpleITK.WriteImage(image, words["-owarp"])
SimpleITK.WriteImage(image, sys.argv[0] + ".field.nii.gz")
"""


@pytest.fixture
def sct(tmp_path, monkeypatch):
    """Install a program under SCT's name."""

    def installed(body: str):
        script = tmp_path / "sct_register_multimodal"
        script.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return script

    return installed


@pytest.mark.parametrize(
    "affine",
    [np.diag([0.8, 0.9, 2, 1.0]), np.array([[0.0, -1, 0, 9], [0, 0, 1, 3], [-2, 0, 0, 40], [0, 0, 0, 1]])],
    ids=["RAS", "slices first and down"],
)
def test_its_field_is_read_as_itk_means_it(affine, sct, discs, mask_of):
    script = sct(STAND_IN)
    n = 8
    shifts = np.array([[2, -1], [1, 0], [0, 0], [-1, 3], [2, 2], [0, 1], [1, 1], [3, -2]], float)
    fixed, moving = discs(np.full((n, 2), 14.0), (29, 31, n), 5), discs(14 + shifts, (29, 31, n), 5)
    moving[:, :, 2] = 0  # a gap stays where it is
    turn = (lambda d: np.ascontiguousarray(np.moveaxis(d, -1, 0))) if affine[2, 0] else (lambda d: d)
    fixed, moving = turn(fixed), turn(moving)
    grid = Grid.of(fixed.shape, affine)
    masks = {"T2w": mask_of(fixed, grid), "DWI": mask_of(moving, grid)}
    shared = build(masks, "T2w", HOW)
    ours = build(masks, "T2w", SoftGroundTruth(trim_mm=0, gaps="zero"))
    assert np.allclose(shared.warped["DWI"].motion.shift, ours.warped["DWI"].motion.shift, atol=1e-5)
    assert np.abs(carry_back(shared, "DWI").soft - moving).max() < 1e-5
    # The field itself, applied by ITK, brings the moving mask onto the fixed one.
    vectors = SimpleITK.ReadImage(f"{script}.field.nii.gz", SimpleITK.sitkVectorFloat64)
    warp = SimpleITK.DisplacementFieldTransform(vectors)
    flipped = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(flipped[:3, :3], axis=0)

    def image(data):
        made = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)).astype(float))
        made.SetSpacing(spacing.tolist())
        made.SetOrigin(flipped[:3, 3].tolist())
        made.SetDirection((flipped[:3, :3] / spacing).ravel().tolist())
        return made

    there = SimpleITK.Resample(image(moving), image(fixed), warp, SimpleITK.sitkLinear, 0.0)
    theirs = SimpleITK.GetArrayFromImage(there).transpose(2, 1, 0)
    full = np.zeros(shared.grid.shape)
    full[shared.box] = shared.warped["DWI"].ends[0]
    assert np.abs(masks["T2w"].back(full) - theirs).max() < 1e-5


def test_what_it_says_when_it_fails(sct, discs, mask_of):
    sct("import sys; print('Error: no CSF found'); sys.exit(3)")
    data = discs(np.full((4, 2), 8.0), (17, 17, 4), 4)
    with pytest.raises(DataError, match="sct_register_multimodal failed") as caught:
        build({"T2w": mask_of(data), "DWI": mask_of(data)}, "T2w", HOW)
    assert "Error: no CSF found" in str(caught.value)
    assert "exit code  3" in str(caught.value)
