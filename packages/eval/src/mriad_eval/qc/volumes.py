"""The volumes of a case as one script file: the page is opened from disk, where it may not fetch anything.

Volumes are written anew from voxels and affine: no field of the original header, no file name and no path goes
along. The scan is reduced to 8 bits of what its window shows.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_eval.figures.mosaic import LEVEL, agreement, is_soft, window

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_eval.qc.picture import Picture

LARGE = 256**3
"""A scan of more voxels is cut to the surroundings of its structures."""
AROUND_MM = 50.0
_RIM = 2  # voxels of background around a cut map, so that its border is seen as one

Box = tuple[slice, slice, slice]


def script_of(number: int, picture: Picture) -> str:
    """Return the JavaScript that hands the volumes of case `number` to the page."""
    maps = {"reference": picture.reference, "prediction": picture.prediction}
    found = {name: values for name, values in maps.items() if values is not None}
    box = _box(found, picture.grid)
    volumes: dict[str, Any] = {}
    grey, grey_grid = _scan(picture, box)
    volumes["scan"] = _entry(grey, grey_grid)
    if box is not None:
        near = _grown(box, picture.grid, [_RIM] * 3)
        near_grid = _cropped(picture.grid, near)
        for name, values in found.items():
            volumes[name] = _entry(_labels(values[:, *near]), near_grid, label=True)
        if len(found) == 2:
            codes = agreement(found["reference"][:, *near], found["prediction"][:, *near])
            volumes["difference"] = _entry(codes, near_grid, label=True)
        if "prediction" in found and is_soft(found["prediction"]):
            soft = np.rint(found["prediction"][:, *near].max(axis=0).clip(0, 1) * 255).astype(np.uint8)
            volumes["soft"] = _entry(soft, near_grid, slope=1 / 255)
    told: dict[str, Any] = {
        "volumes": volumes,
        "bare": picture.scan is None,
        "structures": max((len(values) for values in found.values()), default=0),
    }
    if box is not None:
        low, high = (np.array([getattr(s, end) for s in box], float) for end in ("start", "stop"))
        told["centre"] = [round(float(v), 3) for v in picture.grid.world(_centre(found, box))]
        told["extent"] = round(float(np.max((high - low) * np.array(picture.grid.spacing))), 3)
    return f"QC.deliver({number}, {in_script(told)});\n"


def in_script(value: Any) -> str:
    """JSON that is safe inside a script, in a file or in a page: ASCII, and no `<` that could end it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _box(maps: dict[str, NDArray[Any]], grid: Grid) -> Box | None:
    """The voxels of `grid` that hold anything in any map."""
    mask = np.zeros(grid.shape, dtype=bool)
    for values in maps.values():
        mask |= (values > 1 / 255).any(axis=0)
    if not mask.any():
        return None
    ends = []
    for axis in range(3):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append(slice(int(held[0]), int(held[-1]) + 1))
    return ends[0], ends[1], ends[2]


def _centre(maps: dict[str, NDArray[Any]], box: Box) -> NDArray[np.float64]:
    """The voxel of the structures that is nearest to their centre of mass, so that a bent one is met."""
    mask = np.zeros([s.stop - s.start for s in box], dtype=bool)
    for values in maps.values():
        mask |= (values[:, *box] > LEVEL).any(axis=0)
    start = np.array([s.start for s in box], float)
    places = np.argwhere(mask)
    if not len(places):
        return start + (np.array(mask.shape) - 1) / 2
    nearest: NDArray[np.float64] = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return start + nearest


def _grown(box: Box, grid: Grid, by: list[int]) -> Box:
    a, b, c = (
        slice(max(s.start - n, 0), min(s.stop + n, size))
        for s, n, size in zip(box, by, grid.shape, strict=True)
    )
    return a, b, c


def _cropped(grid: Grid, box: Box) -> Grid:
    return grid.crop([s.start for s in box], [s.stop - s.start for s in box])


def _scan(picture: Picture, box: Box | None) -> tuple[NDArray[np.uint8], Grid]:
    """The scan in 8 bits, cut where it is very large; black on the grid of the maps where there is none."""
    if picture.scan is None:
        return np.zeros(picture.grid.shape, np.uint8), picture.grid
    data, grid = np.asarray(picture.scan.data, np.float32), picture.scan.grid
    if data.size > LARGE and box is not None:
        first = np.array([s.start for s in box], float)
        last = np.array([s.stop - 1 for s in box], float)
        picks = np.array(np.meshgrid(*zip(first, last, strict=True), indexing="ij")).reshape(3, -1).T
        corners = grid.voxels(picture.grid.world(picks))
        low = np.clip(np.floor(corners.min(axis=0)), 0, np.array(grid.shape) - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)), 0, np.array(grid.shape) - 1).astype(int)
        a, b, c = (slice(int(x), int(y) + 1) for x, y in zip(low, high, strict=True))
        near = _grown((a, b, c), grid, [round(AROUND_MM / size) for size in grid.spacing])
        data, grid = data[near], _cropped(grid, near)
    low_level, high_level = window(data)
    grey = np.rint((data - low_level) / (high_level - low_level) * 255)
    return grey.clip(0, 255).astype(np.uint8), grid


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Channels as one label map: s + 1 where structure s has the largest value above .5."""
    best = values.argmax(axis=0)
    marked = values.max(axis=0) > LEVEL
    return np.where(marked, best + 1, 0).astype(np.uint8 if len(values) < 255 else np.int16)


def _entry(data: NDArray[Any], grid: Grid, label: bool = False, slope: float = 0.0) -> dict[str, Any]:
    """A volume as gzipped NIfTI in base64; equal voxels give equal text."""
    import nibabel as nib

    image = nib.Nifti1Image(data, grid.matrix)
    image.set_sform(grid.matrix, code=1)
    image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    if label:
        image.header.set_intent("label")
    if slope:
        # After the image is built: a slope in a header given to the constructor is dropped by nibabel 5.4.
        image.header.set_slope_inter(slope, 0)
    packed = gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
    return {"base64": base64.b64encode(packed).decode("ascii"), "top": int(data.max(initial=0))}
