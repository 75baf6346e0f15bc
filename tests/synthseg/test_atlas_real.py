"""atlas_em on real label maps at 3 mm: a held-out map painted here in two contrasts, and the real T1w. E3, n = 1."""

import csv

import nibabel as nib
import numpy as np
import pytest
from atlas_phantom import dice
from mriad.geometry import Grid
from mriad.vocabulary import LabelSet, Volume
from mriad_synthseg.atlas_building import Indexed, build_atlas
from mriad_synthseg.atlas_predictor import AtlasPredictor
from mriad_synthseg.atlas_stage import AtlasSettings
from scipy import ndimage

pytestmark = pytest.mark.slow

# Levels of a T1w and a T2w image by tissue, from what such images look like: no prior of the pack is read.
TISSUE = {
    "white matter": (150, 70), "ventral DC": (140, 75), "brain-stem": (140, 75), "cortex": (95, 105),
    "thalamus": (115, 90), "caudate": (100, 98), "putamen": (112, 92), "pallidum": (130, 70),
    "hippocampus": (96, 106), "amygdala": (96, 104), "accumbens": (100, 98), "ventricle": (30, 190),
    "CSF": (30, 190), "lesion": (120, 140),
}  # fmt: skip
LARGE = ("cerebral white matter", "cerebral cortex", "lateral ventricle", "thalamus", "putamen", "caudate")


@pytest.fixture(scope="module")
def pack(real_data):
    folder = real_data / "brain-labels"
    with (folder / "labels.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    to = {int(r["label"]): int(r["segmentation_label"]) for r in rows}
    names = {int(r["label"]): r["name"] for r in rows}
    values = sorted({v for v in to.values() if v})
    return folder, to, LabelSet.of({names[v]: v for v in values})


def coarse(folder, number, to):
    """A map at 3 mm (every third voxel): values that are segmented, and everything for the painter."""
    image = nib.load(folder / "labelmaps" / f"synthseg_{number:02d}_dseg.nii.gz")
    data = np.asarray(image.dataobj)[1::3, 1::3, 1::3].astype(np.int32)
    matrix = image.affine.copy()
    matrix[:3, 3] = (image.affine @ [1, 1, 1, 1])[:3]
    matrix[:3, :3] *= 3
    lookup = np.zeros(max(to) + 1, np.int32)
    for value, target in to.items():
        lookup[value] = target
    return data, lookup[data], Grid.of(data.shape, matrix)


def painted(data, labels, label_set, contrast, seed):
    rng = np.random.default_rng(seed)
    image = np.full(data.shape, 4.0)
    for value in np.unique(data[data > 300]):  # skull, skin and what lies between have no name: any level
        image[data == value] = rng.uniform(10, 160)
    for structure in label_set.structures:
        level = next(v for k, v in TISSUE.items() if k in structure.name)
        image[labels == structure.value] = level[contrast]
    image = ndimage.gaussian_filter(image, 0.4)
    ramp = np.linspace(-0.15, 0.15, data.shape[0])[:, None, None]
    return (
        np.hypot(image * np.exp(ramp) + rng.normal(0, 4, data.shape), rng.normal(0, 4, data.shape))
    ).astype("f4")


@pytest.fixture(scope="module")
def predictor(pack):
    folder, to, label_set = pack
    place = {s.value: i + 1 for i, s in enumerate(label_set.structures)}

    def read(number):
        _, labels, grid = coarse(folder, number + 1, to)
        lookup = np.zeros(labels.max() + 1, np.int32)
        for value, index in place.items():
            if value < len(lookup):
                lookup[value] = index
        return Indexed(lookup[labels], grid)

    atlas = build_atlas(7, read, label_set, spacing_mm=3.0, smooth_mm=2.0, margin_mm=10.0)
    sides = ("left", "right")
    grey = ("cerebral cortex", "cerebellum cortex", "caudate", "hippocampus", "amygdala", "accumbens area")
    classes = {
        "grey": [f"{s} {n}" for s in sides for n in grey],
        "white": [f"{s} {n}" for s in sides for n in ("cerebral white matter", "cerebellum white matter")],
        "fluid": [n for n in label_set.names if "ventricle" in n or n == "CSF"],
    }
    return AtlasPredictor(atlas, AtlasSettings(working_mm=3.0, rounds=3, classes=classes), ("image",))


def mean_of_large(found, labels, label_set):
    hard = found.hard()
    values = {s.name: dice(hard == s.value, labels == s.value) for s in label_set.structures}
    chosen = {n: v for n, v in values.items() if n.endswith(LARGE)}
    return float(np.mean(list(chosen.values()))), values


@pytest.mark.parametrize("contrast", [0, 1], ids=["t1-like", "t2-like"])
def test_a_held_out_map_is_segmented_in_both_contrasts(pack, predictor, contrast):
    folder, to, label_set = pack
    data, labels, grid = coarse(folder, 12, to)
    image = painted(data, labels, label_set, contrast, seed=5)
    mean, values = mean_of_large(predictor({"image": Volume(image, grid)}), labels, label_set)
    print(f"\nmean of large {mean:.3f}:", {n: round(v, 2) for n, v in values.items()})
    assert mean > 0.75


def test_the_real_t1w_is_segmented(pack, predictor):
    """Against its silver labels; n = 1, no claim."""
    folder, _, label_set = pack
    scan = nib.load(folder / "real" / "sub-vxm_T1w.nii.gz")
    reference = np.asarray(nib.load(folder / "real" / "sub-vxm_T1w_label-synthseg_dseg.nii.gz").dataobj)
    step = (slice(1, None, 3),) * 3
    matrix = scan.affine.copy()
    matrix[:3, 3] = (scan.affine @ [1, 1, 1, 1])[:3]
    matrix[:3, :3] *= 3
    data = np.asarray(scan.dataobj)[step].astype(np.float32)
    found = predictor({"image": Volume(data, Grid.of(data.shape, matrix))})
    mean, values = mean_of_large(found, reference[step], label_set)
    print(f"\nmean of large {mean:.3f}:", {n: round(v, 2) for n, v in values.items()})
    assert mean > 0.6
