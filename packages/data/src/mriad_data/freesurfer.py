"""Names of FreeSurfer's numbers for the structures that SynthSeg segments or paints (FreeSurferColorLUT)."""

_SIDES = {
    "cerebral_white_matter": (2, 41),
    "cerebral_cortex": (3, 42),
    "lateral_ventricle": (4, 43),
    "inferior_lateral_ventricle": (5, 44),
    "cerebellum_white_matter": (7, 46),
    "cerebellum_cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "lesion": (25, 57),
    "accumbens_area": (26, 58),
    "ventral_DC": (28, 60),
    "vessel": (30, 62),
    "choroid_plexus": (31, 63),
}
NAMES: dict[int, str] = {
    0: "background",
    14: "3rd_ventricle",
    15: "4th_ventricle",
    16: "brain-stem",
    24: "CSF",
    72: "5th_ventricle",
    77: "WM-hypointensities",
    85: "optic_chiasm",
    **{left: f"left_{name}" for name, (left, _) in _SIDES.items()},
    **{right: f"right_{name}" for name, (_, right) in _SIDES.items()},
}
"""Value → name; values that FreeSurfer does not have (SynthSeg's 5xx, 136, 137, 163, 164) are absent."""
SIDES: dict[int, str] = {
    **{value: side for pair in _SIDES.values() for value, side in zip(pair, ("left", "right"), strict=True)},
    136: "left",
    137: "left",
    163: "right",
    164: "right",
}
"""Value → "left" or "right"; SynthSeg's parts of the ventricles are among them."""
