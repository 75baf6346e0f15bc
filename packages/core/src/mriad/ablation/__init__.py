"""Ablations: variants × folds × seeds of one experiment, and how to compare them (DESIGN.md section 4)."""
