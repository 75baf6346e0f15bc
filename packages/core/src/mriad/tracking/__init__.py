"""The record of a run, which is the truth, and its projection to MLflow."""
