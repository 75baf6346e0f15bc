"""Figures as PNG files, computed from tracked values and tensors; matplotlib is imported by their modules
only.

>>> from mriad_eval.figures.overlay import draw_overlay
>>> from mriad_eval.figures.curves import draw_curves
>>> from mriad_eval.figures.comparison import draw_comparison
"""
