"""mriad-data."""
