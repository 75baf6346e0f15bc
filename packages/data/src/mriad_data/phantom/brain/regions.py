"""What the brain phantom is made of: regions, their FreeSurfer numbers, tissues and SynthSeg's generation classes.

Numbers and classes are those of SynthSeg's list of generation labels (Billot et al., MIDL 2020). Its
extra-cerebral values have no names there; which of ours they stand for was chosen by place and brightness.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """One value of the label map."""

    name: str
    value: int
    side: str
    generation_class: int
    contrast_class: int
    """SynthSeg's row of contrast-specific priors."""
    tissue: str
    """Name in `BrainTissues`."""
    brain: bool = True
    """Whether it is segmented; else it is painted only."""


# name: (left value, right value, generation classes left and right, contrast class, tissue)
_SIDES = {
    "cerebral_white_matter": (2, 41, 18, 33, 2, "white"),
    "cerebral_cortex": (3, 42, 19, 34, 3, "cortex"),
    "lateral_ventricle": (4, 43, 20, 35, 1, "csf"),
    "inferior_lateral_ventricle": (5, 44, 20, 35, 1, "csf"),
    "cerebellum_white_matter": (7, 46, 21, 36, 4, "cerebellar_white"),
    "cerebellum_cortex": (8, 47, 22, 37, 5, "cerebellar_cortex"),
    "thalamus": (10, 49, 23, 38, 6, "thalamus"),
    "caudate": (11, 50, 24, 39, 3, "caudate"),
    "putamen": (12, 51, 25, 40, 7, "putamen"),
    "pallidum": (13, 52, 26, 41, 8, "pallidum"),
    "hippocampus": (17, 53, 27, 42, 3, "hippocampus"),
    "amygdala": (18, 54, 27, 42, 3, "hippocampus"),
    "accumbens_area": (26, 58, 29, 44, 3, "caudate"),
    "ventral_DC": (28, 60, 30, 45, 9, "ventral"),
}
_NEUTRAL = (
    Region("3rd_ventricle", 14, "neutral", 1, 1, "csf"),
    Region("4th_ventricle", 15, "neutral", 2, 1, "csf"),
    Region("brain-stem", 16, "neutral", 3, 13, "stem"),
    Region("CSF", 24, "neutral", 4, 1, "csf"),
)
_HEAD = (
    Region("eye", 506, "neutral", 8, 15, "eye", brain=False),
    Region("muscle", 507, "neutral", 9, 16, "muscle", brain=False),
    Region("airway", 509, "neutral", 11, 18, "air", brain=False),
    Region("skin_and_fat", 511, "neutral", 12, 19, "fat", brain=False),
    Region("skull", 515, "neutral", 15, 22, "bone", brain=False),
    Region("marrow", 516, "neutral", 16, 23, "marrow", brain=False),
)


def _sided(side: str) -> tuple[Region, ...]:
    right = side == "right"
    return tuple(
        Region(f"{side}_{name}", values[right], side, classes[right], contrast, tissue)
        for name, (*values, first, second, contrast, tissue) in _SIDES.items()
        for classes in [(first, second)]
    )


BACKGROUND = Region("background", 0, "neutral", 0, 0, "air", brain=False)
REGIONS: tuple[Region, ...] = (BACKGROUND, *_NEUTRAL, *_HEAD, *_sided("left"), *_sided("right"))
"""All, neutral ones first, then left, then right in the same order; the index is that of a mixture's shares."""
INDEX = {region.name: i for i, region in enumerate(REGIONS)}
BRAIN = tuple(region for region in REGIONS if region.brain)
"""What is segmented, in label-set order."""
