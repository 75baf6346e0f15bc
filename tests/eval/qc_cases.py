"""Cases made of arrays, and what a page says of them, for the tests of the quality-control page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from mriad.case_table import Row
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_eval.qc.picture import Picture

if TYPE_CHECKING:
    from mriad_eval.qc import Page

GRID = Grid.of((12, 14, 9), np.diag([1.0, 1.0, 2.0, 1.0]))
EVIL = "</script><script>alert(1)</script>\"'&<!--"
ODD = [EVIL, "Ünï 患者", "=1+1", "__proto__", "$x_1$"]


@dataclass(frozen=True)
class Shown:
    """A case made of arrays."""

    id: str
    picture: Picture | None = None
    error: str = ""

    def read(self) -> Picture:
        if self.error:
            raise DataError(self.error, where={"file": "/secret/place/p.nii.gz"})
        assert self.picture is not None
        return self.picture


def mask(shift: int = 0, grid: Grid = GRID) -> np.ndarray:
    out = np.zeros((1, *grid.shape), np.float32)
    out[0, 3 + shift : 7 + shift, 4:9, 2:7] = 1
    return out


def full(**over: Any) -> Picture:
    scan = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    given = {
        "scan": Volume(scan, GRID),
        "reference": (mask(), GRID),
        "prediction": (0.8 * mask(1), GRID),
        **over,
    }
    return Picture.of(**given)


def row(case: str, value: float, **over: Any) -> Row:
    plain = {"person": f"p-{case}", "contrast": "T2w", "domain": "", "structure": "cord", "metric": "dice"}
    return Row(
        **{"case": case, "value": value, "unit": "1", "direction": "higher", "worst": 0.0, **plain, **over}
    )


def content(page: Page) -> dict[str, Any]:
    """What the browser will see, read from the file."""
    text = (page.folder / "cases.js").read_text("ascii")
    assert text.startswith("window.QC_PAGE = ")
    return json.loads(text.removeprefix("window.QC_PAGE = ").rstrip().removesuffix(";"))


def delivered(page: Page, number: int = 1) -> dict[str, Any]:
    text = (page.folder / f"cases/{number:04d}.js").read_text("ascii")
    return json.loads(re.fullmatch(rf"QC\.deliver\({number}, (.*)\);\n", text).group(1))


def volume(told: dict[str, Any], role: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told["volumes"][role]["base64"])))
