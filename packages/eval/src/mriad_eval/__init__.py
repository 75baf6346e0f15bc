"""mriad-eval."""
