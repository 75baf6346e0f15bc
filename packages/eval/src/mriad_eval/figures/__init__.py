"""Figures, computed from tracked values and tensors; matplotlib is imported by their modules only.

Of a trial: `overlay`, `mosaic`, `samples`, `curves` (PNG). Of a comparison's table: `violin`, `paired`, `agreement`,
`bland_altman`, `boxes`, `domains`, `plane`, `calibration`; of logs `learning`; of features `embedding` (PNG and SVG).

>>> from mriad_eval.figures.overlay import draw_overlay
>>> from mriad_eval.figures.curves import draw_curves
>>> from mriad_eval.figures.comparison import draw_comparison
>>> from mriad_eval.figures.violin import draw_violins
"""
