"""A digital brain."""
