"""A digital brain, different for each person: folded cortex, deep structures, true volumes, five contrasts."""

from mriad_data.phantom.brain.dataset import PhantomBrain
from mriad_data.phantom.brain.parameters import CONTRASTS, BrainParameters

__all__ = ["CONTRASTS", "BrainParameters", "PhantomBrain"]
