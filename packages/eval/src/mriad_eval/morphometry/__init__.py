"""Morphometry: area along a tubular structure, vertebral levels, shape and volume. Import its modules by name.

`area` measures slices (`measure_tube`), `levels` tells which vertebra they belong to and averages
(`level_mean`), `table` writes them, `literal_sct` repeats another program for comparison. This file imports
nothing, so that configs may import `settings` without scipy. Definitions: docs/reference/morphometry.md.
"""
