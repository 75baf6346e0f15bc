"""Draw docs/pictures/phantom-brain.png: two persons in five contrasts, their label maps, and one with a head.

Run: python scripts/picture_phantom_brain.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from mriad_data.phantom.brain.parameters import CONTRASTS, BrainParameters
from mriad_data.phantom.brain.regions import REGIONS
from mriad_data.phantom.brain.scan import BrainScan

OUT = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "phantom-brain.png"
SLICES_MM = {"axial": (2, 8.0), "coronal": (1, -16.0), "sagittal": (0, 14.0)}
TISSUE_COLOURS = {
    "white": 0.92,
    "cortex": 0.55,
    "csf": 0.15,
    "cerebellar_white": 0.85,
    "cerebellar_cortex": 0.48,
}


def colours() -> np.ndarray:
    """A colour for every label value, (values, 3)."""
    out = np.zeros((max(r.value for r in REGIONS) + 1, 3))
    palette = plt.get_cmap("tab20").colors
    for number, region in enumerate(REGIONS[1:]):
        grey = TISSUE_COLOURS.get(region.tissue)
        plain = grey is not None and "ventricle" not in region.name
        out[region.value] = (grey,) * 3 if plain else palette[number % 20]
    return out


def cut(data: np.ndarray, grid: object, axis: int, place_mm: float) -> np.ndarray:
    """The slice of a volume at a world coordinate, up on top."""
    at = [0.0, 0.0, 0.0]
    at[axis] = place_mm
    index = round(float(grid.voxels(np.array(at))[axis]))
    return np.rot90(data.take(index, axis))


def main() -> None:
    """Draw it."""
    rows = [
        (BrainParameters(), 2),
        (BrainParameters(), 5),
        (BrainParameters(head=True, spacing_mm=(1.2,) * 3), 3),
    ]
    planes = list(SLICES_MM.values())
    layout = [(row, plane) for row in range(2) for plane in planes] + [(2, planes[2])]
    figure, places = plt.subplots(len(layout), len(CONTRASTS) + 1, figsize=(12.6, 2.25 * len(layout)))
    table = colours()
    for line, (row, (axis, place)) in enumerate(layout):
        parameters, person = rows[row]
        scan = BrainScan(parameters, person)
        for column, contrast in enumerate(CONTRASTS):
            image = scan.image(contrast)
            shown = cut(image.data, image.grid, axis, place)
            places[line, column].imshow(shown, cmap="gray", vmin=0, vmax=np.percentile(image.data, 99.7))
            if line == 0:
                places[line, column].set_title(contrast)
        label = scan.label("T1w", "hard")
        places[line, -1].imshow(table[cut(label.data, label.grid, axis, place)], interpolation="nearest")
    places[0, -1].set_title("labels")
    for axes in places.ravel():
        axes.axis("off")
    figure.patch.set_facecolor("black")
    for axes in places[0]:
        axes.title.set_color("white")
    figure.subplots_adjust(0, 0, 1, 0.975, 0.01, 0.01)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT, dpi=62, facecolor="black")


if __name__ == "__main__":
    main()
