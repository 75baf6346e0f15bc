"""Experiments: typed models, YAML with origins, `extends:`, overrides, one report of all faults.

`mriad.experiment.load` reads files; it is not imported here: an experiment made in Python needs no YAML.
"""

from mriad.experiment.model import Experiment

__all__ = ["Experiment"]
